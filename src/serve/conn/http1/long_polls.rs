//! Runs the long polls of a connection one after the other, in a task that does not keep other memory while a poll
//! waits.

use super::fast::{self, Next};
use crate::serve::http::peer::Peer;
use crate::serve::net::stream::ClientStream;
use crate::serve::routes::context::Context;
use crate::serve::session::long_poll::{LongPoll, Waited};
use crate::serve::session::session::Session;
use crate::serve::session::task::spawn_parked;
use std::io;
use std::sync::Arc;
use tokio::time::Instant;

/// Runs a long poll and those that follow it, in a separate task. Passes the connection to `next` when anything else
/// follows.
pub fn spawn(
    context: Arc<Context>,
    mut io: ClientStream,
    peer: Peer,
    mut poll: Box<LongPoll>,
    next: impl FnOnce(Arc<Context>, ClientStream, Peer, io::Result<Next>) + Send + 'static,
) {
    let state = &context.state;
    poll.allow_direct_writes(state, &io);
    spawn_parked(async move {
        loop {
            let answered = {
                // The result of the wait is moved into a box before the next `.await`: every parked poll would
                // otherwise keep room for it, and for the future that writes the response.
                let answer = match poll.wait(&context.state, &mut io).await {
                    Ok(Waited::Answered(rest)) if rest.is_empty() => None,
                    Ok(waited) => Some(Box::pin(poll.answer(waited, &context.state, &context.polls, &mut io))),
                    Err(error) => return context.state.rejections.write_failed(&error),
                };
                match answer {
                    None => Ok(false),
                    Some(answer) => answer.await,
                }
            };
            let is_last = match answered {
                Ok(is_last) => is_last,
                Err(error) => return context.state.rejections.write_failed(&error),
            };
            poll.end_entry();
            let has_input = io.has_input(&mut poll.input).await;
            // A client that has polled again before it learned of the connection's end still gets a response.
            if is_last || (!has_input && context.state.drain.has_begun()) {
                return io.spawn_linger(peer.counted);
            }
            // This case is common, and it does not take the memory that the other cases need.
            if has_input && poll.repeat(&context.state, &peer) {
                continue;
            }
            match Box::pin(next_request(&context, &mut io, &peer, &mut poll)).await {
                None => {}
                Some(Ok(Next::Session(Session::LongPoll(following), _))) => {
                    poll = following;
                    poll.allow_direct_writes(&context.state, &io);
                }
                Some(other) => return next(context, io, peer, other),
            }
        }
    });
}

/// Returns the step after the response to a poll; `None` if the next request is the same poll again.
async fn next_request(
    context: &Arc<Context>,
    io: &mut ClientStream,
    peer: &Peer,
    poll: &mut LongPoll,
) -> Option<io::Result<Next>> {
    if poll.may_repeat() {
        if poll.input.is_empty() {
            // A client that does not poll again at once does not count as a reader until it polls again.
            poll.leave();
            match fast::read(&context.state, io, poll.input.buffer(), Instant::now()).await {
                Ok(true) => {}
                Ok(false) => return Some(Ok(Next::End)),
                Err(error) => return Some(Err(error)),
            }
        }
        if poll.repeat(&context.state, peer) {
            return None;
        }
    }
    poll.leave();
    Some(fast::serve(context, io, peer, poll.input.take()).await)
}
