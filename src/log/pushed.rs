//! What applications PUBLISH: which PUBLISH channels are taken in, and what a payload says.

use crate::message::{Channel, ClientId, Draft, Event, Key, Payload};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A PUBLISH pattern: a name, or a prefix and a trailing `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    prefix: String,
    is_open: bool,
}

/// A pattern that cannot be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Not a name, nor a prefix and `*`.
    #[error("`{0}` is not a name or a prefix with one `*` at its end; other pattern letters are not taken")]
    Malformed(String),
    /// Redis would deliver one PUBLISH twice.
    #[error("`{0}` and `{1}` overlap: one PUBLISH would come twice; keep the wider one")]
    Overlap(String, String),
}

impl Pattern {
    /// Parses a list of patterns.
    ///
    /// # Errors
    ///
    /// The first that is malformed, or that overlaps another.
    pub fn parse_all<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Pattern>, BadPattern> {
        let mut patterns: Vec<Pattern> = Vec::new();
        for text in texts.iter().map(AsRef::as_ref) {
            let (prefix, is_open) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
            let malformed =
                text.is_empty() || prefix.contains(['*', '?', '[', ']', '\\']) || text.contains(char::is_control);
            if malformed {
                return Err(BadPattern::Malformed(text.into()));
            }
            let pattern = Pattern { prefix: prefix.into(), is_open };
            if let Some(other) = patterns.iter().find(|other| other.overlaps(&pattern)) {
                return Err(BadPattern::Overlap(other.glob(), pattern.glob()));
            }
            patterns.push(pattern);
        }
        Ok(patterns)
    }

    fn overlaps(&self, other: &Pattern) -> bool {
        match (self.is_open, other.is_open) {
            (false, false) => self.prefix == other.prefix,
            (true, false) => other.prefix.starts_with(&self.prefix),
            (false, true) => self.prefix.starts_with(&other.prefix),
            (true, true) => self.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&self.prefix),
        }
    }

    /// As PSUBSCRIBE takes it.
    pub fn glob(&self) -> String {
        format!("{}{}", self.prefix, if self.is_open { "*" } else { "" })
    }

    /// The channel that a PUBLISH to `name` goes to: what the `*` matched, or the whole name. `None`
    /// where the pattern does not match, `Some(Err)` where that is no channel name.
    pub fn channel(&self, name: &str) -> Option<Result<Channel, crate::message::BadChannel>> {
        if self.is_open {
            name.strip_prefix(&self.prefix).map(str::parse)
        } else {
            (name == self.prefix).then(|| name.parse())
        }
    }
}

/// A payload in its long form: an object with `data`, and no other keys than these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    exclude: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    volatile: bool,
    #[serde(default)]
    key: Option<String>,
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(deserializer)?.unwrap_or_default())
}

/// The publisher that idempotency keys of PUBLISHes belong to.
const PUBLISHER: &str = "redis";

/// What a PUBLISH of `payload` to `channel` says.
///
/// # Errors
///
/// Why it is no message, in a word for the log.
pub fn draft(channel: Channel, payload: &[u8], max_payload: usize) -> Result<Draft, &'static str> {
    // An envelope may be longer than what it holds: its other fields, and escapes in a text.
    if payload.len() > max_payload.saturating_mul(6).saturating_add(1024) {
        return Err("it is larger than --max-message-bytes");
    }
    let text = std::str::from_utf8(payload).map_err(|_| "it is not UTF-8")?;
    // serde reads a struct from an array, too, and `[1]` is data as it stands.
    let envelope = text.trim_start().starts_with('{').then(|| serde_json::from_str::<Envelope<'_>>(text));
    let Some(Ok(envelope)) = envelope else {
        if payload.len() > max_payload {
            return Err("it is larger than --max-message-bytes");
        }
        let (event, payload) = (Event::default(), Payload::from_any(text));
        return Ok(Draft { channel, event, payload, exclude: None, key: None, volatile: false });
    };
    if !Payload::fits(envelope.data.get(), max_payload) {
        return Err("its data is larger than --max-message-bytes");
    }
    let event =
        envelope.event.map_or(Ok(Event::default()), |name| name.parse()).map_err(|_| "its event is no event name")?;
    let exclude: Option<ClientId> =
        envelope.exclude.map(|id| id.parse()).transpose().map_err(|_| "its exclude is no client id")?;
    let key = envelope.key.map(|key| Key { publisher: PUBLISHER.into(), key });
    if key.as_ref().is_some_and(|key| key.key.is_empty() || key.key.len() > 200) {
        return Err("its key is not 1 to 200 bytes");
    }
    let payload = Payload::from_any(envelope.data.get());
    Ok(Draft { channel, event, payload, exclude, key, volatile: envelope.volatile })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(payload: &str) -> Result<Draft, &'static str> {
        draft("todo".parse().expect("valid"), payload.as_bytes(), 100)
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
        for bad in [r#"{"data":1,"event":"hello"}"#, r#"{"data":1,"exclude":"a b"}"#, r#"{"data":1,"key":""}"#] {
            assert!(pushed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_text_or_too_long_is_no_message() {
        let channel: Channel = "c".parse().expect("valid");
        assert!(draft(channel.clone(), b"\xff", 100).is_err());
        assert!(draft(channel.clone(), &[b'x'; 101], 100).is_err());
        assert!(draft(channel, &[b'['; 5000], 100).is_err());
    }

    #[test]
    fn the_channel_is_what_the_star_matched() {
        let patterns = Pattern::parse_all(&["push:*", "news"]).expect("sound");
        assert_eq!(patterns[0].channel("push:todo"), Some("todo".parse()));
        assert_eq!(patterns[0].channel("news"), None);
        assert_eq!(patterns[1].channel("news"), Some("news".parse()));
        assert!(patterns[0].channel("push:").expect("matches").is_err());
    }

    #[test]
    fn overlapping_patterns_are_refused() {
        for pair in [["a*", "ab"], ["a*", "ab*"], ["ab*", "a*"], ["x", "x"], ["*", "y"]] {
            assert!(matches!(Pattern::parse_all(&pair), Err(BadPattern::Overlap(..))), "{pair:?}");
        }
        assert!(Pattern::parse_all(&["a*", "b*", "c"]).is_ok());
    }
}
