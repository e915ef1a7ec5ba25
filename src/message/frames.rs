//! The encoded forms of a message that its receivers share.

use bytes::Bytes;
use std::sync::OnceLock;

/// The key of a frame: the address of the encoding, which is always a `static` or never freed, and the number of its
/// function, if it gets one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameKey {
    pub(super) address: usize,
    pub(super) function: u64,
}

/// A message's frames, one for each key that was used. The list only grows, and is read without a lock. Most
/// retained messages are never read again, and an empty list is one word and a flag.
#[derive(Default)]
pub(super) struct Frames(OnceLock<Box<Frame>>);

struct Frame {
    key: FrameKey,
    bytes: Bytes,
    next: Frames,
}

impl Frames {
    /// Returns the frame with this key; `None` if it was not made yet.
    pub(super) fn known(&self, key: FrameKey) -> Option<&Bytes> {
        let mut frames = self;
        while let Some(frame) = frames.0.get() {
            if frame.key == key {
                return Some(&frame.bytes);
            }
            frames = &frame.next;
        }
        None
    }

    /// Returns the frame with this key. The first call makes the frame. If two callers ask at the same time, one of
    /// them makes it while the other waits.
    pub(super) fn get(&self, key: FrameKey, make: impl Fn() -> Bytes) -> &Bytes {
        let mut frames = self;
        loop {
            let frame = frames.0.get_or_init(|| Box::new(Frame { key, bytes: make(), next: Frames::default() }));
            if frame.key == key {
                return &frame.bytes;
            }
            frames = &frame.next;
        }
    }
}

// Every retained message has a list of frames.
const _: () = assert!(size_of::<Frames>() <= 16);
