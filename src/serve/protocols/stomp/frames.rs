//! What a STOMP client gets: messages for each of its subscriptions, and reports of the server.

use super::subscriptions::Subscriptions;
use crate::message::{Encoding, Message, unescape};
use crate::serve::protocols::close_code::close_code;
use crate::transport::{CloseReason, Control, Envelope};
use crate::wire::stomp::encode;
use crate::wire::stomp::version::Version;
use crate::wire::{json, websocket};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

/// The part of a message that all subscriptions share, in each version.
static REST_10: Encoding = Encoding::new("stomp 1.0", |message, out| rest(message, Version::V10, out));
static REST_11: Encoding = Encoding::new("stomp 1.1", |message, out| rest(message, Version::V11, out));
static REST_12: Encoding = Encoding::new("stomp 1.2", |message, out| rest(message, Version::V12, out));

/// The error for a client that has missed messages, after which its connection ends.
const GAP: &str = "the log has dropped messages that this connection has not read: connect again";

/// The number of volatile messages that were encoded. They have no position, and each needs an id.
static VOLATILE: AtomicU64 = AtomicU64::new(0);

/// Appends the shared part of a message. Appends nothing if clients must not get the entry.
fn rest(message: &Message, version: Version, out: &mut Vec<u8>) {
    if message.kind().is_of_members() {
        return;
    }
    let destination = destination(message);
    let id = match message.cursor() {
        Some(cursor) => cursor.to_string(),
        None => format!("volatile-{}", VOLATILE.fetch_add(1, Ordering::Relaxed)),
    };
    let payload = message.payload();
    let (kind, text) = match json::text_of(payload) {
        Some(text) => ("text/plain;charset=utf-8", Cow::Owned(text)),
        None => ("application/json", Cow::Borrowed(payload)),
    };
    encode::message_rest(&destination, &id, kind, &text, version, out);
}

/// The destination of a message: the name of its channel as clients write it. The application names the destination of
/// what it sends to one session as the event.
fn destination(message: &Message) -> Cow<'_, str> {
    let name = if message.is_for_readers() { message.channel().as_str() } else { message.event().as_str() };
    match unescape(name).filter(|_| message.is_for_readers()) {
        Some(name) => Cow::Owned(name),
        None => Cow::Borrowed(name),
    }
}

/// The frames for a connection with these subscriptions. Connections with the same subscriptions share their bytes.
pub struct StompFrames {
    version: Version,
    subscriptions: Subscriptions,
    /// Whether the client wants heart-beats.
    has_heart_beats: bool,
    /// What the bytes of a message depend on, besides the message.
    key: Vec<u8>,
}

impl StompFrames {
    /// The frames for a client that speaks a version.
    pub fn new(version: Version, has_heart_beats: bool, subscriptions: Subscriptions) -> StompFrames {
        let mut key = version.as_str().as_bytes().to_vec();
        for subscription in subscriptions.iter() {
            for part in [&subscription.id, &subscription.destination] {
                key.extend_from_slice(&part.len().to_be_bytes());
                key.extend_from_slice(part.as_bytes());
            }
            key.push(u8::from(subscription.acks));
        }
        StompFrames { version, subscriptions, has_heart_beats, key }
    }

    fn text_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let mut frame = Vec::with_capacity(256);
        write(&mut frame);
        websocket::text_header(frame.len(), out);
        out.extend_from_slice(&frame);
    }

    fn error(&self, message: &str, receipt: Option<&str>, out: &mut Vec<u8>) {
        StompFrames::text_frame(out, |frame| encode::error(message, receipt, self.version, frame));
    }
}

impl Envelope for StompFrames {
    fn encoding(&self) -> &'static Encoding {
        match self.version {
            Version::V10 => &REST_10,
            Version::V11 => &REST_11,
            Version::V12 => &REST_12,
        }
    }

    /// The bytes are not written. They distinguish connections that do not share their bytes.
    fn around(&self) -> (&[u8], &[u8]) {
        (&self.key, b"")
    }

    fn message(&self, message: &Message, out: &mut Vec<u8>) {
        let rest = self.encoding().frame(message);
        if rest.is_empty() {
            return;
        }
        let mut begin = Vec::with_capacity(64);
        for subscription in self.subscriptions.iter() {
            let is_wanted = match message.is_for_readers() {
                true => subscription.channel == *message.channel(),
                false => subscription.destination == message.event().as_str(),
            };
            if !is_wanted {
                continue;
            }
            // An acknowledgement has no effect, so its id only has to name the message for the client.
            let ack = subscription.acks.then(|| message.cursor().map(|cursor| cursor.to_string()).unwrap_or_default());
            begin.clear();
            encode::message_begin(&subscription.id, ack.as_deref(), self.version, &mut begin);
            websocket::text_header(begin.len() + rest.len(), out);
            out.extend_from_slice(&begin);
            out.extend_from_slice(&rest);
        }
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        match control {
            Control::Hello { client, heartbeat, .. } => {
                let (version, client) = (self.version, client.to_string());
                StompFrames::text_frame(out, |frame| encode::connected(version, &client, heartbeat.as_millis(), frame));
            }
            Control::Heartbeat { .. } if self.has_heart_beats => {
                websocket::text_header(encode::HEART_BEAT.len(), out);
                out.extend_from_slice(encode::HEART_BEAT);
            }
            Control::Heartbeat { .. } => out.extend_from_slice(&websocket::ping_frame()),
            Control::Ack { reference: Some(receipt), .. }
            | Control::Answer { reference: Some(receipt), .. }
            | Control::Pong { reference: Some(receipt) } => {
                StompFrames::text_frame(out, |frame| encode::receipt(receipt, self.version, frame));
            }
            Control::Error { reference, error } => self.error(&error.message, *reference, out),
            Control::Bye { bye, .. } => {
                let (code, reason) = close_code(*bye);
                if *bye == CloseReason::Revoked {
                    self.error("the permission to read has ended: connect again with a new token", None, out);
                }
                out.extend_from_slice(&websocket::close_frame(code, reason));
            }
            Control::Gap(_) => self.error(GAP, None, out),
            // The protocol does not have a frame for these.
            Control::Ack { .. } | Control::Answer { .. } | Control::Pong { .. } => {}
        }
    }

    fn ends_at_gap(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscriptions::Subscription;
    use super::*;
    use crate::cursor::{Cursor, Epoch, Id};
    use crate::message::{Channel, Draft, Event, Payload};

    fn subscription(id: &str, destination: &str, acks: bool) -> Subscription {
        let channel = Channel::escaped(destination.as_bytes()).expect("a channel");
        Subscription { id: id.to_owned(), destination: destination.to_owned(), channel, acks }
    }

    fn frames(list: &[(&str, &str, bool)]) -> StompFrames {
        let mut subscriptions = Subscriptions::default();
        for (id, destination, acks) in list {
            assert!(subscriptions.add(subscription(id, destination, *acks)));
        }
        assert!(list.is_empty() || !subscriptions.add(subscription(list[0].0, "other", false)), "the id is in use");
        StompFrames::new(Version::V12, true, subscriptions)
    }

    fn written(frames: &StompFrames, message: &Message) -> String {
        let mut out = Vec::new();
        frames.message(message, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn each_subscription_of_a_destination_gets_the_message() {
        let cursor = Cursor { id: Id { ms: 17, seq: 0 }, epoch: Epoch::random() };
        let message = |name: &str, payload| {
            let channel = Channel::escaped(name.as_bytes()).expect("a channel");
            Draft::new(channel, Payload::from_any(payload)).into_message(Some(cursor))
        };
        let frames = frames(&[("sub-0", "/topic/a b", false), ("sub-1", "/topic/a b", true), ("2", "c", false)]);
        let text = written(&frames, &message("/topic/a b", "{\"x\":1}"));
        let rest = format!(
            "destination:/topic/a b\nmessage-id:{}\ncontent-type:application/json\ncontent-length:7\n\n{{\"x\":1}}\0",
            cursor.to_string().replace(':', "\\c")
        );
        let ack = cursor.to_string().replace(':', "\\c");
        for begin in ["MESSAGE\nsubscription:sub-0\n", &format!("MESSAGE\nsubscription:sub-1\nack:{ack}\n")] {
            assert!(text.contains(&format!("{begin}{rest}")), "{text}");
        }
        assert_eq!(text.matches("MESSAGE").count(), 2);
        let text = written(&frames, &message("c", "hello"));
        assert!(text.contains("text/plain") && text.ends_with("\n\nhello\0"), "{text}");
        assert_eq!(written(&frames, &message("d", "1")), "");
    }

    #[test]
    fn the_application_sends_to_a_destination_of_one_session() {
        let cursor = Cursor { id: Id { ms: 17, seq: 0 }, epoch: Epoch::random() };
        let channel = Channel::reserved("~s/1").expect("reserved");
        let event = Event::of_session("/user/queue/reply").expect("an event");
        let message = Message::session_event(cursor, channel, event, "[{\"ok\":true}]", None);
        let text = written(&frames(&[("7", "/user/queue/reply", false), ("8", "/topic/a", false)]), &message);
        assert!(text.contains("subscription:7\ndestination:/user/queue/reply\n"), "{text}");
        assert!(text.ends_with("\n\n{\"ok\":true}\0") && !text.contains("subscription:8"), "{text}");
    }

    #[test]
    fn only_connections_with_the_same_subscriptions_share_bytes() {
        let key = |list: &[(&str, &str, bool)]| frames(list).key;
        assert_eq!(key(&[("a", "b", true)]), key(&[("a", "b", true)]));
        for other in [&[("a", "b", false)][..], &[("", "ab", true)], &[("a", "b", true), ("c", "b", true)], &[]] {
            assert_ne!(key(&[("a", "b", true)]), key(other));
        }
    }
}
