//! Lengths in UTF-16 units, as scripts count them.

/// The length of a text in UTF-16 units.
#[must_use]
pub fn units(text: &str) -> usize {
    // A text of ASCII needs no look at its characters.
    if text.is_ascii() { text.len() } else { text.chars().map(char::len_utf16).sum() }
}

/// Splits a text after a number of UTF-16 units; `None` if it is shorter, or if a character would be split.
#[must_use]
pub fn split_at_unit(text: &str, count: usize) -> Option<(&str, &str)> {
    let mut left = count;
    // Units are never more than bytes. So a long payload of ASCII costs one look at the bytes of its packet.
    if let Some((head, rest)) = text.split_at_checked(count)
        && head.is_ascii()
    {
        return Some((head, rest));
    }
    for (at, char) in text.char_indices() {
        if left == 0 {
            return Some(text.split_at(at));
        }
        left = left.checked_sub(char.len_utf16())?;
    }
    (left == 0).then_some((text, ""))
}
