//! Whatever a request's head contains, its address is the connection's peer or one that the proxies name, of which the
//! last counts; and the request has one host.
#![no_main]

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};
use libfuzzer_sys::fuzz_target;
use longtail::internals::serve::Proxies;
use longtail::internals::serve::fuzzing::normalize_host;
use std::net::IpAddr;
use std::sync::LazyLock;

const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const STRANGER: &str = "203.0.113.7";

static PROXIES: LazyLock<Proxies> = LazyLock::new(|| {
    let nets = ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"];
    Proxies::new(nets.iter().map(|net| net.parse().expect("a network")).collect(), false)
});

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const NAMED: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

// The first byte is the version, the first line the address; a line's first byte says which header it is.
fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|&byte| byte == b'\n');
    let Some((version, uri)) = lines.next().and_then(|line| line.split_first()) else { return };
    let mut headers = HeaderMap::new();
    for (which, value) in lines.take(50).filter_map(|line| line.split_first()) {
        let name = match which {
            b'x' => FOR,
            b'n' => NAMED,
            b'f' => FORWARDED,
            b'h' => HOST,
            _ => continue,
        };
        // The value as a server reads it from a line: without spaces around it.
        let Ok(value) = HeaderValue::from_bytes(value.trim_ascii()) else { continue };
        headers.append(name, value);
    }
    client(&headers);
    host(&headers);
    let Ok(uri) = Uri::try_from(uri) else { return };
    let version = match version {
        b'0' => Version::HTTP_10,
        b'2' => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    settled(version, uri, headers);
});

/// The same headers, when the proxy nearest to us has added this to the last of them.
fn added(headers: &HeaderMap, name: HeaderName, text: &str) -> HeaderMap {
    let mut values: Vec<HeaderValue> = headers.get_all(&name).into_iter().cloned().collect();
    let last = values.pop().map_or(text.as_bytes().to_vec(), |last| [last.as_bytes(), b", ", text.as_bytes()].concat());
    values.push(HeaderValue::from_bytes(&last).expect("a value"));
    let mut headers = headers.clone();
    headers.remove(&name);
    for value in values {
        headers.append(&name, value);
    }
    headers
}

fn is_named(ip: IpAddr, headers: &HeaderMap) -> bool {
    let values = [FOR, FORWARDED].into_iter().flat_map(|name| headers.get_all(name));
    values.filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(|c: char| !c.is_ascii_hexdigit() && c != ':' && c != '.').any(|word| {
            let without_port = word.rsplit_once(':').map_or("", |(word, _)| word);
            [word, without_port].iter().any(|word| word.parse().is_ok_and(|named: IpAddr| named.to_canonical() == ip))
        })
    })
}

fn client(headers: &HeaderMap) {
    let stranger: IpAddr = STRANGER.parse().expect("an address");
    assert_eq!(PROXIES.client(stranger, headers), stranger);
    let client = PROXIES.client(PROXY, headers);
    assert!(client == PROXY || is_named(client, headers), "{client}");
    let known = added(headers, FOR, STRANGER);
    // A line that cannot be parsed counts as written by the client.
    if known.get_all(FOR).into_iter().all(|value| value.to_str().is_ok()) {
        assert_eq!(PROXIES.client(PROXY, &known), stranger);
    }
    if !headers.contains_key(FOR) {
        let known = added(headers, FORWARDED, &format!("for={STRANGER}"));
        if known.get_all(FORWARDED).into_iter().all(|value| value.to_str().is_ok()) {
            assert_eq!(PROXIES.client(PROXY, &known), stranger);
        }
    }
}

fn host(headers: &HeaderMap) {
    assert_eq!(PROXIES.host(STRANGER.parse().expect("an address"), headers), None);
    if let Some(host) = PROXIES.host(PROXY, headers) {
        assert!(is_host(host.as_bytes()), "{host:?}");
    }
    let known = added(headers, NAMED, "push.example");
    if known.get_all(NAMED).into_iter().all(|value| value.to_str().is_ok()) {
        assert_eq!(PROXIES.host(PROXY, &known), Some("push.example"));
    }
    if !headers.contains_key(FOR) && !headers.contains_key(NAMED) {
        let known = added(headers, FORWARDED, "for=unknown;host=\"push.example:8443\"");
        if known.get_all(FORWARDED).into_iter().all(|value| value.to_str().is_ok()) {
            assert_eq!(PROXIES.host(PROXY, &known), Some("push.example:8443"));
        }
    }
}

/// It has no character with another meaning in an address.
fn is_host(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_graphic() && !b"@/?#\\\"<>{}|^`".contains(byte))
}

fn settled(version: Version, uri: Uri, headers: HeaderMap) {
    let mut request = Request::new(());
    (*request.version_mut(), *request.uri_mut(), *request.headers_mut()) = (version, uri, headers);
    let came: Vec<HeaderValue> = request.headers().get_all(HOST).into_iter().cloned().collect();
    if normalize_host(&mut request).is_err() {
        return;
    }
    let hosts: Vec<&HeaderValue> = request.headers().get_all(HOST).into_iter().collect();
    assert!(hosts.len() == 1 || (hosts.is_empty() && version == Version::HTTP_10));
    let settled = hosts.first().map(|&host| host.clone());
    assert!(settled.as_ref().is_none_or(|host| is_host(host.as_bytes())), "{settled:?}");
    match request.uri().authority() {
        Some(authority) => {
            let host = settled.as_ref().expect("a host");
            assert_eq!(host.as_bytes(), authority.as_str().as_bytes());
            let is_same = |came: &HeaderValue| came.as_bytes().eq_ignore_ascii_case(host.as_bytes());
            assert!(version != Version::HTTP_2 || came.iter().all(is_same));
        }
        None => assert_eq!(came.first(), settled.as_ref()),
    }
    // Doing it again changes nothing.
    assert!(normalize_host(&mut request).is_ok());
    assert_eq!(request.headers().get(HOST), settled.as_ref());
}
