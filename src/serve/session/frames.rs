//! Writes messages as frames.

use crate::message::Message;
use crate::transport::Envelope;
use std::sync::Arc;

/// The approximate length of the frames of a batch.
pub fn frames_size(envelope: &dyn Envelope, batch: &[Arc<Message>]) -> usize {
    let (before, after) = envelope.around();
    batch.iter().map(|message| message.object().len() + before.len() + after.len() + 160).sum()
}

/// Writes the frames of a batch.
pub fn write_frames(envelope: &dyn Envelope, batch: &[Arc<Message>], out: &mut Vec<u8>) {
    batch.iter().for_each(|message| envelope.message(message, out));
}
