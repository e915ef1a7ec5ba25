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
    /// The client's session.
    pub session: BatchSession,
    /// Whether the batch reaches the end of the log as the node knows it.
    pub is_complete: bool,
}

/// What a batch says about the session of its client.
#[derive(Debug, PartialEq, Eq)]
pub enum BatchSession {
    /// The client does not have a session.
    Absent,
    /// The id of the session.
    Open(Arc<str>),
    /// The application has ended the session.
    Ended,
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
        match &self.session {
            BatchSession::Absent => {}
            BatchSession::Open(session) => out.extend_from_slice(format!("\"session\":\"{session}\",").as_bytes()),
            BatchSession::Ended => out.extend_from_slice(b"\"session\":null,"),
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
