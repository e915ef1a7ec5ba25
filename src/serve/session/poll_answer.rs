//! The response to a long poll, as bytes.

use crate::serve::http::head::write_length;
use crate::transport::{Batch, Envelope};
use bytes::Bytes;
use std::io::Write as _;

/// A whole response.
#[derive(Clone)]
pub struct PollAnswer {
    /// Head and body.
    pub bytes: Bytes,
    /// The length of the body.
    pub body: usize,
}

impl PollAnswer {
    /// A response with this batch. `head`: the status line and headers that do not depend on the batch. `is_last`:
    /// whether the connection ends after the response.
    pub fn new(head: &[u8], envelope: &dyn Envelope, batch: &Batch, is_last: bool) -> PollAnswer {
        let mut body = Vec::with_capacity(batch.size_hint());
        envelope.batch(batch, &mut body);
        let mut answer = Vec::with_capacity(head.len() + body.len() + 160);
        answer.extend_from_slice(head);
        // A write to a `Vec` cannot fail.
        let _ = write!(answer, "etag: \"{}\"\r\n", batch.cursor);
        if is_last {
            answer.extend_from_slice(b"connection: close\r\n");
        }
        write_length(Some(body.len()), &mut answer);
        answer.extend_from_slice(&body);
        PollAnswer { bytes: answer.into(), body: body.len() }
    }
}
