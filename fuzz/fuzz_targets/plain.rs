//! Plain requests: each is taken when it is complete and not before, wherever its bytes are split. And the template of
//! one head finds the same in the next request as the full parser.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::serve::fuzzing::Plain;

// Requests, one after the other.
fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    let mut last: Option<Plain> = None;
    // This is a bound, since each request is read for every split.
    for _ in 0..8 {
        let again = last.as_ref().is_some_and(|last| last.is_again(rest));
        let Ok(plain) = Plain::read(rest) else {
            assert!(!again);
            return;
        };
        let size = plain.size();
        for cut in (0..size).step_by(size / 16 + 1) {
            assert_eq!(Plain::read(&rest[..cut]).err(), Some(true), "a part of it is a part");
        }
        rest = &rest[size..];
        last = Some(plain);
    }
});
