//! The body of an HTTP/2 request.

use super::abuse::ConnectionState;
use crate::serve::http::request::BodyError;
use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body of a stream. Bytes that a handler reads count as useful for the connection.
pub struct StreamBody {
    stream: RecvStream,
    connection: ConnectionState,
}

impl StreamBody {
    /// The body of a stream of this connection.
    pub fn new(stream: RecvStream, connection: ConnectionState) -> StreamBody {
        StreamBody { stream, connection }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(data) = ready!(this.stream.poll_data(cx)).transpose()? else { return Poll::Ready(None) };
        // The window opens only for bytes that the handler has read: only the handler knows the limit on the body.
        this.stream.flow_control().release_capacity(data.len())?;
        this.connection.was_useful(data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
