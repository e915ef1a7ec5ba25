//! The cookies of a request.

use hyper::header::{COOKIE, HeaderMap, HeaderValue};

/// All cookies of a request as one value. Over HTTP/2, a browser may send a separate field for each cookie (RFC 9113
/// §8.2.3), and proxies forward these fields as several lines. Cookies may contain bytes that are not ASCII.
///
/// The value is a copy. The original points into the buffer of the whole head, so a stream would keep this buffer until
/// it ends.
pub fn joined(headers: &HeaderMap) -> Option<HeaderValue> {
    let values: Vec<&[u8]> = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    if values.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&values.join(&b"; "[..])).ok()
}

/// The value of a cookie (RFC 6265 §5.4). If there are two, the first one counts, because it has the longer path. A
/// value that is empty or not ASCII counts as missing.
pub fn value<'a>(cookies: &'a HeaderValue, name: &str) -> Option<&'a str> {
    let mut pairs = cookies.as_bytes().split(|byte| *byte == b';').filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
    });
    let (_, value) = pairs.find(|(found, _)| *found == name.as_bytes())?;
    let value = std::str::from_utf8(value).ok().filter(|value| value.is_ascii())?;
    Some(value.trim_matches('"')).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&[u8]]) -> (Option<HeaderValue>, Option<String>) {
        let lines = lines.iter().map(|line| (COOKIE, HeaderValue::from_bytes(line).expect("a value")));
        let all = joined(&lines.collect());
        let value = all.as_ref().and_then(|all| value(all, "t")).map(str::to_owned);
        (all, value)
    }

    #[test]
    fn all_lines_count() {
        for (lines, all, token) in [
            (&[][..], None, None),
            (&[&b"t=1"[..]], Some(&b"t=1"[..]), Some("1")),
            (&[b"a=b; t=1"], Some(b"a=b; t=1"), Some("1")),
            (&[b"a=b", b"t=1"], Some(b"a=b; t=1"), Some("1")),
            (&[b"t=1", b"a=b"], Some(b"t=1; a=b"), Some("1")),
            (&[b"a=b", b"c=d;t=\"1\"", b"t=2"], Some(b"a=b; c=d;t=\"1\"; t=2"), Some("1")),
            (&[b"name=Jos\xc3\xa9; t=1"], Some(b"name=Jos\xc3\xa9; t=1"), Some("1")),
            (&[b"name=\xe9", b"t=1"], Some(b"name=\xe9; t=1"), Some("1")),
            (&[b"t=\xe9"], Some(b"t=\xe9"), None),
            (&[b"t=; t=1"], Some(b"t=; t=1"), None),
            (&[b"at=1; tt=2; T=3"], Some(b"at=1; tt=2; T=3"), None),
            (&[b"t", b";;", b"  t = 1 "], Some(b"t; ;;;   t = 1 "), Some("1")),
        ] {
            let all = all.map(|all: &[u8]| HeaderValue::from_bytes(all).expect("a value"));
            assert_eq!(found(lines), (all, token.map(str::to_owned)), "{lines:?}");
        }
    }
}
