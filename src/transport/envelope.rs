//! The envelope: the bytes around messages, which differ between receivers.

use super::{Batch, Control};
use crate::message::{Encoding, Message};
use std::any::Any;

/// The part of a response that differs from one receiver to the next. All receivers share the frames inside.
///
/// Receivers also share whole answers, so the bytes that an envelope writes around messages depend only on its type,
/// its [`encoding`](Envelope::encoding) and the bytes [`around`](Envelope::around) them.
pub trait Envelope: Any + Send + Sync {
    /// How messages are encoded.
    fn encoding(&self) -> &'static Encoding;

    /// The bytes before and after each frame of a stream, or a batch.
    fn around(&self) -> (&[u8], &[u8]) {
        (b"", b"")
    }

    /// Appends a message of a stream: the shared frame, between the bytes around it.
    fn message(&self, message: &Message, out: &mut Vec<u8>) {
        let (before, after) = self.around();
        out.extend_from_slice(before);
        out.extend_from_slice(&self.encoding().frame(message));
        out.extend_from_slice(after);
    }

    /// Appends the bytes with which a stream begins, before the hello.
    fn prelude(&self, _out: &mut Vec<u8>) {}

    /// Appends the answer to a poll. By default this is a JSON object between the bytes around it.
    fn batch(&self, batch: &Batch, out: &mut Vec<u8>) {
        let (before, after) = self.around();
        out.extend_from_slice(before);
        batch.write_json(self.encoding(), out);
        out.extend_from_slice(after);
    }

    /// Appends a control object in a frame.
    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>);

    /// Whether a stream ends after a gap.
    fn ends_at_gap(&self) -> bool {
        false
    }
}
