//! Finds whole frames in a stream of bytes, however it is cut.

use bytes::{Buf, Bytes, BytesMut};

/// The most bytes of the command and the headers of a frame.
pub const MAX_HEAD: usize = 16 << 10;

/// Why no more frames can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The frame is longer than the limit.
    #[error("a frame may have at most {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// The headers do not end.
    #[error("a frame must have an empty line after its headers, and at most {MAX_HEAD} bytes before it")]
    Head,
    /// The header `content-length` is not a number.
    #[error("content-length must be the number of bytes of the body")]
    ContentLength,
    /// The body does not end where its length says.
    #[error("a NUL must follow the body; count the bytes of content-length in UTF-8")]
    NoEnd,
}

/// Collects bytes, and finds the frames in them.
#[derive(Debug)]
pub struct Splitter {
    max: usize,
    bytes: BytesMut,
    /// The bytes that were searched already.
    searched: usize,
    /// The length of the head, and that of the body if a header names it.
    head: Option<(usize, Option<usize>)>,
    broken: Option<Broken>,
}

impl Splitter {
    /// A splitter for frames of at most `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Splitter {
        Splitter { max, bytes: BytesMut::new(), searched: 0, head: None, broken: None }
    }

    /// The memory that an incomplete frame takes.
    #[must_use]
    pub fn held(&self) -> usize {
        if self.bytes.is_empty() { 0 } else { self.bytes.capacity() }
    }

    /// Adds bytes behind those that have come before.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Takes the next whole frame, without the NUL at its end; `None` if more bytes are needed. Line ends between frames
    /// are heart-beats, and are skipped.
    ///
    /// # Errors
    ///
    /// The bytes are not a frame. The error is final.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let found = self.find();
        if let Err(broken) = found {
            (self.broken, self.bytes) = (Some(broken), BytesMut::new());
        }
        found.map(|end| {
            let end = end?;
            (self.searched, self.head) = (0, None);
            let frame = self.bytes.split_to(end).freeze();
            self.bytes.advance(1);
            if self.bytes.is_empty() {
                self.bytes = BytesMut::new();
            }
            Some(frame)
        })
    }

    /// The length of the first frame, if it is whole.
    fn find(&mut self) -> Result<Option<usize>, Broken> {
        if self.head.is_none() && self.searched == 0 {
            let ends = self.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.bytes.advance(ends);
        }
        let (head, length) = match self.head {
            Some(head) => head,
            None => match self.find_head()? {
                Some(head) => *self.head.insert(head),
                None => return Ok(None),
            },
        };
        if let Some(length) = length {
            let end = head.saturating_add(length);
            if end > self.max {
                return Err(Broken::TooLong { max: self.max });
            }
            return match self.bytes.get(end) {
                Some(0) => Ok(Some(end)),
                Some(_) => Err(Broken::NoEnd),
                None => Ok(None),
            };
        }
        let from = self.searched.max(head);
        if let Some(end) = memchr::memchr(0, &self.bytes[from..]).map(|end| from + end).filter(|end| *end <= self.max) {
            return Ok(Some(end));
        }
        self.searched = self.bytes.len();
        if self.bytes.len() > self.max { Err(Broken::TooLong { max: self.max }) } else { Ok(None) }
    }

    /// Looks for the empty line after the headers.
    fn find_head(&mut self) -> Result<Option<(usize, Option<usize>)>, Broken> {
        let bytes = &self.bytes[..];
        let mut from = self.searched;
        while let Some(at) = memchr::memchr2(b'\n', 0, &bytes[from..]).map(|at| from + at) {
            if at > MAX_HEAD || bytes[at] == 0 {
                return Err(Broken::Head);
            }
            let end = match bytes[at + 1..] {
                [b'\n', ..] => at + 2,
                [b'\r', b'\n', ..] => at + 3,
                // What follows decides.
                [] | [b'\r'] => {
                    self.searched = at;
                    return Ok(None);
                }
                _ => {
                    from = at + 1;
                    continue;
                }
            };
            return Ok(Some((end, content_length(&bytes[..at])?)));
        }
        self.searched = bytes.len();
        if bytes.len() > MAX_HEAD { Err(Broken::Head) } else { Ok(None) }
    }
}

/// The value of the first header `content-length`.
fn content_length(head: &[u8]) -> Result<Option<usize>, Broken> {
    const NAME: &[u8] = b"content-length:";
    let Some(value) = head.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(NAME)) else {
        return Ok(None);
    };
    let value = value.trim_ascii();
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or(Broken::ContentLength)
}
