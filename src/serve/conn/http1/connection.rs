//! The requests and sessions of an HTTP/1 connection, one after the other.
//!
//! Each phase is a separate task, so that a parked session does not keep the memory of another phase.

use super::fast::{self, Next};
use super::hyper_adapter;
use super::long_polls;
use crate::serve::http::peer::Peer;
use crate::serve::net::stream::ClientStream;
use crate::serve::routes::context::Context;
use crate::serve::session::session::Session;
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

/// Serves requests until the connection ends or a session begins.
///
/// The future is boxed: a session's task calls this function again, and the type of a future cannot contain itself.
pub fn serve(context: Arc<Context>, mut io: ClientStream, peer: Peer) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let next = fast::serve(&context, &mut io, &peer, BytesMut::new()).await;
        go_on(context, io, peer, next).await;
    })
}

/// Continues a connection after the fast path.
async fn go_on(context: Arc<Context>, mut io: ClientStream, peer: Peer, next: io::Result<Next>) {
    match next {
        Ok(Next::Session(session, unread)) => {
            io.unread(unread);
            begin(context, io, peer, session);
        }
        Ok(Next::Hyper(unread)) => {
            io.unread(unread);
            // The future is in a separate box, which is freed when hyper is done.
            match Box::pin(hyper_adapter::serve(&context, io, &peer)).await {
                Some((io, Some(session))) => begin(context, io, peer, session),
                Some((io, None)) => io.spawn_linger(peer.counted),
                None => {}
            }
        }
        Ok(Next::End) => io.spawn_linger(peer.counted),
        Err(error) => context.state.rejections.write_failed(&error),
    }
}

/// Runs a session in a separate task. The head of its response is already written, unless the session is a long poll.
fn begin(context: Arc<Context>, io: ClientStream, peer: Peer, session: Session) {
    let state = context.state.clone();
    match session {
        Session::Stream(stream) => stream.spawn(state, io, peer, move |io, peer| {
            tokio::spawn(serve(context, io, peer));
        }),
        Session::LongPoll(poll) => long_polls::spawn(context, io, peer, poll, |context, io, peer, next| {
            tokio::spawn(go_on(context, io, peer, next));
        }),
        Session::Duplex(duplex) => duplex.spawn(state, io, peer),
        Session::Protocol(session) => session.spawn(state, io, peer),
    }
}
