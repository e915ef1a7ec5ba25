//! A cursor that is accepted is written back as it came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::cursor::Cursor;

fuzz_target!(|text: &str| {
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), text);
    }
});
