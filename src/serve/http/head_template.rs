//! A request head as a template. A client often sends the same head again, with other values in a few places. These
//! places are the holes of the template. The server then recognises the head by comparing bytes, and uses the values
//! that it derived from the first head.

use bytes::Bytes;
use std::ops::Range;

/// The longest head that is kept as a template.
pub const MAX_TEMPLATE: usize = 1 << 10;

/// A set of bytes.
pub struct ByteSet([bool; 256]);

impl ByteSet {
    /// Makes a set of lower-case letters, digits and `others`; upper-case letters only if `has_upper_case` is set.
    pub const fn letters_and(others: &[u8], has_upper_case: bool) -> ByteSet {
        let (mut set, mut byte) = ([false; 256], 0);
        while byte < 256 {
            let c = byte as u8;
            set[byte] = c.is_ascii_lowercase() || c.is_ascii_digit() || (has_upper_case && c.is_ascii_uppercase());
            byte += 1;
        }
        let mut index = 0;
        while index < others.len() {
            set[others[index] as usize] = true;
            index += 1;
        }
        ByteSet(set)
    }

    /// The decimal digits.
    pub const fn digits() -> ByteSet {
        let (mut set, mut byte) = ([false; 256], b'0');
        while byte <= b'9' {
            set[byte as usize] = true;
            byte += 1;
        }
        ByteSet(set)
    }

    /// Whether a byte is in the set.
    pub fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }
}

/// A part of a head that may differ from one request to the next.
#[derive(Clone)]
pub struct Hole {
    /// The position of the hole in the head that the template was made from.
    pub at: Range<usize>,
    /// The bytes that may fill the hole. The byte after the hole must not be one of them.
    pub accepts: &'static ByteSet,
}

/// A request head with `N` holes, in order.
pub struct HeadTemplate<const N: usize> {
    head: Bytes,
    holes: [Hole; N],
}

impl<const N: usize> HeadTemplate<N> {
    /// A template of a whole head; `None` if the head is long.
    pub fn new(head: &Bytes, holes: [Hole; N]) -> Option<HeadTemplate<N>> {
        (head.len() <= MAX_TEMPLATE).then(|| HeadTemplate { head: head.clone(), holes })
    }

    /// Matches the beginning of the input. Returns the bytes that fill the holes, and the length of the head.
    pub fn find<'a>(&self, input: &'a [u8]) -> Option<([&'a [u8]; N], usize)> {
        let (mut rest, mut filled, mut at) = (input, [&b""[..]; N], 0);
        for (hole, filled) in self.holes.iter().zip(&mut filled) {
            rest = rest.strip_prefix(&self.head[at..hole.at.start])?;
            (*filled, rest) = rest.split_at(rest.iter().position(|byte| !hole.accepts.has(*byte))?);
            at = hole.at.end;
        }
        rest = rest.strip_prefix(&self.head[at..])?;
        Some((filled, input.len() - rest.len()))
    }

    /// Whether both templates match the same heads.
    pub fn is_same(&self, other: &HeadTemplate<N>) -> bool {
        self.literals().eq(other.literals())
    }

    /// The parts around the holes.
    fn literals(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.holes.iter().map(|hole| hole.at.end));
        let ends = self.holes.iter().map(|hole| hole.at.start).chain([self.head.len()]);
        starts.zip(ends).map(|(start, end)| &self.head[start..end])
    }
}
