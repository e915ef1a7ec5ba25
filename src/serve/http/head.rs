//! Response heads of HTTP/1.1 as bytes, for responses that hyper does not write.

use super::date;
use hyper::{HeaderMap, StatusCode};

/// The maximum number of bytes in a request's head, with any version of HTTP. With HTTP/2, each field counts as its
/// length and 32 bytes more (RFC 9113 §6.5.2).
pub const MAX_HEAD: usize = 32 << 10;

/// Writes the status line and the headers, without those that depend on the body.
pub fn write_head(status: StatusCode, headers: &HeaderMap, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Ends a head with `Content-Length`, if there is a length, and `Date`.
pub fn write_length(length: Option<usize>, out: &mut Vec<u8>) {
    // Every response has these lines; `format!` would cost ten times as much as these copies.
    if let Some(length) = length {
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(length.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"date: ");
    date::with(|date| out.extend_from_slice(date.as_bytes()));
    out.extend_from_slice(b"\r\n\r\n");
}

/// Ends a head whose body comes in chunks.
pub fn write_chunked(out: &mut Vec<u8>) {
    out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    write_length(None, out);
}
