//! The origin policy: checks of `Host` and `Origin`, and CORS headers for pages of other origins.

use super::allowed_origins::AllowedOrigins;
use crate::transport::{ApiError, Code};
use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use std::net::IpAddr;

/// The rule that decides which requests a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// Requests to a loopback name only. No other access rule applies.
    Loopback,
    /// Requests of every client; an [`super::authorizer::Authorizer`] decides about them. Pages are checked by their
    /// origin.
    Guarded,
    /// Requests of every client and every page.
    Open,
}

/// The kind of listener that accepted a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// The public listener.
    Public,
    /// The admin listener (`--admin-listen`): it serves the paths for operators and for monitoring, without a key.
    Admin {
        /// Whether the listener has a loopback address. Other machines cannot reach such a listener, so a request with
        /// another host name comes from a page that uses DNS rebinding.
        is_loopback: bool,
    },
}

/// Checks `Host` and `Origin`.
#[derive(Clone, Debug)]
pub struct OriginPolicy {
    /// The rule that decides which requests the server answers.
    pub mode: AccessMode,
    /// Origins that are allowed in addition to our own origin and the origins of this machine.
    pub allow_origin: AllowedOrigins,
}

/// The pages of this machine, as sources of a security policy. A source with `http` includes `https`.
const LOCAL_PAGES: [&str; 3] = ["http://localhost:*", "http://*.localhost:*", "http://127.0.0.1:*"];

/// A parsed `Host` or authority.
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

    /// Whether both name the same host and port. A missing port means the default port. The schemes are not compared,
    /// because a proxy in front of this server may terminate TLS.
    fn is_same(&self, other: &Authority<'_>) -> bool {
        let default = |port: Option<&str>| port.is_none_or(|port| port == "80" || port == "443");
        let same_port = self.port == other.port || (default(self.port) && default(other.port));
        self.host.eq_ignore_ascii_case(other.host) && same_port
    }
}

/// The host that a request was sent to, without its port.
pub fn host<'a>(headers: &'a HeaderMap, forwarded_host: Option<&'a str>) -> &'a str {
    let host = || headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    Authority::parse(forwarded_host.unwrap_or_else(host)).host
}

impl OriginPolicy {
    /// The policy for a path with a list of origins of its own. An open server also keeps to the list.
    #[must_use]
    pub fn with_list(&self, list: &AllowedOrigins) -> OriginPolicy {
        let mode = if self.mode == AccessMode::Open { AccessMode::Guarded } else { self.mode };
        OriginPolicy { mode, allow_origin: list.clone() }
    }

    /// Checks the name that a request was sent to, and the page that sent it. `forwarded_host` is the name before a
    /// trusted proxy changed it. The advice in a refusal depends on `listener`.
    ///
    /// # Errors
    ///
    /// `forbidden` for a foreign host name, `forbidden_origin` for a foreign page.
    pub fn check(
        &self,
        headers: &HeaderMap,
        forwarded_host: Option<&str>,
        listener: ListenerKind,
    ) -> Result<(), ApiError> {
        if self.mode == AccessMode::Open {
            return Ok(());
        }
        let is_loopback = self.mode == AccessMode::Loopback;
        let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
        let host = host.map(Authority::parse);
        // A foreign name may resolve to this machine (DNS rebinding).
        if is_loopback && host.is_some_and(|host| !host.is_loopback()) {
            return Err(ApiError::new(Code::Forbidden, foreign_host(listener)));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        // A browser sends only one `Origin` line. If there is a second line, a proxy may have checked the second line
        // instead.
        let is_one = headers.get_all(header::ORIGIN).iter().all(|other| other == origin);
        let origin = origin.to_str().ok().filter(|_| is_one).unwrap_or("?");
        if self.allows(origin, forwarded_host.map(Authority::parse).or(host)) {
            return Ok(());
        }
        let advice = foreign_origin(origin, listener);
        let origin: String = origin.chars().take(200).collect();
        tracing::warn!(?origin, "refused a page of a foreign origin: {advice}");
        Err(ApiError::new(Code::ForbiddenOrigin, advice))
    }

    /// The pages that may show a page of this server in a frame, as the directive `frame-ancestors` (CSP 3 §6.4.2): those
    /// that [`check`](OriginPolicy::check) allows. `None` if all pages may.
    pub fn frame_ancestors(&self) -> Option<String> {
        if self.mode == AccessMode::Open || self.allow_origin.has_star() {
            return None;
        }
        let mut directive = "frame-ancestors 'self'".to_owned();
        // The policy has no form for the address of IPv6.
        let local: &[&str] = if self.mode == AccessMode::Loopback { &LOCAL_PAGES } else { &[] };
        for source in local.iter().map(ToString::to_string).chain(self.allow_origin.sources()) {
            directive.push(' ');
            directive.push_str(&source);
        }
        Some(directive)
    }

    fn allows(&self, origin: &str, host: Option<Authority<'_>>) -> bool {
        self.allow_origin.has_star() || self.knows(origin, host)
    }

    /// Whether the flag names this origin, or the origin is the server's own. In loopback mode, origins on this machine
    /// are known, too.
    fn knows(&self, origin: &str, host: Option<Authority<'_>>) -> bool {
        if self.allow_origin.name(origin) {
            return true;
        }
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        // This check allows only origins that a page on the web can have, because many pages share `file://` and
        // similar origins.
        if !matches!(scheme, "http" | "https") || authority.contains(['/', '@', '?', '#']) {
            return false;
        }
        let authority = Authority::parse(authority);
        (self.mode == AccessMode::Loopback && authority.is_loopback())
            || host.is_some_and(|host| host.is_same(&authority))
    }

    /// Writes the CORS headers that allow the page to read the response. The response repeats the origin and allows
    /// credentials, because old browsers always send credentials and then reject `*`. If only an explicit `*` allows
    /// the origin, the response does not allow credentials.
    pub fn write_cors(origin: Option<HeaderValue>, is_by_star: bool, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        if is_by_star {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("ETag, Retry-After"));
    }

    /// Whether only an explicit `*` allows a request's origin.
    pub fn is_by_star(&self, headers: &HeaderMap, forwarded_host: Option<&str>) -> bool {
        self.allow_origin.has_star() && !self.trusts_cookies(headers, forwarded_host)
    }

    /// Whether the cookies of a request count. A browser sends cookies with the requests of every page. So they count
    /// for the server's own pages and for pages that the operator names. They do not count for other pages that an open
    /// server or a `*` allows. A program does not send an `Origin`.
    pub fn trusts_cookies(&self, headers: &HeaderMap, forwarded_host: Option<&str>) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        let host = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = forwarded_host.or_else(host).map(Authority::parse);
        origins.all(|other| other == origin) && origin.to_str().is_ok_and(|origin| self.knows(origin, host))
    }

    /// Writes the answer to a CORS preflight. It allows the headers that the browser asks for, because tracing and
    /// other scripts of a page add their own headers to each request. The code that reads a header decides whether it
    /// counts.
    pub fn write_preflight(request: &HeaderMap, headers: &mut HeaderMap, methods: &'static str) {
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        let allowed = "Content-Type, Authorization, If-None-Match, Last-Event-ID, Cache-Control, X-Requested-With";
        let allowed = requested_headers(request).unwrap_or(HeaderValue::from_static(allowed));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        headers.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        // A page of the public internet asks for a server in a private network (Private Network Access).
        if request.contains_key("access-control-request-private-network") {
            let name = HeaderName::from_static("access-control-allow-private-network");
            headers.insert(name, HeaderValue::from_static("true"));
        }
    }
}

/// Returns the advice for a client that uses a foreign host name: the setting that allows this client.
fn foreign_host(listener: ListenerKind) -> &'static str {
    match listener {
        ListenerKind::Public => {
            "this server answers to loopback names only; start it with --open to admit every client"
        }
        ListenerKind::Admin { .. } => {
            "a listener of --admin-listen on a loopback address answers to loopback names only; give it an address that \
             only your own machines can reach"
        }
    }
}

/// Returns the advice for pages of a foreign origin: the setting that allows these pages. A page without its own
/// origin, such as a page in a sandboxed frame, sends `null`. A list of origins cannot contain `null`.
fn foreign_origin(origin: &str, listener: ListenerKind) -> &'static str {
    match listener {
        ListenerKind::Public if origin == "null" => {
            "pages without an origin of their own may not use this server: only --allow-origin '*' admits them, without \
             cookies"
        }
        ListenerKind::Public => "pages of this origin may not use this server: name it with --allow-origin",
        ListenerKind::Admin { .. } => {
            "pages of other origins may not use the listener of --admin-listen, and --allow-origin does not change this: \
             a page uses the public listener, with a server key"
        }
    }
}

/// The headers that a preflight asks for. `None` if the preflight does not name any headers, or if a text is not a
/// header name. Only header names may be copied from a client into a response's head.
fn requested_headers(request: &HeaderMap) -> Option<HeaderValue> {
    let mut list = String::new();
    for line in request.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        for name in line.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            HeaderName::from_bytes(name.as_bytes()).ok()?;
            list.push_str(if list.is_empty() { "" } else { ", " });
            list.push_str(name);
        }
    }
    HeaderValue::try_from(list).ok().filter(|list| !list.is_empty())
}

/// Whether a text may be a host name or an address with an optional port (RFC 3986 §3.2.2), without user information.
/// Every request needs this check, so it does not parse the text into parts.
pub fn is_host(text: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte);
    text.iter().all(is_part) && text.starts_with(b"[") == text.contains(&b']')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(open: bool, allow: &[&str], host: &str, origin: Option<&str>) -> Result<(), Code> {
        let mode = if open { AccessMode::Open } else { AccessMode::Loopback };
        let allow: Vec<String> = allow.iter().map(ToString::to_string).collect();
        let access = OriginPolicy { mode, allow_origin: AllowedOrigins::parse(&allow).expect("origins") };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a header"));
        }
        access.check(&headers, None, ListenerKind::Public).map_err(|refusal| refusal.code)
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
    fn the_pages_that_may_use_the_server_may_frame_it() {
        let directive = |mode, list: &[&str]| {
            let list: Vec<String> = list.iter().map(ToString::to_string).collect();
            OriginPolicy { mode, allow_origin: AllowedOrigins::parse(&list).expect("origins") }.frame_ancestors()
        };
        for (list, expected) in [
            (&[][..], "frame-ancestors 'self'"),
            (&["https://A.example:443"], "frame-ancestors 'self' https://a.example"),
            (
                &["http://a.example:8080", "https://*.b.example"],
                "frame-ancestors 'self' http://a.example:8080 https://*.b.example",
            ),
            (&["capacitor://localhost", "file://"], "frame-ancestors 'self' capacitor://localhost file:"),
        ] {
            assert_eq!(directive(AccessMode::Guarded, list).as_deref(), Some(expected));
        }
        let local = directive(AccessMode::Loopback, &["https://a.example"]).expect("a directive");
        assert_eq!(local, format!("frame-ancestors 'self' {} https://a.example", LOCAL_PAGES.join(" ")));
        assert_eq!(directive(AccessMode::Open, &["https://a.example"]), None);
        assert_eq!(directive(AccessMode::Guarded, &["*", "https://a.example"]), None);
    }

    #[test]
    fn a_preflight_allows_what_it_asks_for() {
        let usual = "Content-Type, Authorization, If-None-Match, Last-Event-ID, Cache-Control, X-Requested-With";
        for (lines, expected) in [
            (&[][..], usual),
            (&["traceparent"], "traceparent"),
            (&["authorization,content-type,x-b3-traceid"], "authorization, content-type, x-b3-traceid"),
            (&["a, b", " c ,, d "], "a, b, c, d"),
            (&[""], usual),
            (&[","], usual),
            (&["a b"], usual),
            (&["a", "b:c"], usual),
            (&["<script>"], usual),
        ] {
            let asked = header::ACCESS_CONTROL_REQUEST_HEADERS;
            let request = lines.iter().map(|line| (asked.clone(), HeaderValue::from_static(line))).collect();
            let mut headers = HeaderMap::new();
            OriginPolicy::write_preflight(&request, &mut headers, "GET");
            assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_HEADERS], expected, "{lines:?}");
            assert!(!headers.contains_key("access-control-allow-private-network"));
        }
        let asked = HeaderName::from_static("access-control-request-private-network");
        let mut headers = HeaderMap::new();
        OriginPolicy::write_preflight(
            &HeaderMap::from_iter([(asked, "true".parse().expect("a value"))]),
            &mut headers,
            "GET",
        );
        assert_eq!(headers["access-control-allow-private-network"], "true");
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
