//! The flags of access control: keys, tokens, origins, trusted proxies.

use super::error::BadConfig;
use super::values::address;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use hyper::Uri;
use ipnet::IpNet;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// A flag's value that must not appear in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Secret, Infallible> {
        Ok(Secret(text.to_owned()))
    }
}

/// The flags of access control.
#[derive(Args, Clone, Debug)]
pub struct AccessFlags {
    /// Lets every client that can reach the server subscribe and publish, and allows addresses other than loopback
    #[arg(long, env = "LONGTAIL_OPEN", value_parser = BoolishValueParser::new(), help_heading = "Access")]
    pub open: bool,

    /// Server key: a client that sends it as `Authorization: Bearer KEY` may publish and subscribe anywhere, and
    /// read /metrics. `openssl rand -hex 24` makes a key. Repeatable
    #[arg(long, env = "LONGTAIL_PUBLISH_KEY", value_name = "KEY", hide_env_values = true, help_heading = "Access")]
    #[arg(value_parser = key, value_delimiter = ' ', action = ArgAction::Append)]
    pub publish_key: Vec<Secret>,

    /// Channels that every client may subscribe to, such as `news` or `public:*`. Repeatable
    #[arg(long, env = "LONGTAIL_PUBLIC", value_name = "PATTERN", help_heading = "Access")]
    #[arg(value_delimiter = ' ', action = ArgAction::Append)]
    pub public: Vec<String>,

    /// Secret that signs tokens (JWT, HS256). Other programs on this machine can read it from the process list:
    /// prefer --token-secret-file
    #[arg(long, env = "LONGTAIL_TOKEN_SECRET", value_name = "SECRET", hide_env_values = true, help_heading = "Access")]
    pub token_secret: Option<Secret>,

    /// File with the secret that signs tokens. A line end at the end of the file is ignored
    #[arg(long, env = "LONGTAIL_TOKEN_SECRET_FILE", value_name = "FILE", help_heading = "Access")]
    pub token_secret_file: Option<PathBuf>,

    /// Public key that verifies tokens, a PEM file: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)
    #[arg(long, env = "LONGTAIL_TOKEN_PUBLIC_KEY", value_name = "FILE", help_heading = "Access")]
    pub token_public_key: Option<PathBuf>,

    /// URL of the application that decides which clients may subscribe and publish, such as
    /// `https://www.example.com/authorize.php`. The server sends it the channels and the user's cookies by POST. The
    /// application answers with the allowed channels
    #[arg(long, env = "LONGTAIL_AUTHORIZE_URL", value_name = "URL", help_heading = "Access")]
    #[arg(value_parser = authorize_url, hide_env_values = true)]
    pub authorize_url: Option<Uri>,

    /// Seconds that the application may take for an answer. After that, the server refuses the request
    #[arg(long, env = "LONGTAIL_AUTHORIZE_TIMEOUT", value_name = "S", default_value_t = 2, help_heading = "Access")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60))]
    pub authorize_timeout: u64,

    /// Origin whose pages may subscribe and publish, such as `https://www.example.com`, `https://*.example.com` for all
    /// subdomains, or `capacitor://localhost` for an application in a web view. Repeatable
    #[arg(long, env = "LONGTAIL_ALLOW_ORIGIN", value_name = "ORIGIN")]
    #[arg(value_delimiter = ' ', action = ArgAction::Append, help_heading = "Access")]
    pub allow_origin: Vec<String>,

    /// Proxies whose X-Forwarded-For and Forwarded headers the server trusts: a network such as `10.0.0.0/8`, or an
    /// address. Repeatable
    #[arg(long, env = "LONGTAIL_TRUSTED_PROXY", value_name = "CIDR", help_heading = "Access")]
    #[arg(value_parser = network, value_delimiter = ' ', action = ArgAction::Append)]
    pub trusted_proxy: Vec<IpNet>,

    /// Expects a PROXY protocol header, version 1 or 2, on connections from trusted proxies, on HTTP and raw TCP.
    /// The server closes a connection without this header
    #[arg(long, env = "LONGTAIL_PROXY_PROTOCOL", value_parser = BoolishValueParser::new(), help_heading = "Access")]
    pub proxy_protocol: bool,

    /// Address of the admin interface: /metrics, /status and /channels without a key, for every client that can reach it
    #[arg(long, env = "LONGTAIL_ADMIN_LISTEN", value_name = "ADDR", value_parser = address)]
    #[arg(help_heading = "Listening")]
    pub admin_listen: Option<SocketAddr>,
}

fn key(text: &str) -> Result<Secret, String> {
    // A key may have only characters that are possible in a header and in a list with spaces.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("use letters, digits and punctuation without spaces; `openssl rand -hex 24` makes one".into());
    }
    Ok(Secret(text.to_owned()))
}

fn network(text: &str) -> Result<IpNet, String> {
    let rule = || "use a network or an address, such as 10.0.0.0/8, 192.0.2.7 or fd00::/8".to_owned();
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| rule())
}

fn authorize_url(text: &str) -> Result<Uri, String> {
    application(text, "https://www.example.com/authorize.php")
}

/// Parses the URL of an application. `example` is a URL for the error's text.
pub(super) fn application(text: &str, example: &str) -> Result<Uri, String> {
    let rule = || format!("use a URL such as {example}, without a user name and password");
    let uri: Uri = text.parse().map_err(|_| rule())?;
    let is_valid = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    is_valid.then_some(uri).ok_or_else(rule)
}

impl AccessFlags {
    /// Returns the first flag that restricts access; `None` if the server is open.
    pub fn guarded_by(&self) -> Option<&'static str> {
        let flags = [
            ("--publish-key", !self.publish_key.is_empty()),
            ("--public", !self.public.is_empty()),
            ("--token-secret", self.token_secret.is_some()),
            ("--token-secret-file", self.token_secret_file.is_some()),
            ("--token-public-key", self.token_public_key.is_some()),
            ("--authorize-url", self.authorize_url.is_some()),
        ];
        flags.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }

    /// Checks rules that involve more than one flag. `addresses` are the addresses of the public listeners. `has_apps`:
    /// whether there are apps with their own keys, so that native paths are closed.
    pub(super) fn check(&self, addresses: &[SocketAddr], has_apps: bool) -> Result<(), BadConfig> {
        let bad = |text: String| Err(BadConfig::new(text));
        if let (true, Some(flag)) = (self.open, self.guarded_by()) {
            return bad(format!(
                "--open allows everything to everybody, and {flag} restricts it: set only one of them"
            ));
        }
        let tokens = [self.token_secret.is_some(), self.token_secret_file.is_some(), self.token_public_key.is_some()];
        if tokens.into_iter().filter(|is_given| *is_given).count() > 1 {
            return bad(
                "--token-secret, --token-secret-file and --token-public-key: set only one, since tokens have one key"
                    .into(),
            );
        }
        if let (false, None, Some(address)) =
            (self.open || has_apps, self.guarded_by(), addresses.iter().find(|address| !address.ip().is_loopback()))
        {
            return bad(format!(
                "{address} can be reached from other machines, and access is not restricted: listen on a loopback \
                 address, set --publish-key, --public, --token-secret-file, --token-public-key or --authorize-url, \
                 or set --open to allow everybody"
            ));
        }
        if self.proxy_protocol && self.trusted_proxy.is_empty() {
            return bad("--proxy-protocol has no effect alone: name the proxies with --trusted-proxy".into());
        }
        if let Some(net) = self.trusted_proxy.iter().find(|net| net.prefix_len() == 0) {
            return bad(format!("--trusted-proxy {net} trusts every client: name your proxies"));
        }
        if let Some(admin) = self.admin_listen.filter(|admin| admin.port() != 0 && addresses.contains(admin)) {
            return bad(format!("--admin-listen {admin} is also a public address: give it a port of its own"));
        }
        Ok(())
    }
}
