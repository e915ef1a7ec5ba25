//! Reads a request's body within its limits.

use super::request::{Request, RequestBody};
use crate::serve::limits::memory::BufferBudget;
use crate::serve::net::drain::{BodyProgress, Drain};
use crate::transport::{ApiError, Code};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use hyper::header::CONTENT_ENCODING;
use std::sync::Arc;
use std::time::Duration;

/// The limits of a body.
pub struct BodyLimits<'a> {
    /// The maximum number of bytes.
    pub bytes: usize,
    /// The time for the whole body to arrive.
    pub timeout: Duration,
    /// The memory that a body in several pieces counts against.
    pub budget: &'a Arc<BufferBudget>,
    /// Interrupts a body that makes no progress while the server shuts down.
    pub drain: &'a Drain,
}

/// Reads a request's body.
///
/// # Errors
///
/// `too_large`; `bad_request` if it does not arrive in time or breaks off; `not_ready` if it makes no progress while the
/// server shuts down.
pub async fn read_body(request: &mut Request, limits: BodyLimits<'_>) -> Result<Bytes, ApiError> {
    // The server decompresses nothing, so a body cannot be a decompression bomb. Without this check the server would
    // take the compressed bytes for the content itself.
    let coding = request.headers().get(CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::new(Code::BadRequest, "send the body as it is, without Content-Encoding"));
    }
    let body = tokio::time::timeout(limits.timeout, collect(request.body_mut(), &limits)).await;
    body.unwrap_or_else(|_| Err(ApiError::new(Code::BadRequest, "the body took too long to arrive")))
}

async fn collect(body: &mut RequestBody, limits: &BodyLimits<'_>) -> Result<Bytes, ApiError> {
    let most = limits.bytes;
    let mut body = Limited::new(body, most);
    let (mut whole, mut reservation) = (Vec::new(), None);
    let mut progress = BodyProgress::new(limits.drain);
    loop {
        let frame = tokio::select! {
            // A frame that has arrived counts, even if the time is up.
            biased;
            frame = body.frame() => frame,
            // No part of the request was carried out, so the client may send it again to another node.
            () = progress.is_too_slow(whole.len()) => {
                return Err(ApiError::new(Code::NotReady, "the server is stopping and the body is slow; send it again"));
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                return ApiError::new(Code::TooLarge, format!("the body must be at most {most} bytes"));
            }
            ApiError::new(Code::BadRequest, "the body broke off")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.is_empty() && body.is_end_stream() {
            // Most bodies come in one piece.
            return Ok(data);
        }
        whole.extend_from_slice(&data);
        // The rest may take long to arrive, and many bodies may arrive at once.
        reservation.get_or_insert_with(|| limits.budget.reservation()).resize(whole.len())?;
    }
    Ok(whole.into())
}
