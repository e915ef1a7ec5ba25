//! Bytes that are the state of a session are the same state when they are written again. No text is a token.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::log::seal_keys::SealKey;
use longtail::internals::serve::fuzzing::{opens, state_again};

const KEY: SealKey = SealKey { id: [1; 4], secret: [7; 32] };

fuzz_target!(|input: &[u8]| {
    if let Some(written) = state_again(input) {
        assert_eq!(state_again(&written).as_deref(), Some(&written[..]));
    }
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(!opens(&KEY, text));
    }
});
