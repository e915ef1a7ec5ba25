//! The version in a request line (RFC 9112 §2.3).

/// Changes a minor version that is higher than 1 to 1, in the request line at the beginning of the input. Returns
/// whether there was such a version.
///
/// A server processes such a request as if it had the highest minor version that the server knows (RFC 9110 §2.5). The
/// parser refuses every version except 1.0 and 1.1.
pub fn lower_minor(input: &mut [u8]) -> bool {
    // The parser skips empty lines in front of a request.
    let begin = input.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(input.len());
    let Some(version) = input[begin..].splitn_mut(3, |byte| *byte == b' ').nth(2) else { return false };
    let Some(minor) = version.strip_prefix(b"HTTP/1.").and_then(|rest| rest.first()) else { return false };
    if !matches!(minor, b'2'..=b'9') {
        return false;
    }
    version[b"HTTP/1.".len()] = b'1';
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_minor_version_counts_as_the_highest_known_one() {
        for (from, to) in [
            ("GET / HTTP/1.2\r\n", "GET / HTTP/1.1\r\n"),
            ("\r\n\nGET / HTTP/1.9", "\r\n\nGET / HTTP/1.1"),
            ("POST /a?b=HTTP/1.3 HTTP/1.2\n", "POST /a?b=HTTP/1.3 HTTP/1.1\n"),
        ] {
            let mut input = from.as_bytes().to_vec();
            assert!(lower_minor(&mut input), "{from:?}");
            assert_eq!(input, to.as_bytes());
        }
        for other in [
            "",
            "\r\n",
            "GET",
            "GET / ",
            "GET / HTTP/1.",
            "GET / HTTP/1.0\r\n",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/2.2\r\n",
            "GET / http/1.2\r\n",
            "GET  / HTTP/1.2\r\n",
            "GET HTTP/1.2 HTTP/1.1\r\n",
        ] {
            let mut input = other.as_bytes().to_vec();
            assert!(!lower_minor(&mut input), "{other:?}");
            assert_eq!(input, other.as_bytes());
        }
    }
}
