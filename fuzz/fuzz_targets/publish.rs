//! Whatever is posted, the drafts are valid: one line of JSON within the limit, names without control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::serve::fuzzing::drafts;
use serde_json::value::RawValue;

const MAX: usize = 200;

// The first byte chooses the content type, the first line is the query, the rest is the body.
fuzz_target!(|input: &str| {
    let kinds = ["", "application/json", "application/x-www-form-urlencoded", "text/plain"];
    let kind = kinds[input.bytes().next().map_or(0, usize::from) % kinds.len()];
    let Some((query, body)) = input.get(1..).and_then(|rest| rest.split_once('\n')) else { return };
    let Ok(drafts) = drafts(query, kind, body, MAX) else { return };
    assert!(drafts.len() <= 1000);
    for draft in drafts {
        let payload = draft.payload.as_str();
        assert!(!payload.contains(['\r', '\n']));
        assert!(serde_json::from_str::<&RawValue>(payload).is_ok());
        // An escape in a text has at most six bytes for one.
        assert!(payload.len() <= MAX * 6 + 2, "{}", payload.len());
        assert!(!draft.event.as_str().contains(char::is_control));
        assert!(draft.key.is_none_or(|key| (1..=200).contains(&key.key.len())));
    }
});
