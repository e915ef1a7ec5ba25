//! Whatever an emitter publishes, an event has valid JSON and all the binary parts that its JSON names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::emitters::{Action, broadcast, python, request};
use longtail::internals::wire::socketio::error::MAX_ATTACHMENTS;
use longtail::internals::wire::socketio::placeholders;
use serde_json::value::RawValue;

// The first byte says which of the three forms the payload has, the first line is the channel.
fuzz_target!(|input: &[u8]| {
    let Some((&form, input)) = input.split_first() else { return };
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (channel, payload) = (String::from_utf8_lossy(&input[..end]), input.get(end + 1..).unwrap_or_default());
    let decoded = match form % 3 {
        0 => broadcast::decode(&channel, payload),
        1 => request::decode(&channel, payload),
        _ => python::decode(payload),
    };
    let Ok(Some(publication)) = decoded else { return };
    let Action::Emit { arguments, attachments, .. } = publication.action else { return };
    assert!(attachments.len() <= MAX_ATTACHMENTS);
    assert!(arguments.starts_with('[') && serde_json::from_str::<&RawValue>(&arguments).is_ok());
    assert!(attachments.is_empty() || placeholders::find(&arguments).all(|place| place.index < attachments.len()));
});
