//! The encodings of these transports: the bytes that all receivers of one kind share.

use crate::cursor::Cursor;
use crate::message::{Encoding, Event, Kind, Message};
use crate::wire::{json, multipart, script, sse, websocket};

pub use crate::message::encoding::OBJECT;

/// The JSON object and a line feed.
pub static LINE: Encoding = Encoding::new("line", |message, out| {
    out.extend_from_slice(message.object());
    out.push(b'\n');
});

/// The JSON object, safe inside a script.
pub static SCRIPT: Encoding = Encoding::new("script", |message, out| {
    if script::is_literal(message.payload()) {
        return script::escape(message.object(), out);
    }
    let (before, after) = message.around_payload();
    let mut text = Vec::with_capacity(message.payload().len() + 2);
    json::quote(message.payload(), &mut text);
    script::escape(before, out);
    out.extend_from_slice(b"JSON.parse(");
    script::escape(&text, out);
    out.push(b')');
    script::escape(after, out);
});

/// An event of `text/event-stream` that holds the object.
pub static EVENT: Encoding = Encoding::new("event", |message, out| {
    event(message, message.kind().object_type(), message.object(), out);
});

/// An event of `text/event-stream` that holds the bare payload.
pub static DATA_EVENT: Encoding = Encoding::new("data event", |message, out| {
    let payload = message.payload();
    let text = json::text_of(payload);
    let is_change = |name: &str| [Kind::MemberAdded, Kind::MemberRemoved].iter().any(|kind| kind.as_str() == name);
    // A bare payload does not say whether it is a change of the members or a message, so no message has such a name here.
    // An event of a session may have any name, but not one of the stream's own events.
    let is_forged = |name: &str| match message.is_control() {
        true => is_change(name) || name.parse::<Event>().is_err(),
        false => message.is_for_readers() && is_change(name),
    };
    let name = Some(message.event().as_str()).filter(|name| *name != "message" && !is_forged(name));
    event(message, name, text.as_deref().unwrap_or(payload).as_bytes(), out);
});

/// A part of a multipart body.
pub static PART: Encoding = Encoding::new("part", |message, out| multipart::part(message.object(), out));

/// A WebSocket text frame.
pub static TEXT_FRAME: Encoding = Encoding::new("text frame", |message, out| {
    websocket::text_header(message.object().len(), out);
    out.extend_from_slice(message.object());
});

fn event(message: &Message, name: Option<&str>, data: &[u8], out: &mut Vec<u8>) {
    // A volatile message does not have an id and does not move the cursor.
    let id = message.cursor().map(Cursor::text);
    sse::block(name, id.as_ref().map(|id| id.as_str()), data, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Draft, Payload};

    static ALL: [&Encoding; 7] = [&OBJECT, &LINE, &SCRIPT, &EVENT, &DATA_EVENT, &PART, &TEXT_FRAME];

    /// A bare event has the name of a change of the members only if it is one.
    #[test]
    fn a_bare_message_has_no_name_of_a_change() {
        let text = |message: &Message| String::from_utf8(DATA_EVENT.frame(message).to_vec()).expect("UTF-8");
        for (name, expected) in [("added", "event: added\n"), ("member_added", ""), ("member_removed", "")] {
            let event = name.parse::<Event>().expect("an event");
            let message = Message::new(None, "a".parse().expect("a channel"), event, &Payload::from_any("1"), None);
            assert_eq!(text(&message), format!("{expected}data: 1\n\n"));
        }
        for kind in [Kind::MemberAdded, Kind::MemberRemoved] {
            let message = Draft::member(kind, "a".parse().expect("a channel"), "1").into_message(None);
            assert_eq!(text(&message), format!("event: {}\ndata: 1\n\n", kind.as_str()));
        }
    }

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
}
