//! Hands a session over from hyper to the connection. The server takes the connection only after hyper has written the
//! head.

use crate::serve::limits::memory::BufferId;
use crate::serve::routes::response::{Body, Pieces};
use crate::serve::session::session::Session;
use bytes::Bytes;
use hyper::body::{Body as HyperBody, Frame, SizeHint};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// A session on its way from the handler to the connection.
#[derive(Default)]
pub struct Handover {
    session: Mutex<Option<Session>>,
    is_head_written: AtomicBool,
    /// The last whole body that hyper got.
    body: Mutex<BufferId>,
}

impl Handover {
    /// Stores a session. The head of its response is in hyper's buffer when hyper asks for the body.
    pub fn leave(&self, session: Session) {
        *self.session.lock() = Some(session);
    }

    /// Records that hyper has the head, or does not have to write one.
    pub fn set_head_written(&self) {
        self.is_head_written.store(true, Ordering::Relaxed);
    }

    /// Whether hyper has the head.
    pub fn is_head_written(&self) -> bool {
        self.is_head_written.load(Ordering::Relaxed)
    }

    /// The last whole body that hyper got.
    pub fn body(&self) -> BufferId {
        *self.body.lock()
    }

    /// Takes the session.
    pub fn take(&self) -> Option<Session> {
        self.session.lock().take()
    }

    /// Converts a body for hyper. If it is a session, the session stays in this handover.
    pub fn accept(self: &Arc<Handover>, body: Body) -> BodyForHyper {
        match body {
            Body::Whole(bytes) => {
                if let Some(bytes) = &bytes {
                    *self.body.lock() = BufferId::of(bytes);
                }
                BodyForHyper::Whole(bytes)
            }
            Body::Pieces(pieces) => BodyForHyper::Pieces(pieces),
            Body::Session(session) => {
                // A 101 has no body: hyper's connection ends after the head.
                let is_duplex = matches!(session, Session::Duplex(_) | Session::Protocol(_));
                self.leave(session);
                if is_duplex { BodyForHyper::Whole(None) } else { BodyForHyper::Session(self.clone()) }
            }
        }
    }
}

/// The body of a response as hyper gets it.
pub enum BodyForHyper {
    /// The whole body.
    Whole(Option<Bytes>),
    /// Pieces of a body, as they become available.
    Pieces(Pieces),
    /// A body that the session writes after hyper has written the head.
    Session(Arc<Handover>),
}

impl HyperBody for BodyForHyper {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            BodyForHyper::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            BodyForHyper::Pieces(pieces) => {
                pieces.as_mut().poll_next(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
            BodyForHyper::Session(handover) => {
                // hyper asks for the body when the head is in its buffer.
                handover.set_head_written();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, BodyForHyper::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            BodyForHyper::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            BodyForHyper::Pieces(_) | BodyForHyper::Session(_) => SizeHint::default(),
        }
    }
}
