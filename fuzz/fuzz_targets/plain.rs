//! Plain requests: each is taken when it is whole and not before, wherever its bytes are cut; and what is known of one's
//! head finds in the next what who reads every head finds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::serve::fuzzing::Plain;

// Requests, one behind the other.
fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    let mut last: Option<Plain> = None;
    // A bound, since each is read for every cut.
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
