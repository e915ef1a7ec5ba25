//! The data of events. To clients, it is a text, which usually is JSON. In the log, JSON stays JSON for native readers,
//! and any other text is marked as one. So the text comes out as it was sent.

use crate::message::{Message, Payload};
use crate::wire::json;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The text of data as publishers write it: a JSON string is its text, and any other JSON is the text itself.
pub fn sent(data: &str) -> Cow<'_, str> {
    json::text_of(data).map_or(Cow::Borrowed(data), Cow::Owned)
}

/// The payload of a text, and whether it has to be marked as a text.
pub fn payload(text: &str) -> (Payload, bool) {
    let is_text = !is_bare_json(text);
    (if is_text { Payload::from_text(text) } else { Payload::from_any(text) }, is_text)
}

/// Whether a text is JSON without white space around it, which JSON in the log does not have.
fn is_bare_json(text: &str) -> bool {
    text.trim_ascii().len() == text.len() && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// The text of a message's data.
pub fn text(message: &Message) -> Cow<'_, str> {
    let payload = message.payload();
    let marked = message.extras().filter(|extras| extras.is_text);
    marked.and_then(|_| json::text_of(payload)).map_or(Cow::Borrowed(payload), Cow::Owned)
}

/// What a client's event in a presence channel has besides its data.
#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    user_id: &'a RawValue,
}

/// The arguments of a client's event in a presence channel: its data, and its user. Callbacks of `pusher-js` get them in
/// this order. `user` is the id as JSON.
pub fn with_user(text: &str, user: &str) -> String {
    // A JSON string stands for its text, so a text that is a JSON string itself is quoted once more.
    let is_plain = !text.starts_with('"') && is_bare_json(text);
    let data = if is_plain { Cow::Borrowed(text) } else { Cow::Owned(json::quoted(text)) };
    format!("[{data},{{\"user_id\":{user}}}]")
}

/// The text and the user's id as JSON, of arguments that [`with_user`] has made.
pub fn sent_by_user(arguments: &str) -> Option<(Cow<'_, str>, &str)> {
    let (data, Metadata { user_id }): (&RawValue, Metadata<'_>) = serde_json::from_str(arguments).ok()?;
    Some((sent(data.get()), user_id.get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_comes_out_as_it_was_sent(text in prop_oneof![any::<String>(), "[0-9 \\[\\]{}\",a]{0,8}"]) {
            let arguments = with_user(&text, "7");
            prop_assert_eq!(sent_by_user(&arguments), Some((Cow::Borrowed(&*text), "7")));
            let payload = Payload::from_any(&arguments);
            prop_assert_eq!(sent_by_user(payload.as_str()), Some((Cow::Borrowed(&*text), "7")), "as the log has it");
        }
    }

    #[test]
    fn json_stays_json_for_native_readers() {
        for (text, arguments) in [
            ("{\"on\":true}", "[{\"on\":true},{\"user_id\":\"7\"}]"),
            ("1", "[1,{\"user_id\":\"7\"}]"),
            ("hello", "[\"hello\",{\"user_id\":\"7\"}]"),
            ("\"hello\"", "[\"\\\"hello\\\"\",{\"user_id\":\"7\"}]"),
        ] {
            assert_eq!(with_user(text, "\"7\""), arguments);
        }
    }
}
