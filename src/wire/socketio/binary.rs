//! Binary arguments in JSON outside of Socket.IO: `{"$binary":"<base64>"}`, for applications and the log.
//!
//! The JSON is not parsed into values, so numbers and the order of keys stay.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::error::MAX_ATTACHMENTS;
use super::event::WHITE_SPACE;
use super::placeholders::{self, Placeholder, end_of_string};

/// The key of such an object.
const KEY: &str = "\"$binary\"";

/// JSON with the placeholders of its binary parts, and these parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Split {
    /// The JSON.
    pub json: String,
    /// The parts.
    pub parts: Vec<Bytes>,
}

/// Replaces the binary objects of valid JSON by placeholders; `None` if there are none. At most ten of them are
/// replaced, because clients do not take more parts. The others stay as they are.
#[must_use]
pub fn split(json: &str) -> Option<Split> {
    memchr::memmem::find(json.as_bytes(), KEY.as_bytes())?;
    let (mut out, mut parts, mut copied, mut at) = (Vec::new(), Vec::new(), 0, 0);
    let bytes = json.as_bytes();
    while let Some(found) = memchr::memchr2(b'"', b'{', &bytes[at..]) {
        at += found;
        if bytes[at] == b'"' {
            at = end_of_string(bytes, at);
            continue;
        }
        match object(json, at) {
            Some((part, end)) if parts.len() < MAX_ATTACHMENTS => {
                out.extend_from_slice(&bytes[copied..at]);
                placeholders::write(parts.len(), &mut out);
                parts.push(part);
                (at, copied) = (end, end);
            }
            _ => at += 1,
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    let json = String::from_utf8(out).ok().filter(|_| !parts.is_empty())?;
    Some(Split { json, parts })
}

/// What stands before and after the base64 of a binary object.
const BEFORE: &[u8] = b"{\"$binary\":\"";
const AFTER: &[u8] = b"\"}";

/// Replaces the placeholders of valid JSON by binary objects; `None` if the result would have more than `max` bytes. The
/// length is known before anything is joined, however often the placeholders name a part.
#[must_use]
pub fn join(json: &str, parts: &[Bytes], max: usize) -> Option<String> {
    let part = |index: usize| parts.get(index).map_or(&[][..], |part| part);
    let object = |place: &Placeholder| BEFORE.len() + part(place.index).len().div_ceil(3) * 4 + AFTER.len();
    let length = placeholders::find(json).fold(json.len(), |length, place| length - place.range.len() + object(&place));
    if length > max {
        return None;
    }
    let mut out = Vec::with_capacity(length);
    placeholders::replace(json, &mut out, |index, out| {
        out.extend_from_slice(BEFORE);
        out.extend_from_slice(STANDARD.encode(part(index)).as_bytes());
        out.extend_from_slice(AFTER);
    });
    String::from_utf8(out).ok()
}

/// Reads a binary object that begins at a position: its bytes, and the position behind it.
fn object(json: &str, start: usize) -> Option<(Bytes, usize)> {
    let rest = json[start..].strip_prefix('{')?.trim_start_matches(WHITE_SPACE).strip_prefix(KEY)?;
    let rest = rest.trim_start_matches(WHITE_SPACE).strip_prefix(':')?.trim_start_matches(WHITE_SPACE);
    if !rest.starts_with('"') {
        return None;
    }
    let value = rest.get(..end_of_string(rest.as_bytes(), 0))?;
    // Some programs write a slash as `\/`.
    let base64 = crate::wire::json::text_of(value)?;
    let end = rest[value.len()..].trim_start_matches(WHITE_SPACE).strip_prefix('}')?;
    let bytes = STANDARD.decode(base64).ok()?;
    Some((bytes.into(), json.len() - end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_objects_become_parts_and_come_back() {
        for (json, text, parts) in [
            (r#"{"$binary":"AAE="}"#, r#"{"_placeholder":true,"num":0}"#, &[&[0, 1][..]][..]),
            (
                r#"[1,{"a": { "$binary" : "\/w==" } },{"$binary":""}]"#,
                r#"[1,{"a": {"_placeholder":true,"num":0} },{"_placeholder":true,"num":1}]"#,
                &[&[255], &[]],
            ),
        ] {
            let split = split(json).expect("parts");
            assert_eq!((split.json.as_str(), split.parts.len()), (text, parts.len()));
            assert_eq!(split.parts, parts);
            let joined = join(&split.json, &split.parts, 100).expect("a text");
            let joined: serde_json::Value = serde_json::from_str(&joined).expect("JSON");
            assert_eq!(joined, serde_json::from_str::<serde_json::Value>(json).expect("JSON"));
        }
    }

    #[test]
    fn a_text_that_would_be_too_long_is_not_made() {
        let place = r#"{"_placeholder":true,"num":0}"#;
        let parts = [Bytes::from(vec![0; 300])];
        let joined = join(place, &parts, 414).expect("a text");
        assert_eq!(joined.len(), 414);
        assert_eq!(join(place, &parts, 413), None);
        // The parts would have a terabyte.
        let json = format!("[{}]", vec![place; 1 << 20].join(","));
        assert_eq!(join(&json, &[vec![0; 1 << 20].into()], 1 << 30), None);
        assert_eq!(join("[1,2]", &[], 4), None);
    }

    #[test]
    fn other_json_stays() {
        for json in [
            "1",
            r#""{\"$binary\":\"AA==\"}""#,
            r#"{"$binary":1}"#,
            r#"{"$binary":"?"}"#,
            r#"{"$binary":"AA==","more":1}"#,
            r#"{"a":"$binary"}"#,
        ] {
            assert_eq!(split(json), None, "{json}");
        }
    }

    #[test]
    fn a_client_gets_at_most_ten_parts() {
        let json = format!("[{}]", [r#"{"$binary":"AA=="}"#; 12].join(","));
        let split = split(&json).expect("parts");
        assert_eq!((split.parts.len(), split.json.matches("$binary").count()), (10, 2));
    }
}
