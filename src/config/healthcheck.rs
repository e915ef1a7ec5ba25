//! The question of `longtail healthcheck`, by the server's own configuration.

use super::{BadConfig, Healthcheck};
use crate::cli;
use std::net::SocketAddr;
use std::time::Duration;

impl Healthcheck {
    /// Returns the question to the server that has this configuration.
    ///
    /// # Errors
    ///
    /// The system picks the server's port, so it is not known.
    pub fn question(&self) -> Result<cli::HealthQuestion, BadConfig> {
        let access = &self.config.access;
        let (flag, listener) = match (access.admin_listen, self.config.listen.first()) {
            (Some(admin), _) => ("--admin-listen", admin),
            (None, Some(listen)) => ("--listen", *listen),
            (None, None) => return Err(BadConfig::new("--listen: there is no address".into())),
        };
        if listener.port() == 0 {
            return Err(BadConfig::new(format!("{flag} {listener}: the health check needs the number of the port")));
        }
        let mut address = listener;
        if listener.ip().is_unspecified() {
            let loopback: SocketAddr =
                if listener.is_ipv4() { ([127, 0, 0, 1], 0).into() } else { ([0u16, 0, 0, 0, 0, 0, 0, 1], 0).into() };
            address.set_ip(loopback.ip());
        }
        let is_public = access.admin_listen.is_none();
        let is_proxy = access.trusted_proxy.iter().any(|net| net.contains(&address.ip()));
        Ok(cli::HealthQuestion {
            address,
            path: if self.live { "/healthz" } else { "/readyz" },
            has_tls: is_public && self.config.tls_cert.is_some(),
            has_proxy_header: is_public && access.proxy_protocol && is_proxy,
            timeout: Duration::from_secs(self.timeout),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn question(flags: &[&str]) -> Result<cli::HealthQuestion, BadConfig> {
        let cli = Cli::try_parse_from(["longtail", "healthcheck"].iter().chain(flags)).expect("flags that clap takes");
        match cli.command {
            Some(Command::Healthcheck(check)) => check.question(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_asks_the_listener_for_operators_first() {
        let tls = ["--tls-cert", "c", "--tls-key", "k"];
        for (flags, address, has_tls, has_proxy_header) in [
            (&[][..], "127.0.0.1:8080", false, false),
            (&["--listen", "0.0.0.0:80"], "127.0.0.1:80", false, false),
            (&["--listen", "[::]:80", "--listen", "127.0.0.1:81"], "[::1]:80", false, false),
            (&[&["--listen", "192.0.2.1:443"], &tls[..]].concat(), "192.0.2.1:443", true, false),
            (&[&["--admin-listen", "127.0.0.1:9090"], &tls[..]].concat(), "127.0.0.1:9090", false, false),
            (&["--proxy-protocol", "--trusted-proxy", "127.0.0.0/8"], "127.0.0.1:8080", false, true),
            (&["--proxy-protocol", "--trusted-proxy", "10.0.0.0/8"], "127.0.0.1:8080", false, false),
        ] {
            let question = question(flags).expect("a port");
            assert_eq!(question.address.to_string(), address, "{flags:?}");
            assert_eq!((question.has_tls, question.has_proxy_header), (has_tls, has_proxy_header), "{flags:?}");
            assert_eq!(question.path, "/readyz");
        }
        assert_eq!(question(&["--live"]).expect("a port").path, "/healthz");
        let error = question(&["--listen", "127.0.0.1:0"]).expect_err("no port").to_string();
        assert!(error.starts_with("--listen 127.0.0.1:0: ") && !error.contains('\n'), "{error}");
    }
}
