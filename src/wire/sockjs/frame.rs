//! Frames: what the server sends.

use crate::wire::json;

/// The frame that opens a session.
pub const OPEN: &str = "o";

/// A heartbeat.
pub const HEARTBEAT: &str = "h";

/// Whether clients need an escape of a character, besides those of JSON. Some browsers change or drop these characters.
pub(super) fn is_escaped(character: char) -> bool {
    matches!(character, '\u{200c}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{206f}' | '\u{fff0}'..='\u{ffff}')
}

/// Appends JSON with the escapes that clients need. `json` has to be valid JSON: there such characters occur only inside
/// strings.
pub fn escape(json: &str, out: &mut Vec<u8>) {
    let mut rest = json;
    while let Some((at, found)) = rest.char_indices().find(|(_, character)| is_escaped(*character)) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        out.extend_from_slice(format!("\\u{:04x}", u32::from(found)).as_bytes());
        rest = &rest[at + found.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Appends a text as a JSON string.
pub fn quote(text: &str, out: &mut Vec<u8>) {
    escape(&json::quoted(text), out);
}

/// Appends a payload as an item of a frame. A JSON string is a text, and any other JSON is the text of itself. A string
/// keeps its escapes, so half of a surrogate pair stays what it is.
pub fn item(payload: &str, out: &mut Vec<u8>) {
    if payload.starts_with('"') { escape(payload, out) } else { quote(payload, out) }
}

/// Appends a frame with messages. `items` are the items with commas between them.
pub fn array(items: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"a[");
    out.extend_from_slice(items);
    out.push(b']');
}

/// Appends a frame that closes a session.
pub fn close(code: u16, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("c[{code},").as_bytes());
    quote(reason, out);
    out.push(b']');
}
