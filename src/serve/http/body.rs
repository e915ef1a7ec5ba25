//! Reads a request's body within its limits.

use super::headers::list;
use super::request::{Request, RequestBody};
use crate::serve::limits::memory::{BufferBudget, Reservation};
use crate::serve::net::drain::{BodyProgress, Drain};
use crate::transport::{ApiError, Code};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// The size of a block, for a body that arrives in several pieces.
const BLOCK: usize = 16 << 10;

/// The size of the buffer into which the next piece of a body is read.
const READING: usize = 16 << 10;

/// The memory that a request takes while its body has not begun to arrive: a buffer for reading, and the request's head
/// and handler.
const AWAITED: usize = READING + (8 << 10);

/// The limits of a body.
pub struct BodyLimits<'a> {
    /// The maximum number of bytes.
    pub bytes: usize,
    /// The time for the whole body to arrive.
    pub timeout: Duration,
    /// The memory budget for bodies that the server has to wait for.
    pub budget: &'a Arc<BufferBudget>,
    /// Interrupts a body that does not make progress while the server shuts down.
    pub drain: &'a Drain,
}

/// Reads a request's body.
///
/// # Errors
///
/// `too_large` if the body is too long; `bad_request` if the body does not arrive in time or breaks off; `not_ready` if
/// the body does not make progress while the server shuts down.
pub async fn read_body(request: &mut Request, limits: BodyLimits<'_>) -> Result<ReceivedBody, ApiError> {
    // The server does not decompress bodies, so a body cannot be a decompression bomb. Without this check the server
    // would take the compressed bytes for the content itself.
    let coding = list(request.headers(), CONTENT_ENCODING.as_str());
    let is_coded = |coding: &str| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity");
    if coding.split(',').map(str::trim).any(is_coded) {
        return Err(ApiError::new(Code::BadRequest, "send the body as it is, without Content-Encoding"));
    }
    // hyper asks the client to send the body (100 Continue) at the first read.
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits.bytes as u64) {
        return Err(too_large(limits.bytes));
    }
    let body = tokio::time::timeout(limits.timeout, collect(request.body_mut(), &limits)).await;
    body.unwrap_or_else(|_| Err(ApiError::new(Code::BadRequest, "the body took too long to arrive")))
}

fn too_large(most: usize) -> ApiError {
    ApiError::new(Code::TooLarge, format!("the body must be at most {most} bytes"))
}

/// A body that was read. If the server had to wait for it, its memory counts while this value exists. A body that
/// arrived in one piece with the head does not count, because it is a part of the buffer into which it was read.
pub struct ReceivedBody {
    bytes: Bytes,
    _held: Option<Reservation>,
}

impl Deref for ReceivedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The pieces of a body, in blocks of one size: a buffer that grows would take up to three times the body's length.
#[derive(Default)]
struct Blocks {
    blocks: Vec<Vec<u8>>,
    length: usize,
}

impl Blocks {
    fn push(&mut self, mut piece: &[u8]) {
        self.length += piece.len();
        while !piece.is_empty() {
            if self.blocks.last().is_none_or(|last| last.len() == BLOCK) {
                self.blocks.push(Vec::with_capacity(BLOCK));
            }
            let Some(last) = self.blocks.last_mut() else { return };
            let (part, behind) = piece.split_at(piece.len().min(BLOCK - last.len()));
            last.extend_from_slice(part);
            piece = behind;
        }
    }

    /// Returns how much memory the blocks will take when this number of further bytes has arrived.
    fn size_with(&self, more: usize) -> usize {
        (self.length + more).div_ceil(BLOCK) * BLOCK
    }

    /// All bytes in one piece. The blocks are freed one by one.
    fn join(self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.length);
        for block in self.blocks {
            whole.extend_from_slice(&block);
        }
        whole
    }
}

async fn collect(body: &mut RequestBody, limits: &BodyLimits<'_>) -> Result<ReceivedBody, ApiError> {
    let most = limits.bytes;
    let mut body = Limited::new(body, most);
    let (mut blocks, mut held) = (Blocks::default(), None);
    let mut progress = BodyProgress::new(limits.drain);
    loop {
        let arrived = body.frame().now_or_never();
        if arrived.is_none() && held.is_none() {
            // The client may have announced a body that it never begins, in many requests at once.
            held.insert(limits.budget.reservation()).resize(AWAITED)?;
        }
        let frame = tokio::select! {
            // A frame that has arrived counts, even if the time is up.
            biased;
            frame = async { if let Some(frame) = arrived { frame } else { body.frame().await } } => frame,
            // No part of the request was carried out, so the client may send it again to another node.
            () = progress.is_too_slow(blocks.length) => {
                return Err(ApiError::new(Code::NotReady, "the server is stopping and the body is slow; send it again"));
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                return too_large(most);
            }
            ApiError::new(Code::BadRequest, "the body broke off")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if blocks.length == 0 && body.is_end_stream() {
            // Most bodies come in one piece.
            return Ok(ReceivedBody { bytes: data, _held: held });
        }
        // The rest may take long to arrive, and many bodies may arrive at once.
        let held = held.get_or_insert_with(|| limits.budget.reservation());
        held.resize(blocks.size_with(data.len()) + READING)?;
        blocks.push(&data);
    }
    Ok(ReceivedBody { bytes: blocks.join().into(), _held: held })
}
