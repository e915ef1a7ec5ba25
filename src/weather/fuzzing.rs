//! Parsers of this room, opened for the fuzzer only.

use super::Conditions;
use super::framing::{Answers, Requests, Stand, without_secrets};

/// What the pieces of a browser's bytes become, and the heads among them as they may be shown; `None` when they are
/// no HTTP. A piece tells of its last head only.
pub fn requests<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    conditions: &Conditions,
) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let (mut requests, mut bytes, mut heads) = (Requests::default(), Vec::new(), Vec::new());
    for piece in pieces {
        let passed = requests.feed(piece, conditions).ok()?;
        bytes.extend(passed.bytes);
        heads.extend(passed.head.map(|head| without_secrets(&head)));
    }
    Some((bytes, heads))
}

/// Where a server's answer stands after all pieces: whether it is complete, and whether it was switched to
/// something else at one of them.
pub fn answers<'a>(pieces: impl Iterator<Item = &'a [u8]>, is_head: bool) -> (bool, bool) {
    let mut answers = Answers::default();
    let (mut is_complete, mut is_switched) = (false, false);
    for piece in pieces {
        let stand = answers.feed(piece, is_head);
        is_complete = stand == Stand::Complete;
        is_switched |= stand == Stand::Switched;
    }
    (is_complete, is_switched)
}
