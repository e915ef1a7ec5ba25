//! Positions in the log: [`Id`], [`Epoch`], [`Cursor`], and the [`Start`] position of a reader.
//!
//! Only this module and [`crate::log`] know the parts of a cursor. To all other code, and to clients, it is an opaque
//! text that is sent back unchanged.

use std::fmt;
use std::str::FromStr;

/// A position within one epoch of the log: a Redis stream id, `<milliseconds>-<sequence>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Milliseconds since 1970 by the log's own clock.
    pub ms: u64,
    /// Sequence within the millisecond.
    pub seq: u64,
}

impl Id {
    /// The position before every entry.
    pub const ZERO: Id = Id { ms: 0, seq: 0 };

    /// The position after every entry.
    pub const MAX: Id = Id { ms: u64::MAX, seq: u64::MAX };

    /// The position right before this one; for `0-0` it is `0-0` itself.
    pub fn before(self) -> Id {
        if self.seq > 0 {
            Id { ms: self.ms, seq: self.seq - 1 }
        } else if self.ms > 0 {
            Id { ms: self.ms - 1, seq: u64::MAX }
        } else {
            Id::ZERO
        }
    }

    /// The position right after this one.
    pub fn next(self) -> Id {
        match self.seq.checked_add(1) {
            Some(seq) => Id { ms: self.ms, seq },
            None => Id { ms: self.ms.saturating_add(1), seq: 0 },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text::default();
        text.id(*self);
        f.write_str(text.as_str())
    }
}

/// A cursor's text. The text is written backwards, from its last character. Every message needs several such texts, and
/// `format!` would cost ten times as much.
pub struct Text {
    bytes: [u8; 56],
    at: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text { bytes: [0; 56], at: 56 }
    }
}

impl Text {
    fn byte(&mut self, byte: u8) {
        self.at -= 1;
        self.bytes[self.at] = byte;
    }

    /// Writes a number: at most 20 bytes in base 10, and 13 bytes in base 36. The base is a constant, so that the
    /// compiler can avoid a division.
    fn number<const BASE: u64>(&mut self, mut rest: u64) {
        loop {
            self.byte(b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % BASE) as usize]);
            rest /= BASE;
            if rest == 0 {
                return;
            }
        }
    }

    fn id(&mut self, id: Id) {
        self.number::<10>(id.seq);
        self.byte(b'-');
        self.number::<10>(id.ms);
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.at..]).unwrap_or_default()
    }
}

impl FromStr for Id {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Id, BadCursor> {
        let (ms, seq) = text.split_once('-').ok_or(BadCursor)?;
        Ok(Id { ms: decimal(ms)?, seq: decimal(seq)? })
    }
}

/// Parses digits without a leading zero as a number. So each position has exactly one spelling, because clients and
/// `ETag`s compare cursors as text.
fn decimal(text: &str) -> Result<u64, BadCursor> {
    let canonical = text == "0" || !text.starts_with('0');
    if !canonical || text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadCursor);
    }
    text.parse().map_err(|_| BadCursor)
}

/// The id of one continuous history of the log. If the log is lost and starts again, it gets another epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// Makes a new epoch of 40 random bits, which takes at most eight characters.
    pub fn random() -> Epoch {
        Epoch(uuid::Uuid::new_v4().as_u64_pair().1 & 0xff_ffff_ffff)
    }

    /// The epoch as a number, for formats that are not texts.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The epoch with this number.
    pub fn from_number(number: u64) -> Epoch {
        Epoch(number)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text::default();
        text.number::<36>(self.0);
        f.write_str(text.as_str())
    }
}

impl FromStr for Epoch {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Epoch, BadCursor> {
        let canonical = text == "0" || !text.starts_with('0');
        let sound = text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        if !canonical || !sound || text.is_empty() {
            return Err(BadCursor);
        }
        u64::from_str_radix(text, 36).map(Epoch).map_err(|_| BadCursor)
    }
}

/// A position in the log that clients may keep: `<ms>-<seq>.<epoch>`.
///
/// It means "all messages of your channels up to here were written to you".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The position within the epoch.
    pub id: Id,
    /// The epoch of the log.
    pub epoch: Epoch,
}

impl Cursor {
    /// Returns the cursor's text, stored on the stack.
    pub fn text(self) -> Text {
        let mut text = Text::default();
        text.number::<36>(self.epoch.0);
        text.byte(b'.');
        text.id(self.id);
        text
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Cursor, BadCursor> {
        let (id, epoch) = text.split_once('.').ok_or(BadCursor)?;
        Ok(Cursor { id: id.parse()?, epoch: epoch.parse()? })
    }
}

/// The text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: use `latest`, `earliest` or a cursor that this service has given")]
pub struct BadCursor;

/// The position at which a reader wants to begin: the `cursor` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From now on.
    Latest,
    /// The reader begins with the oldest retained message.
    Earliest,
    /// The reader begins right after a cursor.
    After(Cursor),
}

impl FromStr for Start {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Start, BadCursor> {
        match text {
            "latest" => Ok(Start::Latest),
            "earliest" => Ok(Start::Earliest),
            other => other.parse().map(Start::After),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_cursors_are_refused() {
        let cases = [
            "",
            ".",
            "-",
            "-.",
            "1",
            "1-1",
            "1-1.",
            ".a",
            "1-.a",
            "-1.a",
            "1-1.A",
            "1-1.a.b",
            "01-1.a",
            "1-01.a",
            "1-1.0a",
            "+1-1.a",
            "1-1.é",
            "1--1.a",
            " 1-1.a",
            "1-1.a ",
            "18446744073709551616-0.a",
            "1-18446744073709551616.a",
            "1-1.zzzzzzzzzzzzzz",
            "1-1.a\0",
            "LATEST",
        ];
        for case in cases {
            assert_eq!(case.parse::<Start>(), Err(BadCursor), "{case:?}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(ms: u64, seq: u64, epoch: u64) {
            let cursor = Cursor { id: Id { ms, seq }, epoch: Epoch(epoch) };
            prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }

        #[test]
        fn what_parses_has_one_spelling(text in "[0-9a-z.-]{0,40}|\\PC{0,40}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }

        #[test]
        fn before_and_next_are_neighbours(ms in 1u64..u64::MAX, seq: u64) {
            let id = Id { ms, seq };
            prop_assert!(id.before() < id && id < id.next());
            prop_assert_eq!(id.before().next(), id);
            prop_assert_eq!(id.next().before(), id);
        }
    }
}
