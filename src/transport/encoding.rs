//! The encodings of a message: what all receivers of a kind share. Each is made once a message.

use crate::cursor::Cursor;
use crate::message::{Message, SLOTS};
use crate::wire::{json, multipart, script, sse, websocket};
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};

/// Encodings that this process has made. Counted where one is made, which is once a message and encoding.
static MADE: AtomicU64 = AtomicU64::new(0);

/// How many encodings this process has made.
pub fn made() -> u64 {
    MADE.load(Ordering::Relaxed)
}

/// How a message's shared bytes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The JSON object.
    Object,
    /// The JSON object and a line feed.
    Line,
    /// The JSON object, safe inside a script.
    Script,
    /// An event of `text/event-stream` that holds the object.
    Event,
    /// An event of `text/event-stream` that holds the bare payload.
    DataEvent,
    /// A part of a multipart body.
    Part,
    /// A WebSocket text frame.
    TextFrame,
}

// The object itself needs no slot.
const _: () = assert!(Encoding::TextFrame as usize == SLOTS);

impl Encoding {
    /// The message in this encoding: made at the first call, shared afterwards.
    pub fn frame(self, message: &Message) -> Bytes {
        match self {
            Encoding::Object => message.object().clone(),
            other => message.frame(other as usize - 1, |message| other.encode(message).into()),
        }
    }

    fn encode(self, message: &Message) -> Vec<u8> {
        MADE.fetch_add(1, Ordering::Relaxed);
        let object = message.object();
        let mut out = Vec::with_capacity(object.len() + 128);
        // A volatile message has no id and moves no cursor.
        let text = message.cursor().map(Cursor::text);
        let id = text.as_ref().map(|text| text.as_str());
        match self {
            Encoding::Object => out.extend_from_slice(object),
            Encoding::Line => {
                out.extend_from_slice(object);
                out.push(b'\n');
            }
            Encoding::Script if script::is_literal(message.payload()) => script::escape(object, &mut out),
            Encoding::Script => {
                let (before, after) = message.around_payload();
                let mut text = Vec::with_capacity(message.payload().len() + 2);
                json::quote(message.payload(), &mut text);
                script::escape(before, &mut out);
                out.extend_from_slice(b"JSON.parse(");
                script::escape(&text, &mut out);
                out.push(b')');
                script::escape(after, &mut out);
            }
            Encoding::Event => {
                sse::block(None, id, object, &mut out);
            }
            Encoding::DataEvent => {
                let payload = message.payload();
                let text = json::text_of(payload);
                let event = Some(message.event().as_str()).filter(|name| *name != "message");
                sse::block(event, id, text.as_deref().unwrap_or(payload).as_bytes(), &mut out);
            }
            Encoding::Part => multipart::part(object, &mut out),
            Encoding::TextFrame => return websocket::text_frame(object).to_vec(),
        }
        out
    }
}
