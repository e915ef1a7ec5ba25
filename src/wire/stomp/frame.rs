//! Reads a whole frame: its command, its headers and its body.

use super::version::Version;
use std::borrow::Cow;

/// The most headers of a frame.
const MAX_HEADERS: usize = 100;

/// The commands of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begins a connection: `CONNECT`, or `STOMP`.
    Connect,
    /// Publishes a message.
    Send,
    /// Begins a subscription.
    Subscribe,
    /// Ends a subscription.
    Unsubscribe,
    /// Acknowledges a message.
    Ack,
    /// Says that a message was not processed.
    Nack,
    /// Begins a transaction.
    Begin,
    /// Carries out a transaction.
    Commit,
    /// Gives up a transaction.
    Abort,
    /// Ends the connection.
    Disconnect,
}

impl Command {
    fn parse(line: &[u8]) -> Option<Command> {
        Some(match line {
            b"CONNECT" | b"STOMP" => Command::Connect,
            b"SEND" => Command::Send,
            b"SUBSCRIBE" => Command::Subscribe,
            b"UNSUBSCRIBE" => Command::Unsubscribe,
            b"ACK" => Command::Ack,
            b"NACK" => Command::Nack,
            b"BEGIN" => Command::Begin,
            b"COMMIT" => Command::Commit,
            b"ABORT" => Command::Abort,
            b"DISCONNECT" => Command::Disconnect,
            _ => return None,
        })
    }
}

/// A frame of a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The command.
    pub command: Command,
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The body.
    pub body: &'a [u8],
}

/// The bytes are not a frame of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The first line is not a command.
    #[error("the first line of a frame must be a command of STOMP, such as SEND or SUBSCRIBE")]
    Command,
    /// A line is not a header.
    #[error("a header must be a name, a colon and a value, in UTF-8")]
    Header,
    /// A header has a backslash that does not begin an escape.
    #[error("a header has an escape that this version does not have: write \\\\ for a backslash")]
    Escape,
    /// There are too many headers.
    #[error("a frame may have at most {MAX_HEADERS} headers")]
    TooManyHeaders,
}

impl<'a> Frame<'a> {
    /// Reads a whole frame without the NUL at its end.
    ///
    /// # Errors
    ///
    /// The bytes are not a frame of a client.
    pub fn read(bytes: &'a [u8], version: Version) -> Result<Frame<'a>, BadFrame> {
        let (line, mut rest) = line(bytes).ok_or(BadFrame::Command)?;
        let command = Command::parse(line).ok_or(BadFrame::Command)?;
        // The frames that agree on a version do not have escapes.
        let version = if command == Command::Connect { Version::V10 } else { version };
        let mut headers = Vec::new();
        loop {
            let (line, after) = self::line(rest).ok_or(BadFrame::Header)?;
            rest = after;
            if line.is_empty() {
                return Ok(Frame { command, headers, body: rest });
            }
            if headers.len() == MAX_HEADERS {
                return Err(BadFrame::TooManyHeaders);
            }
            let line = std::str::from_utf8(line).map_err(|_| BadFrame::Header)?;
            let (name, value) = line.split_once(':').ok_or(BadFrame::Header)?;
            // Clients of 1.0 may write a space after the colon.
            let value = if version == Version::V10 { value.trim_start() } else { value };
            headers.push((unescape(name, version)?, unescape(value, version)?));
        }
    }

    /// The value of a header. If a header comes several times, the first one counts.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', bytes)?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &bytes[end + 1..]))
}

/// Reads the escapes of a header.
fn unescape(text: &str, version: Version) -> Result<Cow<'_, str>, BadFrame> {
    if version == Version::V10 || !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut parts = text.chars();
    while let Some(character) = parts.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        out.push(match parts.next() {
            Some('n') => '\n',
            Some('c') => ':',
            Some('\\') => '\\',
            Some('r') if version == Version::V12 => '\r',
            _ => return Err(BadFrame::Escape),
        });
    }
    Ok(Cow::Owned(out))
}
