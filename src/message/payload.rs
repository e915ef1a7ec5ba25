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
