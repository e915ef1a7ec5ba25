//! JSON text, for publishing and embedding (RFC 8259).
//!
//! A payload that is JSON is never parsed into values and printed again: this would lose digits of large numbers and
//! the order of keys.

use std::borrow::Cow;

use serde_json::value::RawValue;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Whether a JSON string escapes this byte. The check has no branch, so that the compiler can check many bytes in one
/// step.
fn is_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// The index of the first byte that is escaped. Most text does not have such a byte, so the search goes by blocks. Each
/// block takes a few vector instructions.
fn first_escaped(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let is_clean = |block: &&[u8]| !block.iter().fold(false, |found, byte| found | is_escaped(*byte));
    let clean = bytes.chunks_exact(BLOCK).take_while(is_clean).count() * BLOCK;
    bytes[clean..].iter().position(|byte| is_escaped(*byte)).map(|at| clean + at)
}

/// Appends `text` as a JSON string, quotes included (RFC 8259, section 7).
///
/// Only `"`, `\` and the C0 controls are escaped: JSON does not need more escapes, and
/// [`script::escape`](super::script::escape) adds those that a script needs. The result has no raw CR or LF.
pub fn quote(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut from = 0;
    // Most text does not need escapes, so most bytes cost only the search.
    while let Some(found) = first_escaped(&bytes[from..]) {
        let at = from + found;
        from = at + 1;
        let byte = bytes[at];
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => b'u',
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        copied = at + 1;
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Returns the JSON text for a published payload in a message's `data`.
///
/// If `text` is JSON, the result is that text. Numbers, key order and escapes stay as written. White space around the
/// text is removed, and every CR and LF becomes a space, since streams are made of lines. Any other text (also the
/// empty text) becomes a JSON string.
///
/// The cost is linear in `text`, and the nesting depth is bounded only by memory, not by the stack.
#[must_use]
pub fn payload(text: &str) -> String {
    // `RawValue` is validated by serde_json's skipping parser, which keeps open brackets in a heap buffer. A `Value` or
    // a derived type would recurse and refuse more than 128 levels, and deep JSON would become a string.
    match serde_json::from_str::<&RawValue>(text) {
        // A raw CR or LF within a string is not JSON, so all of them are between tokens.
        Ok(json) => json.get().replace(['\r', '\n'], " "),
        Err(_) => quoted(text),
    }
}

/// Returns `text` as a JSON string, quotes included. See [`quote`].
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    quote(text, &mut out);
    // The bytes are valid by construction, so the lossy path is never taken and a copy is never made.
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Returns the text of `json` if it is a JSON string, else `None`.
///
/// An escaped surrogate without its other half (`"\ud800"`) is valid JSON but not Unicode text. It becomes
/// U+FFFD, as in a browser that encodes such a string to UTF-8.
#[must_use]
pub fn text_of(json: &str) -> Option<String> {
    // This check avoids parsing a large object that is not a string.
    if !json.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('"') {
        return None;
    }
    serde_json::from_str(json).ok().or_else(|| {
        // The text is first checked to be JSON, since the repair below relies on well-formed escapes.
        serde_json::from_str::<&RawValue>(json).ok()?;
        serde_json::from_str(&replace_lone_surrogates(json)).ok()
    })
}

/// The text that a client gets that does not know JSON: that of a JSON string, or else the JSON itself.
#[must_use]
pub fn bare(json: &str) -> Cow<'_, str> {
    text_of(json).map_or(Cow::Borrowed(json), Cow::Owned)
}

/// Appends JSON in ASCII, with the same value: a `\u` escape replaces each character outside ASCII.
///
/// `json` has to be valid JSON: there such characters occur only inside strings.
pub fn ascii(json: &str, out: &mut Vec<u8>) {
    out.reserve(json.len());
    let mut rest = json;
    while let Some(at) = rest.bytes().position(|byte| !byte.is_ascii()) {
        let (clean, other) = rest.split_at(at);
        out.extend_from_slice(clean.as_bytes());
        let end = other.bytes().position(|byte| byte.is_ascii()).unwrap_or(other.len());
        for unit in other[..end].encode_utf16() {
            let nibble = |shift: u16| HEX[usize::from(unit >> shift & 15)];
            out.extend_from_slice(&[b'\\', b'u', nibble(12), nibble(8), nibble(4), nibble(0)]);
        }
        rest = &other[end..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Rewrites lone `\uD800`–`\uDFFF` escapes of a valid JSON string as `\ufffd`.
fn replace_lone_surrogates(json: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        at += found;
        match escaped_unit(json, at) {
            Some(0xd800..=0xdbff) if matches!(escaped_unit(json, at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                out.push_str(&json[copied..at]);
                out.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            // Both characters are skipped, so that the second backslash of `\\ud800` does not count as the start of an
            // escape.
            _ => at += 2,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[copied..]);
    Cow::Owned(out)
}

/// Returns the UTF-16 unit of the `\u` escape at byte `at`, if there is one.
fn escaped_unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

/// The only item of a JSON array; `None` if the text is not an array of one item.
pub fn only_item(json: &str) -> Option<&str> {
    match serde_json::from_str::<Vec<&RawValue>>(json).ok()?.as_slice() {
        [item] => Some(item.get()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn quotes_what_json_needs_and_no_more() {
        assert_eq!(quoted("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(quoted("\0\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f}"), r#""\u0000\u0001\b\t\n\u000b\f\r\u001f""#);
        assert_eq!(quoted("/<é\u{7f}\u{2028}😀"), "\"/<é\u{7f}\u{2028}😀\"");
        assert_eq!(quoted(""), r#""""#);
    }

    #[test]
    fn json_stands_as_written() {
        for json in
            ["null", "true", "123", "-0", "1e400", "12345678901234567890.10", r#"{"b":1,"a":1.0,"b":2}"#, r#""\ud800""#]
        {
            assert_eq!(payload(json), json);
        }
        assert_eq!(payload(" \r\n{ \"a\" :\r\n[1,\n2]\t}\n"), "{ \"a\" :  [1, 2]\t}");
        assert_eq!(payload(r#""a\r\nb""#), r#""a\r\nb""#);
    }

    #[test]
    fn other_text_becomes_a_string() {
        for (text, json) in [
            ("", r#""""#),
            (" ", r#"" ""#),
            ("hello", r#""hello""#),
            ("01", r#""01""#),
            ("[1,]", r#""[1,]""#),
            ("NaN", r#""NaN""#),
            ("1 2", r#""1 2""#),
            ("{\"a\":1}x", r#""{\"a\":1}x""#),
            ("\"a\nb\"", r#""\"a\nb\"""#),
            ("\u{a0}1", "\"\u{a0}1\""),
            ("\u{feff}1", "\"\u{feff}1\""),
        ] {
            assert_eq!(payload(text), json);
        }
    }

    #[test]
    fn deep_nesting_is_judged_without_recursion() {
        let valid = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(payload(&valid), valid);
        let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert_eq!(payload(&objects), objects);
        let open = "[".repeat(100_000);
        assert_eq!(payload(&open), format!("\"{open}\""));
    }

    #[test]
    fn text_of_strings_only() {
        assert_eq!(text_of(r#" "a\u00e9\n" "#).as_deref(), Some("aé\n"));
        for json in ["1", "null", "{\"a\":\"b\"}", "[\"a\"]", "", "\"", "\"a\"b", r#""\x""#, r#""\ud800"#] {
            assert_eq!(text_of(json), None, "{json}");
        }
    }

    #[test]
    fn lone_surrogates_are_replaced() {
        for (json, text) in [
            (r#""\ud83d\ude00""#, "😀"),
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\ud83d\ude00é\udc00""#, "\u{fffd}😀é\u{fffd}"),
            (r#""\\ud800\ud800\\""#, "\\ud800\u{fffd}\\"),
            (r#""\ud800\n\ud800é""#, "\u{fffd}\n\u{fffd}é"),
            (r#""\ud800éé""#, "\u{fffd}éé"),
        ] {
            assert_eq!(text_of(json).as_deref(), Some(text), "{json}");
        }
    }

    #[test]
    fn json_in_ascii() {
        for (json, expected) in [
            ("", ""),
            ("[1,\"a\"]", "[1,\"a\"]"),
            ("\"é€😀\"", r#""\u00e9\u20ac\ud83d\ude00""#),
            ("\"é\\\\é\"", r#""\u00e9\\\u00e9""#),
            ("\"\u{7f}\u{80}\u{2028}\"", "\"\u{7f}\\u0080\\u2028\""),
        ] {
            let mut out = Vec::new();
            ascii(json, &mut out);
            assert_eq!(out, expected.as_bytes(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn json_in_ascii_is_the_same_value(text: String) {
            let mut out = Vec::new();
            ascii(&quoted(&text), &mut out);
            prop_assert!(out.is_ascii());
            prop_assert_eq!(text_of(&String::from_utf8(out)?), Some(text));
        }

        #[test]
        fn quoted_text_comes_back(text in any::<String>()) {
            prop_assert_eq!(text_of(&quoted(&text)), Some(text));
        }

        /// Checking by blocks gives the same result as checking byte by byte.
        #[test]
        fn what_is_escaped_is_found(
            mut bytes in prop::collection::vec(0x23_u8..0x5c, 0..100),
            at: prop::sample::Index,
            byte: u8,
        ) {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let found = bytes.iter().position(|byte| *byte < 0x20 || b"\"\\".contains(byte));
            prop_assert_eq!(first_escaped(&bytes), found);
        }

        #[test]
        fn a_payload_is_one_line_of_json(text in r#"[\[\]{}",:\\u0-9a-f \r\n]{0,40}|\PC*"#) {
            let json = payload(&text);
            prop_assert!(!json.contains(['\r', '\n']));
            prop_assert!(serde_json::from_str::<&RawValue>(&json).is_ok());
            prop_assert_eq!(payload(&json), json);
        }

        #[test]
        fn json_keeps_its_value(items in prop::collection::vec(any::<(String, i64)>(), 0..5)) {
            let value: Value = items.into_iter().map(|(key, number)| (key, Value::from(number))).collect();
            let pretty = serde_json::to_string_pretty(&value)?.replace('\n', "\r\n");
            prop_assert_eq!(serde_json::from_str::<Value>(&payload(&pretty))?, value);
        }

        #[test]
        fn escapes_never_fail(units in prop::collection::vec(any::<u16>(), 0..20)) {
            let json = units.iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            prop_assert_eq!(text_of(&format!("\"{json}\"")), Some(String::from_utf16_lossy(&units)));
        }
    }
}
