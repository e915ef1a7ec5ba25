//! An event that a client sends to the application, as JSON in a command or in a body, or as fields of a form.

use super::publication::{bad_json, object};
use super::{ApiError, Code};
use crate::message::{Channel, Event, IdempotencyKey, Payload};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// An event for the application.
#[derive(Debug)]
pub struct ClientEvent {
    /// The event's name.
    pub name: Event,
    /// The arguments, as a JSON array.
    pub args: Box<RawValue>,
    /// The channel, if the client names one.
    pub channel: Option<Channel>,
    /// The key that makes a repetition recognisable.
    pub key: Option<String>,
    /// Whether the client waits for an answer.
    pub wants_ack: bool,
}

impl PartialEq for ClientEvent {
    fn eq(&self, other: &ClientEvent) -> bool {
        let parts =
            |event: &ClientEvent| (event.name.clone(), event.channel.clone(), event.key.clone(), event.wants_ack);
        parts(self) == parts(other) && self.args.get() == other.args.get()
    }
}

/// The fields of an event as a client has written them. Unknown fields are ignored, because a command has other fields,
/// too.
#[derive(Default, Deserialize)]
pub struct EventFields<'a> {
    /// The event's name.
    #[serde(borrow, default)]
    pub event: Option<Cow<'a, str>>,
    /// The only argument.
    #[serde(default, deserialize_with = "present")]
    pub data: Option<Box<RawValue>>,
    /// The arguments, instead of `data`.
    #[serde(default)]
    pub args: Option<Box<RawValue>>,
    /// The channel.
    #[serde(borrow, default)]
    pub channel: Option<Cow<'a, str>>,
    /// The key.
    #[serde(borrow, default)]
    pub key: Option<Cow<'a, str>>,
    /// The client's id. A client on a socket already has an id, so its field is ignored.
    #[serde(borrow, default)]
    pub client: Option<Cow<'a, str>>,
}

/// The value `null` is an argument. Only an event without the field does not have an argument.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    <Box<RawValue>>::deserialize(deserializer).map(Some)
}

impl<'a> EventFields<'a> {
    /// Reads the fields from JSON.
    ///
    /// # Errors
    ///
    /// `bad_json` or `bad_request`.
    pub fn parse(json: &'a str) -> Result<EventFields<'a>, ApiError> {
        object(json)?;
        serde_json::from_str(json).map_err(|error| {
            if error.is_data() {
                let rule = "an event has the form {\"event\":…,\"data\"?,\"args\"?,\"channel\"?,\"key\"?,\"client\"?}";
                return ApiError::new(Code::BadRequest, format!("a field has the wrong type: {rule}"));
            }
            bad_json(&error)
        })
    }
}

impl EventFields<'_> {
    /// Checks the event. `wants_ack`: whether the client waits for an answer. `max_payload` is the maximum number of
    /// bytes of the arguments.
    ///
    /// # Errors
    ///
    /// The first invalid field.
    pub fn check(self, wants_ack: bool, max_payload: usize) -> Result<ClientEvent, ApiError> {
        let name = self.event.ok_or_else(|| ApiError::new(Code::BadEvent, "event is missing: name the event"))?;
        let too_large =
            || ApiError::new(Code::TooLarge, format!("the data of an event is at most {max_payload} bytes"));
        let args = match (&self.data, &self.args) {
            (Some(_), Some(_)) => {
                return Err(ApiError::new(Code::BadRequest, "send data, or args for several arguments, and not both"));
            }
            (Some(data), None) => {
                if !Payload::fits(data.get(), max_payload) {
                    return Err(too_large());
                }
                format!("[{}]", data.get())
            }
            (None, Some(args)) if !args.get().starts_with('[') => {
                return Err(ApiError::new(Code::BadRequest, "args must be an array"));
            }
            (None, Some(args)) if args.get().len() > max_payload => return Err(too_large()),
            (None, Some(args)) => args.get().to_owned(),
            (None, None) => "[]".to_owned(),
        };
        let args = RawValue::from_string(args).map_err(|error| bad_json(&error))?;
        let key = self.key.map(|key| IdempotencyKey::new("", &key)).transpose();
        let key = key.map_err(|error| ApiError::new(Code::BadRequest, error.to_string()))?;
        Ok(ClientEvent {
            name: name.parse()?,
            args,
            channel: self.channel.map(|channel| channel.parse()).transpose()?,
            key: key.map(|key| key.key),
            wants_ack,
        })
    }
}

impl ClientEvent {
    /// The approximate memory that it takes.
    pub fn size(&self) -> usize {
        let key = self.key.as_ref().map_or(0, String::len);
        let channel = self.channel.as_ref().map_or(0, |channel| channel.as_str().len());
        size_of::<ClientEvent>() + self.name.as_str().len() + self.args.get().len() + channel + key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ClientEvent, Code> {
        let event = EventFields::parse(json).and_then(|fields| fields.check(true, 10));
        event.map_err(|error| error.code)
    }

    #[test]
    fn arguments_are_one_value_or_a_list() {
        for (fields, args) in [
            ("", "[]"),
            (r#","data":{"a":1}"#, r#"[{"a":1}]"#),
            (r#","data":[1,2]"#, "[[1,2]]"),
            (r#","data":"0123456789""#, r#"["0123456789"]"#),
            (r#","args":[1,"b"]"#, r#"[1,"b"]"#),
            (r#","args":[]"#, "[]"),
            (r#","data":1,"more":2"#, "[1]"),
        ] {
            let event = read(&format!("{{\"event\":\"e\"{fields}}}")).expect("an event");
            assert_eq!(event.args.get(), args, "{fields}");
        }
    }

    #[test]
    fn a_null_is_an_argument() {
        assert_eq!(read(r#"{"event":"e","data":null}"#).expect("an event").args.get(), "[null]");
    }

    #[test]
    fn bad_events_are_refused_by_what_is_wrong() {
        for (json, code) in [
            ("", Code::BadJson),
            ("[]", Code::BadRequest),
            ("{}", Code::BadEvent),
            (r#"{"event":""}"#, Code::BadEvent),
            (r#"{"event":"hello"}"#, Code::BadEvent),
            (r#"{"event":5}"#, Code::BadRequest),
            (r#"{"event":"e","data":1,"args":[]}"#, Code::BadRequest),
            (r#"{"event":"e","args":1}"#, Code::BadRequest),
            (r#"{"event":"e","args":{"0":1}}"#, Code::BadRequest),
            (r#"{"event":"e","channel":"a b"}"#, Code::BadChannel),
            (r#"{"event":"e","key":""}"#, Code::BadRequest),
            (r#"{"event":"e","data":"01234567890"}"#, Code::TooLarge),
            (r#"{"event":"e","args":[1,2,3,4,5]}"#, Code::TooLarge),
        ] {
            assert_eq!(read(json).err(), Some(code), "{json}");
        }
    }
}
