//! What the `h2` crate holds of a connection's input: the beginning of a frame, and the frames of an incomplete header
//! block. It is known from the frames' heads alone (RFC 9113 §4.1).

/// The length of a frame's head.
const HEAD: usize = 9;

/// The length of a client's preface.
const PREFACE: usize = 24;

/// Types of frames that are parts of a header block.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The flag of the last part of a header block.
const END_HEADERS: u8 = 4;

/// What a header block takes besides its bytes. A field that refers to the table of headers is one byte, and the field
/// that it stands for is kept until the block is complete. The crate bounds all of them by the length of a header list.
const FIELDS: usize = 96 << 10;

/// Follows the frames of a connection.
#[derive(Default)]
pub struct FrameInput {
    /// How much of the preface was read.
    preface: usize,
    head: [u8; HEAD],
    /// How much of the head was read.
    begun: usize,
    /// The bytes of the payload that are still to come.
    rest: usize,
    /// The bytes of the incomplete header block.
    block: usize,
}

impl FrameInput {
    /// Takes the next bytes of the connection.
    pub fn read(&mut self, mut bytes: &[u8]) {
        let preface = bytes.len().min(PREFACE - self.preface);
        self.preface += preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let missing = HEAD - self.begun;
            let taken = if missing > 0 { missing } else { self.rest }.min(bytes.len());
            let (part, behind) = bytes.split_at(taken);
            bytes = behind;
            if missing > 0 {
                self.head[self.begun..self.begun + taken].copy_from_slice(part);
                self.begun += taken;
                self.rest = self.length();
            } else {
                self.rest -= taken;
            }
            if self.begun == HEAD && self.rest == 0 {
                self.end_frame();
            }
        }
    }

    /// The length of the payload, once the head is complete.
    fn length(&self) -> usize {
        let [a, b, c, ..] = self.head;
        if self.begun < HEAD { 0 } else { usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c) }
    }

    fn end_frame(&mut self) {
        if let HEADERS | CONTINUATION = self.head[3] {
            self.block = if self.head[4] & END_HEADERS == 0 { self.block + HEAD + self.length() } else { 0 };
        }
        self.begun = 0;
    }

    /// The memory that what was read so far takes, about.
    pub fn held(&self) -> usize {
        let frame = if self.begun > 0 { (self.begun + self.length() - self.rest).next_power_of_two() } else { 0 };
        let block = if self.block > 0 { self.block + FIELDS } else { 0 };
        frame + block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [.., a, b, c] = payload.to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1][..], &vec![0; payload]].concat()
    }

    /// However the bytes are cut: nothing is held between whole frames and header blocks.
    #[test]
    fn only_what_is_incomplete_is_held() {
        let whole = [vec![b'P'; PREFACE], frame(4, 0, 12), frame(HEADERS, 5, 300), frame(0, 1, 16_384)].concat();
        let block = [frame(HEADERS, 1, 100), frame(CONTINUATION, 0, 0), frame(CONTINUATION, 0, 16_384)].concat();
        for piece in [1, 7, 9, 1000, 100_000] {
            let mut input = FrameInput::default();
            whole.chunks(piece).for_each(|part| input.read(part));
            assert_eq!(input.held(), 0, "pieces of {piece}");
            block.chunks(piece).for_each(|part| input.read(part));
            assert_eq!(input.held(), block.len() + FIELDS, "pieces of {piece}");
            let last = frame(CONTINUATION, END_HEADERS, 1000);
            input.read(&last[..500]);
            assert_eq!(input.held(), block.len() + FIELDS + 512, "pieces of {piece}");
            input.read(&last[500..]);
            assert_eq!(input.held(), 0, "pieces of {piece}");
        }
    }
}
