//! Any text becomes one line of JSON, and stays the same value and harmless when escaped for a script.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::{json, multipart, script};
use serde_json::{Value, value::RawValue};

fuzz_target!(|text: &str| {
    let payload = json::payload(text);
    assert!(!payload.contains(['\r', '\n']));
    assert!(serde_json::from_str::<&RawValue>(&payload).is_ok());
    // Text stays as it is, unless it was JSON, which text_of reads in the same way before and after.
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
    assert_eq!(json::text_of(&payload), if is_json { json::text_of(text) } else { Some(text.to_owned()) });

    let mut escaped = Vec::new();
    script::escape(payload.as_bytes(), &mut escaped);
    let escaped = String::from_utf8(escaped).expect("UTF-8");
    assert!(!escaped.contains(['<', '\u{2028}', '\u{2029}']));
    assert!(serde_json::from_str::<&RawValue>(&escaped).is_ok());
    // JSON that serde_json has no value for (very deep, 1e999, lone surrogates) is still valid.
    if let Ok(value) = serde_json::from_str::<Value>(&payload) {
        assert_eq!(serde_json::from_str::<Value>(&escaped).expect("a value"), value);
    }

    let mut part = Vec::new();
    multipart::part(payload.as_bytes(), &mut part);
    let part = String::from_utf8(part).expect("UTF-8");
    assert_eq!(part.matches(multipart::BOUNDARY).count(), 1);
});
