//! Reads single headers and fields of a request.

use crate::transport::params::fields;
use hyper::HeaderMap;
use std::borrow::Cow;

/// Whether a list in a header contains a token (RFC 9110 §5.6.1).
pub fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    list(headers, name).split(',').any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// The items of a list in a header, which may be spread over several lines (RFC 9110 §5.3). A line that is not UTF-8
/// does not hide the others.
pub fn list<'a>(headers: &'a HeaderMap, name: &str) -> Cow<'a, str> {
    let mut lines = headers.get_all(name).into_iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    let Some(first) = lines.next() else { return Cow::Borrowed("") };
    lines.fold(first, |list, line| Cow::Owned(format!("{list}, {line}")))
}

/// Returns a header's value as text; `?` if the value is not ASCII.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// The value of a field in a query or a form. If a field repeats, the last one counts.
pub fn last_field(query: &[u8], form: Option<&[u8]>, wanted: &str) -> Option<String> {
    fields(query, form).filter(|(name, _)| name == wanted).last().map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{ACCEPT, HeaderValue};

    #[test]
    fn a_list_may_stand_in_several_lines() {
        for (lines, expected) in [
            (&[][..], ""),
            (&[&b"a"[..]], "a"),
            (&[b"a, b", b"c"], "a, b, c"),
            (&[b"a", b"", b"c"], "a, , c"),
            (&[b"\xe9", b"c"], "\u{fffd}, c"),
        ] {
            let values = lines.iter().map(|line| (ACCEPT, HeaderValue::from_bytes(line).expect("a value")));
            let headers: HeaderMap = values.collect();
            assert_eq!(list(&headers, "accept"), expected);
            assert_eq!(has_token(&headers, "Accept", "C"), expected.ends_with('c'));
        }
    }
}
