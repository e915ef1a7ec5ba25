//! Reads the application's answer to a call.

use crate::message::{Channel, Event, User, present};
use crate::serve::application::client::Reply;
use crate::serve::application::problem::{Form, Problem};
use crate::transport::{ApiError, Code};
use crate::wire::json;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Size limit of an answer's body.
pub(super) const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The maximum number of items in an answer.
const MAX_ITEMS: usize = 100;

/// The longest `data`, in bytes.
const MAX_DATA: usize = 4 << 10;

/// The longest `ttl`, in seconds.
const MAX_TTL: f64 = 86_400.0;

/// The longest name of a room, in bytes.
const MAX_ROOM: usize = 200;

/// The longest name of an answer, in bytes.
const MAX_ACK: usize = 200;

/// The form in which the application has to answer.
const FORM: Form = Form {
    rule: r#"answer with 204, or with 200 and an object such as {"ack":[…],"publish":[…]}"#,
    marks: &["\"ack\":", "\"publish\":", "\"refuse\":"],
    other_json: "JSON that is not an object, or has a field of the wrong type",
};

/// The answer to a call.
#[derive(Debug)]
pub enum Answer<T> {
    /// The application has accepted what has happened.
    Accepted(Accepted<T>),
    /// The application refuses it with this error.
    Refused(ApiError),
    /// The answer has a field that needs a session.
    NeedsSession,
}

/// The application's answer to something that it has accepted.
#[derive(Debug)]
pub struct Accepted<T> {
    /// The arguments for the client's callback, as JSON on one line.
    pub ack: Option<String>,
    /// The messages to publish.
    pub publish: Vec<T>,
    /// What happens to the client's session.
    pub session: SessionAnswer,
}

/// What the application wants to happen to the session of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionAnswer {
    /// The user, as JSON on one line.
    pub user: Option<String>,
    /// What the application wants to get with each call, as JSON on one line.
    pub data: Option<String>,
    /// After how many seconds the application is asked again.
    pub ttl: Option<u64>,
    /// Channels that the session reads from now on.
    pub join: Vec<Channel>,
    /// Channels that it does not read any more.
    pub leave: Vec<Channel>,
    /// Rooms of its endpoint that it reads from now on.
    pub rooms: Vec<String>,
    /// Rooms that it does not read any more.
    pub leave_rooms: Vec<String>,
    /// Events for the client.
    pub send: Vec<SentEvent>,
    /// Whether the session ends.
    pub disconnect: bool,
    /// Whether its connection ends, too, with all other sessions on it.
    pub closes: bool,
}

/// An event that the application sends to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct SentEvent {
    /// Its name.
    pub event: String,
    /// Its arguments, as a JSON array on one line.
    pub args: String,
    /// The name of the answer that the application waits for.
    pub ack: Option<String>,
}

/// The fields of an answer. Other fields are ignored.
#[derive(Default, Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    refuse: Option<Refuse<'a>>,
    #[serde(borrow, default)]
    ack: Option<&'a RawValue>,
    #[serde(borrow, default)]
    publish: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    user: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ttl: Option<&'a RawValue>,
    #[serde(borrow, default)]
    join: Option<&'a RawValue>,
    #[serde(borrow, default)]
    leave: Option<&'a RawValue>,
    #[serde(borrow, default)]
    rooms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    leave_rooms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    send: Option<&'a RawValue>,
    #[serde(borrow, default)]
    disconnect: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refuse<'a> {
    #[serde(default)]
    message: Option<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// An item of `send`.
#[derive(Deserialize)]
struct SendFields<'a> {
    event: String,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(default)]
    ack: Option<String>,
}

/// Whether a field asks for something. An empty value does not: programs write lists that may be empty.
fn asks(json: &&RawValue) -> bool {
    !matches!(json.get(), "null" | "[]" | "{}" | "false" | "\"\"")
}

impl Fields<'_> {
    /// Whether a field asks for something that needs a session.
    fn needs_session(&self) -> bool {
        let fields = [
            self.user,
            self.data,
            self.ttl,
            self.join,
            self.leave,
            self.rooms,
            self.leave_rooms,
            self.send,
            self.disconnect,
        ];
        fields.into_iter().flatten().any(|json| asks(&json))
    }

    /// What the fields say about the session. The error names the field.
    fn session(&self, max_payload: usize) -> Result<SessionAnswer, &'static str> {
        let (disconnect, closes) = disconnect(self.disconnect)?;
        let user = self.user.filter(asks).map(|json| User::parse(json.get()).map(|user| user.data().to_owned()));
        Ok(SessionAnswer {
            user: user.transpose().map_err(|_| "a user without a usable id")?,
            data: self.data.map(|json| short(json, MAX_DATA)).transpose().map_err(|()| "data of more than 4 KiB")?,
            ttl: self.ttl.filter(|json| json.get() != "null").map(ttl).transpose()?,
            join: channels(self.join)?,
            leave: channels(self.leave)?,
            rooms: rooms(self.rooms)?,
            leave_rooms: rooms(self.leave_rooms)?,
            send: sent_events(self.send, max_payload)?,
            disconnect,
            closes,
        })
    }
}

/// A JSON text on one line, if it is not too long.
fn short(json: &RawValue, most: usize) -> Result<String, ()> {
    if json.get().len() <= most { Ok(one_line(json)) } else { Err(()) }
}

fn ttl(json: &RawValue) -> Result<u64, &'static str> {
    match serde_json::from_str::<f64>(json.get()) {
        Ok(seconds) if seconds >= 0.0 => Ok(seconds.ceil().clamp(1.0, MAX_TTL) as u64),
        _ => Err("a ttl that is not a number of seconds"),
    }
}

fn channels(json: Option<&RawValue>) -> Result<Vec<Channel>, &'static str> {
    let names: Vec<String> = list(json).ok_or("a join or leave that is not a list of channels")?;
    names.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(|_| "a channel that is not a channel name")
}

fn rooms(json: Option<&RawValue>) -> Result<Vec<String>, &'static str> {
    let rooms: Vec<String> = list(json).ok_or("rooms that are not a list of names")?;
    let is_usable = |room: &String| (1..=MAX_ROOM).contains(&room.len());
    if rooms.iter().all(is_usable) { Ok(rooms) } else { Err("a room whose name is empty or too long") }
}

/// Reads the events of a `send`. The error says what came.
pub fn sent_events(json: Option<&RawValue>, max_payload: usize) -> Result<Vec<SentEvent>, &'static str> {
    const FORM: &str = "a send that is not a list of events";
    let items: Vec<SendFields<'_>> = list(json).ok_or(FORM)?;
    let event = |fields: SendFields<'_>| {
        Event::of_session(&fields.event).map_err(|_| "a send whose event is not an event name")?;
        let args = match (fields.args, fields.data) {
            (Some(args), None) if args.get().starts_with('[') => one_line(args),
            (None, Some(data)) => format!("[{}]", one_line(data)),
            (None, None) => "[]".to_owned(),
            _ => return Err("a send whose args are not an array"),
        };
        if args.len() > max_payload {
            return Err("a send with more than --max-message-bytes");
        }
        if fields.ack.as_ref().is_some_and(|ack| !(1..=MAX_ACK).contains(&ack.len())) {
            return Err("a send whose ack is not a name of 1 to 200 bytes");
        }
        Ok(SentEvent { event: fields.event, args, ack: fields.ack })
    };
    items.into_iter().map(event).collect()
}

/// Whether the session ends, and whether its connection does.
fn disconnect(json: Option<&RawValue>) -> Result<(bool, bool), &'static str> {
    match json.filter(asks).map(RawValue::get) {
        None => Ok((false, false)),
        Some("\"namespace\"") => Ok((true, false)),
        Some("true" | "\"transport\"") => Ok((true, true)),
        Some(_) => Err("a disconnect that is neither true nor the name of what ends"),
    }
}

/// The items of a list. A field that does not ask for anything is an empty list.
fn list<'a, T: Deserialize<'a>>(json: Option<&'a RawValue>) -> Option<Vec<T>> {
    match json.filter(asks) {
        Some(json) => serde_json::from_str(json.get()).ok(),
        None => Some(Vec::new()),
    }
}

/// Reads an answer. `publication` reads a publish object. `max_payload` is the longest payload of an event.
///
/// # Errors
///
/// The answer does not have the form.
pub fn read<T>(
    reply: &Reply,
    has_session: bool,
    max_payload: usize,
    publication: impl Fn(&str) -> Result<T, ApiError>,
) -> Result<Answer<T>, Problem> {
    let fields = if says_nothing(reply) { Fields::default() } else { FORM.object(reply)? };
    // The other fields of a refusal have no effect.
    if let Some(Refuse { message, data }) = fields.refuse {
        let message = message.unwrap_or_else(|| "the application refuses it".to_owned());
        let data = data.map(one_line).map(String::into_boxed_str);
        return Ok(Answer::Refused(ApiError { data, ..ApiError::new(Code::Forbidden, message) }));
    }
    if !has_session && fields.needs_session() {
        return Ok(Answer::NeedsSession);
    }
    let session = fields.session(max_payload);
    let session = session.map_err(|came| Problem::unusable(reply.came_with(came), "correct the field"))?;
    let SessionAnswer { join, leave, rooms, leave_rooms, send, .. } = &session;
    let items = fields.publish.unwrap_or_default();
    if items.len() + join.len() + leave.len() + rooms.len() + leave_rooms.len() + send.len() > MAX_ITEMS {
        return Err(Problem::unusable(
            reply.came_with(&format!("more than {MAX_ITEMS} items")),
            "send the others to /publish and /sessions",
        ));
    }
    let publish = items.into_iter().map(|item| publication(item.get())).collect::<Result<_, _>>();
    let publish = publish.map_err(|error| {
        // The text of such an error does not repeat the application's text.
        let came = reply.came_with(&format!("a publish object that is refused: {error}"));
        Problem::unusable(came, "correct the object")
    })?;
    Ok(Answer::Accepted(Accepted { ack: fields.ack.map(one_line), publish, session }))
}

/// Whether an answer has no fields.
fn says_nothing(reply: &Reply) -> bool {
    // PHP writes an array without fields as a list.
    let is_empty_list = reply.body.trim_ascii() == b"[]";
    match reply.status {
        Some(StatusCode::NO_CONTENT) => true,
        Some(status) => status == StatusCode::OK && is_empty_list,
        None => reply.body.is_empty() || is_empty_list,
    }
}

/// A JSON text on one line, because some streams are made of lines.
fn one_line(json: &RawValue) -> String {
    json::payload(json.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &'static str) -> Result<Answer<String>, Problem> {
        let status = StatusCode::from_u16(status).expect("a status");
        of_reply(Some(status), body)
    }

    fn of_reply(status: Option<StatusCode>, body: &'static str) -> Result<Answer<String>, Problem> {
        read(&Reply { status, body: body.into() }, false, 10, |json| {
            if json.contains("bad") { Err(ApiError::new(Code::BadChannel, "bad")) } else { Ok(json.to_owned()) }
        })
    }

    #[test]
    fn answers_are_read() {
        for (status, body, ack, publish) in [
            (204, "", None, 0),
            (200, "{}", None, 0),
            (200, "[]", None, 0),
            (200, r#"{"ack":[1,"b"]}"#, Some(r#"[1,"b"]"#), 0),
            (200, "{\"ack\":[\r\n1]}", Some("[  1]"), 0),
            (200, r#"{"ack":{"a":1}}"#, Some(r#"{"a":1}"#), 0),
            (200, r#"{"ack":null,"publish":null,"refuse":null,"other":[1]}"#, None, 0),
            (200, r#"{"publish":[{"channel":"a"},{"channel":"b"}]}"#, None, 2),
            (200, r#"{"join":[],"leave":[],"send":[],"disconnect":false,"user":null}"#, None, 0),
        ] {
            let Ok(Answer::Accepted(answer)) = of(status, body) else { panic!("{body}") };
            assert_eq!((answer.ack.as_deref(), answer.publish.len()), (ack, publish), "{body}");
        }
    }

    #[test]
    fn a_refusal_has_the_application_s_words() {
        for (body, message, data) in [
            (r#"{"refuse":{"message":"no milk","data":{"left":[ 0]}},"ack":[1]}"#, "no milk", Some("{\"left\":[ 0]}")),
            (r#"{"refuse":{}}"#, "the application refuses it", None),
            (r#"{"refuse":{},"join":["a"],"user":{"id":"7"}}"#, "the application refuses it", None),
        ] {
            let Ok(Answer::Refused(error)) = of(200, body) else { panic!("{body}") };
            assert_eq!((error.code, error.message.as_str(), error.data.as_deref()), (Code::Forbidden, message, data));
        }
    }

    #[test]
    fn some_fields_need_a_session() {
        for field in [
            r#""join":["a"]"#,
            r#""leave":["a"]"#,
            r#""rooms":["a"]"#,
            r#""leave_rooms":["a"]"#,
            r#""send":[{"event":"a"}]"#,
            r#""disconnect":true"#,
            r#""disconnect":"transport""#,
            r#""user":{"id":"7"}"#,
            r#""data":"x""#,
            r#""ttl":60"#,
        ] {
            let body = Box::leak(format!("{{\"ack\":[1],{field}}}").into_boxed_str());
            assert!(matches!(of(200, body), Ok(Answer::NeedsSession)), "{field}");
        }
    }

    /// The answer to a call for a session.
    fn for_session(body: &'static str) -> Result<SessionAnswer, Problem> {
        let reply = Reply { status: Some(StatusCode::OK), body: body.into() };
        match read(&reply, true, 10, |json| Ok(json.to_owned()))? {
            Answer::Accepted(accepted) => Ok(accepted.session),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_changes_the_session() {
        let channel = |name: &str| name.parse::<Channel>().expect("a channel");
        let event = |args: &str, ack: Option<&str>| SentEvent {
            event: "hi".into(),
            args: args.into(),
            ack: ack.map(str::to_owned),
        };
        let nothing = SessionAnswer::default;
        for (body, expected) in [
            ("{}", nothing()),
            (r#"{"join":null,"send":[],"disconnect":false,"ttl":null,"user":null}"#, nothing()),
            (
                r#"{"join":["a"],"leave":["b"]}"#,
                SessionAnswer { join: vec![channel("a")], leave: vec![channel("b")], ..nothing() },
            ),
            (
                r#"{"rooms":["a b"],"leave_rooms":["/c"]}"#,
                SessionAnswer { rooms: vec!["a b".into()], leave_rooms: vec!["/c".into()], ..nothing() },
            ),
            (
                r#"{"user":{"id":7},"data":{"a":1e400},"ttl":0.5}"#,
                SessionAnswer {
                    user: Some(r#"{"id":"7","info":null}"#.into()),
                    data: Some("{\"a\":1e400}".into()),
                    ttl: Some(1),
                    ..nothing()
                },
            ),
            (r#"{"data":null}"#, nothing()),
            (
                r#"{"send":[{"event":"hi","args":[1,2],"ack":"x"},{"event":"hi"},{"event":"hi","data":null}]}"#,
                SessionAnswer {
                    send: vec![event("[1,2]", Some("x")), event("[]", None), event("[null]", None)],
                    ..nothing()
                },
            ),
            (r#"{"disconnect":"transport"}"#, SessionAnswer { disconnect: true, closes: true, ..nothing() }),
            (r#"{"disconnect":true}"#, SessionAnswer { disconnect: true, closes: true, ..nothing() }),
            (r#"{"disconnect":"namespace"}"#, SessionAnswer { disconnect: true, ..nothing() }),
        ] {
            assert_eq!(for_session(body).ok(), Some(expected), "{body}");
        }
        for (body, came) in [
            (r#"{"join":"a"}"#, "not a list of channels"),
            (r#"{"join":["~s/secret"]}"#, "not a channel name"),
            (r#"{"leave":["secret word"]}"#, "not a channel name"),
            (r#"{"rooms":[""]}"#, "a room"),
            (r#"{"user":{"id":""}}"#, "a user without a usable id"),
            (r#"{"user":"secret"}"#, "a user without a usable id"),
            (r#"{"ttl":-1}"#, "a ttl"),
            (r#"{"ttl":"secret"}"#, "a ttl"),
            (r#"{"send":{"event":"secret"}}"#, "a send"),
            (r#"{"send":[{"event":"a\u000a"}]}"#, "not an event name"),
            (r#"{"send":[{"event":"e","args":1}]}"#, "not an array"),
            (r#"{"send":[{"event":"e","args":["0123456789"]}]}"#, "--max-message-bytes"),
            (r#"{"send":[{"event":"e","ack":""}]}"#, "ack is not a name"),
            (r#"{"disconnect":"secret"}"#, "a disconnect"),
        ] {
            let problem = for_session(body).err().unwrap_or_else(|| panic!("{body}"));
            assert!(problem.came.contains(came) && !problem.came.contains("secret"), "{body}: {problem:?}");
        }
        let data: &'static str = Box::leak(format!("{{\"data\":\"{}\"}}", "x".repeat(4095)).into_boxed_str());
        assert!(for_session(data).err().is_some_and(|problem| problem.came.contains("4 KiB")));
        let many: &'static str = Box::leak(format!("{{\"join\":[{}]}}", ["\"a\""; 101].join(",")).into_boxed_str());
        assert!(for_session(many).err().is_some_and(|problem| problem.came.contains("more than 100 items")));
    }

    /// An answer through a stream has no status. An empty answer means the same as status 204 over HTTP.
    #[test]
    fn an_answer_without_a_status() {
        for (body, ack) in [("", None), ("[]", None), ("{}", None), (r#"{"ack":[1]}"#, Some("[1]"))] {
            let Ok(Answer::Accepted(answer)) = of_reply(None, body) else { panic!("{body}") };
            assert_eq!(answer.ack.as_deref(), ack, "{body}");
        }
        for (body, came) in [("[1]", "JSON that is not an object"), ("<p>", "an HTML page"), (" ", "an empty body")] {
            let problem = of_reply(None, body).expect_err("no answer");
            assert!(problem.came.starts_with(came), "{problem:?}");
        }
    }

    #[test]
    fn what_came_is_named_and_not_repeated() {
        let many: &'static str = Box::leak(format!("{{\"publish\":[{}]}}", ["{}"; 101].join(",")).into_boxed_str());
        for (status, body, came) in [
            (201, "{}", "status 201"),
            (302, "", "status 302"),
            (403, "secret", "status 403"),
            (500, "secret", "status 500"),
            (200, "", "an empty body"),
            (200, "secret", "a text that is not JSON"),
            (200, "<html>secret", "an HTML page"),
            (200, "\u{feff}{\"ack\":[]}", "a byte order mark"),
            (200, "<br />\n<b>Warning</b>: secret {\"ack\":[1]}", "a warning of PHP"),
            (200, "[1]", "not an object"),
            (200, "\"secret\"", "not an object"),
            (200, r#"{"refuse":"secret"}"#, "a field of the wrong type"),
            (200, r#"{"refuse":{"message":5}}"#, "a field of the wrong type"),
            (200, r#"{"publish":{"channel":"secret"}}"#, "a field of the wrong type"),
            (200, r#"{"publish":["bad"]}"#, "a publish object that is refused: bad_channel"),
            (200, many, "more than 100 items"),
        ] {
            let problem = of(status, body).err().unwrap_or_else(|| panic!("{body}"));
            assert!(problem.came.contains(came), "{status} {body}: {problem:?}");
            assert!(!problem.came.contains("secret") && !problem.fix.contains("secret"), "{problem:?}");
        }
    }
}
