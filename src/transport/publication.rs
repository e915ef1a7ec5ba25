//! A message as a publisher writes it in JSON, in a command or in a body.

use super::{ApiError, Code};
use crate::message::{Draft, DraftFields, client_name};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The fields of a publication.
const FIELDS: [&str; 7] = ["channel", "data", "event", "exclude", "socket", "volatile", "key"];

/// A message as a publisher writes it in JSON. Unknown fields are ignored, because a command has other fields, too.
#[derive(Deserialize)]
pub struct Publication<'a> {
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "client_name")]
    exclude: Option<String>,
    #[serde(default, deserialize_with = "client_name")]
    socket: Option<String>,
    #[serde(default)]
    volatile: Option<bool>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
}

/// The value `null` is a payload. Only a publication without the field lacks a payload.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Publication<'_> {
    /// Checks the message.
    ///
    /// # Errors
    ///
    /// The first invalid field.
    pub fn into_draft(self, max_message: usize) -> Result<Draft, ApiError> {
        let channel = self.channel.ok_or_else(|| ApiError::new(Code::BadChannel, "name a channel"))?.parse()?;
        let data = self.data.ok_or_else(|| ApiError::new(Code::BadRequest, "data is missing"))?.get();
        let fields = DraftFields {
            data,
            event: self.event.as_deref(),
            exclude: self.exclude.as_deref(),
            socket: self.socket.as_deref(),
            key: self.key.as_deref(),
            volatile: self.volatile.unwrap_or_default(),
            ..DraftFields::default()
        };
        Ok(fields.check(channel, max_message)?)
    }
}

/// Refuses JSON that is not an object: serde would also read the fields of a struct from an array.
///
/// # Errors
///
/// `bad_json` or `bad_request`.
pub fn object(json: &str) -> Result<(), ApiError> {
    if json.trim_start().starts_with('{') {
        return Ok(());
    }
    serde_json::from_str::<&RawValue>(json).map_err(|error| bad_json(&error))?;
    Err(ApiError::new(Code::BadRequest, "send a JSON object"))
}

/// Refuses an object with a field that a publication does not have. A misspelled field, or a field of another version
/// of the server, would otherwise silently have no effect.
///
/// # Errors
///
/// `bad_json` or `bad_request`.
pub fn known_fields(json: &str) -> Result<(), ApiError> {
    let FieldNames { are_known } = serde_json::from_str(json).map_err(|error| bad_json(&error))?;
    if are_known {
        return Ok(());
    }
    Err(ApiError::new(Code::BadRequest, format!("a message has the fields {} and no others", FIELDS.join(", "))))
}

struct FieldNames {
    are_known: bool,
}

impl<'de> Deserialize<'de> for FieldNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FieldNames, D::Error> {
        deserializer.deserialize_map(FieldNames { are_known: true })
    }
}

impl<'de> Visitor<'de> for FieldNames {
    type Value = FieldNames;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<FieldNames, A::Error> {
        while let Some((name, IgnoredAny)) = map.next_entry::<FieldName<'de>, IgnoredAny>()? {
            self.are_known &= FIELDS.contains(&&*name.0);
        }
        Ok(self)
    }
}

/// A name in JSON, which is copied only if it has escapes.
#[derive(Deserialize)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, str>);

/// The error for invalid JSON. It names the place of the error and does not repeat the content.
pub fn bad_json(error: &serde_json::Error) -> ApiError {
    let place = format!("line {} column {}", error.line(), error.column());
    if error.is_data() {
        let rule = "a message has the form {\"channel\":…,\"data\":…,\"event\"?,\"exclude\"?,\"volatile\"?,\"key\"?}";
        ApiError::new(Code::BadRequest, format!("a field has the wrong type at {place}: {rule}"))
    } else {
        ApiError::new(Code::BadJson, format!("not JSON at {place}"))
    }
}
