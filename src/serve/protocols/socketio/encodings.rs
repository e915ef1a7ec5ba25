//! The encodings of messages: one for each namespace and form, so that all clients of a namespace share the bytes.

use super::framing::Framing;
use crate::cursor::Cursor;
use crate::message::{Encoding, Message};
use crate::wire::socketio::binary::{self, Split};
use crate::wire::socketio::encode::{Arguments, Event};
use crate::wire::socketio::error::MAX_ACK;
use crate::wire::socketio::event::is_reserved;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use sha1::{Digest as _, Sha1};
use std::collections::HashMap;
use std::sync::Arc;

/// How many encodings a node makes at most. They stay in memory.
const MAX_ENCODINGS: usize = 4096;

/// The encodings that this node has made.
#[derive(Default)]
pub struct Encodings {
    made: Mutex<HashMap<(Framing, Arc<str>), &'static Encoding>>,
    /// Messages that clients cannot get.
    skipped: Counter,
}

impl Encodings {
    /// No encodings yet. `skipped` counts the messages that clients cannot get.
    pub fn new(skipped: Counter) -> Encodings {
        Encodings { made: Mutex::default(), skipped }
    }

    /// The encoding of a namespace's messages; `None` if there are too many encodings.
    pub fn get(&self, framing: Framing, namespace: &Arc<str>) -> Option<&'static Encoding> {
        let mut made = self.made.lock();
        let key = (framing, namespace.clone());
        if let Some(encoding) = made.get(&key) {
            return Some(encoding);
        }
        if made.len() >= MAX_ENCODINGS {
            return None;
        }
        let (namespace, skipped) = (namespace.clone(), self.skipped.clone());
        let encoding = Encoding::leak("socket.io", move |message, out| {
            if !write_event(framing, &namespace, message, out) {
                skipped.inc();
            }
        });
        made.insert(key, encoding);
        Some(encoding)
    }
}

/// Appends a message as an event. Returns false if clients cannot get it.
fn write_event(framing: Framing, namespace: &str, message: &Message, out: &mut Vec<u8>) -> bool {
    let name = message.event().as_str();
    if is_reserved(name) || message.kind().is_of_members() {
        return false;
    }
    let split = binary::split(message.payload());
    let (json, parts) = match &split {
        Some(Split { json, parts }) => (json.as_str(), parts.as_slice()),
        None => (message.payload(), &[][..]),
    };
    let is_args = message.extras().is_some_and(|extras| extras.is_args);
    let event = Event {
        namespace,
        ack: message.cursor().filter(|_| wants_answer(message)).map(ack_id),
        name,
        arguments: if is_args { Arguments::Array(json) } else { Arguments::One(json) },
        attachments: parts.len(),
        offset: None,
    };
    let mut text = Vec::with_capacity(json.len() + name.len() + namespace.len() + 32);
    event.encode(framing.charset(), &mut text);
    framing.message(&text, parts, out);
    true
}

/// The number by which a client answers an event of the application. It follows from the position of the event, so every
/// node finds the event that an answer is for.
pub fn ack_id(cursor: Cursor) -> u64 {
    let hash = Sha1::digest(cursor.text().as_str());
    let start = hash.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    start & MAX_ACK
}

/// Whether the application waits for an answer to an event that it has sent to a session.
fn wants_answer(message: &Message) -> bool {
    #[derive(Deserialize)]
    struct Fields {
        ack: Option<serde::de::IgnoredAny>,
    }
    if !message.is_control() {
        return false;
    }
    let (before, _) = message.around_payload();
    let object = [before, b"0}"].concat();
    serde_json::from_slice::<Fields>(&object).is_ok_and(|fields| fields.ack.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Channel, Draft, Event as Name, Extras, Payload};
    use bytes::BytesMut;

    fn cursor() -> Cursor {
        "5-0.a".parse().expect("a cursor")
    }

    fn message(event: &str, data: &str, is_args: bool) -> Message {
        let draft = Draft::new("a".parse().expect("a channel"), Payload::from_any(data));
        let draft = draft.with_extras(Extras { is_args, ..Extras::default() });
        Draft { event: Name::of_session(event).expect("an event"), ..draft }.into_message(Some(cursor()))
    }

    /// The frames of a message, with the letter of their kind.
    fn frames(framing: Framing, namespace: &str, message: &Message) -> Vec<String> {
        let encoding = Encodings::default().get(framing, &namespace.into()).expect("an encoding");
        let mut bytes = BytesMut::from(&encoding.frame(message)[..]);
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let (first, length) = (bytes[0], usize::from(bytes[1]));
            assert!(length < 126, "the test has short frames");
            let frame = bytes.split_to(2 + length);
            frames.push(match first {
                0x81 => String::from_utf8(frame[2..].to_vec()).expect("UTF-8"),
                0x82 => format!("{:?}", &frame[2..]),
                _ => panic!("{first}"),
            });
        }
        frames
    }

    #[test]
    fn messages_become_events_of_the_namespace() {
        use Framing::{Frames3, Frames3Text, Frames4};
        for (framing, namespace, event, data, is_args, expected) in [
            (Frames4, "/", "hi", "{\"a\":\"é\"}", false, &[r#"42["hi",{"a":"é"}]"#][..]),
            (Frames3, "/", "hi", "{\"a\":\"é\"}", false, &[r#"42["hi",{"a":"\u00e9"}]"#]),
            (Frames4, "/ns", "hi", "[1,2]", true, &[r#"42/ns,["hi",1,2]"#]),
            (Frames4, "/", "hi", "[1,2]", false, &[r#"42["hi",[1,2]]"#]),
            (Frames4, "/", "hi", "[]", true, &[r#"42["hi"]"#]),
            (
                Frames4,
                "/ns",
                "b",
                r#"{"$binary":"AAE="}"#,
                false,
                &[r#"451-/ns,["b",{"_placeholder":true,"num":0}]"#, "[0, 1]"],
            ),
            (
                Frames3,
                "/",
                "b",
                r#"{"$binary":"AAE="}"#,
                false,
                &[r#"451-["b",{"_placeholder":true,"num":0}]"#, "[4, 0, 1]"],
            ),
            (
                Frames3Text,
                "/",
                "b",
                r#"{"$binary":"AAE="}"#,
                false,
                &[r#"451-["b",{"_placeholder":true,"num":0}]"#, "b4AAE="],
            ),
            (Frames4, "/", "connect", "1", false, &[]),
        ] {
            assert_eq!(frames(framing, namespace, &message(event, data, is_args)), expected, "{framing:?} {event}");
        }
    }

    #[test]
    fn an_event_that_wants_an_answer_has_the_number_of_its_position() {
        let event = |ack| {
            let channel = Channel::reserved("~s/1").expect("a channel");
            let name = "ask \"ack\":1".parse().expect("an event");
            Message::session_event(cursor(), channel, name, "[1]", ack)
        };
        let text = |ack| frames(Framing::Frames4, "/", &event(ack)).concat();
        assert_eq!(text(Some("x")), format!("42{}[\"ask \\\"ack\\\":1\",1]", ack_id(cursor())));
        assert_eq!(text(None), r#"42["ask \"ack\":1",1]"#);
        assert!(ack_id(cursor()) <= MAX_ACK);
    }
}
