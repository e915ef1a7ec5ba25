//! The input that hyper reads from a connection, request by request.
//!
//! This module passes a head to hyper when the head is complete, and then passes the body. So the server knows where
//! each request ends, and can apply four rules that hyper does not have. A connection may be idle for longer than a
//! head may take to arrive. An incomplete head counts against the memory budget. A minor version above 1 counts as 1.
//! The framing of a chunked body is strict. A head with an error also goes to hyper, and hyper refuses it and ends the
//! connection.

use super::chunked_request::ChunkedRequest;
use super::version::lower_minor;
use crate::serve::http::head::MAX_HEAD;
use crate::serve::limits::memory::{BufferBudget, Reservation};
use crate::serve::net::stream::ClientStream;
use crate::serve::net::write_through::write_through;
use crate::transport::ApiError;
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

/// The maximum number of headers of a request; hyper has the same limit.
const MAX_HEADERS: usize = 100;

/// The maximum times that a client may take.
#[derive(Clone, Copy)]
pub struct Patience {
    /// The time in which a head must become complete.
    pub head: Duration,
    /// The time in which the next request must begin.
    pub idle: Duration,
}

/// The part of a request that comes next.
enum Part {
    /// A head, or the bytes between two requests.
    Head,
    /// A body. This number of its bytes has not been passed on yet.
    Body(u64),
    /// A chunked body.
    Chunks(ChunkedRequest),
    /// The bytes after a head that hyper refuses.
    Refused,
}

/// The state of the input. The task that drives hyper shares it, because hyper owns the [`RequestInput`] during that
/// time.
#[derive(Default)]
pub struct InputState {
    has_part_of_head: AtomicBool,
    is_late: AtomicBool,
}

impl InputState {
    /// Whether a part of a head has arrived, but not all of it.
    pub fn has_part_of_head(&self) -> bool {
        self.has_part_of_head.load(Ordering::Relaxed)
    }

    /// Whether a head has taken too long.
    pub fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
    }
}

/// A connection from which hyper reads.
pub struct RequestInput {
    io: ClientStream,
    patience: Patience,
    part: Part,
    /// Bytes that have arrived and do not yet belong to a complete head.
    input: BytesMut,
    /// The number of bytes of `input` that were parsed as a head that is not complete.
    parsed: usize,
    /// Bytes that hyper may read.
    ready: Bytes,
    /// The timeout for the client, and whether the client must begin a request before it.
    deadline: Option<(Pin<Box<Sleep>>, bool)>,
    /// The memory that an incomplete head counts against the budget.
    held: Reservation,
    refusal: Option<ApiError>,
    state: Arc<InputState>,
}

impl RequestInput {
    /// The input of a connection that is at the beginning of a request. Incomplete heads count against the budget.
    pub fn new(io: ClientStream, patience: Patience, budget: &Arc<BufferBudget>) -> RequestInput {
        RequestInput {
            io,
            patience,
            part: Part::Head,
            input: BytesMut::new(),
            parsed: 0,
            ready: Bytes::new(),
            deadline: None,
            held: budget.reservation(),
            refusal: None,
            state: Arc::default(),
        }
    }

    /// Returns the state of the input, which the caller can read while hyper owns the input.
    pub fn state(&self) -> Arc<InputState> {
        self.state.clone()
    }

    /// Returns the connection and puts back the bytes that hyper has not read. Also returns the refusal, if there was
    /// not enough memory for the rest of a head.
    pub fn into_stream(self) -> (ClientStream, Option<ApiError>) {
        let RequestInput { mut io, input, ready, refusal, .. } = self;
        io.unread(input.freeze());
        io.unread(ready);
        (io, refusal)
    }

    /// Takes a head from the input if it is complete. Returns whether hyper may read.
    fn take_head(&mut self) -> bool {
        let new = &self.input[self.parsed..];
        // A head ends with a line end. Most pieces of a head that arrives slowly do not contain one.
        if new.is_empty() || (self.parsed > 0 && !new.contains(&b'\n') && self.input.len() < MAX_HEAD) {
            return false;
        }
        self.parsed = self.input.len();
        let (part, size) = loop {
            match parse(&self.input) {
                Ok(Some((part, size))) if size <= MAX_HEAD => break (part, size),
                Ok(None) if self.input.len() < MAX_HEAD => return false,
                Err(httparse::Error::Version) if lower_minor(&mut self.input) => {}
                _ => break (Part::Refused, self.input.len()),
            }
        };
        self.part = part;
        self.ready = self.input.split_to(size).freeze();
        self.parsed = 0;
        self.deadline = None;
        true
    }

    /// Reserves memory for a head that is not complete.
    ///
    /// # Errors
    ///
    /// There is not enough memory. The part of the head is dropped.
    fn hold(&mut self) -> io::Result<()> {
        let bytes = if self.input.is_empty() { 0 } else { self.input.capacity() };
        self.held.resize(bytes).map_err(|refusal| {
            self.refusal = Some(refusal);
            self.input = BytesMut::new();
            io::ErrorKind::OutOfMemory.into()
        })
    }

    /// Reads until a head is complete, the client will not send more, or the time or the memory is used up.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = loop {
            if self.take_head() {
                break Ok(());
            }
            if self.input.is_empty() {
                // An idle connection does not hold a buffer.
                self.input = BytesMut::new();
            }
            match self.io.poll_input(cx, &mut self.input) {
                Poll::Ready(Ok(0)) => {
                    self.part = Part::Refused;
                    self.ready = self.input.split().freeze();
                    break Ok(());
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Pending => {
                    if let Err(error) = self.hold() {
                        break Err(error);
                    }
                    self.state.has_part_of_head.store(!self.input.is_empty(), Ordering::Relaxed);
                    ready!(self.poll_deadline(cx));
                    self.state.is_late.store(!self.input.is_empty(), Ordering::Relaxed);
                    break Err(io::ErrorKind::TimedOut.into());
                }
            }
        };
        self.state.has_part_of_head.store(false, Ordering::Relaxed);
        // Shrinking cannot fail.
        let _ = self.held.resize(0);
        Poll::Ready(ended)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_idle = self.input.is_empty();
        let (sleep, _) = match &mut self.deadline {
            Some(deadline) if deadline.1 == is_idle => deadline,
            deadline => {
                let time = if is_idle { self.patience.idle } else { self.patience.head };
                deadline.insert((Box::pin(tokio::time::sleep(time)), is_idle))
            }
        };
        sleep.as_mut().poll(cx)
    }

    /// Returns how many of the next bytes belong to the body.
    fn follow(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (count, has_ended) = match &mut self.part {
            Part::Body(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                (count, *left == 0)
            }
            Part::Chunks(chunks) => {
                let count = chunks.follow(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                (count, chunks.has_ended())
            }
            Part::Head | Part::Refused => (bytes.len(), false),
        };
        if has_ended {
            self.part = Part::Head;
        }
        Ok(count)
    }
}

/// Parses a head. Returns the part that follows it, and its size; `None` if the head is not complete.
fn parse(input: &[u8]) -> Result<Option<(Part, usize)>, httparse::Error> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    let httparse::Status::Complete(size) = head.parse_with_uninit_headers(input, &mut lines)? else { return Ok(None) };
    let is = |line: &&httparse::Header<'_>, name| line.name.eq_ignore_ascii_case(name);
    if head.headers.iter().any(|line| is(&line, "transfer-encoding")) {
        // hyper refuses the request unless the last coding is `chunked`, even over HTTP/1.0.
        return Ok(Some((Part::Chunks(ChunkedRequest::new()), size)));
    }
    let mut lengths = head.headers.iter().filter(|line| is(line, "content-length")).map(|line| length(line.value));
    let Some(first) = lengths.next() else { return Ok(Some((Part::Head, size))) };
    let part = match first.filter(|first| lengths.all(|other| other == Some(*first))) {
        Some(0) => Part::Head,
        Some(length) => Part::Body(length),
        None => Part::Refused,
    };
    Ok(Some((part, size)))
}

fn length(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

impl AsyncRead for RequestInput {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ready.is_empty() && !this.input.is_empty() && !matches!(this.part, Part::Head) {
            let input = std::mem::take(&mut this.input);
            let count = this.follow(&input)?;
            this.input = input;
            this.ready = this.input.split_to(count).freeze();
        }
        if this.ready.is_empty() && matches!(this.part, Part::Head) {
            ready!(this.poll_head(cx))?;
        }
        if !this.ready.is_empty() {
            let count = this.ready.len().min(buf.remaining());
            buf.put_slice(&this.ready[..count]);
            this.ready.advance(count);
            if this.ready.is_empty() {
                // Even an empty slice keeps the whole buffer in memory.
                this.ready = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let begin = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let count = this.follow(&buf.filled()[begin..])?;
        // The bytes after the body are the next request.
        this.input.extend_from_slice(&buf.filled()[begin + count..]);
        buf.set_filled(begin + count);
        Poll::Ready(Ok(()))
    }
}

write_through!(RequestInput, io);
