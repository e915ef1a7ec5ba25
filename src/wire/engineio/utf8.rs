//! Text of Engine.IO 3 that was encoded as UTF-8 twice.

use std::borrow::Cow;

/// How often a client of version 3 encodes its text as UTF-8.
///
/// Socket.IO 1 encodes the text of a payload twice, and Socket.IO 2 once. Both say `EIO=3`. The bundles of
/// Socket.IO 1.0, which say `EIO=2`, also encode the text of WebSocket frames twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded {
    /// The text is as the client wrote it.
    Once,
    /// The text was perhaps encoded twice. It is decoded once more if the result is UTF-8.
    PerhapsTwice,
}

/// Undoes the second encoding, if the text has one.
///
/// Text that was encoded twice has only characters up to U+00FF, and as bytes they are UTF-8. Text that was encoded once
/// and looks like this (`Ã©`) is rare, and changes to what it stands for (`é`).
#[must_use]
pub fn decode(text: &str, encoded: Encoded) -> Cow<'_, str> {
    if encoded == Encoded::Once || text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let bytes: Option<Vec<u8>> = text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect();
    match bytes.map(String::from_utf8) {
        Some(Ok(text)) => Cow::Owned(text),
        _ => Cow::Borrowed(text),
    }
}
