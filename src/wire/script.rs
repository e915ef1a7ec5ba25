//! JSON inside scripts: JSONP and the forever frame's `<script>` tags.

use super::json;

/// Appends `json` so that it is safe inside an HTML `<script>` element and has the same meaning as JavaScript source,
/// even in ECMAScript 3.
///
/// Every `<` becomes `\u003c`, and U+2028 and U+2029 become `\u2028` and `\u2029`. The other bytes stay. `json` has to
/// be valid JSON: there these three characters occur only inside strings, in which the escape means the same text.
pub fn escape(json: &[u8], out: &mut Vec<u8>) {
    out.reserve(json.len());
    let mut copied = 0;
    for (at, &byte) in json.iter().enumerate() {
        let (escape, len): (&[u8], usize) = match byte {
            // `</script` ends the element, and `<!--` followed by `<script` prevents it from ending (WHATWG HTML,
            // 4.12.1.3). Both need a `<`, so one rule covers every spelling, even if a read cuts it.
            b'<' => (b"\\u003c", 1),
            // These are line terminators of JavaScript until ECMAScript 2019: without an escape they cause a syntax
            // error inside a string literal. In UTF-8 they are E2 80 A8 and E2 80 A9.
            0xe2 => match json.get(at + 1..at + 3) {
                Some([0x80, 0xa8]) => (b"\\u2028", 3),
                Some([0x80, 0xa9]) => (b"\\u2029", 3),
                _ => continue,
            },
            _ => continue,
        };
        out.extend_from_slice(&json[copied..at]);
        out.extend_from_slice(escape);
        copied = at + len;
    }
    out.extend_from_slice(&json[copied..]);
}

/// Appends text as the inside of a string literal, without the quotes. The escape of a text is the sum of the escapes of
/// its parts.
pub fn string(text: &str, out: &mut Vec<u8>) {
    let mut quoted = Vec::new();
    json::quote(text, &mut quoted);
    escape(&quoted[1..quoted.len() - 1], out);
}

/// Whether `name` may be called as a script's callback: identifiers of `[A-Za-z_$][A-Za-z0-9_$]*` with dots between
/// them, 1 to 64 bytes in all.
///
/// The name is written into a script. So a name with characters that could end an expression or start markup is refused
/// and not escaped.
#[must_use]
pub fn is_callback(name: &str) -> bool {
    name.len() <= 64
        && name.split('.').all(|part| {
            let mut bytes = part.bytes();
            bytes.next().is_some_and(|first| is_identifier(first) && !first.is_ascii_digit())
                && bytes.all(is_identifier)
        })
}

fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

/// The maximum nesting depth of a literal. JavaScript engines parse scripts recursively. At some thousands of levels
/// they report an error, and the whole script is lost.
const LITERAL_DEPTH: usize = 500;

/// Whether JSON has the same meaning as a JavaScript literal (ECMA-262 annex B.3.1): in a literal the key `__proto__`
/// sets the prototype, two such keys are a syntax error, and deep nesting overflows the parser. If the result is
/// `false`, the JSON has to be passed to `JSON.parse` as a string. In doubtful cases the result is `false`.
pub fn is_literal(json: &str) -> bool {
    // The key may appear as it is, or with escapes in place of some of its letters.
    if json.contains("__proto__") || (json.contains("\\u00") && has_escaped_proto(json)) {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > LITERAL_DEPTH {
                    return false;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// Whether the text has an escape of one of the letters of `__proto__`.
fn has_escaped_proto(json: &str) -> bool {
    let lower = json.to_ascii_lowercase();
    ["\\u005f", "\\u0070", "\\u0072", "\\u006f", "\\u0074"].iter().any(|escape| lower.contains(escape))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_literal() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        for json in ["1", "\"a\"", "{\"proto\":1}", "\"\\u000a\"", "\"[[[[\\\"\"", &deep(500)] {
            assert!(is_literal(json), "{json:.80}");
        }
        let flat = format!("[{}1]", "[],".repeat(5000));
        assert!(is_literal(&flat));
        for json in ["{\"__proto__\":1}", "{\"\\u005F_proto__\":1}", "{\"__pro\\u0074o__\":1}", &deep(501)] {
            assert!(!is_literal(json), "{json:.80}");
        }
    }

    fn escaped(json: &str) -> String {
        let mut out = Vec::new();
        escape(json.as_bytes(), &mut out);
        String::from_utf8(out).expect("escaping keeps UTF-8")
    }

    #[test]
    fn ends_no_script_and_no_line() {
        assert_eq!(escaped(r#"["</script><!--"]"#), r#"["\u003c/script>\u003c!--"]"#);
        assert_eq!(escaped("\"\u{2028}\u{2029}\u{2027}é\u{20ac}\""), "\"\\u2028\\u2029\u{2027}é\u{20ac}\"");
        assert_eq!(escaped("\u{2028}\u{2028}<"), "\\u2028\\u2028\\u003c");
    }

    #[test]
    fn broken_utf8_at_the_end_is_copied() {
        for tail in [&b"\xe2"[..], b"\xe2\x80", b"\xe2\xe2\x80"] {
            let mut out = Vec::new();
            escape(tail, &mut out);
            assert_eq!(out, tail);
        }
    }

    #[test]
    fn callbacks() {
        let longest = "a".repeat(64);
        for name in ["a", "$", "_", "jQuery1_2", "a.b.c", "$.x$9", &longest] {
            assert!(is_callback(name), "{name}");
        }
        let too_long = "a".repeat(65);
        for name in
            ["", ".", "a.", ".a", "a..b", "1a", "a.1", "a-b", "a b", "a\n", "a[0]", "<", "a(", "é", "a\0", &too_long]
        {
            assert!(!is_callback(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn escaped_json_is_the_same_value(text in r"(<|/|!|-|\\|\x{2028}|\x{2029}|\x{20ac}|a)*|\PC*") {
            let value = serde_json::Value::from(text);
            let json = escaped(&value.to_string());
            let unsafe_left = json.contains(['<', '\u{2028}', '\u{2029}']);
            prop_assert!(!unsafe_left);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&json)?, value);
        }

        #[test]
        fn accepted_callbacks_are_harmless(name in r"[a-z0-9_$.<>()\r\n;-]{0,8}|\PC{0,70}") {
            if is_callback(&name) {
                prop_assert!(name.bytes().all(|byte| is_identifier(byte) || byte == b'.'));
                prop_assert!((1..=64).contains(&name.len()));
            }
        }
    }
}
