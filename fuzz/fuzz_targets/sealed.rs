//! Bytes that are a connection in a sealed id of Socket.IO are the same bytes when they are written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::serve::fuzzing::connection_again;

fuzz_target!(|input: &[u8]| {
    if let Some(written) = connection_again(input) {
        assert_eq!(written, input);
    }
});
