//! However the input is split into reads, the lines are the same as when it is read at once.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::lines::Lines;

const MAX_LINE: usize = 100;

// The first byte is the size of a read.
fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else { return };
    let at_once = split(bytes, bytes.len().max(1));
    assert!(at_once.0.iter().all(|line| line.len() <= MAX_LINE && !line.contains(&b'\n')));
    assert_eq!(split(bytes, usize::from(size).max(1)), at_once);
});

fn split(bytes: &[u8], size: usize) -> (Vec<Bytes>, bool) {
    let (mut lines, mut buf, mut found) = (Lines::new(MAX_LINE), BytesMut::new(), Vec::new());
    for chunk in bytes.chunks(size) {
        buf.extend_from_slice(chunk);
        loop {
            match lines.decode(&mut buf) {
                Ok(Some(line)) => found.push(line),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    found.extend(lines.rest(&mut buf));
    (found, false)
}
