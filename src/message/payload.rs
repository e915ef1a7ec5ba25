//! The content of a message.

use crate::wire::json;

/// The content of a message, as a JSON text on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(String);

impl Payload {
    /// Makes a payload of any text. Valid JSON is kept as it is, and other text becomes a JSON string.
    pub fn from_any(text: &str) -> Payload {
        Payload(json::payload(text))
    }

    /// Makes a payload of a text. The text becomes a JSON string even if it would be valid JSON by itself.
    pub fn from_text(text: &str) -> Payload {
        let mut out = Vec::with_capacity(text.len() + 2);
        json::quote(text, &mut out);
        Payload(String::from_utf8(out).unwrap_or_default())
    }

    /// Makes a payload of a text that a page has sent, so that [`bare`](json::bare) returns the same text. Returns also
    /// whether the payload is the text as a JSON string. JSON is kept as JSON where that does not change the text.
    pub fn of_bare(text: &str) -> (Payload, bool) {
        let payload = Payload::from_any(text);
        if payload.as_str() == text && !text.starts_with('"') {
            return (payload, false);
        }
        (Payload::from_text(text), true)
    }

    /// Makes a payload of a text that a page has sent, as [`of_bare`](Payload::of_bare) does. `json` is the text as a JSON
    /// string, whose escapes are kept: the text may have halves of surrogate pairs.
    pub fn of_bare_json(json: &str) -> (Payload, bool) {
        match serde_json::from_str::<String>(json).map(|text| Payload::of_bare(&text)) {
            Ok((payload, false)) => (payload, false),
            _ => (Payload(json.to_owned()), true),
        }
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        self.0.trim_start().starts_with('[')
    }

    /// Whether data is at most `max` bytes long. For a JSON string only its text counts, because its quotes and escapes
    /// may have been added here.
    pub fn fits(data: &str, max: usize) -> bool {
        data.len() <= max || (data.starts_with('"') && json::text_of(data).is_some_and(|text| text.len() <= max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn again(text: &str) -> (String, bool) {
        let (payload, is_text) = Payload::of_bare(text);
        (json::bare(payload.as_str()).into_owned(), is_text)
    }

    #[test]
    fn a_bare_text_comes_back_unchanged() {
        for (text, is_text) in [
            ("hello", true),
            ("\"hello\"", true),
            ("\"", true),
            ("", true),
            (" 1", true),
            ("[1,\n2]", true),
            ("\u{0}\u{2028}\u{1f600}", true),
            ("123", false),
            ("null", false),
            ("{\"action\":\"say\", \"data\":[1, 2]}", false),
        ] {
            assert_eq!(again(text), (text.to_owned(), is_text), "{text:?}");
        }
    }

    #[test]
    fn a_bare_text_in_json_keeps_its_escapes() {
        for (json, payload, is_text) in [
            ("\"123\"", "123", false),
            ("\"{\\\"a\\\":1}\"", "{\"a\":1}", false),
            ("\"\\ud800\"", "\"\\ud800\"", true),
            ("\"\\u0041\"", "\"\\u0041\"", true),
            ("\"\"", "\"\"", true),
        ] {
            assert_eq!(Payload::of_bare_json(json), (Payload(payload.to_owned()), is_text), "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_bare_text_comes_back_unchanged(text in "\\PC*|[\"\\\\\\[\\]{},:0-9 \r\n]*") {
            prop_assert_eq!(again(&text).0, text);
        }
    }
}
