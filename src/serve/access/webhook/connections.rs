//! Connections to the application. One question at a time uses a connection, and a later question uses it again.
//!
//! Answers on one connection are told apart by their order alone. So a connection that has anything left over behind an
//! answer is closed: the next user's question would get those bytes as its answer.

use crate::http_client::{self, Connector, Stream};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, Parts};
use hyper::header::{HOST, HeaderValue};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper::{Request, StatusCode, Uri};
use parking_lot::Mutex;
use socket2::SockRef;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

/// How long a connection is kept without a question.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// How long a connection must be silent behind an answer before it is used again. An application that writes more than
/// its `Content-Length` does so at once, or a moment later when its script ends.
const QUARANTINE: Duration = Duration::from_millis(100);

/// Size limit of an answer's body.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The application's answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// The application accepts no connection.
    #[error("no connection")]
    NoConnection,
    /// The connection ended, and not one byte of an answer came.
    #[error("the connection broke")]
    Broke,
    /// The connection ended within the answer, or what came is not HTTP.
    #[error("an answer that breaks off, or is not HTTP")]
    BrokeOff,
    /// The body is larger than any answer.
    #[error("an answer of more than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
}

/// The connections to one application.
pub struct Connections {
    uri: Uri,
    host: HeaderValue,
    connector: Connector,
    max_idle: usize,
    idle: Mutex<VecDeque<Idle>>,
}

/// A connection without a question, and since when.
struct Idle {
    stream: Stream,
    since: Instant,
}

impl Connections {
    /// Connections to this URL. At most `max_idle` of them are kept without a question.
    ///
    /// # Errors
    ///
    /// The URL is `https:`, and the system's certificates cannot be read; or it has no host.
    pub fn new(uri: Uri, max_idle: usize, connect_timeout: Duration) -> io::Result<Arc<Connections>> {
        let connector = http_client::connector(&uri, connect_timeout)?;
        let host = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        let host = host.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a URL without a host"))?;
        Ok(Arc::new(Connections { uri, host, connector, max_idle, idle: Mutex::default() }))
    }

    /// Sends a request to the path of the URL, and reads the whole answer. If the connection ends before the first byte of
    /// an answer, the request is sent once more, on a new connection: an application may close a kept connection at the
    /// moment when the request goes out. So the request must be one that may be repeated.
    ///
    /// # Errors
    ///
    /// There is no answer.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the connection is closed.
    pub async fn send(self: &Arc<Self>, mut request: Request<Full<Bytes>>) -> Result<Reply, NoReply> {
        *request.uri_mut() = self.uri.path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()));
        request.headers_mut().insert(HOST, self.host.clone());
        let stream = match self.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        match self.exchange(stream, request.clone()).await {
            Err(NoReply::Broke) => self.exchange(self.connect().await?, request).await,
            other => other,
        }
    }

    async fn connect(&self) -> Result<Stream, NoReply> {
        let mut connector = self.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await.map_err(|_| NoReply::NoConnection)?;
        // The error names the URL, which may hold a secret.
        connector.call(self.uri.clone()).await.map_err(|_| NoReply::NoConnection)
    }

    /// Sends the request on this connection, and keeps the connection if nothing is left over on it.
    async fn exchange(self: &Arc<Self>, stream: Stream, request: Request<Full<Bytes>>) -> Result<Reply, NoReply> {
        let stream = Watched { stream, has_read: false };
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|_| NoReply::Broke)?;
        // The connection makes progress while it is polled, and must not be polled after its end.
        let mut connection = Some(connection);
        let mut read_any = false;
        let mut drive = |cx: &mut Context<'_>| {
            if let Some(mut running) = connection.take() {
                match running.poll_without_shutdown(cx) {
                    Poll::Pending => connection = Some(running),
                    Poll::Ready(_) => read_any = running.into_parts().io.has_read,
                }
            }
            connection.is_some()
        };
        let answered = {
            let mut answer = pin!(answer(&mut sender, request));
            poll_fn(|cx| {
                drive(cx);
                answer.as_mut().poll(cx)
            })
            .await
        };
        // It also reads the end of the connection, or bytes behind the answer, if they are there.
        let is_reusable =
            poll_fn(|cx| Poll::Ready(drive(cx) && matches!(sender.poll_ready(cx), Poll::Ready(Ok(()))))).await;
        if let Some(connection) = connection {
            let Parts { io, read_buf, .. } = connection.into_parts();
            read_any = io.has_read;
            if answered.is_ok() && is_reusable && read_buf.is_empty() {
                self.keep(io.stream);
            }
        }
        answered.map_err(|error| match error {
            NoReply::BrokeOff if !read_any => NoReply::Broke,
            other => other,
        })
    }

    /// A kept connection that has been silent since its last answer.
    fn take(&self) -> Option<Stream> {
        let mut idle = self.idle.lock();
        while let Some(at) = idle.iter().rposition(|kept| kept.since.elapsed() >= QUARANTINE) {
            let mut kept = idle.remove(at)?;
            if kept.since.elapsed() < MAX_IDLE && is_silent(&mut kept.stream) {
                return Some(kept.stream);
            }
        }
        None
    }

    fn keep(self: &Arc<Self>, stream: Stream) {
        let mut idle = self.idle.lock();
        if idle.len() >= self.max_idle {
            return;
        }
        let is_first = idle.is_empty();
        idle.push_back(Idle { stream, since: Instant::now() });
        drop(idle);
        if is_first {
            tokio::spawn(close_at_end(Arc::downgrade(self)));
        }
    }
}

/// Closes connections that are without a question for [`MAX_IDLE`], until there are no more.
async fn close_at_end(connections: Weak<Connections>) {
    while let Some(connections) = connections.upgrade() {
        let oldest = {
            let mut idle = connections.idle.lock();
            while idle.front().is_some_and(|kept| kept.since.elapsed() >= MAX_IDLE) {
                idle.pop_front();
            }
            idle.front().map(|kept| kept.since)
        };
        drop(connections);
        let Some(oldest) = oldest else { return };
        sleep_until(oldest + MAX_IDLE).await;
    }
}

/// Sends a request and reads the answer.
async fn answer(sender: &mut http1::SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Reply, NoReply> {
    let response = sender.send_request(request).await.map_err(|_| NoReply::BrokeOff)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => NoReply::TooLarge,
        None => NoReply::BrokeOff,
    })?;
    Ok(Reply { status, body: body.to_bytes() })
}

/// Whether nothing has arrived on a connection, not even its end. The system is asked: the runtime notices what arrives
/// only when it next polls its sockets. A TLS session may hold decrypted bytes, which only a read finds.
fn is_silent(stream: &mut Stream) -> bool {
    let socket = SockRef::from(http_client::tcp(stream));
    let is_empty =
        socket.peek(&mut [MaybeUninit::uninit()]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let read = Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), buffer.unfilled());
    is_empty && read.is_pending()
}

/// A connection that notes whether a byte has arrived.
struct Watched {
    stream: Stream,
    has_read: bool,
}

impl Read for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 4096];
        let free = space.len().min(buf.remaining());
        let mut part = ReadBuf::new(&mut space[..free]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, part.unfilled()))?;
        self.has_read |= !part.filled().is_empty();
        buf.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
