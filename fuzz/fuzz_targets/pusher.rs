//! Frames of Pusher: what a client sends is read or refused, and what the server sends is JSON with the same data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::pusher::encode::Event;
use longtail::internals::wire::pusher::frame::{self, Command};
use longtail::internals::wire::pusher::rest::Request;
use longtail::internals::wire::pusher::signature::Secret;
use longtail::internals::wire::pusher::{channel_data, close, names};
use serde_json::Value;

fuzz_target!(|text: &str| {
    if let Ok(kind) = names::channel(text) {
        assert!(!text.contains('~') && text.len() <= names::MAX_CHANNEL);
        assert!(!(kind.takes_client_events() && !kind.needs_signature()));
    }
    let _ = (names::event(text), names::is_socket_id(text), close::check_version(Some(text)));
    for user in [channel_data::channel_data(text), channel_data::user_data(text)].into_iter().flatten() {
        assert!(!user.id.is_empty());
    }
    if let Ok(Command::ClientEvent { event, channel, data }) = frame::read(text) {
        let mut out = Vec::new();
        let user = Value::from(&*channel).to_string();
        Event { event: &event, channel: &channel, data, user_id: Some(&user), id: None }.encode(&mut out);
        let frame: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!((frame["event"].as_str(), frame["data"].as_str()), (Some(&*event), Some(data)));
        assert_eq!(frame["user_id"].as_str(), Some(&*channel));
    }
    // No text is a signature, except the one that the secret makes.
    let secret = Secret::new("secret");
    assert!(!secret.allows("1.1", "private-a", None, text));
    let fields = |text: &str| -> Vec<(String, String)> {
        let pairs = text.split('&').map(|field| field.split_once('=').unwrap_or((field, "")));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let mut query = fields(text);
    assert!(request(&query).verify("key", &secret, 1).is_err());
    let signature = secret.sign(request(&query).text().as_bytes());
    query.retain(|(name, _)| !name.eq_ignore_ascii_case("auth_signature"));
    query.push(("auth_signature".to_owned(), signature.clone()));
    assert!(secret.verifies(request(&query).text().as_bytes(), &signature));
});

fn request(query: &[(String, String)]) -> Request<'_> {
    Request { method: "GET", path: "/apps/1/channels", query, body: b"" }
}
