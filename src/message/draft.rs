//! A message on its way into the log, before it has a position.

use super::{Channel, ClientId, Event};
use crate::wire::json;

/// What was published, as JSON text on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(String);

impl Payload {
    /// Valid JSON stands as it is; any other text becomes a JSON string.
    pub fn from_any(text: &str) -> Payload {
        Payload(json::payload(text))
    }

    /// The text becomes a JSON string, also where it would be valid JSON by itself.
    pub fn from_text(text: &str) -> Payload {
        let mut out = Vec::with_capacity(text.len() + 2);
        json::quote(text, &mut out);
        Payload(String::from_utf8(out).unwrap_or_default())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether data is at most `max` bytes long. A JSON string is measured as the text that it is:
    /// its quotes and escapes may be our doing.
    pub fn fits(data: &str, max: usize) -> bool {
        data.len() <= max || (data.starts_with('"') && json::text_of(data).is_some_and(|text| text.len() <= max))
    }
}

/// A message on its way into the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Where to.
    pub channel: Channel,
    /// Its event name.
    pub event: Event,
    /// What it says.
    pub payload: Payload,
    /// Who shall not get it.
    pub exclude: Option<ClientId>,
    /// Idempotency key, with the publisher it belongs to.
    pub key: Option<Key>,
    /// Deliver to those connected now and keep nothing.
    pub volatile: bool,
}

/// An idempotency key: the same key of the same publisher and channel within five minutes names the
/// same message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Who published; empty where everybody is nobody in particular.
    pub publisher: String,
    /// The key, 1 to 200 bytes.
    pub key: String,
}

impl Key {
    /// One text for (publisher, channel, key). The lengths in front keep tuples apart that would join
    /// to the same string.
    pub fn scoped(&self, channel: &Channel) -> String {
        let (publisher, channel) = (&self.publisher, channel.as_str());
        format!("{}:{}:{publisher}:{channel}:{}", publisher.len(), channel.len(), self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_be_confused() {
        let key = |publisher: &str, key: &str| Key { publisher: publisher.into(), key: key.into() };
        let (a, b): (Channel, Channel) = ("a:b".parse().expect("valid"), "a".parse().expect("valid"));
        assert_ne!(key("", "c").scoped(&a), key("", "b:c").scoped(&b));
        assert_ne!(key("x", "c").scoped(&b), key("", "x:c").scoped(&b));
    }
}
