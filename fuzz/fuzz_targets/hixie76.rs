//! However the input is split into reads, the frames and the violation are the same as when it is read at once. Any text
//! may be a key.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::hixie76::{Decoder, Frame, KEY3, Keys, Violation};

const MAX_MESSAGE: usize = 100;

// The first byte says how the others are cut.
fuzz_target!(|input: &[u8]| {
    let Some((&(mut size), bytes)) = input.split_first() else { return };
    if let Ok(text) = std::str::from_utf8(bytes) {
        let (first, second) = text.split_once('\n').unwrap_or((text, text));
        if let Some(keys) = Keys::read(first, second) {
            let _ = keys.answer(&[size; KEY3]);
        }
    }
    let (mut chunks, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        size = size.wrapping_mul(5).wrapping_add(3);
        let (chunk, after) = rest.split_at((1 + usize::from(size >> 3)).min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    assert_eq!(decode(&chunks), decode(&[bytes]));
});

fn decode(chunks: &[&[u8]]) -> (Vec<Frame>, Option<Violation>) {
    let (mut decoder, mut buf, mut frames) = (Decoder::new(MAX_MESSAGE), BytesMut::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(violation) => return (frames, Some(violation)),
            }
        }
        assert!(decoder.held() <= 2 * MAX_MESSAGE + 8);
    }
    (frames, None)
}
