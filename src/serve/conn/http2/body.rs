//! The body of an HTTP/2 request.

use super::abuse::ConnectionState;
use crate::serve::http::request::BodyError;
use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// The body of a stream. Bytes that a handler reads count as useful for the connection.
pub struct StreamBody {
    stream: RecvStream,
    connection: ConnectionState,
    is_awaited: Arc<AtomicBool>,
}

impl StreamBody {
    /// The body of a stream of this connection.
    pub fn new(stream: RecvStream, connection: ConnectionState) -> StreamBody {
        StreamBody { stream, connection, is_awaited: Arc::default() }
    }

    /// Whether a handler waits for the body. The flag is shared, since the body belongs to the handler.
    pub fn is_awaited(&self) -> Arc<AtomicBool> {
        self.is_awaited.clone()
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let data = match this.stream.poll_data(cx) {
            Poll::Ready(data) => data.transpose()?,
            Poll::Pending => {
                this.is_awaited.store(true, Ordering::Relaxed);
                return Poll::Pending;
            }
        };
        let Some(data) = data else {
            // A malformed request has no effect (RFC 9113 §8.1.1).
            return Poll::Ready(this.connection.is_malformed().then(|| Err("the request is malformed".into())));
        };
        // The window opens only for bytes that the handler has read: only the handler knows the limit on the body.
        this.stream.flow_control().release_capacity(data.len())?;
        this.connection.was_useful(data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
