//! The native dialect: commands as JSON objects, `{"type":…,"ref":…}`.

use super::command::{Command, CommandHead, CommandKind, Dialect, Subscribe};
use super::publication::{self, Publication};
use super::{ApiError, Code, EventFields, params};
use crate::message::Channel;
use crate::wire::json;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;

/// The longest `ref`, in bytes. The session keeps a `ref` until its command is answered.
const REFERENCE_BYTES: usize = 256;

/// The native dialect.
pub struct JsonCommands;

/// The fields of every command.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ref")]
    reference: Option<&'a RawValue>,
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
}

/// The fields of `subscribe` and `unsubscribe`.
#[derive(Deserialize)]
struct Subscription<'a> {
    #[serde(borrow, default)]
    channels: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    cursor: Option<Cow<'a, str>>,
    #[serde(default)]
    last: Option<i64>,
    #[serde(borrow, default)]
    client: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    presence: Option<&'a RawValue>,
}

impl Dialect for JsonCommands {
    fn head<'a>(&mut self, frame: &'a [u8]) -> Result<CommandHead<'a>, ApiError> {
        let text = std::str::from_utf8(frame).map_err(|_| ApiError::new(Code::NotUtf8, "a command must be UTF-8"))?;
        publication::object(text)?;
        let head: Head<'_> = serde_json::from_str(text).map_err(|error| bad_command(&error))?;
        if head.reference.is_some_and(|json| json.get().len() > REFERENCE_BYTES) {
            return Err(ApiError::new(Code::BadRequest, format!("ref must be at most {REFERENCE_BYTES} bytes")));
        }
        // Any JSON value is accepted here, so that the error for an unknown type has the command's `ref`.
        let kind = head.kind.and_then(|kind| json::text_of(kind.get()));
        Ok(CommandHead {
            // Line breaks between JSON tokens are replaced, because some streams are made of lines.
            reference: head.reference.map(|json| json::payload(json.get())),
            token: head.token,
            kind: kind.and_then(|kind| match &*kind {
                "subscribe" => Some(CommandKind::Subscribe),
                "unsubscribe" => Some(CommandKind::Unsubscribe),
                "publish" => Some(CommandKind::Publish),
                "event" => Some(CommandKind::Event),
                "ping" => Some(CommandKind::Ping),
                _ => None,
            }),
            text,
        })
    }

    fn command(&mut self, head: &CommandHead<'_>, max_payload: usize) -> Result<Command, ApiError> {
        match head.kind {
            Some(CommandKind::Subscribe) => subscribe(head.text).map(Command::Subscribe),
            Some(CommandKind::Unsubscribe) => {
                let command: Subscription<'_> = serde_json::from_str(head.text).map_err(|error| bad_command(&error))?;
                parse_channels(&command.channels).map(Command::Unsubscribe)
            }
            Some(CommandKind::Publish) => {
                let publication: Publication<'_> =
                    serde_json::from_str(head.text).map_err(|error| publication::bad_json(&error))?;
                publication.into_draft(max_payload).map(Command::Publish)
            }
            Some(CommandKind::Event) => {
                EventFields::parse(head.text)?.check(head.reference.is_some(), max_payload).map(Command::Event)
            }
            Some(CommandKind::Ping) => Ok(Command::Ping),
            None => {
                let known = "the type of a command must be subscribe, unsubscribe, publish, event or ping";
                Err(ApiError::new(Code::UnknownCommand, known))
            }
        }
    }
}

fn subscribe(text: &str) -> Result<Subscribe, ApiError> {
    let command: Subscription<'_> = serde_json::from_str(text).map_err(|error| bad_command(&error))?;
    Ok(Subscribe {
        channels: parse_channels(&command.channels)?,
        start: command.cursor.as_deref().map(str::parse).transpose()?,
        last: command.last.map(|last| params::last(&last.to_string())).transpose()?,
        client: command.client.as_deref().map(str::parse).transpose()?,
        presence: command.presence.map(flag).transpose()?,
    })
}

/// A field that is on or off.
fn flag(json: &RawValue) -> Result<bool, ApiError> {
    match json.get() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(ApiError::new(Code::BadRequest, "presence must be 1 or 0")),
    }
}

fn parse_channels(names: &[Cow<'_, str>]) -> Result<Vec<Channel>, ApiError> {
    if names.is_empty() {
        return Err(ApiError::new(Code::BadChannel, "channels must be a list of at least one channel"));
    }
    let mut channels = names.iter().map(|name| name.parse()).collect::<Result<Vec<Channel>, _>>()?;
    // Returns each channel once, in the order in which they were named. A repeated name counts only once against the
    // limit.
    let mut seen = HashSet::with_capacity(channels.len());
    channels.retain(|channel| seen.insert(channel.clone()));
    Ok(channels)
}

fn bad_command(error: &serde_json::Error) -> ApiError {
    if error.is_data() {
        let place = format!("line {} column {}", error.line(), error.column());
        return ApiError::new(Code::BadRequest, format!("a field of the command has the wrong type at {place}"));
    }
    publication::bad_json(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (Option<String>, Result<Command, Code>) {
        match JsonCommands.head(text.as_bytes()) {
            Ok(head) => (head.reference.clone(), JsonCommands.command(&head, 10).map_err(|error| error.code)),
            Err(error) => (None, Err(error.code)),
        }
    }

    #[test]
    fn a_repeated_channel_counts_once() {
        let (reference, command) = read(r#"{"type":"subscribe","channels":["b","a","b"],"last":5000,"ref":[1,"x"]}"#);
        assert_eq!(reference.as_deref(), Some(r#"[1,"x"]"#));
        let channels = ["b", "a"].map(|name| name.parse().expect("a channel")).to_vec();
        assert_eq!(
            command,
            Ok(Command::Subscribe(Subscribe { channels, start: None, last: Some(1000), client: None, presence: None }))
        );
    }

    #[test]
    fn an_error_has_the_reference_once_the_head_is_read() {
        let long = format!(r#"{{"type":"ping","ref":"{}"}}"#, "x".repeat(255));
        for (text, has_reference, code) in [
            ("{", false, Code::BadJson),
            ("[]", false, Code::BadRequest),
            (r#"{"type":"ping","ref":1,"token":1}"#, false, Code::BadRequest),
            (&*long, false, Code::BadRequest),
            (r#"{"type":5,"ref":1}"#, true, Code::UnknownCommand),
            (r#"{"type":"subscribe","ref":1}"#, true, Code::BadChannel),
            (r#"{"type":"subscribe","ref":1,"channels":["a"],"cursor":"x"}"#, true, Code::BadCursor),
            (r#"{"type":"subscribe","ref":1,"channels":["a"],"presence":"yes"}"#, true, Code::BadRequest),
            (r#"{"type":"unsubscribe","ref":1,"channels":5}"#, true, Code::BadRequest),
            (r#"{"type":"publish","ref":1,"channel":"a","data":"01234567890"}"#, true, Code::TooLarge),
        ] {
            let (reference, command) = read(text);
            assert_eq!((reference.is_some(), command), (has_reference, Err(code)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_frame_is_read_or_refused(frame: Vec<u8>) {
            if let Ok(head) = JsonCommands.head(&frame) {
                let _ = JsonCommands.command(&head, 10);
            }
        }
    }
}
