//! Reads the application's answer to a call.

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

/// The form in which the application has to answer.
const FORM: Form = Form {
    rule: r#"answer with 204, or with 200 and an object such as {"ack":[…],"publish":[…]}"#,
    marks: &["\"ack\":", "\"publish\":", "\"refuse\":"],
    other_json: "JSON that is not an object, or has a field of the wrong type",
};

/// The answer to an event.
#[derive(Debug)]
pub enum Answer<T> {
    /// The event was accepted.
    Event(AcceptedEvent<T>),
    /// The application refuses the event with this error.
    Refused(ApiError),
    /// The answer has a field that needs a session.
    NeedsSession,
}

/// The application's answer to an event that it has accepted.
#[derive(Debug)]
pub struct AcceptedEvent<T> {
    /// The arguments for the client's callback, as JSON on one line.
    pub ack: Option<String>,
    /// The messages to publish.
    pub publish: Vec<T>,
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

impl Fields<'_> {
    /// Whether a field asks for something that needs a session. An empty value does not ask for anything: programs
    /// write lists that may be empty.
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
        fields.into_iter().flatten().any(|json| !matches!(json.get(), "null" | "[]" | "{}" | "false" | "\"\""))
    }
}

/// Reads an answer. `publication` reads a publish object.
///
/// # Errors
///
/// The answer does not have the form.
pub fn read<T>(reply: &Reply, publication: impl Fn(&str) -> Result<T, ApiError>) -> Result<Answer<T>, Problem> {
    let fields = if says_nothing(reply) { Fields::default() } else { FORM.object(reply)? };
    // The other fields of a refusal have no effect.
    if let Some(Refuse { message, data }) = fields.refuse {
        let message = message.unwrap_or_else(|| "the application refuses the event".to_owned());
        let data = data.map(one_line).map(String::into_boxed_str);
        return Ok(Answer::Refused(ApiError { data, ..ApiError::new(Code::Forbidden, message) }));
    }
    if fields.needs_session() {
        return Ok(Answer::NeedsSession);
    }
    let items = fields.publish.unwrap_or_default();
    if items.len() > MAX_ITEMS {
        return Err(Problem::passing(
            reply.came_with(&format!("more than {MAX_ITEMS} items")),
            "publish the others yourself",
        ));
    }
    let publish = items.into_iter().map(|item| publication(item.get())).collect::<Result<_, _>>();
    let publish = publish.map_err(|error| {
        // The text of such an error does not repeat the application's text.
        let came = reply.came_with(&format!("a publish object that is refused: {error}"));
        Problem::passing(came, "correct the object")
    })?;
    Ok(Answer::Event(AcceptedEvent { ack: fields.ack.map(one_line), publish }))
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
        read(&Reply { status, body: body.into() }, |json| {
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
            let Ok(Answer::Event(answer)) = of(status, body) else { panic!("{body}") };
            assert_eq!((answer.ack.as_deref(), answer.publish.len()), (ack, publish), "{body}");
        }
    }

    #[test]
    fn a_refusal_has_the_application_s_words() {
        for (body, message, data) in [
            (r#"{"refuse":{"message":"no milk","data":{"left":[ 0]}},"ack":[1]}"#, "no milk", Some("{\"left\":[ 0]}")),
            (r#"{"refuse":{}}"#, "the application refuses the event", None),
            (r#"{"refuse":{},"join":["a"],"user":{"id":"7"}}"#, "the application refuses the event", None),
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

    /// An answer through a stream has no status, and is empty where an answer over HTTP has status 204.
    #[test]
    fn an_answer_without_a_status() {
        for (body, ack) in [("", None), ("[]", None), ("{}", None), (r#"{"ack":[1]}"#, Some("[1]"))] {
            let Ok(Answer::Event(answer)) = of_reply(None, body) else { panic!("{body}") };
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
