//! Who may talk to the server: `Host` and `Origin`, and what pages of other origins are told (CORS).

use crate::transport::{ApiError, Code};
use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};
use std::net::IpAddr;

/// Whose requests are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearness {
    /// Those of this machine: nothing else says who may do what.
    Loopback,
    /// Everybody's, by an [`super::authorizer::Authorizer`]; pages by their origin.
    Guarded,
    /// Everybody's.
    Open,
}

/// Which door a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// For everybody: what is there is answered by its own rules.
    Public,
    /// For the keepers (`--admin-listen`): figures only, without a key. `is_near`: nobody else's machine reaches
    /// it, so a name of somebody else's is a page that wants to read along (DNS rebinding).
    Admin {
        /// Whether it is a loopback address.
        is_near: bool,
    },
}

/// Whose requests and whose pages are listened to.
#[derive(Clone, Debug)]
pub struct Access {
    /// Whose requests.
    pub nearness: Nearness,
    /// Origins that may, besides our own and those of this machine.
    pub allow_origin: Vec<String>,
}

/// `Host` or an authority, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Authority<'a> {
    host: &'a str,
    port: Option<&'a str>,
}

impl<'a> Authority<'a> {
    fn parse(text: &'a str) -> Authority<'a> {
        let end_of_host = match text.strip_prefix('[').and_then(|rest| rest.find(']')) {
            Some(bracket) => bracket + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(end_of_host);
        Authority { host, port: port.strip_prefix(':').filter(|port| !port.is_empty()) }
    }

    fn is_loopback(&self) -> bool {
        let name = self.host.strip_suffix('.').unwrap_or(self.host).to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        name == "localhost"
            || name.ends_with(".localhost")
            || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether the scheme's default port, left out, makes them the same. The schemes are not
    /// compared: TLS may end in front of us.
    fn is_same(&self, other: &Authority<'_>) -> bool {
        let default = |port: Option<&str>| port.is_none_or(|port| port == "80" || port == "443");
        let same_port = self.port == other.port || (default(self.port) && default(other.port));
        self.host.eq_ignore_ascii_case(other.host) && same_port
    }
}

/// The host a request was sent to, without its port.
pub fn host<'a>(headers: &'a HeaderMap, forwarded_host: Option<&'a str>) -> &'a str {
    let host = || headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    Authority::parse(forwarded_host.unwrap_or_else(host)).host
}

impl Access {
    /// Checks where a request comes from and what name it was sent to. `forwarded_host`: the name it was sent to
    /// before a trusted proxy changed it.
    ///
    /// # Errors
    ///
    /// `forbidden` for a foreign host, `forbidden_origin` for a foreign page.
    pub fn check(&self, headers: &HeaderMap, forwarded_host: Option<&str>) -> Result<(), ApiError> {
        if self.nearness == Nearness::Open {
            return Ok(());
        }
        let is_loopback = self.nearness == Nearness::Loopback;
        let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
        let host = host.map(Authority::parse);
        // A name of somebody else's that leads to this machine (DNS rebinding).
        if is_loopback && host.is_some_and(|host| !host.is_loopback()) {
            let mend = "this server answers to loopback names only; start it with --open to let everybody in";
            return Err(ApiError::new(Code::Forbidden, mend));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or("?");
        if self.allows(origin, forwarded_host.map(Authority::parse).or(host)) {
            return Ok(());
        }
        let origin: String = origin.chars().take(200).collect();
        tracing::warn!(?origin, "refused a page of a foreign origin; --allow-origin lets it in");
        Err(ApiError::new(
            Code::ForbiddenOrigin,
            "pages of this origin may not use this server: name it with --allow-origin",
        ))
    }

    fn allows(&self, origin: &str, host: Option<Authority<'_>>) -> bool {
        self.has_star() || self.knows(origin, host)
    }

    fn has_star(&self) -> bool {
        self.allow_origin.iter().any(|allowed| allowed == "*")
    }

    /// Whether an origin is allowed by its name, or is our own or, where that counts, this machine's.
    fn knows(&self, origin: &str, host: Option<Authority<'_>>) -> bool {
        if self.allow_origin.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        // Only what a page can have: `file://` and the like are nobody's.
        if !matches!(scheme, "http" | "https") || authority.contains(['/', '@', '?', '#']) {
            return false;
        }
        let authority = Authority::parse(authority);
        (self.nearness == Nearness::Loopback && authority.is_loopback())
            || host.is_some_and(|host| host.is_same(&authority))
    }

    /// Lets the page that asked read the reply. The origin is echoed and credentials are allowed,
    /// since the browsers of SockJS's days always send them and refuse `*` then; what an explicit `*`
    /// lets in gets no credentials.
    pub fn share(origin: Option<HeaderValue>, is_by_star: bool, reply: &mut HeaderMap) {
        reply.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        if is_by_star {
            reply.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            reply.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            reply.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        reply.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("ETag, Retry-After"));
    }

    /// Whether only an explicit `*` lets a request's origin in: its pages speak for nobody's cookies.
    pub fn is_by_star(&self, headers: &HeaderMap, forwarded_host: Option<&str>) -> bool {
        let Some(origin) = headers.get(header::ORIGIN).filter(|_| self.has_star()) else { return false };
        let host = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = forwarded_host.or_else(host).map(Authority::parse);
        !origin.to_str().is_ok_and(|origin| self.knows(origin, host))
    }

    /// What a preflight asks.
    pub fn preflight(reply: &mut HeaderMap, methods: &'static str) {
        reply.insert(header::ALLOW, HeaderValue::from_static(methods));
        reply.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        let headers = "Content-Type, Authorization, If-None-Match, Last-Event-ID, Cache-Control, X-Requested-With";
        reply.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(headers));
        reply.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(open: bool, allow: &[&str], host: &str, origin: Option<&str>) -> Result<(), Code> {
        let nearness = if open { Nearness::Open } else { Nearness::Loopback };
        let access = Access { nearness, allow_origin: allow.iter().map(ToString::to_string).collect() };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a header"));
        }
        access.check(&headers, None).map_err(|refusal| refusal.code)
    }

    #[test]
    fn hosts() {
        for host in ["localhost", "LOCALHOST:80", "a.localhost:1", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:8080"] {
            assert_eq!(check(false, &[], host, None), Ok(()), "{host}");
        }
        for host in
            ["example.com", "localhost.evil.com", "127.0.0.1.evil.com", "evil-localhost", "10.0.0.1", "[::2]", ""]
        {
            assert_eq!(check(false, &[], host, None), Err(Code::Forbidden), "{host}");
            assert_eq!(check(true, &[], host, None), Ok(()), "{host}");
        }
    }

    #[test]
    fn origins() {
        let host = "127.0.0.1:8080";
        for origin in ["http://127.0.0.1:8080", "http://localhost:3000", "https://a.localhost", "http://[::1]:5"] {
            assert_eq!(check(false, &[], host, Some(origin)), Ok(()), "{origin}");
        }
        let foreign = [
            "null",
            "http://evil.com",
            "http://localhost.evil.com",
            "http://127.0.0.1.evil.com",
            "http://evil.com/127.0.0.1",
            "http://evil.com#localhost",
            "http://localhost@evil.com",
            "file://localhost",
            "ftp://localhost",
            "",
            "localhost",
        ];
        for origin in foreign {
            assert_eq!(check(false, &[], host, Some(origin)), Err(Code::ForbiddenOrigin), "{origin}");
            assert_eq!(check(true, &[], host, Some(origin)), Ok(()), "{origin}");
        }
        assert_eq!(check(false, &["https://a.example"], host, Some("https://a.example")), Ok(()));
        assert_eq!(check(false, &["*"], host, Some("https://a.example")), Ok(()));
        assert!(check(false, &["https://a.example"], host, Some("https://a.example.evil.com")).is_err());
        assert!(check(false, &["https://a.example"], host, Some("https://a.example:444")).is_err());
    }
}
