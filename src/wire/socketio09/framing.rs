//! Several packets in one body: `U+FFFD <length> U+FFFD <packet>` repeated, with lengths in UTF-16 units.
//!
//! A body with one packet may hold it bare. Clients also take one packet in a frame, so a packet that many readers share
//! is always in its frame.

use super::error::Error;
use crate::wire::utf16::{split_at_unit, units};

const MARK: char = '\u{fffd}';

/// The most digits that a length may have.
const MAX_DIGITS: usize = 10;

/// Appends a packet in its frame.
pub fn frame(packet: &str, out: &mut Vec<u8>) {
    out.reserve(packet.len() + 16);
    out.extend_from_slice(format!("{MARK}{}{MARK}", units(packet)).as_bytes());
    out.extend_from_slice(packet.as_bytes());
}

/// Reads the packets of a body one by one, without parsing them. It ends after the first error.
///
/// # Errors
///
/// The body is not UTF-8.
pub fn packets(body: &[u8]) -> Result<Packets<'_>, Error> {
    let text = std::str::from_utf8(body).map_err(|_| Error::Utf8)?;
    Ok(Packets { rest: Some(text), is_framed: text.starts_with(MARK) })
}

/// The packets of a body.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: Option<&'a str>,
    is_framed: bool,
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<&'a str, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take().filter(|rest| !rest.is_empty())?;
        if !self.is_framed {
            return Some(Ok(rest));
        }
        Some(framed(rest).map(|(packet, rest)| {
            self.rest = Some(rest);
            packet
        }))
    }
}

/// The first packet, and the text behind it.
fn framed(text: &str) -> Result<(&str, &str), Error> {
    let text = text.strip_prefix(MARK).ok_or(Error::Length)?;
    let count = text.bytes().take(MAX_DIGITS + 1).take_while(u8::is_ascii_digit).count();
    let (digits, text) = text.split_at(count);
    let text = text.strip_prefix(MARK).filter(|_| count <= MAX_DIGITS).ok_or(Error::Length)?;
    split_at_unit(text, digits.parse().map_err(|_| Error::Length)?).ok_or(Error::Body)
}
