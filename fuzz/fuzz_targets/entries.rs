//! An entry of the stream is a valid message or not a message, no matter who wrote it. Our own entries come back as
//! they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::log::publish_payload::draft;
use longtail::internals::log::redis::fuzzing::{draft_fields, entries, identity, volatile};
use serde_json::value::RawValue;

const MAX: usize = 200;

// Words with NUL between: the entry's id, its fields and values.
fuzz_target!(|input: &[u8]| {
    let words: Vec<&[u8]> = input.split(|&byte| byte == 0).collect();
    for message in entries(words[0], &words[1..], MAX).iter().chain(&volatile(words[0], MAX)) {
        let object = std::str::from_utf8(message.object()).expect("UTF-8");
        assert!(!object.contains(['\r', '\n']));
        assert!(serde_json::from_str::<&RawValue>(object).is_ok());
    }
    identity(input);
    if let Ok(draft) = draft("todo".parse(), input, MAX) {
        let fields = draft_fields(&draft);
        let fields: Vec<&[u8]> = fields.iter().map(|field| field.as_bytes()).collect();
        // The server adds the escapes of a text, so it is measured without them.
        let read = entries(b"1-1", &fields, MAX);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].payload(), draft.payload.as_str());
        assert_eq!(read[0].event(), &draft.event);
    }
});
