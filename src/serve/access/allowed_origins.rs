//! The origins of `--allow-origin`: `https://www.example.com`, `https://*.example.com`, `capacitor://localhost`, `*`.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// The origins that are allowed in addition to the server's own origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    origins: Vec<Allowed>,
    /// Whether all origins are allowed, but without cookies.
    has_star: bool,
}

/// One value of the flag.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    /// An origin as browsers write it (RFC 6454 §6.2): lower case, without the default port.
    Whole(String),
    /// All subdomains of a domain.
    Subdomains {
        /// `https://`
        scheme: String,
        /// `.example.com`, with the port unless it is the default port.
        domain: String,
    },
}

impl AllowedOrigins {
    /// Reads the values of the flag.
    ///
    /// # Errors
    ///
    /// The first value that no page can have as its origin, and the reason.
    pub fn parse(values: &[String]) -> Result<AllowedOrigins, (&str, &'static str)> {
        let mut allowed = AllowedOrigins::default();
        for value in values {
            if value == "*" {
                allowed.has_star = true;
            } else {
                allowed.origins.push(Allowed::parse(value).map_err(|rule| (value.as_str(), rule))?);
            }
        }
        Ok(allowed)
    }

    /// Whether all origins are allowed, but without cookies.
    pub fn has_star(&self) -> bool {
        self.has_star
    }

    /// Whether a value other than `*` allows this origin.
    pub fn name(&self, origin: &str) -> bool {
        if self.origins.is_empty() {
            return false;
        }
        let origin = without_default_port(origin);
        self.origins.iter().any(|allowed| allowed.matches(&origin))
    }

    /// The values other than `*`, as sources of a security policy (CSP 3 §2.3.1).
    pub fn sources(&self) -> impl Iterator<Item = String> {
        self.origins.iter().map(|allowed| match allowed {
            // A scheme without a host is a source without slashes.
            Allowed::Whole(origin) => origin.strip_suffix("//").unwrap_or(origin).to_owned(),
            Allowed::Subdomains { scheme, domain } => format!("{scheme}*{domain}"),
        })
    }
}

impl Allowed {
    fn parse(text: &str) -> Result<Allowed, &'static str> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://").ok_or("use an origin such as https://www.example.com")?;
        if !is_scheme(scheme) {
            return Err("begin with a scheme, such as https://");
        }
        if matches!(scheme, "ws" | "wss") {
            return Err("name the page's own origin: it begins with http:// or https://");
        }
        if authority.contains(['/', '?', '#']) {
            return Err("use an origin such as https://www.example.com, without a path");
        }
        // The pages of an application in a web view have this origin, and so do all files of a machine.
        if authority.is_empty() && scheme == "file" {
            return Ok(Allowed::Whole(text));
        }
        let is_web = matches!(scheme, "http" | "https");
        if let Some(domain) = authority.strip_prefix("*.").filter(|_| is_web) {
            let domain = format!(".{}", check_authority(scheme, domain)?);
            return Ok(Allowed::Subdomains { scheme: format!("{scheme}://"), domain });
        }
        Ok(Allowed::Whole(format!("{scheme}://{}", check_authority(scheme, authority)?)))
    }

    /// Whether this value names or includes the origin. `origin` does not contain a default port.
    fn matches(&self, origin: &str) -> bool {
        match self {
            Allowed::Whole(whole) => whole.eq_ignore_ascii_case(origin),
            Allowed::Subdomains { scheme, domain } => {
                let name = origin.split_at_checked(scheme.len()).and_then(|(found, host)| {
                    let (name, rest) = host.split_at_checked(host.len().checked_sub(domain.len())?)?;
                    (found.eq_ignore_ascii_case(scheme) && rest.eq_ignore_ascii_case(domain)).then_some(name)
                });
                // If other characters were allowed, a user name or a path could precede the domain.
                name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_of_name))
            }
        }
    }
}

/// A host and port as browsers write them.
fn check_authority(scheme: &str, authority: &str) -> Result<String, &'static str> {
    const RULE: &str = "use an origin such as https://www.example.com, https://www.example.com:8443 or \
                        https://*.example.com";
    if !authority.is_ascii() {
        return Err("write the host as browsers send it, in ASCII (xn--…)");
    }
    let end = authority.find(']').map_or_else(|| authority.find(':').unwrap_or(authority.len()), |end| end + 1);
    let (host, port) = authority.split_at(end);
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => Cow::Owned(format!("[{}]", address.parse::<Ipv6Addr>().map_err(|_| RULE)?)),
        None => Cow::Borrowed(host),
    };
    if host.is_empty() || !(host.starts_with('[') || host.bytes().all(is_of_name)) {
        return Err(RULE);
    }
    let Some(port) = port.strip_prefix(':') else { return if port.is_empty() { Ok(host.into()) } else { Err(RULE) } };
    let port: u16 = port.parse().map_err(|_| RULE)?;
    if default_port(scheme) == Some(port) { Ok(host.into()) } else { Ok(format!("{host}:{port}")) }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// The origin without the default port of its scheme.
fn without_default_port(origin: &str) -> Cow<'_, str> {
    for (scheme, port) in [("http://", ":80"), ("https://", ":443")] {
        if let Some(rest) = origin.strip_suffix(port)
            && rest.get(..scheme.len()).is_some_and(|found| found.eq_ignore_ascii_case(scheme))
        {
            return Cow::Owned(rest.to_owned());
        }
    }
    Cow::Borrowed(origin)
}

/// Whether a text is a scheme (RFC 3986 §3.1). Applications in web views and browser extensions use their own schemes.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(value: &str) -> Result<AllowedOrigins, &'static str> {
        AllowedOrigins::parse(&[value.to_owned()]).map_err(|(_, rule)| rule)
    }

    #[test]
    fn values_and_what_they_allow() {
        for (value, origins) in [
            ("https://www.example.com", &["https://www.example.com", "HTTPS://WWW.example.com"][..]),
            ("https://www.example.com", &["https://www.example.com:443"]),
            ("https://WWW.Example.com:443", &["https://www.example.com"]),
            ("http://www.example.com:80", &["http://www.example.com"]),
            ("http://www.example.com:443", &["http://www.example.com:443"]),
            ("https://www.example.com:8443", &["https://www.example.com:8443"]),
            ("http://[0:0::1]:3000", &["http://[::1]:3000"]),
            ("https://[2001:DB8::1]:443", &["https://[2001:db8::1]"]),
            ("capacitor://localhost", &["capacitor://localhost"]),
            ("ionic://localhost", &["ionic://localhost"]),
            ("tauri://localhost", &["tauri://localhost"]),
            ("app://-", &["app://-"]),
            ("file://", &["file://"]),
            ("chrome-extension://abcdefghijklmnop", &["chrome-extension://abcdefghijklmnop"]),
            ("moz-extension://0c1f-22", &["moz-extension://0c1f-22"]),
            ("https://*.example.com", &["https://a.example.com", "https://a.b-c.example.com", "https://A.EXAMPLE.com"]),
            ("https://*.example.com:443", &["https://a.example.com"]),
            ("https://*.example.com:8443", &["https://a.example.com:8443"]),
            ("http://*.localhost:3000", &["http://a.localhost:3000"]),
        ] {
            let allowed = allowed(value).expect(value);
            for origin in origins {
                assert!(allowed.name(origin), "{value} allows {origin}");
            }
            assert!(!allowed.has_star());
        }
    }

    #[test]
    fn what_they_do_not_allow() {
        for (value, origins) in [
            (
                "https://www.example.com",
                &[
                    "http://www.example.com",
                    "https://www.example.com:80",
                    "https://www.example.com:8443",
                    "https://example.com",
                    "https://www.example.com.evil.com",
                    "https://www.example.com/",
                    "null",
                    "",
                ][..],
            ),
            (
                "https://*.example.com",
                &[
                    "https://example.com",
                    "https://.example.com",
                    "https://evil-example.com",
                    "https://a.example.com.evil.com",
                    "http://a.example.com",
                    "https://a.example.com:8443",
                    "https://evil.com/.example.com",
                    "https://evil.com#.example.com",
                    "https://evil.com@a.example.com",
                    "https://a:b.example.com",
                    "https://é.example.com",
                    "é",
                ],
            ),
            ("https://*.example.com:8443", &["https://a.example.com", "https://a.example.com:443"]),
            ("capacitor://localhost", &["capacitor://evil", "http://localhost", "ionic://localhost"]),
            ("*", &["https://a.example"]),
        ] {
            let allowed = allowed(value).expect(value);
            for origin in origins {
                assert!(!allowed.name(origin), "{value} does not allow {origin}");
            }
        }
        assert!(allowed("*").expect("a value").has_star());
    }

    #[test]
    fn what_no_page_has_is_refused() {
        for value in [
            "",
            "null",
            "www.example.com",
            "https://",
            "https:///",
            "https://www.example.com/",
            "https://www.example.com/path",
            "https://www.example.com?x",
            "https://user@www.example.com",
            "https://www.example.com:",
            "https://www.example.com:x",
            "https://www.example.com:99999",
            "https://www.example.com,https://b.example",
            "https://*",
            "https://*.",
            "https://a.*.example.com",
            "https://*example.com",
            "https://*.*.example.com",
            "*://example.com",
            "capacitor://*.localhost",
            "capacitor://",
            "wss://www.example.com",
            "https://bücher.example",
            "https://[::1",
            "https://[x]",
            "https://[::1]x",
            "1http://a",
        ] {
            assert!(allowed(value).is_err(), "{value}");
        }
    }
}
