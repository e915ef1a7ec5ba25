//! The parsers, public for the fuzzer only.

use super::Faults;
use super::framing::{Progress, Requests, Responses, without_secrets};

/// Returns the bytes of a browser that the proxy forwards, and the heads for display; `None` if the bytes are not HTTP.
/// The heads contain only the last head of each piece.
pub fn requests<'a>(pieces: impl Iterator<Item = &'a [u8]>, faults: &Faults) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let (mut requests, mut bytes, mut heads) = (Requests::default(), Vec::new(), Vec::new());
    for piece in pieces {
        let passed = requests.feed(piece, faults).ok()?;
        bytes.extend(passed.bytes);
        heads.extend(passed.head.map(|head| without_secrets(&head)));
    }
    Some((bytes, heads))
}

/// Returns whether a server's response is complete after all pieces, and whether one of the pieces switched the
/// protocol.
pub fn answers<'a>(pieces: impl Iterator<Item = &'a [u8]>, is_head: bool) -> (bool, bool) {
    let mut responses = Responses::default();
    let (mut is_complete, mut is_switched) = (false, false);
    for piece in pieces {
        let progress = responses.feed(piece, is_head);
        is_complete = progress == Progress::Complete;
        is_switched |= progress == Progress::Switched;
    }
    (is_complete, is_switched)
}
