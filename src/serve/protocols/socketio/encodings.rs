//! The encodings of messages: one for each namespace and form, so that all clients of a namespace share the bytes.

use super::framing::{Framing, Words};
use super::packets;
use crate::cursor::Cursor;
use crate::message::{Encoding, Message};
use crate::wire::json;
use crate::wire::socketio::binary::{self, Split};
use crate::wire::socketio::encode::{Arguments, Event};
use crate::wire::socketio::event::is_reserved;
use crate::wire::socketio09::encode as encode09;
use crate::wire::socketio09::packet::{self as packet09, Id, Reply};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use sha1::{Digest as _, Sha1};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How many encodings without clients are kept, because clients that poll come back.
const MAX_UNUSED: usize = 1024;

/// The encodings of this node. One of them is there for as long as a client uses it, and the next namespace gets it
/// after that. So their number follows that of the clients.
#[derive(Default)]
pub struct Encodings {
    pool: Arc<Mutex<Pool>>,
    /// Messages that clients cannot get.
    skipped: Counter,
    /// Whether each event has its position as one more argument.
    has_offsets: bool,
}

/// The form and namespace of an encoding.
type Key = (Framing, Arc<str>);

#[derive(Default)]
struct Pool {
    known: HashMap<Key, Known>,
    /// Those without users, oldest first.
    unused: BTreeMap<u64, Key>,
    /// Those that have no namespace.
    free: Vec<&'static Encoding>,
    /// The number of the last one that has become unused.
    last: u64,
}

struct Known {
    encoding: &'static Encoding,
    users: usize,
    /// Its number among the unused ones.
    unused: u64,
}

/// The encoding of a namespace's messages, for as long as a client uses it.
pub struct NamespaceEncoding {
    encoding: &'static Encoding,
    key: Key,
    pool: Arc<Mutex<Pool>>,
}

impl Encodings {
    /// No encodings yet. `skipped` counts the messages that clients cannot get. `has_offsets`: whether each event has its
    /// position as one more argument, for recovery.
    pub fn new(skipped: Counter, has_offsets: bool) -> Encodings {
        Encodings { pool: Arc::default(), skipped, has_offsets }
    }

    /// The encoding of a namespace's messages.
    pub fn get(&self, framing: Framing, namespace: &Arc<str>) -> NamespaceEncoding {
        let (key, pool) = ((framing, namespace.clone()), self.pool.clone());
        let mut locked = pool.lock();
        let encoding = match locked.join(&key) {
            Some(encoding) => encoding,
            None => {
                let (namespace, skipped, has_offsets) = (namespace.clone(), self.skipped.clone(), self.has_offsets);
                let encode = move |message: &Message, out: &mut Vec<u8>| {
                    if !write_event(framing, &namespace, message, has_offsets, out) {
                        skipped.inc();
                    }
                };
                let encoding = match locked.free.pop() {
                    Some(encoding) => {
                        encoding.exchange(encode);
                        encoding
                    }
                    None => Encoding::leak("socket.io", encode),
                };
                locked.known.insert(key.clone(), Known { encoding, users: 1, unused: 0 });
                encoding
            }
        };
        drop(locked);
        NamespaceEncoding { encoding, key, pool }
    }
}

impl Pool {
    /// Adds a user to an encoding, if there is one with this key.
    fn join(&mut self, key: &Key) -> Option<&'static Encoding> {
        let known = self.known.get_mut(key)?;
        if known.users == 0 {
            self.unused.remove(&known.unused);
        }
        known.users += 1;
        Some(known.encoding)
    }

    fn leave(&mut self, key: &Key) {
        let Some(known) = self.known.get_mut(key) else { return };
        known.users -= 1;
        if known.users > 0 {
            return;
        }
        self.last += 1;
        known.unused = self.last;
        self.unused.insert(self.last, key.clone());
        if self.unused.len() > MAX_UNUSED
            && let Some((_, key)) = self.unused.pop_first()
        {
            self.free.extend(self.known.remove(&key).map(|known| known.encoding));
        }
    }
}

impl NamespaceEncoding {
    /// The encoding. It may be used while `self` is there.
    pub fn encoding(&self) -> &'static Encoding {
        self.encoding
    }
}

impl Drop for NamespaceEncoding {
    fn drop(&mut self) {
        self.pool.lock().leave(&self.key);
    }
}

/// Appends a message as an event. Returns false if clients cannot get it.
fn write_event(framing: Framing, namespace: &str, message: &Message, has_offsets: bool, out: &mut Vec<u8>) -> bool {
    let name = message.event().as_str();
    if message.kind().is_of_members() {
        return false;
    }
    if framing.words() == Words::V1 {
        return write_event_09(framing, namespace, message, out);
    }
    if is_reserved(name) {
        return false;
    }
    let split = binary::split(message.payload());
    let (json, parts) = match &split {
        Some(Split { json, parts }) => (json.as_str(), parts.as_slice()),
        None => (message.payload(), &[][..]),
    };
    let is_args = message.extras().is_some_and(|extras| extras.is_args);
    let ack = message.cursor().filter(|_| wants_answer(message)).map(ack_id);
    // In an event that wants an answer, the last argument is the callback.
    let offset = message.cursor().filter(|_| has_offsets && framing.words() == Words::V5 && ack.is_none());
    let offset = offset.map(|cursor| cursor.to_string());
    let event = Event {
        namespace,
        ack,
        name,
        arguments: if is_args { Arguments::Array(json) } else { Arguments::One(json) },
        attachments: parts.len(),
        offset: offset.as_deref(),
    };
    let mut text = Vec::with_capacity(json.len() + name.len() + namespace.len() + 32);
    event.encode(framing.charset(), &mut text);
    framing.message(&text, parts, out);
    true
}

/// Appends a message as an event of Socket.IO 0.9. A `message` with one argument has packets of its own.
fn write_event_09(framing: Framing, namespace: &str, message: &Message, out: &mut Vec<u8>) -> bool {
    let (name, payload) = (message.event().as_str(), message.payload());
    let is_args = message.extras().is_some_and(|extras| extras.is_args);
    let ack = message.cursor().filter(|_| wants_answer(message)).map(ack_id);
    let id = ack.map(|number| Id { number, reply: Reply::Data });
    let (endpoint, mut packet) = (packets::endpoint(namespace), Vec::new());
    if name == "message" && !is_args {
        match json::text_of(payload) {
            Some(text) => encode09::message(id, endpoint, &text, &mut packet),
            None => encode09::json(id, endpoint, payload, &mut packet),
        }
    } else if name != "message" && packet09::is_reserved(name) {
        return false;
    } else {
        let args = if is_args { payload.to_owned() } else { format!("[{payload}]") };
        encode09::event(id, endpoint, name, &args, &mut packet);
    }
    framing.message(&packet, &[], out);
    true
}

/// The largest number of an answer. It has 15 digits at most.
const MAX_NUMBER: u64 = (1 << 49) - 1;

/// The number by which a client answers an event of the application. It follows from the position of the event, so every
/// node finds the event that an answer is for.
pub fn ack_id(cursor: Cursor) -> u64 {
    let hash = Sha1::digest(cursor.text().as_str());
    let start = hash.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    start & MAX_NUMBER
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
        let used = Encodings::default().get(framing, &namespace.into());
        let mut bytes = BytesMut::from(&used.encoding().frame(message)[..]);
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
        use Framing::{Frames1, Frames3, Frames3Text, Frames4};
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
            (Frames1, "/", "hi", "{\"a\":\"é\"}", false, &[r#"5:::{"name":"hi","args":[{"a":"é"}]}"#]),
            (Frames1, "/ns", "hi", "[1,2]", true, &[r#"5::/ns:{"name":"hi","args":[1,2]}"#]),
            (Frames1, "/", "message", "\"a\\n\"", false, &["3:::a\n"]),
            (Frames1, "/ns", "message", "[1]", false, &["4::/ns:[1]"]),
            (Frames1, "/", "message", "[1]", true, &[r#"5:::{"name":"message","args":[1]}"#]),
            (Frames1, "/", "disconnect", "1", false, &[]),
        ] {
            assert_eq!(frames(framing, namespace, &message(event, data, is_args)), expected, "{framing:?} {event}");
        }
    }

    #[test]
    fn encodings_are_used_again() {
        let encodings = Encodings::default();
        let name = |n: usize| -> Arc<str> { format!("/{n}").into() };
        let get = |n: usize| encodings.get(Framing::Frames4, &name(n));
        let (first, again) = (get(0), get(0));
        assert!(std::ptr::eq(first.encoding(), again.encoding()), "clients of a namespace share their bytes");
        drop(again);
        let event = message("hi", "1", false);
        for n in 1..=5000 {
            let used = get(n);
            let mut text = Vec::new();
            used.encoding().write(&event, &mut text);
            assert!(String::from_utf8_lossy(&text).ends_with(&format!("42/{n},[\"hi\",1]")));
        }
        let pool = encodings.pool.lock();
        assert_eq!((pool.known.len(), pool.unused.len()), (MAX_UNUSED + 1, MAX_UNUSED));
        assert_eq!(pool.known.len() + pool.free.len(), MAX_UNUSED + 2, "all that were made");
        assert!(std::ptr::eq(pool.known[&(Framing::Frames4, name(0))].encoding, first.encoding()));
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
        assert!(ack_id(cursor()) <= MAX_NUMBER);
    }
}
