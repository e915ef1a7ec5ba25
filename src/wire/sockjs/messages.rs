//! The messages that a client sends: a JSON array of texts.

use serde_json::value::RawValue;

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadMessages {
    /// It is empty, or the form does not have the field.
    Missing,
    /// It is not JSON, or not an array.
    Json,
}

impl BadMessages {
    /// The words that clients know.
    pub fn words(self) -> &'static str {
        match self {
            BadMessages::Missing => "Payload expected.",
            BadMessages::Json => "Broken JSON encoding.",
        }
    }
}

/// Reads the body of a request: a JSON array. Returns the JSON of each message, which is a string as a rule.
///
/// # Errors
///
/// The body is empty, or not a JSON array.
pub fn of_body(body: &str) -> Result<Vec<&RawValue>, BadMessages> {
    if body.is_empty() {
        return Err(BadMessages::Missing);
    }
    serde_json::from_str(body).map_err(|_| BadMessages::Json)
}

/// Reads a frame of a WebSocket: a JSON array, or one message. An empty frame has no messages.
///
/// # Errors
///
/// The frame is not JSON.
pub fn of_frame(frame: &str) -> Result<Vec<&RawValue>, BadMessages> {
    match frame {
        "" => Ok(Vec::new()),
        _ if frame.trim_start().starts_with('[') => of_body(frame),
        _ => serde_json::from_str(frame).map(|message| vec![message]).map_err(|_| BadMessages::Json),
    }
}

/// Reads the form of a JSONP post: its field `d`.
///
/// # Errors
///
/// There is no such field, or it is empty.
pub fn field(form: &[u8]) -> Result<String, BadMessages> {
    let field = form_urlencoded::parse(form).find(|(name, _)| name == "d");
    let value = field.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty());
    value.ok_or(BadMessages::Missing)
}
