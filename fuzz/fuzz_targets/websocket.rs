//! However the input is split into reads, the frames and the violation are the same as when it is read at once.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::websocket::{Decoder, Frame, Violation};

const MAX_MESSAGE: usize = 1000;

// The first byte says how the others are cut.
fuzz_target!(|input: &[u8]| {
    let Some((&(mut size), bytes)) = input.split_first() else { return };
    let (mut chunks, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        // A linear congruential generator, so that one byte gives sizes of 1 to 32 in many orders.
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
                Ok(Some(Frame::Text(text))) if text.len() > MAX_MESSAGE => panic!("over the limit"),
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(violation) => return (frames, Some(violation)),
            }
        }
    }
    (frames, None)
}
