//! Any `PUBLISH` is a valid message or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::log::publish_payload::{draft, parse_patterns};
use serde_json::value::RawValue;

const MAX: usize = 200;

// The first line is the name that was published to, the rest is the payload.
fuzz_target!(|input: &[u8]| {
    let patterns = parse_patterns(&["push:*", "news"]).expect("valid");
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (name, payload) = (String::from_utf8_lossy(&input[..end]), input.get(end + 1..).unwrap_or_default());
    let channel = patterns.iter().find_map(|pattern| pattern.matched(&name));
    let channel = channel.map_or_else(|| "todo".parse(), |name| name.parse());
    let Ok(draft) = draft(channel, payload, MAX) else { return };
    let data = draft.payload.as_str();
    assert!(!data.contains(['\r', '\n']) && data.len() <= MAX * 6 + 2);
    assert!(serde_json::from_str::<&RawValue>(data).is_ok());
    assert!(!draft.event.as_str().contains(char::is_control));
});
