//! The flags that say who may do what, and who is believed.

use super::BadConfig;
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

/// A flag's value that shall be in no log.
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

/// Who may do what.
#[derive(Args, Clone, Debug)]
pub struct AccessFlags {
    /// Lets anybody who can reach a non-loopback address read and publish
    #[arg(long, env = "LONGTAIL_OPEN", value_parser = BoolishValueParser::new(), help_heading = "Access")]
    pub open: bool,

    /// Server key: who sends it as `Authorization: Bearer KEY` may publish and subscribe anywhere, and see
    /// /metrics. `openssl rand -hex 24` makes one. Repeatable
    #[arg(long, env = "LONGTAIL_PUBLISH_KEY", value_name = "KEY", hide_env_values = true, help_heading = "Access")]
    #[arg(value_parser = key, value_delimiter = ' ', action = ArgAction::Append)]
    pub publish_key: Vec<Secret>,

    /// Channels that anybody may subscribe to, as `news` or `public:*`. Repeatable
    #[arg(long, env = "LONGTAIL_PUBLIC", value_name = "PATTERN", help_heading = "Access")]
    #[arg(value_delimiter = ' ', action = ArgAction::Append)]
    pub public: Vec<String>,

    /// Secret that signs tokens (JWT, HS256). Other programs on this machine may see it: prefer
    /// --token-secret-file
    #[arg(long, env = "LONGTAIL_TOKEN_SECRET", value_name = "SECRET", hide_env_values = true, help_heading = "Access")]
    pub token_secret: Option<Secret>,

    /// File that holds this secret; a line end behind it does not count
    #[arg(long, env = "LONGTAIL_TOKEN_SECRET_FILE", value_name = "FILE", help_heading = "Access")]
    pub token_secret_file: Option<PathBuf>,

    /// Public key whose private half signs tokens, a PEM file: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)
    #[arg(long, env = "LONGTAIL_TOKEN_PUBLIC_KEY", value_name = "FILE", help_heading = "Access")]
    pub token_public_key: Option<PathBuf>,

    /// Asks this application who may subscribe and publish: `https://www.example.com/authorize.php` is
    /// POSTed the channels with the user's cookies and says which are allowed
    #[arg(long, env = "LONGTAIL_AUTHORIZE_URL", value_name = "URL", help_heading = "Access")]
    #[arg(value_parser = application, hide_env_values = true)]
    pub authorize_url: Option<Uri>,

    /// Origin whose pages may read and publish, as `https://www.example.com`. Repeatable
    #[arg(long, env = "LONGTAIL_ALLOW_ORIGIN", value_name = "ORIGIN")]
    #[arg(value_delimiter = ' ', action = ArgAction::Append, help_heading = "Access")]
    pub allow_origin: Vec<String>,

    /// Proxies that are believed when they say for whom they ask (X-Forwarded-For, Forwarded), as
    /// `10.0.0.0/8` or an address. Repeatable
    #[arg(long, env = "LONGTAIL_TRUSTED_PROXY", value_name = "CIDR", help_heading = "Access")]
    #[arg(value_parser = network, value_delimiter = ' ', action = ArgAction::Append)]
    pub trusted_proxy: Vec<IpNet>,

    /// Connections of the trusted proxies begin with a PROXY protocol header, version 1 or 2, on HTTP and raw
    /// TCP; one without is closed
    #[arg(long, env = "LONGTAIL_PROXY_PROTOCOL", value_parser = BoolishValueParser::new(), help_heading = "Access")]
    pub proxy_protocol: bool,

    /// Address that serves /metrics, /status and /channels to whoever reaches it, without a key
    #[arg(long, env = "LONGTAIL_ADMIN_LISTEN", value_name = "ADDR", value_parser = address)]
    #[arg(help_heading = "Listening")]
    pub admin_listen: Option<SocketAddr>,
}

fn key(text: &str) -> Result<Secret, String> {
    // What a header can carry, and what a list with spaces can.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("use letters, digits and signs without spaces; `openssl rand -hex 24` makes one".into());
    }
    Ok(Secret(text.to_owned()))
}

fn network(text: &str) -> Result<IpNet, String> {
    let rule = || "use a network or an address, as 10.0.0.0/8, 192.0.2.7 or fd00::/8".to_owned();
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| rule())
}

fn application(text: &str) -> Result<Uri, String> {
    let rule = || "use an address as https://www.example.com/authorize.php, without a name and a password".to_owned();
    let uri: Uri = text.parse().map_err(|_| rule())?;
    let is_sound = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    is_sound.then_some(uri).ok_or_else(rule)
}

fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*', ',']))
}

impl AccessFlags {
    /// The first flag that says who may do what; without one the server is open.
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

    /// Checks what the flags mean together; `addresses`: where everybody is served.
    pub(super) fn check(&self, addresses: &[SocketAddr]) -> Result<(), BadConfig> {
        let bad = |text: String| Err(BadConfig(text));
        if let (true, Some(flag)) = (self.open, self.guarded_by()) {
            return bad(format!("--open lets everybody do everything, and {flag} says who may: set one of them"));
        }
        let tokens = [self.token_secret.is_some(), self.token_secret_file.is_some(), self.token_public_key.is_some()];
        if tokens.into_iter().filter(|is_given| *is_given).count() > 1 {
            return bad("--token-secret, --token-secret-file and --token-public-key: set one, there is one key".into());
        }
        if let (false, None, Some(address)) =
            (self.open, self.guarded_by(), addresses.iter().find(|address| !address.ip().is_loopback()))
        {
            return bad(format!(
                "{address} can be reached from other machines, and nothing says who may subscribe and publish: \
                 listen on a loopback address, set --publish-key, --public, --token-secret-file, --token-public-key \
                 or --authorize-url, or --open to let everybody"
            ));
        }
        if let Some(origin) = self.allow_origin.iter().find(|origin| *origin != "*" && !is_origin(origin)) {
            return bad(format!("--allow-origin {origin}: use an origin as https://www.example.com, without a path"));
        }
        if self.proxy_protocol && self.trusted_proxy.is_empty() {
            return bad("--proxy-protocol believes nobody by itself: say whom with --trusted-proxy".into());
        }
        if let Some(net) = self.trusted_proxy.iter().find(|net| net.prefix_len() == 0) {
            return bad(format!("--trusted-proxy {net} believes everybody who connects: name your proxies"));
        }
        if let Some(admin) = self.admin_listen.filter(|admin| admin.port() != 0 && addresses.contains(admin)) {
            return bad(format!("--admin-listen {admin} is where everybody is served: give it a port of its own"));
        }
        Ok(())
    }
}
