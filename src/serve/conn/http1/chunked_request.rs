//! Follows the chunked body of a request to its last byte (RFC 9112 §7.1).
//!
//! hyper decodes the body, and treats a line feed without a carriage return as a part of a trailer. After `0\r\n\n` it
//! would swallow the next request, although a proxy in front of the server has counted that request (request
//! smuggling). This module requires both characters at the end of each line of the framing.

/// The position of the next byte in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The first digit of a size.
    Size,
    /// The rest of a size.
    SizeRest,
    /// White space after a size: some old clients send it.
    Space,
    /// A chunk extension, which is ignored.
    Extension,
    /// The line feed of a size.
    SizeEnd,
    /// The content of a chunk.
    Data,
    /// The line end of a chunk.
    DataEnd,
    DataLineFeed,
    /// The beginning of a trailer, or of the empty line that ends the body.
    Line,
    Trailer,
    TrailerEnd,
    LastLineFeed,
    End,
}

/// The framing of a body is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The progress of a request's body.
#[derive(Clone, Copy, Debug)]
pub struct ChunkedRequest {
    at: At,
    /// The size of the chunk while it is read; after that, the number of bytes of the chunk that have not arrived.
    size: u64,
}

impl ChunkedRequest {
    /// The state before the first byte of a body.
    pub fn new() -> ChunkedRequest {
        ChunkedRequest { at: At::Size, size: 0 }
    }

    /// Whether the body is complete.
    pub fn has_ended(&self) -> bool {
        self.at == At::End
    }

    /// Follows the next bytes. Returns how many of them belong to the body.
    ///
    /// # Errors
    ///
    /// The framing is not valid.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut rest = bytes;
        while self.at != At::End {
            if self.at == At::Data {
                let n = usize::try_from(self.size).unwrap_or(usize::MAX).min(rest.len());
                rest = &rest[n..];
                self.size -= n as u64;
                if self.size > 0 {
                    break;
                }
                self.at = At::DataEnd;
            }
            let Some((byte, after)) = rest.split_first() else { break };
            self.at = self.after(*byte)?;
            rest = after;
        }
        Ok(bytes.len() - rest.len())
    }

    fn after(&mut self, byte: u8) -> Result<At, Malformed> {
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        Ok(match (self.at, byte) {
            (At::Size | At::SizeRest, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from((byte as char).to_digit(16).unwrap_or_default());
                self.size = self.size.checked_mul(16).ok_or(Malformed)? + digit;
                At::SizeRest
            }
            (At::SizeRest | At::Space, b' ' | b'\t') => At::Space,
            (At::SizeRest | At::Space, b';') => At::Extension,
            (At::SizeRest | At::Space | At::Extension, b'\r') => At::SizeEnd,
            (At::Extension, _) if is_text => At::Extension,
            (At::SizeEnd, b'\n') if self.size == 0 => At::Line,
            (At::SizeEnd, b'\n') => At::Data,
            (At::DataEnd, b'\r') => At::DataLineFeed,
            (At::DataLineFeed, b'\n') => At::Size,
            (At::Line, b'\r') => At::LastLineFeed,
            // A trailer begins with its name. White space at the beginning would continue the previous line (RFC 9112
            // §5.2).
            (At::Line, _) if byte.is_ascii_graphic() => At::Trailer,
            (At::Trailer, b'\r') => At::TrailerEnd,
            (At::Trailer, _) if is_text => At::Trailer,
            (At::TrailerEnd, b'\n') => At::Line,
            (At::LastLineFeed, b'\n') => At::End,
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of bytes that belong to the body, if it is complete; `None` if it is not.
    fn length(bytes: &[u8], piece: usize) -> Result<Option<usize>, Malformed> {
        let (mut body, mut taken) = (ChunkedRequest::new(), 0);
        for piece in bytes.chunks(piece) {
            let n = body.follow(piece)?;
            taken += n;
            if n < piece.len() {
                break;
            }
        }
        Ok(body.has_ended().then_some(taken))
    }

    #[test]
    fn a_body_ends_where_it_ends() {
        for body in [
            "0\r\n\r\n",
            "1\r\na\r\n0\r\n\r\n",
            "A;x=y\r\n0123456789\r\n00\r\n\r\n",
            "1 \t;x\r\na\r\n0\r\nX: y\r\nZ: \u{e9}\r\n\r\n",
            "5\r\n\r\n\r\n0\r\n0\r\n\r\n",
        ] {
            let next = format!("{body}GET / HTTP/1.1\r\n\r\n");
            for piece in 1..next.len() {
                assert_eq!(length(next.as_bytes(), piece), Ok(Some(body.len())), "{body:?}");
                assert_eq!(length(&body.as_bytes()[..body.len() - 1], piece), Ok(None), "{body:?}");
            }
        }
    }

    #[test]
    fn lines_end_in_one_way() {
        for bad in [
            "0\r\n\n",
            "0\n\r\n",
            "0\r\n\r\r\n",
            "0\r\nX: y\n\n",
            "0\r\nX: y\n\r\n",
            "0\r\nX: y\rZ: a\r\n\r\n",
            "0\r\n X: y\r\n\r\n",
            "0\r\nX: \0\r\n\r\n",
            "1\na\r\n0\r\n\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\na\r0\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            "1;x\ny\r\na\r\n0\r\n\r\n",
            "1;\u{1}\r\na\r\n",
            "\r\n",
            "x\r\n",
            "+1\r\n",
            "0x1\r\n",
            "1 1\r\n",
            "10000000000000000\r\n",
        ] {
            for piece in 1..=bad.len() {
                assert_eq!(length(bad.as_bytes(), piece), Err(Malformed), "{bad:?}");
            }
        }
    }
}
