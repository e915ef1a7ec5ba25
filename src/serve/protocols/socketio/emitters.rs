//! What emitters of Socket.IO `PUBLISH` in Redis, as entries of the log: messages for channels, and control entries for
//! sockets.
//!
//! A room is a channel, and its event is a message for all readers of the channel. A socket is also in a room that has
//! its id as its name, but it does not read a channel of this name. So an event for such a room is both a message and a
//! control entry for the socket with that id. A control entry leaves out the sockets that the entries before it reach.

use super::opening::{channel_of, is_public_id, is_secret_part};
use crate::message::{
    BadDraft, BadEvent, CONTROL_BYTES, Channel, Channels, Draft, DraftFields, Event, ExceptItem, Extras, MAX_EXCEPT,
};
use crate::serve::client_sessions::address::Addressee;
use crate::serve::client_sessions::change::{Change, ControlEntry, Filter, Json, Send, room_channel};
use crate::wire::emitters::{Action, Error, Publication, broadcast, python, request};
use crate::wire::json;
use crate::wire::socketio::binary;
use std::borrow::Cow;

/// The patterns of the channels that emitters publish to.
pub const EMITTER_PATTERNS: [&str; 3] = ["socket.io#*", "socket.io-request#*", "socketio"];

/// The most rooms of a publication, and the most rooms that a command makes sockets join or leave.
const MAX_ROOMS: usize = Channels::MAX;

/// The longest name of a room, in bytes.
const MAX_ROOM: usize = 200;

/// What is taken from emitters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    /// Whether sockets also join rooms, leave rooms and end.
    pub takes_commands: bool,
    /// The longest payload of an event, in bytes.
    pub max_payload: usize,
}

/// Why a publication has no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The payload is longer than any event.
    #[error("it is larger than --max-message-bytes")]
    TooLong,
    /// It is not a publication of an emitter.
    #[error(transparent)]
    Form(#[from] Error),
    /// The event breaks a rule of messages.
    #[error(transparent)]
    Event(#[from] BadDraft),
    /// The name of the namespace.
    #[error("the name of its namespace does not begin with a slash, or is too long")]
    Namespace,
    /// The name of a room.
    #[error("the name of a room is not 1 to {MAX_ROOM} bytes")]
    Room,
    /// There are too many rooms.
    #[error("it names more than {MAX_ROOMS} rooms")]
    TooManyRooms,
    /// The entries would be too long.
    #[error("it has too many rooms for its length")]
    TooLarge,
    /// Commands are not taken.
    #[error("it is a command, and --socketio-emitters=events takes only events")]
    Command,
}

impl Intake {
    /// Reads a publication. The result has no drafts if it does not concern clients.
    ///
    /// # Errors
    ///
    /// The publication has no effect.
    pub fn read(&self, channel: &str, payload: &[u8]) -> Result<Vec<Draft>, NotTaken> {
        // Binary parts are a third longer in base64, and JSON may have escapes.
        if payload.len() > self.max_payload.saturating_mul(6).saturating_add(MAX_ROOMS * MAX_ROOM * 2 + 1024) {
            return Err(NotTaken::TooLong);
        }
        let publication = if let Some(rest) = channel.strip_prefix("socket.io-request") {
            request::decode(rest, payload)?
        } else if let Some(rest) = channel.strip_prefix("socket.io") {
            broadcast::decode(rest, payload)?
        } else {
            python::decode(payload)?
        };
        publication.map_or(Ok(Vec::new()), |publication| self.drafts(&publication))
    }

    fn drafts(&self, publication: &Publication) -> Result<Vec<Draft>, NotTaken> {
        let sockets = Sockets::of(publication)?;
        let change = match &publication.action {
            Action::Emit { event, arguments, attachments, volatile } => {
                let arguments = match attachments.as_slice() {
                    [] => Cow::Borrowed(arguments.as_str()),
                    parts => {
                        let longest = self.max_payload.saturating_add(2);
                        let too_long = BadDraft::Payload { max: self.max_payload };
                        Cow::Owned(binary::join(arguments, parts, longest).ok_or(too_long)?)
                    }
                };
                return self.event(&sockets, event, &arguments, *volatile);
            }
            _ if !self.takes_commands => return Err(NotTaken::Command),
            Action::Join(rooms) => Change { rooms: checked(rooms)?, ..Change::default() },
            Action::Leave(rooms) => Change { leave_rooms: checked(rooms)?, ..Change::default() },
            Action::Disconnect { transport } => Change { disconnect: true, closes: *transport, ..Change::default() },
        };
        if change.is_empty() {
            return Ok(Vec::new());
        }
        // A socket of several rooms is changed by the first entry, and the others change nothing more.
        let entries = sockets.targets().map(|to| {
            ControlEntry::Change(Change { to: Some(to), filter: Some(sockets.filter(&[])), ..change.clone() })
        });
        self.bounded(entries.filter_map(|entry| entry.draft(None)))
    }

    /// Collects the entries of a publication.
    fn bounded(&self, drafts: impl Iterator<Item = Draft>) -> Result<Vec<Draft>, NotTaken> {
        let (mut size, most) = (0, CONTROL_BYTES.saturating_add(self.max_payload));
        let bounded = drafts.map(|draft| {
            size += draft.size();
            if size > most { Err(NotTaken::TooLarge) } else { Ok(draft) }
        });
        bounded.collect()
    }

    /// The entries of an event.
    fn event(&self, sockets: &Sockets, name: &str, arguments: &str, volatile: bool) -> Result<Vec<Draft>, NotTaken> {
        let only = json::only_item(arguments);
        let fields = DraftFields {
            data: only.unwrap_or(arguments),
            is_args: only.is_none(),
            volatile,
            ..DraftFields::default()
        };
        // Streams of other clients use some names for events of their own. Such an event is only for sockets.
        let is_for_all = !matches!(name.parse::<Event>(), Err(BadEvent::Reserved));
        let fields = DraftFields { event: Some(name).filter(|_| is_for_all), ..fields };
        let draft = fields.check(sockets.first.clone(), self.max_payload)?;
        let (mut message, mut reached) = (None, Vec::new());
        if is_for_all && !sockets.channels.is_empty() {
            let is_args = draft.extras.as_deref().is_some_and(|extras| extras.is_args);
            let channels = if sockets.channels.len() > 1 { sockets.channels.clone().into() } else { Box::default() };
            let except = sockets.except_items().ok_or(NotTaken::TooManyRooms)?;
            message = Some(draft.with_extras(Extras { channels, except, is_args, ..Extras::default() }));
            reached.extend(sockets.channels.iter().map(|channel| Addressee::Channel(channel.to_string())));
        }
        let args = Json::parse(arguments).ok_or(Error::Json)?;
        let sends = sockets.targets().filter_map(|to| {
            if reached.contains(&to) {
                return None;
            }
            let filter = Some(sockets.filter(&reached));
            reached.push(to.clone());
            let send = Send { to: Some(to), filter, event: name.to_owned(), args: args.clone(), ack: None };
            ControlEntry::Send(send).draft(None)
        });
        self.bounded(message.into_iter().chain(sends))
    }
}

/// The sockets that a publication is for.
struct Sockets {
    namespace: String,
    /// The first of the channels, or that of the namespace.
    first: Channel,
    /// The channels of its rooms, or of the namespace, each once.
    channels: Vec<Channel>,
    /// The ids of sockets among the rooms.
    ids: Vec<String>,
    /// The same for the rooms whose sockets are left out.
    except_channels: Vec<Channel>,
    except_ids: Vec<String>,
}

impl Sockets {
    fn of(publication: &Publication) -> Result<Sockets, NotTaken> {
        let namespace = &publication.namespace;
        let whole = channel_of(namespace).filter(|_| namespace.starts_with('/')).ok_or(NotTaken::Namespace)?;
        let (mut channels, ids) = named(namespace, &publication.rooms)?;
        if publication.rooms.is_empty() {
            channels.push(whole.clone());
        }
        let first = channels.first().cloned().unwrap_or(whole);
        let (except_channels, except_ids) = named(namespace, &publication.except)?;
        Ok(Sockets { namespace: namespace.clone(), first, channels, ids, except_channels, except_ids })
    }

    /// The addressees of control entries. A socket may be one of several.
    fn targets(&self) -> impl Iterator<Item = Addressee> + '_ {
        addressees(&self.channels, &self.ids)
    }

    /// The filter of a control entry, which also leaves out those that other entries reach.
    fn filter(&self, reached: &[Addressee]) -> Filter {
        let except = addressees(&self.except_channels, &self.except_ids).chain(reached.iter().cloned()).collect();
        Filter { endpoint: self.namespace.clone(), except }
    }

    /// The items of a message's `except`; `None` if there are too many.
    fn except_items(&self) -> Option<Box<[ExceptItem]>> {
        // In the main namespace, the channel of a room has the name of the room.
        let ids = self.except_ids.iter().filter_map(|id| Channel::of_server(id).ok());
        let ids = ids.filter(|id| !self.except_channels.contains(id));
        let items: Box<[_]> = self.except_channels.iter().cloned().chain(ids).map(ExceptItem::new).collect();
        (items.len() <= MAX_EXCEPT).then_some(items)
    }
}

fn addressees<'a>(channels: &'a [Channel], ids: &'a [String]) -> impl Iterator<Item = Addressee> + 'a {
    let channels = channels.iter().map(|channel| Addressee::Channel(channel.to_string()));
    channels.chain(ids.iter().cloned().map(Addressee::Client))
}

/// The channels of rooms, and the ids of sockets among their names, each once.
fn named(namespace: &str, rooms: &[String]) -> Result<(Vec<Channel>, Vec<String>), NotTaken> {
    if rooms.len() > MAX_ROOMS {
        return Err(NotTaken::TooManyRooms);
    }
    let (mut channels, mut ids) = (Vec::new(), Vec::new());
    for room in rooms {
        match socket_id(namespace, room) {
            // The name of the room may be the id of a connection. Only its public part goes into the log.
            Some(id) if id != room => push(&mut ids, id.to_owned()),
            id => {
                let channel = room_channel(namespace, room).filter(|_| room.len() <= MAX_ROOM);
                push(&mut channels, channel.ok_or(NotTaken::Room)?);
                if let Some(id) = id {
                    push(&mut ids, id.to_owned());
                }
            }
        }
    }
    Ok((channels, ids))
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The public id of the socket that a room is named after. In version 2.x, the name may have the namespace in front, and
/// may be the id of the connection, which has a point and a secret at its end.
fn socket_id<'a>(namespace: &str, room: &'a str) -> Option<&'a str> {
    let id = room.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('#')).unwrap_or(room);
    let (id, secret) = id.split_once('.').map_or((id, None), |(id, secret)| (id, Some(secret)));
    (is_public_id(id) && secret.is_none_or(is_secret_part)).then_some(id)
}

/// The rooms of a command.
fn checked(rooms: &[String]) -> Result<Vec<String>, NotTaken> {
    if rooms.len() > MAX_ROOMS {
        return Err(NotTaken::TooManyRooms);
    }
    let is_usable = |room: &String| (1..=MAX_ROOM).contains(&room.len());
    if rooms.iter().all(is_usable) { Ok(rooms.to_vec()) } else { Err(NotTaken::Room) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "abcdefghij0123456789";
    const SECRET: &str = "0123456789_abcdefghi-klmnop";

    fn intake() -> Intake {
        Intake { takes_commands: true, max_payload: 100 }
    }

    /// The drafts of a publication of Python: channels, event, payload, except; and for control entries their content.
    fn drafts(json: &str) -> Result<Vec<String>, NotTaken> {
        let drafts = intake().read("socketio", json.as_bytes())?;
        let text = |draft: &Draft| {
            let names: Vec<&str> = draft.channels().iter().map(Channel::as_str).collect();
            let names = if draft.channel.is_reserved() { "~".to_owned() } else { names.join(",") };
            let extras = draft.extras.as_deref().cloned().unwrap_or_default();
            let except: Vec<&str> = extras.except.iter().map(|item| item.channel().as_str()).collect();
            let except = if except.is_empty() { String::new() } else { format!(" not {}", except.join(",")) };
            let args = if extras.is_args { "*" } else { "" };
            format!("{names} {} {args}{}{except}", draft.event.as_str(), draft.payload.as_str())
        };
        Ok(drafts.iter().map(text).collect())
    }

    fn emit(more: &str) -> String {
        format!(r#"{{"method":"emit","event":"news","data":["x"],"namespace":"/",{more}}}"#)
    }

    #[test]
    fn events_become_messages() {
        for (more, expected) in [
            (r#""room":null"#, r#"/ news "x""#),
            (r#""room":["a","b c","a"]"#, r#"a,b=20c news "x""#),
            (r#""room":"~s/1""#, r#"=7Es/1 news "x""#),
            (r#""room":"/chat","skip_sid":"c""#, r#"=2Fchat news "x" not c"#),
            (r#""room":"a","namespace":"/ns""#, r#"/ns~a news "x""#),
            (r#""room":"a","data":[1,2]"#, "a news *[1,2]"),
            (r#""room":"a","data":[]"#, "a news *[]"),
        ] {
            // The last of two equal keys does not count here, so the text has each key once.
            let json = emit(more);
            let json = if more.contains("namespace") { json.replacen("\"namespace\":\"/\",", "", 1) } else { json };
            let json = if more.contains("data") { json.replacen("\"data\":[\"x\"],", "", 1) } else { json };
            assert_eq!(drafts(&json), Ok(vec![expected.to_owned()]), "{more}");
        }
    }

    #[test]
    fn a_room_may_be_the_id_of_a_socket() {
        let send = |to: &str, not: &str| {
            let except = if not.is_empty() { String::new() } else { format!(",\"except\":[{not}]") };
            let filter = format!(r#""filter":{{"endpoint":"/"{except}}}"#);
            format!(r#"~ send {{"to":{to},{filter},"event":"news","args":["x"]}}"#)
        };
        let client = format!(r#"{{"client":"{ID}"}}"#);
        let room = |name: &str| format!(r#"{{"channel":"{name}"}}"#);
        for (rooms, message, except) in [
            (format!(r#"["a","{ID}"]"#), Some(format!(r#"a,{ID} news "x""#)), format!("{},{}", room("a"), room(ID))),
            // The secret part of an id is not in the log.
            (format!(r#"["{ID}.{SECRET}"]"#), None, String::new()),
            (format!(r#"["/#{ID}.{SECRET}"]"#), None, String::new()),
        ] {
            let expected: Vec<String> = message.into_iter().chain([send(&client, &except)]).collect();
            assert_eq!(drafts(&emit(&format!("\"room\":{rooms}"))), Ok(expected), "{rooms}");
        }
        let left_out = drafts(&emit(&format!(r#""room":null,"skip_sid":["{ID}.{SECRET}"]"#)));
        assert_eq!(left_out, Ok(vec![format!(r#"/ news "x" not {ID}"#)]));
    }

    #[test]
    fn names_that_streams_use_are_for_sockets_alone() {
        let json = emit(r#""room":["a","b"]"#).replace("news", "hello");
        let expected = [
            r#"~ send {"to":{"channel":"a"},"filter":{"endpoint":"/"},"event":"hello","args":["x"]}"#,
            r#"~ send {"to":{"channel":"b"},"filter":{"endpoint":"/","except":[{"channel":"a"}]},"event":"hello","args":["x"]}"#,
        ];
        assert_eq!(drafts(&json), Ok(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn commands_change_sessions() {
        let read = |json: &str| {
            let drafts = intake().read("socket.io-request#/ns#", json.as_bytes())?;
            Ok(drafts.iter().map(|draft| draft.payload.as_str().to_owned()).collect::<Vec<_>>())
        };
        let entry = |name: &str, rest: &str| {
            format!(
                r#"{{"to":{{"channel":"{name}"}},"filter":{{"endpoint":"/ns","except":[{{"channel":"/ns~c"}}]}},{rest}}}"#
            )
        };
        let join = r#"{"type":2,"opts":{"rooms":["a","b"],"except":["c"]},"rooms":["d"]}"#;
        let rooms = r#""rooms":["d"]"#;
        assert_eq!(read(join), Ok(vec![entry("/ns~a", rooms), entry("/ns~b", rooms)]));
        let disconnect = r#"{"type":4,"opts":{"rooms":[],"except":["c"]},"close":true}"#;
        assert_eq!(read(disconnect), Ok(vec![entry("/ns", r#""disconnect":true,"closes":true"#)]));
        let nothing: Result<Vec<String>, NotTaken> = Ok(Vec::new());
        assert_eq!(read(r#"{"type":2,"opts":{"rooms":[]},"rooms":[]}"#), nothing);
        assert_eq!(read(r#"{"type":1}"#), nothing);
        let only_events = Intake { takes_commands: false, ..intake() };
        assert_eq!(only_events.read("socket.io-request#/ns#", join.as_bytes()), Err(NotTaken::Command));
        assert!(only_events.read("socketio", emit("\"room\":null").as_bytes()).is_ok());
    }

    #[test]
    fn what_has_no_effect() {
        let many = vec!["\"a\""; 101].join(",");
        let long = "x".repeat(201);
        let payload = NotTaken::Event(BadDraft::Payload { max: 100 });
        for (json, error) in [
            (emit(&format!("\"room\":[{many}]")), NotTaken::TooManyRooms),
            (emit(&format!("\"room\":\"{long}\"")), NotTaken::Room),
            (emit("\"room\":\"\""), NotTaken::Room),
            (emit("\"room\":null").replace("\"/\"", "\"~s/1\""), NotTaken::Namespace),
            (emit("\"room\":null").replace("\"x\"", &format!("\"{long}\"")), payload.clone()),
            (emit("\"room\":null").replace("\"x\"", &format!("\"{long}\"")).replace("news", "hello"), payload),
            (emit("\"room\":null").replace("news", ""), NotTaken::Event(BadDraft::Event(BadEvent::Malformed))),
            ("(dp0".to_owned(), NotTaken::Form(Error::Pickle)),
            (" ".repeat(60_000), NotTaken::TooLong),
        ] {
            assert_eq!(drafts(&json), Err(error), "{json:.100}");
        }
        // A hundred sockets would have a hundred copies of the event.
        let wide = Intake { max_payload: 1 << 20, ..intake() };
        let ids: Vec<String> = (0..100).map(|n| format!("\"{n:020}\"")).collect();
        let json =
            emit(&format!("\"room\":[{}]", ids.join(","))).replace("\"x\"", &format!("\"{}\"", "x".repeat(60_000)));
        assert_eq!(wide.read("socketio", json.as_bytes()), Err(NotTaken::TooLarge));
        // A command for a hundred rooms has their names a hundred times.
        let command = |except: usize| {
            let rooms: Vec<String> = (0..100).map(|n| format!("{n:03}{}", "é".repeat(98))).collect();
            let opts = serde_json::json!({ "rooms": rooms, "except": rooms[..except] });
            let command = serde_json::json!({ "type": 2, "opts": opts, "rooms": ["d"] }).to_string();
            intake().read("socket.io-request#/#", command.as_bytes()).map(|drafts| drafts.len())
        };
        assert_eq!((command(10), command(100)), (Ok(100), Err(NotTaken::TooLarge)));
    }
}
