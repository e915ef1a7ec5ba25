//! Lines of a byte stream, for raw TCP.

use bytes::{Bytes, BytesMut};

/// A line is longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line too long")]
pub struct TooLong;

/// Splits a stream into lines at LF; one CR in front of the LF belongs to the line end.
#[derive(Debug)]
pub struct Lines {
    max: usize,
    /// The number of bytes at the front of the caller's buffer that do not contain an LF. If each read searched from
    /// the start, the cost for a line that arrives byte by byte would grow with the square of its length.
    scanned: usize,
    failed: bool,
}

impl Lines {
    /// A splitter for lines of at most `max` bytes. A CR before the LF counts as a part of the line.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, scanned: 0, failed: false }
    }

    /// Takes the next line from the front of `buf`, without its line end; `None` if more bytes are needed. An empty
    /// line is returned as an empty line and not skipped.
    ///
    /// Between calls, bytes may only be added to the end of `buf`.
    ///
    /// # Errors
    ///
    /// [`TooLong`] if more than the allowed bytes come before an LF. The error is final: this call and all later calls
    /// clear `buf`, so that a peer that continues to send does not fill the memory.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, TooLong> {
        if self.failed {
            buf.clear();
            return Err(TooLong);
        }
        // The limit applies to the position of the LF, not to the number of bytes that have arrived, so that the answer
        // does not depend on how the stream was cut into reads.
        let end = buf.len().min(self.max.saturating_add(1));
        match buf.get(self.scanned..end).and_then(|new| new.iter().position(|&byte| byte == b'\n')) {
            Some(at) => {
                let mut line = buf.split_to(self.scanned + at + 1);
                line.truncate(line.len() - 1);
                self.scanned = 0;
                Ok(Some(without_cr(line)))
            }
            None if buf.len() > self.max => {
                self.failed = true;
                buf.clear();
                Err(TooLong)
            }
            None => {
                self.scanned = end;
                Ok(None)
            }
        }
    }

    /// At the end of the stream, takes the last line if it does not end in an LF and is not empty.
    ///
    /// Call it when [`decode`](Self::decode) does not return more lines. Many clients (`printf … | nc`) do not send a
    /// last LF.
    pub fn rest(&mut self, buf: &mut BytesMut) -> Option<Bytes> {
        self.scanned = 0;
        let line = without_cr(buf.split());
        (!self.failed && !line.is_empty()).then_some(line)
    }
}

fn without_cr(mut line: BytesMut) -> Bytes {
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    line.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns all lines (the rest counts as the last line), and whether the decoding ended in an error.
    fn split(chunks: &[&[u8]], max: usize) -> (Vec<Vec<u8>>, bool) {
        let (mut lines, mut buf, mut found) = (Lines::new(max), BytesMut::new(), Vec::new());
        for chunk in chunks {
            buf.extend_from_slice(chunk);
            loop {
                match lines.decode(&mut buf) {
                    Ok(Some(line)) => found.push(line.to_vec()),
                    Ok(None) => break,
                    Err(TooLong) => return (found, true),
                }
            }
        }
        found.extend(lines.rest(&mut buf).map(|rest| rest.to_vec()));
        (found, false)
    }

    #[test]
    fn line_ends() {
        let (lines, failed) = split(&[b"a\n\r\n\nb\r\r\nc\rd\r\n", b"e\r"], 100);
        assert_eq!(lines, [&b"a"[..], b"", b"", b"b\r", b"c\rd", b"e"]);
        assert!(!failed);
        assert_eq!(split(&[b"a\n"], 100).0, [b"a"]);
        assert_eq!(split(&[b"\r"], 100).0, [b""; 0]);
    }

    #[test]
    fn the_limit_is_exact() {
        assert_eq!(split(&[b"abc\nabc"], 3), (vec![b"abc".to_vec(), b"abc".to_vec()], false));
        assert_eq!(split(&[b"abc\nabcd\n"], 3), (vec![b"abc".to_vec()], true));
        assert_eq!(split(&[b"abc", b"\n"], 3), (vec![b"abc".to_vec()], false));
        assert_eq!(split(&[b"abcd"], 3), (vec![], true));
        assert_eq!(split(&[b"\n", b"\n"], 0).0.len(), 2);
        assert_eq!(split(&[b"a\n"], usize::MAX).0.len(), 1);
    }

    #[test]
    fn an_error_is_final() {
        let (mut lines, mut buf) = (Lines::new(1), BytesMut::from(&b"abc"[..]));
        assert_eq!(lines.decode(&mut buf), Err(TooLong));
        buf.extend_from_slice(b"a\n");
        assert_eq!(lines.decode(&mut buf), Err(TooLong));
        assert!(buf.is_empty());
        assert_eq!(lines.rest(&mut BytesMut::from(&b"a"[..])), None);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(bytes in "[ab\r\n]{0,60}", size in 1_usize..10, max in 0_usize..12) {
            let bytes = bytes.as_bytes();
            let chunks: Vec<_> = bytes.chunks(size).collect();
            prop_assert_eq!(split(&chunks, max), split(&[bytes], max));
        }

        #[test]
        fn as_the_standard_library_splits(text in "[ab\r\n]{0,60}[ab]") {
            let expected: Vec<_> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(split(&[text.as_bytes()], 100), (expected, false));
        }
    }
}
