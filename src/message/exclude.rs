//! The client that a message excludes, as publishers name it: `exclude`, or `socket` in messages of Laravel.
//!
//! A publisher often sends a value even if there is no client to exclude: `""` from a missing header, `null` or
//! `false`. Such a message is for all readers. If the server refused it, no reader would get it.

use super::ClientId;
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Returns the client to exclude from the names that a publisher gives, and whether any of the names is not a client
/// id. If there are two clients, the first one counts.
pub(super) fn choose<'a>(names: impl IntoIterator<Item = Option<&'a str>>) -> (Option<ClientId>, bool) {
    let (mut client, mut is_unusable) = (None, false);
    for name in names.into_iter().flatten() {
        match name.parse() {
            Ok(named) => client = client.or(Some(named)),
            Err(_) => is_unusable = true,
        }
    }
    (client, is_unusable)
}

/// Reads a client's name in JSON, of any type. `null` names nobody. A value that is not a text becomes an empty text,
/// which is not a client id.
///
/// # Errors
///
/// The JSON is invalid.
pub fn client_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let json = Option::<&RawValue>::deserialize(deserializer)?;
    Ok(json.map(|json| serde_json::from_str(json.get()).unwrap_or_default()))
}

/// Reads the names in an `except` in JSON. `null` names nobody. An item that is not a text becomes an empty text, which
/// is not a name.
///
/// # Errors
///
/// The JSON is not an array.
pub fn except_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let items = Option::<Vec<&RawValue>>::deserialize(deserializer)?;
    let name = |json: &RawValue| serde_json::from_str(json.get()).unwrap_or_default();
    Ok(items.map(|items| items.into_iter().map(name).collect()))
}

/// Reads a value that may be `null`: only a field that is missing is `None`.
///
/// # Errors
///
/// The JSON is invalid.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Counts and logs a message with an `exclude` that is not a client id, or with an item of `except` that is not a name.
/// Such a value does not exclude any client. The other values of the message count.
pub fn warn_ignored_exclude(counter: &Counter, from: &str) {
    let ignored = counter.inc() + 1;
    tracing::warn!(
        from,
        ignored,
        "the exclude of a message is not a client id, or an item of its except is neither a client id nor a channel. \
         This value leaves out nobody: omit it, or send the id that the client has (1 to 100 of A-Z a-z 0-9 _ - . : @)"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_client_id_counts_and_everything_else_is_told() {
        for (exclude, socket, client, is_unusable) in [
            (None, None, None, false),
            (Some("me"), None, Some("me"), false),
            (None, Some("123.456"), Some("123.456"), false),
            (Some("me"), Some("you"), Some("me"), false),
            (Some(""), None, None, true),
            (Some("a b"), None, None, true),
            (Some(""), Some("you"), Some("you"), true),
            (None, Some("/ns#abc"), None, true),
        ] {
            let client = client.map(|client: &str| client.parse().expect("a client id"));
            assert_eq!(choose([exclude, socket]), (client, is_unusable), "{exclude:?} {socket:?}");
        }
    }
}
