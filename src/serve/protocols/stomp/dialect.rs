//! Translates the frames of a client to commands of the session.

use super::frames::StompFrames;
use super::subscriptions::{Subscription, Subscriptions};
use crate::message::{Channel, Draft, Event, Extras, Payload};
use crate::transport::command::{CommandHead, CommandKind};
use crate::transport::{self, ApiError, ClientEvent, Code, Command, Dialect, Envelope};
use crate::wire::stomp::frame::{self, Frame};
use crate::wire::stomp::version::Version;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// The longest id of a subscription or a receipt, in bytes.
const MAX_ID: usize = 200;

/// The most subscriptions of a connection.
const MAX_SUBSCRIPTIONS: usize = 250;

/// The most subscriptions of a connection to one destination. Each of them gets a copy of each message.
const MAX_COPIES: usize = 20;

/// The dialect of a connection.
pub struct StompDialect {
    /// The beginnings of destinations whose messages go to the application.
    applications: Arc<[String]>,
    /// The version, once the client has sent CONNECT.
    version: Option<Version>,
    has_heart_beats: bool,
    subscriptions: Subscriptions,
    /// Whether messages have looked different since the last [`envelope`](Dialect::envelope).
    has_changed: bool,
}

fn bad<T>(text: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::new(Code::BadRequest, text.into()))
}

fn not_utf8() -> ApiError {
    ApiError::new(Code::NotUtf8, "the body of a message must be UTF-8: encode other data as base64")
}

fn bounded<'a>(name: &str, value: &'a str) -> Result<&'a str, ApiError> {
    if (1..=MAX_ID).contains(&value.len()) { Ok(value) } else { bad(format!("{name} has 1 to {MAX_ID} bytes")) }
}

impl StompDialect {
    /// The dialect of a connection that begins.
    pub fn new(applications: Arc<[String]>) -> StompDialect {
        let (version, subscriptions) = (None, Subscriptions::default());
        StompDialect { applications, version, has_heart_beats: false, subscriptions, has_changed: false }
    }

    /// The memory that the subscriptions take.
    pub fn held(&self) -> usize {
        self.subscriptions.size()
    }

    fn read<'a>(&self, bytes: &'a [u8]) -> Result<Frame<'a>, ApiError> {
        Frame::read(bytes, self.version.unwrap_or_default()).or_else(|error| bad(error.to_string()))
    }

    fn connect(&mut self, frame: &Frame<'_>) -> Result<Command, ApiError> {
        let Some(version) = Version::choose(frame.header("accept-version")) else {
            return bad("the server speaks STOMP 1.0, 1.1 and 1.2: name one of them in accept-version");
        };
        let beats = frame.header("heart-beat").unwrap_or("0,0");
        let numbers =
            beats.split_once(',').map(|(one, other)| (one.trim().parse::<u64>(), other.trim().parse::<u64>()));
        let Some((Ok(_), Ok(wanted))) = numbers else {
            return bad("heart-beat must be two numbers of milliseconds with a comma between them");
        };
        (self.version, self.has_heart_beats, self.has_changed) = (Some(version), wanted > 0, true);
        Ok(Command::Connect)
    }

    fn send(&self, frame: &Frame<'_>, max_payload: usize) -> Result<Command, ApiError> {
        let destination = destination(frame)?;
        let text = std::str::from_utf8(frame.body).map_err(|_| not_utf8())?;
        if text.len() > max_payload {
            return Err(ApiError::new(Code::TooLarge, format!("a body may have at most {max_payload} bytes")));
        }
        if self.applications.iter().any(|beginning| destination.starts_with(&**beginning)) {
            let args = format!("[{}]", Payload::from_any(text).as_str());
            let args = RawValue::from_string(args).or_else(|_| bad("the body is not Unicode"))?;
            let name = Event::of_session(destination)?;
            return Ok(Command::Event(ClientEvent { name, args, channel: None, key: None, wants_ack: false }));
        }
        let (payload, is_text) = Payload::of_bare(text);
        let extras = Extras { is_text, ..Extras::default() };
        Ok(Command::Publish(Draft::new(channel(destination)?, payload).with_extras(extras)))
    }

    fn subscribe(&mut self, version: Version, frame: &Frame<'_>) -> Result<Command, ApiError> {
        let destination = destination(frame)?;
        let id = match frame.header("id") {
            Some(id) => bounded("the id of a subscription", id)?,
            None if version == Version::V10 => destination,
            None => return bad("id is missing: name the subscription"),
        };
        let acks = match frame.header("ack") {
            None | Some("auto") => false,
            Some("client" | "client-individual") => true,
            Some(_) => return bad("ack is auto, client or client-individual"),
        };
        if self.subscriptions.len() == MAX_SUBSCRIPTIONS {
            return bad(format!("a connection may have at most {MAX_SUBSCRIPTIONS} subscriptions"));
        }
        let channel = channel(destination)?;
        if self.subscriptions.of(&channel) == MAX_COPIES {
            return bad(format!("a connection may have at most {MAX_COPIES} subscriptions to one destination"));
        }
        let (id, destination) = (id.to_owned(), destination.to_owned());
        // In 1.2, a message has a header for the acknowledgement.
        let acks = acks && version == Version::V12;
        if !self.subscriptions.add(Subscription { id, destination, channel: channel.clone(), acks }) {
            return bad("another subscription of this connection has this id");
        }
        self.has_changed = true;
        Ok(Command::Subscribe(transport::Subscribe {
            channels: vec![channel],
            start: None,
            last: None,
            client: None,
            presence: None,
            session: None,
        }))
    }

    fn unsubscribe(&mut self, version: Version, frame: &Frame<'_>) -> Result<Command, ApiError> {
        let id = match frame.header("id") {
            Some(id) => id,
            None if version == Version::V10 => destination(frame)?,
            None => return bad("id is missing: name the subscription"),
        };
        let Some((removed, is_last)) = self.subscriptions.remove(id) else {
            return bad("no subscription of this connection has this id");
        };
        self.has_changed = true;
        Ok(if is_last { Command::Unsubscribe(vec![removed.channel]) } else { Command::Ping })
    }
}

fn destination<'a>(frame: &'a Frame<'_>) -> Result<&'a str, ApiError> {
    match frame.header("destination") {
        Some(destination) if !destination.is_empty() => Ok(destination),
        _ => bad("destination is missing: name the channel"),
    }
}

fn channel(destination: &str) -> Result<Channel, ApiError> {
    let error = |_| ApiError::new(Code::BadChannel, "the destination is too long");
    Channel::escaped(destination.as_bytes()).map_err(error)
}

/// Checks an acknowledgement. It has no effect: every subscriber has a position of its own in the log, so no message
/// waits for one.
fn acknowledge(version: Version, frame: &Frame<'_>) -> Result<Command, ApiError> {
    let names: &[&str] = match version {
        Version::V10 => &["message-id"],
        Version::V11 => &["message-id", "subscription"],
        Version::V12 => &["id"],
    };
    match names.iter().find(|name| frame.header(name).is_none()) {
        Some(name) => bad(format!("{name} is missing: name the message")),
        None => Ok(Command::Ping),
    }
}

impl Dialect for StompDialect {
    fn head<'a>(&mut self, frame: &'a [u8]) -> Result<CommandHead<'a>, ApiError> {
        let read = self.read(frame)?;
        let reference =
            read.header("receipt").map(|receipt| bounded("receipt", receipt).map(str::to_owned)).transpose()?;
        let header = |name: &str| read.header(name).filter(|value| !value.is_empty());
        let (mut token, mut kind) = (None, None);
        match read.command {
            frame::Command::Connect => {
                let bearer = header("Authorization").and_then(|value| value.strip_prefix("Bearer "));
                let found = bearer.or_else(|| header("passcode")).or_else(|| header("login"));
                token = found.map(|token| Cow::Owned(token.to_owned()));
            }
            frame::Command::Send => kind = Some(CommandKind::Publish),
            frame::Command::Subscribe => kind = Some(CommandKind::Subscribe),
            frame::Command::Unsubscribe => kind = Some(CommandKind::Unsubscribe),
            _ => {}
        }
        // The body of a SEND may have any bytes, and the command checks it.
        let text = std::str::from_utf8(frame).map_err(|_| not_utf8())?;
        Ok(CommandHead { reference, token, kind, text })
    }

    fn command(&mut self, head: &CommandHead<'_>, max_payload: usize) -> Result<Command, ApiError> {
        let frame = self.read(head.text.as_bytes())?;
        let version = match (self.version, frame.command) {
            (None, frame::Command::Connect) => return self.connect(&frame),
            (None, _) => return bad("the first frame must be CONNECT"),
            (Some(_), frame::Command::Connect) => return bad("the connection has begun already: send CONNECT once"),
            (Some(version), _) => version,
        };
        if frame.header("transaction").is_some() {
            return bad("the server does not have transactions: leave the header transaction out");
        }
        match frame.command {
            frame::Command::Send => self.send(&frame, max_payload),
            frame::Command::Subscribe => self.subscribe(version, &frame),
            frame::Command::Unsubscribe => self.unsubscribe(version, &frame),
            frame::Command::Ack | frame::Command::Nack => acknowledge(version, &frame),
            frame::Command::Begin | frame::Command::Commit | frame::Command::Abort => {
                bad("the server does not have transactions: send each frame without one")
            }
            frame::Command::Connect | frame::Command::Disconnect => Ok(Command::Disconnect),
        }
    }

    fn ends_on_error(&self) -> bool {
        true
    }

    fn envelope(&mut self) -> Option<Arc<dyn Envelope>> {
        let has_changed = std::mem::take(&mut self.has_changed);
        let frames =
            || StompFrames::new(self.version.unwrap_or_default(), self.has_heart_beats, self.subscriptions.clone());
        has_changed.then(|| Arc::new(frames()) as Arc<dyn Envelope>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect() -> StompDialect {
        StompDialect::new(["/app/".to_owned()].into())
    }

    fn command(dialect: &mut StompDialect, frame: &str) -> Result<Command, ApiError> {
        let head = dialect.head(frame.as_bytes())?;
        dialect.command(&head, 20)
    }

    fn connected(accepted: &str) -> StompDialect {
        let mut dialect = dialect();
        let begun = command(&mut dialect, &format!("CONNECT\naccept-version:{accepted}\nheart-beat:0,1000\n\n"));
        assert_eq!(begun, Ok(Command::Connect));
        assert!(dialect.envelope().is_some() && dialect.envelope().is_none(), "frames look different once");
        dialect
    }

    #[test]
    fn frames_are_commands() {
        let mut dialect = connected("1.2");
        let Ok(Command::Publish(draft)) = command(&mut dialect, "SEND\ndestination:/topic/a b\n\n\"x\"") else {
            panic!("a message")
        };
        assert_eq!((draft.channel.as_str(), draft.payload.as_str()), ("/topic/a=20b", "\"\\\"x\\\"\""));
        let Ok(Command::Event(event)) = command(&mut dialect, "SEND\ndestination:/app/hello\n\n{\"a\":1}") else {
            panic!("an event")
        };
        assert_eq!((event.name.as_str(), event.args.get()), ("/app/hello", "[{\"a\":1}]"));
        for id in ["0", "1"] {
            let frame = format!("SUBSCRIBE\nid:{id}\ndestination:a\nack:client\n\n");
            let Ok(Command::Subscribe(subscribe)) = command(&mut dialect, &frame) else { panic!("a subscription") };
            assert_eq!(subscribe.channels, ["a".parse().expect("a channel")]);
            assert!(dialect.envelope().is_some());
        }
        assert_eq!(command(&mut dialect, "UNSUBSCRIBE\nid:0\n\n"), Ok(Command::Ping), "another one has the channel");
        let last = command(&mut dialect, "UNSUBSCRIBE\nid:1\n\n");
        assert_eq!(last, Ok(Command::Unsubscribe(vec!["a".parse().expect("a channel")])));
        assert_eq!(command(&mut dialect, "ACK\nid:5\n\n"), Ok(Command::Ping));
        let head = dialect.head(b"DISCONNECT\nreceipt:bye\n\n").expect("a head");
        assert_eq!(head.reference.as_deref(), Some("bye"));
        assert_eq!(dialect.command(&head, 9), Ok(Command::Disconnect));
    }

    #[test]
    fn clients_of_old_versions_leave_out_what_theirs_does_not_have() {
        let mut old = dialect();
        assert_eq!(command(&mut old, "CONNECT\nlogin:me\n\n"), Ok(Command::Connect));
        assert!(matches!(command(&mut old, "SUBSCRIBE\ndestination: a\n\n"), Ok(Command::Subscribe(_))));
        assert_eq!(command(&mut old, "ACK\nmessage-id:1\n\n"), Ok(Command::Ping));
        assert!(matches!(command(&mut old, "UNSUBSCRIBE\ndestination:a\n\n"), Ok(Command::Unsubscribe(_))));
        let mut newer = connected("1.0,1.1");
        assert!(command(&mut newer, "ACK\nmessage-id:1\n\n").is_err());
        assert_eq!(command(&mut newer, "ACK\nmessage-id:1\nsubscription:0\n\n"), Ok(Command::Ping));
    }

    #[test]
    fn the_token_is_a_header_of_connect() {
        for (headers, token) in [
            ("passcode:secret\nlogin:me\n", Some("secret")),
            ("login:secret\n", Some("secret")),
            ("login:me\npasscode:\n", Some("me")),
            ("Authorization:Bearer abc\npasscode:x\n", Some("abc")),
            ("", None),
        ] {
            let frame = format!("CONNECT\n{headers}\n");
            assert_eq!(dialect().head(frame.as_bytes()).expect("a head").token.as_deref(), token, "{headers}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        for (frame, hint) in [
            ("SEND\ndestination:a\ntransaction:1\n\n", "transactions"),
            ("BEGIN\ntransaction:1\n\n", "transactions"),
            ("COMMIT\n\n", "transactions"),
            ("SEND\n\nx", "destination is missing"),
            ("SEND\ndestination:a\n\n123456789012345678901", "at most 20 bytes"),
            ("SUBSCRIBE\ndestination:a\n\n", "id is missing"),
            ("SUBSCRIBE\nid:1\ndestination:a\nack:sometimes\n\n", "ack is auto"),
            ("UNSUBSCRIBE\nid:nobody\n\n", "no subscription"),
            ("ACK\n\n", "id is missing"),
            ("CONNECT\n\n", "once"),
            ("HELLO\n\n", "must be a command"),
            ("SEND\nx\n\n", "a colon"),
        ] {
            let error = command(&mut connected("1.2"), frame).expect_err("refused");
            assert!(error.message.contains(hint), "{frame}: {}", error.message);
        }
        for (frame, hint) in [
            ("SEND\ndestination:a\n\n", "must be CONNECT"),
            ("CONNECT\naccept-version:2.0\n\n", "1.0, 1.1 and 1.2"),
            ("CONNECT\nheart-beat:often\n\n", "two numbers"),
        ] {
            let error = command(&mut dialect(), frame).expect_err("refused");
            assert!(error.message.contains(hint), "{frame}: {}", error.message);
        }
        let mut connected = connected("1.2");
        assert!(command(&mut connected, "SUBSCRIBE\nid:1\ndestination:a\n\n").is_ok());
        let again = command(&mut connected, "SUBSCRIBE\nid:1\ndestination:b\n\n").expect_err("refused");
        assert!(again.message.contains("has this id"));
        let mut subscribe = |id: usize, destination: &str| {
            command(&mut connected, &format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\n\n"))
        };
        assert!((2..=MAX_COPIES).all(|id| subscribe(id, "a").is_ok()));
        let copy = subscribe(100, "a").expect_err("refused");
        assert!(copy.message.contains("to one destination"), "{}", copy.message);
        assert!(subscribe(100, "b").is_ok());
        assert!(connected.head(b"SEND\ndestination:a\n\n\xff").expect_err("refused").message.contains("UTF-8"));
    }
}
