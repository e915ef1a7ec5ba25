//! Multipart bodies (RFC 2046, section 5.1), one JSON part for each message: `multipart/x-mixed-replace` and
//! `multipart/mixed`.

/// The boundary between parts, for the `Content-Type` of the response.
///
/// It is fixed, so that all receivers get the same bytes. A payload that contains the boundary is rewritten.
pub const BOUNDARY: &str = "longtail-7d93a1f0c24e5b68";

/// The `Content-Type` whose parts replace each other (Netscape 1.1).
pub const MIXED_REPLACE: &str = "multipart/x-mixed-replace; boundary=longtail-7d93a1f0c24e5b68";

/// The `Content-Type` whose parts add up (RFC 2046, section 5.1.3).
pub const MIXED: &str = "multipart/mixed; boundary=longtail-7d93a1f0c24e5b68";

/// The escape that replaces the boundary's first letter inside a JSON string.
const REWRITTEN_FIRST: &[u8] = b"\\u006c";

/// Appends the first delimiter. Every body begins with it.
pub fn opening(out: &mut Vec<u8>) {
    delimiter(b"\r\n", out);
}

/// Appends one part and the delimiter after it.
///
/// The delimiter goes out with its part and not in front of the next part, so that the client knows at once that the
/// part is complete. `json` has to be valid JSON: if it contains the boundary's text, an equivalent escape replaces it,
/// and `Content-Length` counts the bytes after that.
pub fn part(json: &[u8], out: &mut Vec<u8>) {
    body(json, out);
    delimiter(b"\r\n", out);
}

/// Appends one part and the close delimiter, which ends the body. See [`part`].
pub fn last_part(json: &[u8], out: &mut Vec<u8>) {
    body(json, out);
    delimiter(b"--\r\n", out);
}

fn delimiter(end: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"--");
    out.extend_from_slice(BOUNDARY.as_bytes());
    out.extend_from_slice(end);
}

fn body(json: &[u8], out: &mut Vec<u8>) {
    let rewritten = boundaries(json).count();
    let len = json.len() + rewritten * (REWRITTEN_FIRST.len() - 1);
    out.reserve(len + 128);
    out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: ");
    out.extend_from_slice(len.to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    let mut copied = 0;
    if rewritten > 0 {
        // Some parsers search for the boundary without the CRLF and dashes in front, so a payload that contains the
        // boundary could forge a part. The boundary has letters, so JSON can contain it only inside a string.
        for at in boundaries(json) {
            out.extend_from_slice(&json[copied..at]);
            out.extend_from_slice(REWRITTEN_FIRST);
            copied = at + 1;
        }
    }
    out.extend_from_slice(&json[copied..]);
    out.extend_from_slice(b"\r\n");
}

/// Returns the positions at which the boundary's text begins in `json`. Two occurrences cannot overlap.
fn boundaries(json: &[u8]) -> impl Iterator<Item = usize> {
    json.windows(BOUNDARY.len()).enumerate().filter(|(_, window)| *window == BOUNDARY.as_bytes()).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn encoded(parts: &[&str], last: &str) -> String {
        let mut out = Vec::new();
        opening(&mut out);
        parts.iter().for_each(|json| part(json.as_bytes(), &mut out));
        last_part(last.as_bytes(), &mut out);
        String::from_utf8(out).expect("rewriting keeps UTF-8")
    }

    /// Returns the parts that a client sees if it splits at every occurrence of the boundary, and checks their lengths.
    fn parse(body: &str) -> Vec<&str> {
        let mut parts = body.split(BOUNDARY);
        assert_eq!(parts.next(), Some("--"));
        let mut jsons = Vec::new();
        for part in parts {
            if part == "--\r\n" {
                return jsons;
            }
            let (head, rest) = part.split_once("\r\n\r\n").expect("a head");
            let json = rest.strip_suffix("\r\n--").expect("a delimiter");
            let length = format!("\r\nContent-Type: application/json\r\nContent-Length: {}", json.len());
            assert_eq!(head, length);
            jsons.push(json);
        }
        panic!("no close delimiter");
    }

    #[test]
    fn content_types_name_the_boundary() {
        for content_type in [MIXED, MIXED_REPLACE] {
            assert_eq!(content_type.split_once("; boundary=").map(|(_, boundary)| boundary), Some(BOUNDARY));
        }
    }

    #[test]
    fn bytes_of_a_body() {
        assert_eq!(
            encoded(&["{\"a\":1}"], "\"é\""),
            "--longtail-7d93a1f0c24e5b68\r\n\
             Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}\r\n--longtail-7d93a1f0c24e5b68\r\n\
             Content-Type: application/json\r\nContent-Length: 4\r\n\r\n\"é\"\r\n--longtail-7d93a1f0c24e5b68--\r\n"
        );
    }

    #[test]
    fn a_boundary_in_the_payload_is_escaped() {
        let json = format!("[\"\\\\{BOUNDARY}--\",\"{BOUNDARY}{BOUNDARY}\"]");
        let body = encoded(&[&json], "1");
        let parts = parse(&body);
        assert_eq!(parts.len(), 2);
        let value = |json: &str| serde_json::from_str::<Value>(json).expect("JSON");
        assert_eq!(value(parts[0]), value(&json));
    }

    proptest! {
        #[test]
        fn parts_come_back(texts in prop::collection::vec("(longtail-7d93a1f0c24e5b68|lo|-|\r\n|\\\\|é){0,6}", 1..5)) {
            let values: Vec<_> = texts.into_iter().map(Value::from).collect();
            let jsons: Vec<_> = values.iter().map(Value::to_string).collect();
            let (last, rest) = jsons.split_last().expect("one at least");
            let body = encoded(&rest.iter().map(String::as_str).collect::<Vec<_>>(), last);
            let parsed: Result<Vec<Value>, _> = parse(&body).into_iter().map(serde_json::from_str).collect();
            prop_assert_eq!(parsed?, values);
        }
    }
}
