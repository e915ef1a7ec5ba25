//! A batch: the content of one answer to a poll.

use crate::cursor::Cursor;
use crate::hub::Gap;
use crate::message::{Encoding, Message};
use std::sync::Arc;

/// The content of one answer to a poll.
pub struct Batch {
    /// The gap before the messages, if the reader may have missed some.
    pub gap: Option<Gap>,
    /// The messages.
    pub messages: Vec<Arc<Message>>,
    /// Every message in the channels up to this position is in the batch or comes before it.
    pub cursor: Cursor,
    /// The client's session, if it has one.
    pub session: Option<Arc<str>>,
    /// Whether the batch reaches the end of the log as the node knows it.
    pub is_complete: bool,
}

impl Batch {
    /// The approximate length of the batch as text, in bytes.
    pub fn size_hint(&self) -> usize {
        self.messages.iter().map(|message| message.object().len() + 8).sum::<usize>() + 256
    }

    /// Appends the batch as JSON: `{"gap":…,"cursor":…,"messages":[…]}`, each message in its encoding.
    pub fn write_json(&self, encoding: &'static Encoding, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(gap) = &self.gap {
            out.extend_from_slice(format!("\"gap\":{{\"from\":\"{}\"}},", gap.from).as_bytes());
        }
        if let Some(session) = &self.session {
            out.extend_from_slice(format!("\"session\":\"{session}\",").as_bytes());
        }
        out.extend_from_slice(format!("\"cursor\":\"{}\",\"messages\":[", self.cursor).as_bytes());
        for (index, message) in self.messages.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&encoding.frame(message));
        }
        out.extend_from_slice(b"]}");
    }
}
