//! Reads header blocks (HPACK, RFC 7541), but only to find pseudo-header fields in trailers.
//!
//! A request with such a field in its trailers is malformed (RFC 9113 §8.1), but the `h2` crate accepts it. This is
//! dangerous, because a proxy may read `:path` in a trailer as the path of the request. A field may be an index of the
//! dynamic table, so this module also keeps that table: for each entry its length and whether its name begins with a
//! colon. Values are not decoded. An error ends the search; `h2` finds the same error, and ends the connection.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

/// The size of the dynamic table, which the server does not change (RFC 9113 §6.5.2).
const TABLE: usize = 4096;

/// The number of bytes that are added to an entry's name and value for the entry's size (RFC 7541 §4.1).
const ENTRY: usize = 32;

/// The lengths of the names in the static table (RFC 7541, appendix A). The first [`STATIC_PSEUDO`] names are those of
/// pseudo-header fields.
const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4,
    4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];
const STATIC_PSEUDO: usize = 14;

/// The number of Huffman codes of each length from 5 bits on (RFC 7541, appendix B). The codes are canonical, so these
/// counts determine all codes.
const CODES: [u32; 26] = [10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];
const SHORTEST_CODE: u32 = 5;

/// The code of a colon, and its length.
const COLON: (u32, u32) = (0x5c, 7);

/// An entry of the dynamic table.
#[derive(Clone, Copy)]
struct Entry {
    is_pseudo: bool,
    name: usize,
    size: usize,
}

/// A field that is being read.
#[derive(Clone, Copy, Default)]
struct Field {
    is_indexed: bool,
    is_pseudo: bool,
    name: usize,
}

/// The meaning of the number that is being read.
#[derive(Clone, Copy)]
enum Number {
    /// The index of a whole field in the tables.
    Index,
    /// The index of a name in the tables; 0 if the name follows as a string.
    NameIndex,
    /// The length of a string.
    Length,
    /// The new size of the dynamic table.
    TableSize,
}

/// The meaning of the next byte.
#[derive(Clone, Copy)]
enum Next {
    Field,
    /// More bits of a number.
    Number {
        meaning: Number,
        value: usize,
        shift: u32,
    },
    /// The beginning of a string.
    StringLength,
    /// A byte of the content of a string.
    Content {
        left: usize,
    },
    /// Bytes after an error, which are ignored.
    Nothing,
}

/// Reads the header blocks of a connection.
pub struct FieldNames {
    table: VecDeque<Entry>,
    size: usize,
    max_size: usize,
    next: Next,
    field: Field,
    /// Whether the string is the field's name (and not its value).
    is_name: bool,
    string: Text,
    has_pseudo: bool,
}

impl FieldNames {
    /// Makes the reader of a new connection, whose dynamic table is empty.
    pub fn new() -> FieldNames {
        FieldNames {
            table: VecDeque::new(),
            size: 0,
            max_size: TABLE,
            next: Next::Field,
            field: Field::default(),
            is_name: false,
            string: Text::default(),
            has_pseudo: false,
        }
    }

    /// Reads the next bytes of a block.
    pub fn follow(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            if let Next::Content { left } = self.next {
                let (content, after) = rest.split_at(left.min(rest.len()));
                self.string.follow(content, self.is_name || self.field.is_indexed);
                rest = after;
                self.next = Next::Content { left: left - content.len() };
                if left == content.len() {
                    self.string_ended();
                }
                continue;
            }
            self.next = self.after(*byte);
            rest = after;
        }
    }

    /// Ends a block. Returns whether it has a pseudo-header field.
    pub fn end_block(&mut self) -> bool {
        if !matches!(self.next, Next::Field) {
            self.next = Next::Nothing;
        }
        std::mem::take(&mut self.has_pseudo)
    }

    fn after(&mut self, byte: u8) -> Next {
        match self.next {
            Next::Field => {
                let (meaning, bits) = match byte {
                    0x80.. => (Number::Index, 7),
                    0x40.. => (Number::NameIndex, 6),
                    0x20.. => (Number::TableSize, 5),
                    _ => (Number::NameIndex, 4),
                };
                self.field = Field { is_indexed: byte & 0xc0 == 0x40, ..Field::default() };
                self.prefix(meaning, byte, bits)
            }
            Next::StringLength => {
                self.string = Text { is_huffman: byte & 0x80 != 0, ..Text::default() };
                self.prefix(Number::Length, byte, 7)
            }
            Next::Number { meaning, value, shift } => {
                let value = value.saturating_add(usize::from(byte & 0x7f) << shift);
                match byte & 0x80 {
                    0 => self.number(meaning, value),
                    // The `h2` crate also treats a longer number as an error.
                    _ if shift >= 21 => Next::Nothing,
                    _ => Next::Number { meaning, value, shift: shift + 7 },
                }
            }
            Next::Content { .. } | Next::Nothing => Next::Nothing,
        }
    }

    /// Reads a number's first byte. Only some of its bits belong to the number (RFC 7541 §5.1).
    fn prefix(&mut self, meaning: Number, byte: u8, bits: u32) -> Next {
        let most = (1usize << bits) - 1;
        let value = usize::from(byte) & most;
        if value < most { self.number(meaning, value) } else { Next::Number { meaning, value, shift: 0 } }
    }

    fn number(&mut self, meaning: Number, value: usize) -> Next {
        match meaning {
            Number::Index => match self.name_at(value) {
                Some((is_pseudo, _)) => {
                    self.has_pseudo |= is_pseudo;
                    Next::Field
                }
                None => Next::Nothing,
            },
            Number::NameIndex if value == 0 => {
                self.is_name = true;
                Next::StringLength
            }
            Number::NameIndex => match self.name_at(value) {
                Some((is_pseudo, name)) => {
                    (self.field.is_pseudo, self.field.name, self.is_name) = (is_pseudo, name, false);
                    Next::StringLength
                }
                None => Next::Nothing,
            },
            Number::Length => {
                self.next = Next::Content { left: value };
                if value == 0 {
                    self.string_ended();
                }
                self.next
            }
            Number::TableSize if value > TABLE => Next::Nothing,
            Number::TableSize => {
                self.max_size = value;
                self.make_room(0);
                Next::Field
            }
        }
    }

    fn string_ended(&mut self) {
        if self.is_name {
            (self.field.name, self.field.is_pseudo) = (self.string.length, self.string.begins_with_colon);
            self.is_name = false;
            self.next = Next::StringLength;
            return;
        }
        let Field { is_indexed, is_pseudo, name } = self.field;
        self.has_pseudo |= is_pseudo;
        if is_indexed {
            let size = name + self.string.length + ENTRY;
            self.make_room(size);
            if size <= self.max_size {
                self.table.push_front(Entry { is_pseudo, name, size });
                self.size += size;
            }
        }
        self.next = Next::Field;
    }

    /// Whether the name at an index is that of a pseudo-header field, and the name's length.
    fn name_at(&self, index: usize) -> Option<(bool, usize)> {
        if let Some(name) = STATIC_NAMES.get(index.checked_sub(1)?) {
            return Some((index <= STATIC_PSEUDO, usize::from(*name)));
        }
        let entry = self.table.get(index - STATIC_NAMES.len() - 1)?;
        Some((entry.is_pseudo, entry.name))
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > self.max_size {
            let Some(entry) = self.table.pop_back() else { break };
            self.size -= entry.size;
        }
    }
}

/// The part of a string that matters: its length, and whether it begins with a colon.
#[derive(Clone, Copy, Default)]
struct Text {
    is_huffman: bool,
    length: usize,
    begins_with_colon: bool,
    code: u32,
    bits: u32,
    /// The first Huffman code of the current length.
    first: u32,
}

impl Text {
    /// Reads the next bytes. Huffman codes are decoded only if the length of the string is needed.
    fn follow(&mut self, bytes: &[u8], counts: bool) {
        if !self.is_huffman {
            self.begins_with_colon |= self.length == 0 && bytes.first() == Some(&b':');
            self.length += bytes.len();
            return;
        }
        if !counts {
            return;
        }
        for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1))) {
            (self.code, self.first) = (self.code << 1 | bit, self.first << 1);
            self.bits += 1;
            let Some(codes) = self.bits.checked_sub(SHORTEST_CODE).and_then(|at| CODES.get(at as usize)) else {
                continue;
            };
            if self.code - self.first < *codes {
                self.begins_with_colon |= self.length == 0 && (self.code, self.bits) == COLON;
                self.length += 1;
                (self.code, self.bits, self.first) = (0, 0, 0);
            } else {
                self.first += codes;
            }
        }
    }
}
