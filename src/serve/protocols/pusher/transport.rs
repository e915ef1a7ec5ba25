//! The WebSocket of Pusher clients: how messages and reports of the server look in its frames.

use super::channel_name::channel_name;
use super::{event_data, event_name};
use crate::message::{Encoding, Kind, Message};
use crate::transport::command::NoCommands;
use crate::transport::{
    Accepted, ApiError, CloseReason, Code, Control, Decode, Envelope, FrameDecoder, Lifecycle, Params, RequestHead,
    Transport,
};
use crate::wire::pusher::close::CloseCode;
use crate::wire::pusher::encode::{self, Event};
use crate::wire::pusher::names::{self, Access, CLIENT_EVENT, is_reserved_event};
use crate::wire::websocket;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The seconds of silence after which a client sends a ping. The server's own pings are frames of WebSocket, which
/// scripts do not see.
pub const ACTIVITY_TIMEOUT: u64 = 30;

/// The WebSocket at `/app/KEY`.
pub struct PusherSocket;

impl Transport for PusherSocket {
    fn name(&self) -> &'static str {
        "pusher-ws"
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        Lifecycle::Duplex
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        // The envelope depends on the app, so the endpoint opens the connection itself.
        Err(ApiError::new(Code::NotFound, "the path must name an app: /app/KEY"))
    }

    fn decoder(&self, max: usize) -> Option<Box<dyn Decode>> {
        Some(Box::new(FrameDecoder::<NoCommands>::of_protocol(max)))
    }
}

/// The frames for the clients of one app.
pub struct Frames {
    /// The encoding of the app.
    pub encoding: &'static Encoding,
    /// Whether the client reads the reason for the end of a connection from an error, and not from the close code.
    pub reads_errors: bool,
}

impl Envelope for Frames {
    fn encoding(&self) -> &'static Encoding {
        self.encoding
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        match control {
            Control::Hello { client, .. } => {
                text_frame(out, |text| encode::connection_established(&client.to_string(), ACTIVITY_TIMEOUT, text));
            }
            Control::Heartbeat { .. } => out.extend_from_slice(&websocket::ping_frame()),
            Control::Bye { bye, .. } => farewell(close_code(*bye), self.reads_errors, out),
            Control::Error { error, .. } => text_frame(out, |text| encode::error(None, &error.message, text)),
            // The protocol does not have a frame for these.
            Control::Gap(_) | Control::Ack { .. } | Control::Answer { .. } | Control::Pong { .. } => {}
        }
    }
}

/// Appends a text frame.
pub fn text_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut text = Vec::with_capacity(128);
    write(&mut text);
    websocket::text_header(text.len(), out);
    out.extend_from_slice(&text);
}

/// Appends the last frames of a connection.
fn farewell(code: CloseCode, reads_errors: bool, out: &mut Vec<u8>) {
    if reads_errors {
        text_frame(out, |text| encode::error(Some(code), code.reason(), text));
    }
    out.extend_from_slice(&websocket::close_frame(code.code(), code.reason()));
}

/// The frames that refuse a connection.
pub fn refusal(code: CloseCode) -> Bytes {
    let mut out = Vec::new();
    farewell(code, true, &mut out);
    out.into()
}

/// The code by which a client knows what to do after the end of its connection.
fn close_code(reason: CloseReason) -> CloseCode {
    match reason {
        CloseReason::Rollover | CloseReason::Drain | CloseReason::SlowReader => CloseCode::Reconnect,
        CloseReason::TooManyConnections => CloseCode::OverCapacity,
        CloseReason::Revoked | CloseReason::SessionEnded => CloseCode::Unauthorized,
    }
}

/// The encoding for the clients of the app with this prefix.
pub fn encoding(prefix: String) -> &'static Encoding {
    Encoding::leak("pusher text frame", move |message, out| {
        let mut text = Vec::with_capacity(message.payload().len() + 160);
        encode(&prefix, message, &mut text);
        // Nothing is written for an entry that clients must not get.
        if !text.is_empty() {
            websocket::text_header(text.len(), out);
            out.extend_from_slice(&text);
        }
    })
}

/// A member, as the log has it.
#[derive(Deserialize)]
pub struct Member<'a> {
    /// The id of the user.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// The info about the user as JSON.
    #[serde(borrow)]
    pub info: &'a RawValue,
}

/// Appends an entry of the log as an event of Pusher. Appends nothing if clients must not get it.
fn encode(prefix: &str, message: &Message, out: &mut Vec<u8>) {
    let Some(channel) = channel_name(prefix, message.channel()) else { return };
    let (payload, cursor) = (message.payload(), message.cursor().map(|cursor| cursor.text()));
    let id = cursor.as_ref().map(|cursor| cursor.as_str());
    let member = || serde_json::from_str::<Member<'_>>(payload).ok();
    match message.kind() {
        Kind::MemberAdded => {
            if let Some(member) = member() {
                encode::member_added(&channel, &member.id, member.info.get(), id, out);
            }
        }
        Kind::MemberRemoved => {
            if let Some(member) = member() {
                encode::member_removed(&channel, &member.id, id, out);
            }
        }
        Kind::Session => {}
        Kind::Message => {
            let (event, extras) = (&*event_name::of_clients(message.event()), message.extras());
            // Only the server speaks to the client library. A native publisher may choose any name.
            if is_reserved_event(event) {
                return;
            }
            // Events of clients are volatile.
            let is_of_client = extras.is_some_and(|extras| extras.is_args)
                && event.starts_with(CLIENT_EVENT)
                && id.is_none()
                && names::channel(&channel).is_ok_and(|kind| kind.access == Access::Presence);
            let sent = is_of_client.then(|| event_data::sent_by_user(payload)).flatten();
            let (data, user_id) = match sent {
                Some((data, user)) => (data, Some(user)),
                None => (event_data::text(message), None),
            };
            let data = &data;
            Event { event, channel: &channel, data, user_id, id }.encode(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Cursor, Epoch, Id};
    use crate::message::{Channel, Draft, Extras, Payload};
    use serde_json::{Value, json};

    fn frame(draft: Draft, cursor: Option<Cursor>) -> Value {
        let mut out = Vec::new();
        encode("1/", &draft.into_message(cursor), &mut out);
        if out.is_empty() { Value::Null } else { serde_json::from_slice(&out).expect("JSON") }
    }

    fn draft(channel: &str, event: &str, payload: Payload) -> Draft {
        let channel = Channel::of_server(channel).expect("a channel");
        Draft { event: event.parse().expect("an event"), ..Draft::new(channel, payload) }
    }

    #[test]
    fn a_message_is_an_event_of_its_channel() {
        let cursor = Cursor { id: Id { ms: 17, seq: 0 }, epoch: Epoch::random() };
        let sent = frame(draft("1/a=2Cb", "App\\Events\\A", Payload::from_any("{\"n\":1}")), Some(cursor));
        let expected =
            json!({"event": "App\\Events\\A", "channel": "a,b", "data": "{\"n\":1}", "id": cursor.to_string()});
        assert_eq!(sent, expected);
        assert_eq!(frame(draft("2/a", "x", Payload::from_any("1")), None), Value::Null, "another app");
    }

    /// A text that the application has sent comes out as it was.
    #[test]
    fn data_is_the_text_that_was_sent() {
        for data in ["hello", "\"hello\"", "123", "{\"a\":[1, 2]}", "", "[1,\"é\\u0000\"]", "not\n\"json\""] {
            let (payload, is_text) = event_data::payload(data);
            let extras = Extras { is_text, ..Extras::default() };
            let sent = frame(draft("1/a", "x", payload).with_extras(extras), None);
            assert_eq!(sent["data"], data);
        }
    }

    #[test]
    fn members_and_senders_are_told_to_the_client() {
        let channel = || Channel::of_server("1/presence-a").expect("a channel");
        let member = |kind| frame(Draft::member(kind, channel(), r#"{"id":"7","info":{"n":1}}"#), None);
        let added = member(Kind::MemberAdded);
        assert_eq!(added["event"], "pusher_internal:member_added");
        assert_eq!(added["data"], r#"{"user_id":"7","user_info":{"n":1}}"#);
        assert_eq!(member(Kind::MemberRemoved)["event"], "pusher_internal:member_removed");
        let args = Payload::from_any(&event_data::with_user("{\"typing\":true}", "\"7\""));
        let extras = Extras { is_args: true, ..Extras::default() };
        let sent = frame(draft("1/presence-a", "client-typing", args).with_extras(extras), None);
        assert_eq!((&sent["data"], &sent["user_id"]), (&json!("{\"typing\":true}"), &json!("7")));
    }

    /// A native publisher cannot speak in the name of the server.
    #[test]
    fn events_of_the_protocol_are_not_passed_on() {
        for event in
            ["pusher:error", "pusher_internal:member_removed", "=70usher:error", "pusher:connection_established"]
        {
            assert_eq!(frame(draft("1/a", event, Payload::from_any("{}")), None), Value::Null, "{event}");
        }
    }

    #[test]
    fn codes_of_the_server_itself_never_get_out() {
        for reason in CloseReason::ALL {
            let mut out = Vec::new();
            let frames = Frames { encoding: &crate::transport::encoding::TEXT_FRAME, reads_errors: false };
            frames.control(&Control::Bye { bye: *reason, retry: None, cursor: None }, &mut out);
            let code = u16::from_be_bytes([out[2], out[3]]);
            assert_eq!((out[0], code), (0x88, close_code(*reason).code()), "a close frame");
            assert!(![4000, 4001, 4002, 4003, 4004].contains(&code), "{reason:?}: {code}");
        }
    }
}
