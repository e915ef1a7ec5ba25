//! A change of sessions, as a control entry of the log.

use super::address::{Addressee, own_channel};
use super::id::SessionId;
use crate::message::{Channel, Draft, Event, Message, escape};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The names of the entries' events.
const CHANGE: &str = "change";
const SEND: &str = "send";

/// The beginning of an entry with an addressee.
const TO: &str = "{\"to\":";

/// A JSON text, kept as it was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(pub Box<RawValue>);

impl PartialEq for Json {
    fn eq(&self, other: &Json) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Json {
    /// Reads a JSON text.
    pub fn parse(text: &str) -> Option<Json> {
        RawValue::from_string(text.to_owned()).ok().map(Json)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

/// Which of the addressed sessions an entry is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// The endpoint of the sessions.
    pub endpoint: String,
    /// The sessions that it is not for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Addressee>,
}

/// A change of the state of sessions. Its fields apply in their order here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// The sessions that it is for; `None` for the session whose channel it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Addressee>,
    /// Which of these sessions it is for; `None` for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Channels that the session leaves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leave: Vec<String>,
    /// Rooms of its endpoint that the session leaves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leave_rooms: Vec<String>,
    /// Channels that the session reads from here on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<String>,
    /// Rooms of its endpoint that the session reads from here on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<String>,
    /// The user, as `{"id":…,"info":…}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Json>,
    /// What the application wants to get with each call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Json>,
    /// After how many seconds the application is asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// The answers that have come: their names, and the positions of the events that have asked for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acked: Vec<(String, String)>,
    /// Whether the session ends.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disconnect: bool,
    /// Whether the connection of a session that ends is closed, too, with all other sessions on it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub closes: bool,
}

/// An event for sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Send {
    /// The sessions that it is for; `None` for the session whose channel it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Addressee>,
    /// Which of these sessions it is for; `None` for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// The event's name.
    pub event: String,
    /// The arguments, a JSON array.
    pub args: Json,
    /// The name of the answer that the application waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<String>,
}

/// A control entry.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlEntry {
    /// The state changes.
    Change(Change),
    /// An event goes to the client.
    Send(Send),
}

impl Change {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Change { to: self.to.clone(), filter: self.filter.clone(), ..Change::default() }
    }
}

impl ControlEntry {
    /// Reads an entry; `None` if it is not one of this version's.
    pub fn read(message: &Message) -> Option<ControlEntry> {
        if !message.is_control() {
            return None;
        }
        match message.event().as_str() {
            CHANGE => serde_json::from_str(message.payload()).ok().map(ControlEntry::Change),
            SEND => serde_json::from_str(message.payload()).ok().map(ControlEntry::Send),
            _ => None,
        }
    }

    /// The addressee of an entry, without reading the rest of it. `None` if it is not one of this version's.
    pub fn addressee(message: &Message) -> Option<Option<Addressee>> {
        if !message.is_control() {
            return None;
        }
        // The addressee is the first field of the entries that this version writes.
        let Some(rest) = message.payload().strip_prefix(TO) else {
            return ControlEntry::read(message).map(|entry| entry.to().cloned());
        };
        serde_json::Deserializer::from_str(rest).into_iter().next()?.ok().map(Some)
    }

    /// The addressee; `None` for the session whose channel the entry is on.
    pub fn to(&self) -> Option<&Addressee> {
        match self {
            ControlEntry::Change(change) => change.to.as_ref(),
            ControlEntry::Send(send) => send.to.as_ref(),
        }
    }

    /// Which of the addressed sessions it is for; `None` for all of them.
    pub fn filter(&self) -> Option<&Filter> {
        match self {
            ControlEntry::Change(change) => change.filter.as_ref(),
            ControlEntry::Send(send) => send.filter.as_ref(),
        }
    }

    /// The draft of the entry. `own`: the session that it is for, if it does not name an addressee.
    pub fn draft(&self, own: Option<&SessionId>) -> Option<Draft> {
        let channel = match self.to() {
            Some(addressee) => addressee.channel()?,
            None => own_channel(own?)?,
        };
        let (event, json) = match self {
            ControlEntry::Change(change) => (CHANGE, serde_json::to_string(change).ok()?),
            ControlEntry::Send(send) => (SEND, serde_json::to_string(send).ok()?),
        };
        Some(Draft::control(channel, event, &json))
    }
}

impl Send {
    /// Its event, if the name may be used.
    pub fn name(&self) -> Option<Event> {
        Event::of_session(&self.event).ok()
    }

    /// The message for the client. `entry` is the entry that holds this event.
    pub fn message(&self, entry: &Message) -> Option<Message> {
        let (cursor, name) = (entry.cursor()?, self.name()?);
        Some(Message::session_event(cursor, entry.channel().clone(), name, self.args.as_str(), self.ack.as_deref()))
    }
}

/// The channel of a room: in the endpoint `/` a room is the channel of its name, and in another one it is
/// `<endpoint>~<room>`.
pub fn room_channel(endpoint: &str, room: &str) -> Option<Channel> {
    match endpoint {
        // A name that begins with a slash would be that of an endpoint.
        "/" => match room.strip_prefix('/') {
            Some(rest) => Channel::of_server(&format!("=2F{}", escape(rest.as_bytes()))).ok(),
            None => Channel::escaped(room.as_bytes()).ok(),
        },
        _ => Channel::of_server(&format!("{}~{}", escape(endpoint.as_bytes()), escape(room.as_bytes()))).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_channels() {
        for (endpoint, room, channel) in [
            ("/", "board", "board"),
            ("/", "a b~", "a=20b=7E"),
            ("/", "/chat", "=2Fchat"),
            ("/chat", "room", "/chat~room"),
            ("/a~b", "~s/1", "/a=7Eb~=7Es/1"),
        ] {
            assert_eq!(room_channel(endpoint, room).map(|channel| channel.to_string()).as_deref(), Some(channel));
        }
        assert_eq!(room_channel("/", ""), None);
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let id = SessionId::random().expect("an id");
        let change = Change {
            join: vec!["a".into()],
            user: Json::parse("{\"id\":\"7\",\"n\":1e400}"),
            acked: vec![("x".into(), "5-0.a".into())],
            ..Change::default()
        };
        let to = Some(Addressee::User("7".into()));
        let filter = Some(Filter { endpoint: "/".into(), except: vec![Addressee::Client("me".into())] });
        let send =
            Send { to, filter, event: "hi".into(), args: Json::parse("[1, 2]").expect("JSON"), ack: Some("x".into()) };
        for entry in [ControlEntry::Change(change), ControlEntry::Send(send)] {
            let draft = entry.draft(Some(&id)).expect("a draft");
            assert!(draft.channel.is_reserved());
            let message = draft.into_message(Some("5-0.a".parse().expect("a cursor")));
            assert_eq!(ControlEntry::addressee(&message), Some(entry.to().cloned()));
            assert_eq!(ControlEntry::read(&message), Some(entry));
        }
        assert_eq!(ControlEntry::Change(Change::default()).draft(None), None, "for nobody");
        for (event, data) in [("change", "1"), ("change", "[]"), ("later", "{}"), ("send", "{\"event\":5}")] {
            let channel = own_channel(&id).expect("a channel");
            let message = Draft::control(channel, event, data).into_message(None);
            assert!(ControlEntry::read(&message).is_none_or(|entry| entry == ControlEntry::Change(Change::default())));
        }
    }
}
