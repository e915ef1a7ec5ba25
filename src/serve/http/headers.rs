//! Reads single headers and fields of a request.

use crate::transport::params::fields;
use hyper::HeaderMap;

/// Whether a list in a header contains a token (RFC 9110 §5.6.1).
pub fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// A header's value as text; `?` if it is not ASCII.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// The value of a field in a query or a form. If a field repeats, the last one counts.
pub fn last_field(query: &[u8], form: Option<&[u8]>, wanted: &str) -> Option<String> {
    fields(query, form).filter(|(name, _)| name == wanted).last().map(|(_, value)| value.into_owned())
}
