//! Parses the payload of a PUBLISH as a draft, and the patterns of the PUBLISH channels whose messages are appended.

use crate::message::{
    BadChannel, BadChannels, BadDraft, Channel, Channels, Draft, DraftFields, MAX_EXCEPT, Pattern, Payload,
    client_name, escape, except_names, present,
};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A pattern that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// The pattern is neither a name nor a prefix followed by a `*`.
    #[error("`{0}` is not a name or a prefix with one `*` at its end; no other pattern characters are supported")]
    Malformed(String),
    /// Two patterns overlap, so that Redis would deliver one PUBLISH twice.
    #[error("`{0}` and `{1}` overlap, so one PUBLISH would arrive twice; keep the wider one")]
    Overlap(String, String),
}

/// A pattern of PUBLISH channels whose messages are appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishPattern {
    /// The pattern. By default, the part that the `*` stands for is the channel of the log.
    pub pattern: Pattern,
    /// For names of another protocol: the beginning of the channels of the log. The part that the `*` stands for is
    /// escaped behind it.
    pub below: Option<String>,
}

impl PublishPattern {
    /// The channel of the log that the name of a PUBLISH stands for; `None` if the name does not match.
    pub fn channel(&self, name: &str) -> Option<Result<Channel, BadChannel>> {
        let name = self.pattern.matched(name)?;
        Some(match &self.below {
            Some(below) if !name.is_empty() => Channel::of_server(&format!("{below}{}", escape(name.as_bytes()))),
            Some(_) | None => name.parse(),
        })
    }
}

impl From<Pattern> for PublishPattern {
    fn from(pattern: Pattern) -> PublishPattern {
        PublishPattern { pattern, below: None }
    }
}

/// Parses the patterns of PUBLISH channels.
///
/// # Errors
///
/// The first pattern that is malformed, or that overlaps another.
pub fn parse_patterns<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Pattern>, BadPattern> {
    let mut patterns: Vec<Pattern> = Vec::new();
    for text in texts.iter().map(AsRef::as_ref) {
        let pattern = Pattern::new(text);
        let is_malformed =
            text.is_empty() || pattern.prefix().contains(['*', '?', '[', ']', '\\']) || text.contains(char::is_control);
        if is_malformed {
            return Err(BadPattern::Malformed(text.into()));
        }
        if let Some(other) = patterns.iter().find(|other| other.overlaps(&pattern)) {
            return Err(BadPattern::Overlap(other.to_string(), pattern.to_string()));
        }
        patterns.push(pattern);
    }
    Ok(patterns)
}

/// A payload in its long form: an object with either `data` or `args`, and only these other fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongForm<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    args: Option<&'a RawValue>,
    /// The channels of the message, instead of the channel of the PUBLISH.
    #[serde(default)]
    channels: Option<Vec<String>>,
    #[serde(default, deserialize_with = "except_names")]
    except: Option<Vec<String>>,
    #[serde(default)]
    event: Option<String>,
    #[serde(default, deserialize_with = "client_name")]
    exclude: Option<String>,
    /// The client that does not receive the message, or null. Laravel sends this field with each message.
    #[serde(default, deserialize_with = "client_name")]
    socket: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    volatile: bool,
    #[serde(default)]
    key: Option<String>,
}

impl<'a> LongForm<'a> {
    /// Reads a payload in its long form, and returns its data and whether the data are arguments. `None` for any other
    /// payload, which is the data itself.
    fn read(text: &'a str) -> Option<(LongForm<'a>, &'a str, bool)> {
        // The check is needed because serde also reads a struct from an array, but `[1]` is plain data.
        if !text.trim_start().starts_with('{') {
            return None;
        }
        let form: LongForm<'_> = serde_json::from_str(text).ok()?;
        let (data, is_args) = match (form.data, form.args) {
            (Some(data), None) => (data.get(), false),
            (None, Some(args)) if args.get().starts_with('[') => (args.get(), true),
            _ => return None,
        };
        Some((form, data, is_args))
    }
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(deserializer)?.unwrap_or_default())
}

/// The maximum number of bytes of the fields beside the payload: the longest lists of names, and the short fields.
pub(super) const OTHER_FIELDS: usize = (Channels::MAX + MAX_EXCEPT) * (Channel::MAX_LENGTH + 4) + 1024;

/// The publisher that idempotency keys of PUBLISHes belong to.
pub(super) const PUBLISHER: &str = "redis";

/// Parses the payload of a PUBLISH as a draft. `channel` is the text that the name of the PUBLISH stands for. It does
/// not have to be the name of a channel if the payload itself names channels.
///
/// # Errors
///
/// A text for the log that explains why the payload is not a message.
pub fn draft(channel: Result<Channel, BadChannel>, payload: &[u8], max_payload: usize) -> Result<Draft, &'static str> {
    let channel = channel.map_err(|bad| bad_channels(bad.into()));
    // The object may be longer than its payload: it has other fields, and a text may have escapes.
    if payload.len() > max_payload.saturating_mul(6).saturating_add(OTHER_FIELDS) {
        return Err("it is larger than --max-message-bytes");
    }
    let text = std::str::from_utf8(payload).map_err(|_| "it is not UTF-8")?;
    let Some((envelope, data, is_args)) = LongForm::read(text) else {
        if payload.len() > max_payload {
            return Err("it is larger than --max-message-bytes");
        }
        return Ok(Draft::new(channel?, Payload::from_any(text)));
    };
    let channels = match &envelope.channels {
        Some(names) => Channels::parse(names.iter().map(String::as_str)).map_err(bad_channels)?,
        None => channel?.into(),
    };
    let except: Vec<&str> = envelope.except.iter().flatten().map(String::as_str).collect();
    let fields = DraftFields {
        data,
        is_args,
        except: &except,
        event: envelope.event.as_deref(),
        exclude: envelope.exclude.as_deref(),
        socket: envelope.socket.as_deref(),
        key: envelope.key.as_deref(),
        publisher: PUBLISHER,
        volatile: envelope.volatile,
        ..DraftFields::default()
    };
    fields.check(channels, max_payload).map_err(reason)
}

/// A text for the log that explains why the channels of a message from Redis cannot be used.
pub(super) fn bad_channels(bad: BadChannels) -> &'static str {
    match bad {
        BadChannels::None => "it names no channel",
        BadChannels::Name(BadChannel::Malformed) => "its channel name is invalid",
        BadChannels::Name(BadChannel::Reserved) => {
            "its channel name is reserved: names that begin with ~ are the server's"
        }
        BadChannels::TooMany => "it names more than 100 channels",
    }
}

/// A text for the log that explains why a message from Redis cannot be used.
pub(super) fn reason(bad: BadDraft) -> &'static str {
    match bad {
        BadDraft::Payload { .. } => "its data is larger than --max-message-bytes",
        BadDraft::Event(_) => "its event is not an event name",
        BadDraft::Key(_) => "its key is not 1 to 200 bytes",
        BadDraft::Except => "its except has more than 100 items",
        BadDraft::Args => "its args are not an array",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(payload: &str) -> Result<Draft, &'static str> {
        draft("todo".parse(), payload.as_bytes(), 100)
    }

    #[test]
    fn a_plain_payload_is_data_as_it_stands() {
        let plain = [
            "hello",
            "{\"title\":\"milk\"}",
            "{\"data\":1,\"other\":2}",
            "{\"data\":1,\"event\":5}",
            "{\"event\":\"added\"}",
            "[1]",
            "null",
            "{\"args\":5}",
            "{\"args\":null}",
            "{\"data\":1,\"args\":[1]}",
            "{\"data\":1,\"channels\":\"a\"}",
            "{\"data\":1,\"except\":\"me\"}",
            "",
        ];
        for text in plain {
            let draft = pushed(text).expect("a message");
            assert_eq!((draft.payload, draft.event.as_str()), (Payload::from_any(text), "message"), "{text}");
        }
    }

    #[test]
    fn an_envelope_is_taken_apart() {
        let draft =
            pushed(r#"{"event":"added","data":null,"exclude":"me","volatile":true,"key":"k"}"#).expect("a message");
        assert_eq!((draft.event.as_str(), draft.payload.as_str(), draft.volatile), ("added", "null", true));
        assert_eq!((draft.exclude, draft.key.map(|key| key.key)), ("me".parse().ok(), Some("k".into())));
        let many = vec!["\"a\""; 101].join(",");
        for bad in [
            r#"{"data":1,"event":"hello"}"#,
            r#"{"data":1,"key":""}"#,
            r#"{"data":1,"channels":[]}"#,
            r#"{"data":1,"channels":["a","~s/1"]}"#,
            r#"{"data":1,"channels":["a b"]}"#,
            &format!(r#"{{"data":1,"channels":[{many}]}}"#),
            &format!(r#"{{"data":1,"except":[{many}]}}"#),
        ] {
            assert!(pushed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_envelope_has_arguments_channels_and_exceptions() {
        let draft = pushed(r#"{"event":"added","args":[1,"a"],"channels":["a","b"],"except":["me",7]}"#);
        let draft = draft.expect("a message");
        let names: Vec<&str> = draft.channels().iter().map(Channel::as_str).collect();
        assert_eq!((names, draft.payload.as_str(), draft.ignored_exclude), (vec!["a", "b"], "[1,\"a\"]", true));
        let extras = draft.extras.expect("extras");
        assert_eq!((extras.is_args, extras.except.len()), (true, 1));
        let draft = pushed(r#"{"args":[],"channels":null,"except":null}"#).expect("a message");
        assert_eq!((draft.channel.as_str(), draft.channels().len()), ("todo", 1));
    }

    /// (the channel of the name, the payload, the channels of the message or the reason why the payload is not a
    /// message)
    #[test]
    fn channels_replace_the_channel_of_the_name() {
        for (name, payload, expected) in [
            ("todo", r#"{"data":1,"channels":["a","b"]}"#, Ok("a b")),
            ("a b", r#"{"data":1,"channels":["a","b"]}"#, Ok("a b")),
            ("", r#"{"data":1,"channels":["a"]}"#, Ok("a")),
            ("~s/1", r#"{"args":[],"channels":["a"]}"#, Ok("a")),
            ("a b", r#"{"data":1,"channels":null}"#, Err("its channel name is invalid")),
            ("a b", r#"{"data":1}"#, Err("its channel name is invalid")),
            ("a b", "1", Err("its channel name is invalid")),
            ("~s/1", "1", Err("its channel name is reserved: names that begin with ~ are the server's")),
            ("a b", r#"{"data":1,"channels":["c d"]}"#, Err("its channel name is invalid")),
        ] {
            let read = draft(name.parse(), payload.as_bytes(), 100);
            let names = read.map(|draft| draft.channels().iter().map(Channel::as_str).collect::<Vec<_>>().join(" "));
            assert_eq!(names, expected.map(str::to_owned), "{name:?} {payload}");
        }
    }

    /// If the `exclude` of a message is empty or not a client id, all readers get the message.
    #[test]
    fn an_exclude_that_is_not_a_client_id_loses_no_message() {
        for (payload, client, is_ignored) in [
            (r#"{"event":"App\\Events\\Added","data":{"id":1,"socket":null},"socket":null}"#, None, false),
            (r#"{"event":"added","data":1,"socket":"123.456"}"#, Some("123.456"), false),
            (r#"{"data":1,"exclude":"me","socket":"you"}"#, Some("me"), false),
            (r#"{"data":1,"exclude":null}"#, None, false),
            (r#"{"data":1,"exclude":""}"#, None, true),
            (r#"{"data":1,"exclude":"a b"}"#, None, true),
            (r#"{"data":1,"exclude":false}"#, None, true),
            (r#"{"data":1,"exclude":5}"#, None, true),
            (r#"{"data":1,"exclude":["me"]}"#, None, true),
            (r#"{"data":1,"exclude":"","socket":"me"}"#, Some("me"), true),
            (r#"{"data":1,"socket":{}}"#, None, true),
        ] {
            let draft = pushed(payload).expect("a message");
            let client = client.map(|client: &str| client.parse().expect("a client id"));
            assert_eq!((draft.exclude, draft.ignored_exclude), (client, is_ignored), "{payload}");
            assert_ne!(draft.payload, Payload::from_any(payload), "an envelope: {payload}");
        }
    }

    #[test]
    fn what_is_no_text_or_too_long_is_no_message() {
        for payload in [&b"\xff"[..], &[b'x'; 101], &[b'['; 5000]] {
            assert!(draft("c".parse(), payload, 100).is_err());
        }
    }

    #[test]
    fn names_of_another_protocol_are_below_a_prefix() {
        let below = PublishPattern { pattern: Pattern::new("app_database_*"), below: Some("1/".into()) };
        let plain = PublishPattern::from(Pattern::new("push:*"));
        for (pattern, name, channel) in [
            (&below, "app_database_private-a,b", Some("1/private-a=2Cb")),
            (&below, "app_database_~s", Some("1/=7Es")),
            (&below, "push:a", None),
            (&plain, "push:a", Some("a")),
        ] {
            let found = pattern.channel(name).map(|channel| channel.expect("a name").to_string());
            assert_eq!(found.as_deref(), channel, "{name}");
        }
        for (pattern, name) in [(&below, "app_database_"), (&plain, "push:~s"), (&plain, "push:a,b")] {
            assert!(pattern.channel(name).expect("a match").is_err(), "{name}");
        }
    }

    #[test]
    fn overlapping_patterns_are_refused() {
        for pair in [["a*", "ab"], ["a*", "ab*"], ["ab*", "a*"], ["x", "x"], ["*", "y"]] {
            assert!(matches!(parse_patterns(&pair), Err(BadPattern::Overlap(..))), "{pair:?}");
        }
        assert!(parse_patterns(&["a*", "b*", "c"]).is_ok());
    }
}
