//! Every MessagePack is a value whose JSON is valid, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::msgpack::{Dialect, decode, write_json};
use serde_json::value::RawValue;

// The first byte is the dialect.
fuzz_target!(|input: &[u8]| {
    let Some((&dialect, input)) = input.split_first() else { return };
    let dialect = if dialect & 1 == 0 { Dialect::Standard } else { Dialect::MsgpackJs };
    let Ok(value) = decode(input, dialect) else { return };
    let (mut json, mut parts) = (Vec::new(), 0);
    write_json(&value, &mut json, &mut |bytes, out| {
        parts += bytes.len();
        out.extend_from_slice(b"0");
    });
    assert!(serde_json::from_slice::<&RawValue>(&json).is_ok());
    assert!(parts <= input.len());
});
