//! Reads bytes as one value.

use bytes::Bytes;

use super::value::Value;

/// The deepest nesting of arrays and maps.
pub const MAX_DEPTH: usize = 64;

/// The most values in all. Each takes memory of its own, however short it is.
pub const MAX_ITEMS: usize = 100_000;

/// What the bytes mean that writers do not agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The specification, with the extensions of notepack.
    Standard,
    /// `msgpack-js`, which the emitters 0.x and 1.x use: `d8` and `d9` are buffers with lengths of 16 and 32 bits, and
    /// `c4` is `undefined`.
    MsgpackJs,
}

/// Reads a value, which has to be all of the input.
///
/// # Errors
///
/// The input is not a value, or exceeds a limit.
pub fn decode(input: &[u8], dialect: Dialect) -> Result<Value, Error> {
    let mut reader = Reader { rest: input, dialect, items: 0 };
    let value = reader.value(0)?;
    if reader.rest.is_empty() { Ok(value) } else { Err(Error::Rest) }
}

struct Reader<'a> {
    rest: &'a [u8],
    dialect: Dialect,
    items: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(Error::TooManyItems);
        }
        let [byte] = self.array()?;
        Ok(match byte {
            0x00..=0x7f => Value::Integer(i64::from(byte)),
            0x80..=0x8f => self.map(usize::from(byte & 0x0f), depth)?,
            0x90..=0x9f => self.list(usize::from(byte & 0x0f), depth)?,
            0xa0..=0xbf => self.text(usize::from(byte & 0x1f))?,
            0xc0 => Value::Nil,
            0xc1 => return Err(Error::Reserved),
            0xc2 | 0xc3 => Value::Bool(byte == 0xc3),
            0xc4 if self.dialect == Dialect::MsgpackJs => Value::Nil,
            0xc4..=0xc6 => {
                let length = self.length(1 << (byte - 0xc4))?;
                Value::Binary(self.bytes(length)?)
            }
            0xc7..=0xc9 => {
                let length = self.length(1 << (byte - 0xc7))?;
                self.extension(length, false)?
            }
            0xca => Value::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Value::Float(f64::from_be_bytes(self.array()?)),
            0xcc..=0xcf => unsigned(self.number(1 << (byte - 0xcc))?),
            0xd0 => Value::Integer(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => Value::Integer(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Value::Integer(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => Value::Integer(i64::from_be_bytes(self.array()?)),
            0xd8 | 0xd9 if self.dialect == Dialect::MsgpackJs => {
                let length = self.length(if byte == 0xd8 { 2 } else { 4 })?;
                Value::Binary(self.bytes(length)?)
            }
            0xd4..=0xd8 => self.extension(1 << (byte - 0xd4), true)?,
            0xd9..=0xdb => {
                let length = self.length(1 << (byte - 0xd9))?;
                self.text(length)?
            }
            0xdc | 0xdd => {
                let length = self.length(if byte == 0xdc { 2 } else { 4 })?;
                self.list(length, depth)?
            }
            0xde | 0xdf => {
                let length = self.length(if byte == 0xde { 2 } else { 4 })?;
                self.map(length, depth)?
            }
            0xe0..=0xff => Value::Integer(i64::from(byte.cast_signed())),
        })
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Error::Cut)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// An unsigned number of 1, 2, 4 or 8 bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, Error> {
        Ok(self.take(bytes)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Error> {
        usize::try_from(self.number(bytes)?).map_err(|_| Error::Cut)
    }

    fn bytes(&mut self, length: usize) -> Result<Bytes, Error> {
        self.take(length).map(Bytes::copy_from_slice)
    }

    fn text(&mut self, length: usize) -> Result<Value, Error> {
        // PHP has only one type for text and bytes, and scripts read such text in the same way.
        self.take(length).map(|bytes| Value::Text(String::from_utf8_lossy(bytes).into_owned()))
    }

    /// Checks a container before its elements: each element takes at least a byte, so a huge length fails at once.
    fn enter(&self, bytes: usize, depth: usize) -> Result<(), Error> {
        if depth >= MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        if bytes > self.rest.len() { Err(Error::Cut) } else { Ok(()) }
    }

    fn list(&mut self, length: usize, depth: usize) -> Result<Value, Error> {
        self.enter(length, depth)?;
        // Memory is taken as elements come, and not for the length that the input claims.
        let mut values = Vec::with_capacity(length.min(16));
        for _ in 0..length {
            values.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(values))
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<Value, Error> {
        self.enter(length.saturating_mul(2), depth)?;
        let mut entries = Vec::with_capacity(length.min(16));
        for _ in 0..length {
            let key = self.value(depth + 1)?.key().ok_or(Error::Key)?;
            entries.push((key, self.value(depth + 1)?));
        }
        Ok(Value::Map(entries))
    }

    /// An extension. `fixed` says that its length is a part of its first byte.
    fn extension(&mut self, length: usize, fixed: bool) -> Result<Value, Error> {
        let kind = i8::from_be_bytes(self.array()?);
        let data = self.bytes(length)?;
        let known = match (kind, &*data) {
            // notepack 2: undefined, a date, and a buffer.
            (0, [_]) if fixed => Some(Value::Nil),
            (0, &[a, b, c, d, e, f, g, h]) if fixed => Some(Value::Time(i64::from_be_bytes([a, b, c, d, e, f, g, h]))),
            (0, _) if !fixed => Some(Value::Binary(data.clone())),
            (-1, data) => time(data).map(Value::Time),
            _ => None,
        };
        Ok(known.unwrap_or(Value::Extension(kind, data)))
    }
}

/// The timestamp of the specification, in milliseconds since 1970.
fn time(data: &[u8]) -> Option<i64> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
    let (seconds, nanoseconds) = match data.len() {
        4 => (number(data).cast_signed(), 0),
        8 => ((number(data) & 0x3_ffff_ffff).cast_signed(), number(data) >> 34),
        12 => (number(&data[4..]).cast_signed(), number(&data[..4])),
        _ => return None,
    };
    let milliseconds = i64::try_from(nanoseconds / 1_000_000).ok()?;
    seconds.checked_mul(1000)?.checked_add(milliseconds)
}

fn unsigned(number: u64) -> Value {
    i64::try_from(number).map_or(Value::Unsigned(number), Value::Integer)
}

/// Why the input is not a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ends within a value.
    #[error("the MessagePack ends within a value")]
    Cut,
    /// There is more input after the value.
    #[error("more bytes follow the MessagePack")]
    Rest,
    /// The byte `c1` does not have a meaning.
    #[error("the MessagePack contains the reserved byte c1")]
    Reserved,
    /// A key is an array, a map, bytes or an extension.
    #[error("a key of a map is neither text nor a number")]
    Key,
    /// Arrays and maps are nested too deeply.
    #[error("the MessagePack is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// There are too many values.
    #[error("the MessagePack has more than {MAX_ITEMS} values")]
    TooManyItems,
}
