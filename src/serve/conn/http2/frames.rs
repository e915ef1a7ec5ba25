//! Reads the heads of the frames that a client sends (RFC 9113 §4.1), to find the purpose of each byte.

use super::field_names::FieldNames;
use super::limits::STREAMS;
use std::collections::BTreeSet;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x01;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

const PREFACE: usize = 24;
const HEAD: usize = 9;

/// The memory that a header block takes in addition to its bytes. A field that refers to the table of headers is one
/// byte long, but the `h2` crate keeps the whole field until the block is complete. The crate limits the sum of these
/// fields to the maximum length of a header list.
const FIELDS: usize = 96 << 10;

/// The maximum number of streams with an incomplete request that are remembered. The server may have reset some of
/// them.
const OPEN_STREAMS: usize = 2 * STREAMS as usize;

/// The purposes of the bytes that were read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of bodies and of heads. The flow control windows and the limits on a request bound them.
    pub content: usize,
    /// All other bytes: heads of frames, PING, SETTINGS, WINDOW_UPDATE, PRIORITY.
    pub control: usize,
    /// Whether the trailers have a pseudo-header field.
    pub has_pseudo_trailer: bool,
}

/// Reads the frames of a connection.
pub struct FrameFollower {
    /// The number of bytes of the preface that have not arrived.
    preface: usize,
    head: [u8; HEAD],
    head_length: usize,
    /// The number of bytes of the payload that have not arrived.
    left: usize,
    /// The number of bytes in the frames of the incomplete header block.
    block: usize,
    /// The number of bytes in the payload before the fields: the padding length and the priority.
    before_fields: usize,
    /// Whether the first byte of the payload is the length of the padding.
    is_padded: bool,
    padding: usize,
    /// Whether the header block contains trailers.
    in_trailers: bool,
    names: FieldNames,
    last_stream: u32,
    /// The streams whose request is not complete.
    open: BTreeSet<u32>,
}

impl FrameFollower {
    /// Makes the reader of a new connection, which begins with the preface.
    pub fn new() -> FrameFollower {
        FrameFollower {
            preface: PREFACE,
            head: [0; HEAD],
            head_length: 0,
            left: 0,
            block: 0,
            before_fields: 0,
            is_padded: false,
            padding: 0,
            in_trailers: false,
            names: FieldNames::new(),
            last_stream: 0,
            open: BTreeSet::new(),
        }
    }

    /// Reads the next bytes.
    pub fn follow(&mut self, bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.preface > 0 {
                let (preface, after) = rest.split_at(self.preface.min(rest.len()));
                self.preface -= preface.len();
                seen.control += preface.len();
                rest = after;
            } else if self.head_length < HEAD {
                let (part, after) = rest.split_at((HEAD - self.head_length).min(rest.len()));
                self.head[self.head_length..self.head_length + part.len()].copy_from_slice(part);
                self.head_length += part.len();
                seen.control += part.len();
                rest = after;
                if self.head_length == HEAD {
                    self.begin_payload();
                    self.end_payload(&mut seen);
                }
            } else {
                let (payload, after) = rest.split_at(self.left.min(rest.len()));
                self.payload(payload, &mut seen);
                rest = after;
                self.end_payload(&mut seen);
            }
        }
        seen
    }

    /// Returns the approximate memory that the `h2` crate takes for input that it cannot handle yet: the beginning of a
    /// frame, and the frames of an incomplete header block.
    pub fn held(&self) -> usize {
        let payload = if self.head_length == HEAD { self.length() - self.left } else { 0 };
        let frame = if self.head_length > 0 { (self.head_length + payload).next_power_of_two() } else { 0 };
        let block = if self.block > 0 { self.block + FIELDS } else { 0 };
        frame + block
    }

    /// The length of the payload. The head is complete.
    fn length(&self) -> usize {
        u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize
    }

    fn kind(&self) -> u8 {
        self.head[3]
    }

    fn has(&self, flag: u8) -> bool {
        self.head[4] & flag != 0
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.head[5] & 0x7f, self.head[6], self.head[7], self.head[8]])
    }

    fn begin_payload(&mut self) {
        self.left = self.length();
        (self.before_fields, self.is_padded, self.padding) = (0, false, 0);
        if self.kind() == HEADERS {
            self.is_padded = self.has(PADDED);
            self.before_fields = usize::from(self.is_padded) + if self.has(PRIORITY) { 5 } else { 0 };
            self.in_trailers = self.open.contains(&self.stream());
        }
    }

    fn payload(&mut self, payload: &[u8], seen: &mut Seen) {
        match self.kind() {
            DATA => seen.content += payload.len(),
            HEADERS | CONTINUATION => {
                seen.content += payload.len();
                if std::mem::take(&mut self.is_padded) {
                    self.padding = usize::from(payload.first().copied().unwrap_or_default());
                }
                let begin = self.before_fields.min(payload.len());
                self.before_fields -= begin;
                // The padding is at the end of the whole payload.
                let end = payload.len().min(self.left.saturating_sub(self.padding));
                self.names.follow(payload.get(begin..end).unwrap_or_default());
            }
            _ => seen.control += payload.len(),
        }
        self.left -= payload.len();
    }

    fn end_payload(&mut self, seen: &mut Seen) {
        if self.left > 0 {
            return;
        }
        self.head_length = 0;
        let stream = self.stream();
        if self.kind() == HEADERS && stream > self.last_stream {
            self.last_stream = stream;
            self.open.insert(stream);
            if self.open.len() > OPEN_STREAMS {
                self.open.pop_first();
            }
        }
        if matches!(self.kind(), HEADERS | CONTINUATION) {
            if self.has(END_HEADERS) {
                seen.has_pseudo_trailer |= self.names.end_block() && self.in_trailers;
                self.block = 0;
            } else {
                self.block += HEAD + self.length();
            }
        }
        let is_end = matches!(self.kind(), DATA | HEADERS) && self.has(END_STREAM);
        if is_end || self.kind() == RST_STREAM {
            self.open.remove(&stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// Returns the purposes of the bytes of a connection with these frames. Reads the bytes once as a whole and once
    /// byte by byte.
    fn seen(frames: &[Vec<u8>]) -> Seen {
        let bytes = [vec![b'P'; PREFACE], frames.concat()].concat();
        let whole = FrameFollower::new().follow(&bytes);
        for piece in [1, 2, 7, 10] {
            let (mut follower, mut all) = (FrameFollower::new(), Seen::default());
            for piece in bytes.chunks(piece) {
                let part = follower.follow(piece);
                all.content += part.content;
                all.control += part.control;
                all.has_pseudo_trailer |= part.has_pseudo_trailer;
            }
            assert_eq!(all, whole, "in pieces of {piece}");
        }
        whole
    }

    #[test]
    fn bytes_are_content_or_control() {
        let head = frame(HEADERS, END_HEADERS, 1, &[0x82, 0x84]);
        for (frames, content, control) in [
            (vec![], 0, 0),
            (vec![frame(6, 0, 0, b"12345678")], 0, 17),
            (vec![frame(8, 0, 0, &[0, 0, 0, 1]), frame(0xbe, 0, 0, b"")], 0, 22),
            (vec![head.clone()], 2, 9),
            (vec![head.clone(), frame(DATA, 0, 1, &[0; 1000]), frame(DATA, END_STREAM, 1, b"")], 1002, 27),
            (vec![frame(HEADERS, 0, 1, &[0x82]), frame(CONTINUATION, END_HEADERS, 1, &[0x84])], 2, 18),
        ] {
            let expected = Seen { content, control: control + PREFACE, has_pseudo_trailer: false };
            assert_eq!(seen(&frames), expected, "{frames:?}");
        }
    }

    #[test]
    fn a_pseudo_header_field_is_found_in_trailers_alone() {
        // These blocks put `:path: /x` into the dynamic table, and have an ordinary field in a trailer and in a head.
        let path = [&[0x44, 2][..], b"/x"].concat();
        let trailer = [&[0x40, 1][..], b"a", &[1], b"b"].concat();
        let head = |block: &[u8]| frame(HEADERS, END_HEADERS, 1, &[&[0x82][..], block].concat());
        let last = |block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
        let cases: [(&str, Vec<Vec<u8>>, bool); 17] = [
            ("a head", vec![head(&path)], false),
            ("a trailer", vec![head(&path), last(&trailer)], false),
            ("a static field", vec![head(&path), last(&[0x82])], true),
            ("a static name", vec![head(&path), last(&[0x04, 1, b'/'])], true),
            ("a dynamic field", vec![head(&path), last(&[0xbe])], true),
            ("a dynamic name", vec![head(&path), last(&[0x7e, 1, b'/'])], true),
            ("a dynamic field behind another", vec![head(&path), last(&[&trailer[..], &[0xbf]].concat())], true),
            ("the other one", vec![head(&path), last(&[&trailer[..], &[0xbe]].concat())], false),
            ("a literal name", vec![head(&path), last(&[&[0x00, 2][..], b":x", &[0]].concat())], true),
            ("a name that is never indexed", vec![head(&path), last(&[&[0x10, 2][..], b":x", &[0]].concat())], true),
            // `:path` in the Huffman code.
            ("a coded name", vec![head(&path), last(&[0x00, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 0])], true),
            // `cookie` in the Huffman code.
            ("another coded name", vec![head(&path), last(&[0x00, 0x84, 0x21, 0xcf, 0xd4, 0xc5, 0])], false),
            ("a name with a colon inside", vec![head(&path), last(&[&[0x00, 2][..], b"x:", &[0]].concat())], false),
            (
                "an emptied table",
                vec![head(&path), last(&[&[0x20, 0x3f, 0xe1, 0x1f][..], &trailer, &[0xbe]].concat())],
                false,
            ),
            ("behind DATA", vec![head(&path), frame(DATA, 0, 1, b"abc"), last(&[0x82])], true),
            ("after the end of the request", vec![last(&[0x82]), last(&[0x82])], false),
            (
                "padding and priority",
                vec![
                    head(&path),
                    frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 1, &[2, 0, 0, 0, 0, 9, 0xbe, 0x82, 0x82]),
                ],
                true,
            ),
        ];
        for (name, frames, expected) in cases {
            assert_eq!(seen(&frames).has_pseudo_trailer, expected, "{name}");
        }
        let padded = frame(HEADERS, END_HEADERS | PADDED, 1, &[&[2][..], &trailer, &[0x82, 0x82]].concat());
        assert!(!seen(&[head(&path), padded]).has_pseudo_trailer, "what is in the padding is no field");
    }

    /// Between complete frames and header blocks no bytes are held, however the input is cut.
    #[test]
    fn only_what_is_incomplete_is_held() {
        let whole = [
            vec![b'P'; PREFACE],
            frame(4, 0, 0, &[0; 12]),
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x82; 300]),
            frame(DATA, END_STREAM, 1, &[0; 16_384]),
        ]
        .concat();
        let block = [
            frame(HEADERS, END_STREAM, 3, &[0x82; 100]),
            frame(CONTINUATION, 0, 3, &[]),
            frame(CONTINUATION, 0, 3, &[0x82; 16_384]),
        ]
        .concat();
        for piece in [1, 7, 9, 1000, 100_000] {
            let mut follower = FrameFollower::new();
            let mut follow = |bytes: &[u8]| {
                for part in bytes.chunks(piece) {
                    follower.follow(part);
                }
                follower.held()
            };
            assert_eq!(follow(&whole), 0, "pieces of {piece}");
            assert_eq!(follow(&block), block.len() + FIELDS, "pieces of {piece}");
            let last = frame(CONTINUATION, END_HEADERS, 3, &[0x82; 1000]);
            assert_eq!(follow(&last[..500]), block.len() + FIELDS + 512, "pieces of {piece}");
            assert_eq!(follow(&last[500..]), 0, "pieces of {piece}");
        }
    }

    #[test]
    fn streams_that_never_end_are_bounded() {
        let mut follower = FrameFollower::new();
        follower.follow(&[0; PREFACE]);
        for n in 0..10_000 {
            follower.follow(&frame(HEADERS, END_HEADERS, 1 + 2 * n, &[0x82]));
        }
        assert_eq!(follower.open.len(), OPEN_STREAMS);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_followed(bytes: Vec<u8>, blocks: Vec<(bool, Vec<u8>)>) {
            FrameFollower::new().follow(&bytes);
            let mut follower = FrameFollower::new();
            follower.follow(&[0; PREFACE]);
            for (ends, block) in blocks {
                follower.follow(&frame(HEADERS, if ends { END_HEADERS } else { 0 }, 1, &block));
            }
        }
    }
}
