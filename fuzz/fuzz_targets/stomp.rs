//! However the input is split into reads, the frames and the error are the same as when it is read at once. A frame is
//! read or refused, in each version, and its receipt is the same when it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::stomp::encode;
use longtail::internals::wire::stomp::frame::Frame;
use longtail::internals::wire::stomp::splitter::{Broken, Splitter};
use longtail::internals::wire::stomp::version::Version;

const MAX: usize = 500;

// The first byte says how the others are cut.
fuzz_target!(|input: &[u8]| {
    let Some((&(mut size), bytes)) = input.split_first() else { return };
    let (mut chunks, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        size = size.wrapping_mul(5).wrapping_add(3);
        let (chunk, after) = rest.split_at((1 + usize::from(size >> 3)).min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    let (frames, broken) = split(&[bytes]);
    assert_eq!(split(&chunks), (frames.clone(), broken));
    for bytes in &frames {
        assert!(bytes.len() <= MAX);
        for version in [Version::V11, Version::V12] {
            let Ok(frame) = Frame::read(bytes, version) else { continue };
            let Some(receipt) = frame.header("receipt").filter(|receipt| !receipt.contains('\r')) else { continue };
            let mut out = Vec::new();
            encode::receipt(receipt, version, &mut out);
            // The server's frame with a command of clients.
            let again = [b"SEND", out.strip_prefix(b"RECEIPT").expect("its command")].concat();
            let again = Frame::read(&again, version).expect("a frame");
            assert_eq!(again.header("receipt-id"), Some(receipt));
        }
        let _ = Frame::read(bytes, Version::V10);
    }
});

fn split(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Broken>) {
    let (mut splitter, mut frames) = (Splitter::new(MAX), Vec::new());
    for chunk in chunks {
        splitter.push(chunk);
        loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(broken) => return (frames, Some(broken)),
            }
        }
    }
    (frames, None)
}
