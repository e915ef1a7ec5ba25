//! The places of binary parts in JSON: `{"_placeholder":true,"num":0}`.
//!
//! The JSON is not parsed into values, so numbers and the order of keys stay. An object with other keys beside these two
//! is data.

use std::ops::Range;

/// A place in JSON where a binary part belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// The bytes of the object.
    pub range: Range<usize>,
    /// The index of the part.
    pub index: usize,
}

/// Finds the placeholders in valid JSON, in their order.
pub fn find(json: &str) -> impl Iterator<Item = Placeholder> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let bytes = json.as_bytes();
        while let Some(found) = memchr::memchr2(b'"', b'{', &bytes[at..]) {
            at += found;
            if bytes[at] == b'"' {
                at = end_of_string(bytes, at);
                continue;
            }
            if let Some((index, end)) = object(bytes, at) {
                let range = at..end;
                at = end;
                return Some(Placeholder { range, index });
            }
            at += 1;
        }
        None
    })
}

/// Appends JSON with its placeholders replaced. The function gets the index of a part and appends what replaces it.
pub fn replace(json: &str, out: &mut Vec<u8>, mut part: impl FnMut(usize, &mut Vec<u8>)) {
    let mut copied = 0;
    for Placeholder { range, index } in find(json) {
        out.extend_from_slice(&json.as_bytes()[copied..range.start]);
        part(index, out);
        copied = range.end;
    }
    out.extend_from_slice(&json.as_bytes()[copied..]);
}

/// Appends the placeholder of a part.
pub fn write(index: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"_placeholder\":true,\"num\":{index}}}").as_bytes());
}

/// The position behind the string that begins at a position.
pub(super) fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

/// Reads an object with exactly the keys `_placeholder` and `num`: the index, and the position behind the object.
fn object(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    let mut reader = Reader { bytes, at: start };
    reader.token(b"{")?;
    let (mut marked, mut index) = (false, None);
    for closes in [&b","[..], b"}"] {
        if reader.token(b"\"_placeholder\"").is_some() {
            reader.token(b":")?;
            reader.token(b"true")?;
            marked = true;
        } else {
            reader.token(b"\"num\"")?;
            reader.token(b":")?;
            index = Some(reader.number()?);
        }
        reader.token(closes)?;
    }
    index.filter(|_| marked).map(|index| (index, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Skips white space and this token.
    fn token(&mut self, token: &[u8]) -> Option<()> {
        self.at += self.rest().iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.rest().starts_with(token).then(|| self.at += token.len())
    }

    /// Reads a number. A number of more than four digits is not the index of a part.
    fn number(&mut self) -> Option<usize> {
        self.token(b"")?;
        let digits = self.rest().iter().take(5).take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&self.rest()[..digits]).ok()?.parse().ok()?;
        self.at += digits;
        (digits <= 4).then_some(number)
    }
}
