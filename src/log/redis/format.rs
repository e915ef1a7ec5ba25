//! Formats of the log's entries.
//!
//! The format of an entry determines the meaning of its fields. The field `v` names the format. An entry without `v`
//! has format 1. Entries that other programs append with `XADD` do not have `v`, so they have format 1. A node writes a
//! newer format only when every node reads it (see [`peers`](super::peers)). So a node finds a format that it does not
//! read only if an older node was started beside newer nodes, or after them (see [`decode`](super::decode)).

use crate::message::{Channel, Draft};

/// The format that every node reads.
pub(super) const LOWEST: u32 = 1;

/// The format of entries with several channels, `except`, arguments, a bare text, binary parts or a kind, and of
/// entries in channels whose names only the server makes.
pub(super) const EXTENDED: u32 = 2;

/// The formats that this node reads, in order.
pub(super) const READ: &[u32] = &[LOWEST, EXTENDED];

/// The lowest format that can hold a draft.
pub(super) fn needed_by(draft: &Draft) -> u32 {
    let is_ordinary = |channel: &Channel| !channel.is_reserved() && channel.as_str().len() <= Channel::MAX_LENGTH;
    if draft.extras.is_none() && is_ordinary(&draft.channel) { LOWEST } else { EXTENDED }
}

/// The format that the field `v` names; `None` if its value is not a format.
pub(super) fn parse(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value).ok()?;
    let is_plain = text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (value, format) in [
            ("1", Some(1)),
            ("2", Some(2)),
            ("999999999", Some(999_999_999)),
            ("", None),
            ("0", None),
            ("01", None),
            ("+1", None),
            ("1.0", None),
            (" 1", None),
            ("v1", None),
            ("9999999999", None),
        ] {
            assert_eq!(parse(value.as_bytes()), format, "{value:?}");
        }
        assert_eq!(parse(b"\xff"), None);
    }
}
