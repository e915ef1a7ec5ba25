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
            other => message.frame(other.slot(), |message| {
                let mut out = Vec::with_capacity(message.object().len() + 128);
                other.encode(message, &mut out);
                out.into()
            }),
        }
    }

    /// Appends the message in this encoding, and keeps nothing: for who makes it once for all. What is kept of a message is kept
    /// for as long as it is retained.
    pub fn write(self, message: &Message, out: &mut Vec<u8>) {
        match self {
            Encoding::Object => out.extend_from_slice(message.object()),
            other => match message.known_frame(other.slot()) {
                Some(frame) => out.extend_from_slice(frame),
                None => other.encode(message, out),
            },
        }
    }

    /// The object itself has none.
    fn slot(self) -> usize {
        self as usize - 1
    }

    fn encode(self, message: &Message, out: &mut Vec<u8>) {
        MADE.fetch_add(1, Ordering::Relaxed);
        let object = message.object();
        // A volatile message has no id and moves no cursor.
        let text = message.cursor().map(Cursor::text);
        let id = text.as_ref().map(|text| text.as_str());
        match self {
            Encoding::Object => out.extend_from_slice(object),
            Encoding::Line => {
                out.extend_from_slice(object);
                out.push(b'\n');
            }
            Encoding::Script if script::is_literal(message.payload()) => script::escape(object, out),
            Encoding::Script => {
                let (before, after) = message.around_payload();
                let mut text = Vec::with_capacity(message.payload().len() + 2);
                json::quote(message.payload(), &mut text);
                script::escape(before, out);
                out.extend_from_slice(b"JSON.parse(");
                script::escape(&text, out);
                out.push(b')');
                script::escape(after, out);
            }
            Encoding::Event => {
                sse::block(None, id, object, out);
            }
            Encoding::DataEvent => {
                let payload = message.payload();
                let text = json::text_of(payload);
                let event = Some(message.event().as_str()).filter(|name| *name != "message");
                sse::block(event, id, text.as_deref().unwrap_or(payload).as_bytes(), out);
            }
            Encoding::Part => multipart::part(object, out),
            Encoding::TextFrame => {
                websocket::text_header(object.len(), out);
                out.extend_from_slice(object);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Event, Payload};

    const ALL: [Encoding; 7] = [
        Encoding::Object,
        Encoding::Line,
        Encoding::Script,
        Encoding::Event,
        Encoding::DataEvent,
        Encoding::Part,
        Encoding::TextFrame,
    ];

    #[test]
    fn what_is_written_is_what_is_kept() {
        for payload in ["1", "\"two\\nlines\"", "{\"__proto__\":\"</script>\"}", &"x".repeat(70_000)] {
            let message = || {
                let cursor = Some("17-0.a".parse().expect("a cursor"));
                let event = "added".parse::<Event>().expect("an event");
                Message::new(cursor, "todo".parse().expect("a channel"), event, &Payload::from_any(payload), None)
            };
            for encoding in ALL {
                let (kept, fresh) = (message(), message());
                let frame = encoding.frame(&kept);
                for message in [kept, fresh] {
                    let mut out = b"before".to_vec();
                    encoding.write(&message, &mut out);
                    assert_eq!(out[6..], *frame, "{encoding:?}");
                }
            }
        }
    }

    #[test]
    fn to_write_keeps_nothing() {
        let payload = Payload::from_any("1");
        let message = Message::new(None, "todo".parse().expect("a channel"), Event::default(), &payload, None);
        Encoding::Event.write(&message, &mut Vec::new());
        assert!(message.known_frame(Encoding::Event.slot()).is_none());
        Encoding::Event.frame(&message);
        assert!(message.known_frame(Encoding::Event.slot()).is_some());
    }
}
