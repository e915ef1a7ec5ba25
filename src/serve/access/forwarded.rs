//! The client behind a proxy: `X-Forwarded-For`, `Forwarded` (RFC 7239) and the forwarded host. They count only if a
//! trusted proxy sent them.

use super::origin::is_host;
use hyper::HeaderMap;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The trusted proxies.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    trusted: Vec<IpNet>,
    /// Whether their connections begin with a PROXY protocol header.
    pub send_proxy_header: bool,
}

impl Proxies {
    /// Trusts all addresses in these networks.
    pub fn new(trusted: Vec<IpNet>, send_proxy_header: bool) -> Proxies {
        Proxies { trusted, send_proxy_header }
    }

    /// Whether an address is a trusted proxy.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&ip))
    }

    /// The address to which a connection counts. `None` for a proxy, because its connections carry the requests of many
    /// clients, and the server counts each of these requests.
    pub fn counted(&self, ip: IpAddr) -> Option<IpAddr> {
        (!self.trusts(ip)).then_some(ip)
    }

    /// The client's address: the first one from the right that is not a trusted proxy. The client may have forged the
    /// addresses further to the left. If a text is not an address, the search ends. Its result is then the proxy that
    /// wrote this text.
    ///
    /// `Forwarded` counts only if there is no `X-Forwarded-For`, because a proxy that sets only one of these headers
    /// forwards the other one unchanged from the client.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusts(peer) {
            return peer;
        }
        let hops: Vec<Option<IpAddr>> = if headers.contains_key("x-forwarded-for") {
            let lines = headers.get_all("x-forwarded-for").into_iter().rev();
            lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(',')).map(address).collect()
        } else {
            forwarded(headers).map(|hop| address(hop.forwarded_for?)).collect()
        };
        let mut client = peer;
        for hop in hops {
            let Some(ip) = hop else { break };
            client = ip;
            if !self.trusts(ip) {
                break;
            }
        }
        client
    }

    /// The host and port to which the client sent a request, before a trusted proxy changed them. The last proxy
    /// reports them. `None` if that text cannot be a host name.
    pub fn host<'a>(&self, peer: IpAddr, headers: &'a HeaderMap) -> Option<&'a str> {
        if !self.trusts(peer) {
            return None;
        }
        let mut lines = headers.get_all("x-forwarded-host").into_iter();
        let host = if let Some(last) = lines.next_back() {
            last.to_str().ok()?.rsplit(',').next().map(str::trim)
        } else if headers.contains_key("x-forwarded-for") {
            None
        } else {
            forwarded(headers).next()?.host
        };
        // Proxies forward any text that the client wrote into its `Host`.
        host.filter(|host| !host.is_empty() && is_host(host.as_bytes()))
    }
}

/// Parses an address with or without a port: `192.0.2.1:80`, `[2001:db8::1]:80`, `2001:db8::1`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(ip.to_canonical())
}

/// One hop of `Forwarded`.
#[derive(Default)]
struct Hop<'a> {
    forwarded_for: Option<&'a str>,
    host: Option<&'a str>,
}

/// The hops of all `Forwarded` headers (RFC 7239 §4), the last one first.
fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = Hop<'_>> {
    let lines = headers.get_all("forwarded").into_iter().rev();
    lines.flat_map(|line| split(line.to_str().unwrap_or_default(), ',')).map(hop)
}

fn hop(element: &str) -> Hop<'_> {
    let mut hop = Hop::default();
    for (name, value) in split(element, ';').filter_map(|pair| pair.split_once('=')) {
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => _ = hop.forwarded_for.get_or_insert(value),
            "host" => _ = hop.host.get_or_insert(value),
            _ => {}
        }
    }
    hop
}

/// Splits the line outside of quotes, from the right, because a proxy appends to the line that the client sent. Quotes
/// that the client left open must not hide the text that the proxy added.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.rsplit(move |c| {
        is_quoted ^= c == '"';
        c == at && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies() -> Proxies {
        let nets = ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"];
        Proxies::new(nets.iter().map(|net| net.parse().expect("a network")).collect(), false)
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
        proxies().client(peer.parse().expect("an address"), &headers(lines)).to_string()
    }

    #[test]
    fn the_rightmost_that_is_not_a_proxy() {
        let xff = "x-forwarded-for";
        for (peer, lines, expected) in [
            ("192.0.2.9", vec![(xff, "1.1.1.1")], "192.0.2.9"),
            ("127.0.0.1", vec![], "127.0.0.1"),
            ("127.0.0.1", vec![(xff, "1.1.1.1")], "1.1.1.1"),
            ("127.0.0.1", vec![(xff, "6.6.6.6, 1.1.1.1")], "1.1.1.1"),
            ("127.0.0.1", vec![(xff, "6.6.6.6, 1.1.1.1, 10.1.2.3")], "1.1.1.1"),
            ("127.0.0.1", vec![(xff, "6.6.6.6"), (xff, "1.1.1.1"), (xff, "10.1.2.3")], "1.1.1.1"),
            ("127.0.0.1", vec![(xff, "10.0.0.1, 10.0.0.2")], "10.0.0.1"),
            ("127.0.0.1", vec![(xff, "6.6.6.6, unknown, 10.0.0.2")], "10.0.0.2"),
            ("127.0.0.1", vec![(xff, "6.6.6.6, ")], "127.0.0.1"),
            ("127.0.0.1", vec![(xff, "1.1.1.1:4711")], "1.1.1.1"),
            ("127.0.0.1", vec![(xff, "2001:db8::1")], "2001:db8::1"),
            ("127.0.0.1", vec![(xff, "[2001:db8::1]:80")], "2001:db8::1"),
            ("127.0.0.1", vec![(xff, "::ffff:1.1.1.1")], "1.1.1.1"),
            ("fd00::1", vec![(xff, "1.1.1.1")], "1.1.1.1"),
            ("127.0.0.1", vec![("forwarded", "for=6.6.6.6, for=1.1.1.1;proto=https")], "1.1.1.1"),
            ("127.0.0.1", vec![("forwarded", "For=\"[2001:db8::1]:4711\"")], "2001:db8::1"),
            ("127.0.0.1", vec![("forwarded", "for=6.6.6.6, for=_hidden")], "127.0.0.1"),
            ("127.0.0.1", vec![("forwarded", "for=\"1.1.1.1, for=6.6.6.6\"")], "127.0.0.1"),
            ("127.0.0.1", vec![("forwarded", "for=6.6.6.6, proto=http")], "127.0.0.1"),
            ("127.0.0.1", vec![("forwarded", "for=\"6.6.6.6, for=1.1.1.1")], "1.1.1.1"),
            ("127.0.0.1", vec![("forwarded", "for=6.6.6.6;by=\", for=1.1.1.1, for=\"10.0.0.2:80\"")], "1.1.1.1"),
            ("127.0.0.1", vec![("forwarded", "for=6.6.6.6"), (xff, "1.1.1.1")], "1.1.1.1"),
        ] {
            assert_eq!(client(peer, &lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_host_from_proxies_only() {
        let of = |peer: &str, lines: &[(&'static str, &str)]| {
            proxies().host(peer.parse().expect("an address"), &headers(lines)).map(str::to_owned)
        };
        let xfh = "x-forwarded-host";
        assert_eq!(of("192.0.2.9", &[(xfh, "a.example")]), None);
        assert_eq!(of("127.0.0.1", &[(xfh, "a.example")]).as_deref(), Some("a.example"));
        assert_eq!(of("127.0.0.1", &[(xfh, "evil, a.example:8443")]).as_deref(), Some("a.example:8443"));
        assert_eq!(of("127.0.0.1", &[("forwarded", "for=a;host=evil, for=b;host=\"a:1\"")]).as_deref(), Some("a:1"));
        assert_eq!(of("127.0.0.1", &[("forwarded", "host=\"evil, for=b;host=a")]).as_deref(), Some("a"));
        for bad in ["evil@a", "a/b", "a b", "\"a", "[::1"] {
            assert_eq!(of("127.0.0.1", &[(xfh, bad)]), None, "{bad}");
        }
        assert_eq!(of("127.0.0.1", &[("forwarded", "host=evil"), ("x-forwarded-for", "1.1.1.1")]), None);
    }

    proptest! {
        #[test]
        fn anything_is_read(xff in "[ -~]{0,60}", fwd in "[ -~]{0,60}", both: bool) {
            let mut lines = vec![("forwarded", fwd.as_str())];
            if both { lines.push(("x-forwarded-for", xff.as_str())); }
            client("127.0.0.1", &lines);
            proxies().host(IpAddr::from([127, 0, 0, 1]), &headers(&lines));
        }
    }
}
