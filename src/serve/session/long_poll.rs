//! A long poll that waits for a message.
//!
//! While it waits, it does not keep the buffers of its request, and the hub may write the response directly to its
//! socket. After the response, the connection reads the next request. If the next request is the same poll with another
//! cursor, the subscription continues.

use super::batch::{self, BatchBuilder};
use super::outlet::PollOutlet;
use super::poll_cache::PollCache;
use super::poll_template::PollTemplate;
use super::record::SessionRecord;
use crate::hub::{Allowance, Remainder, Step, Subscription};
use crate::serve::http::access_log::Entry;
use crate::serve::http::peer::Peer;
use crate::serve::limits::connections::AddressPermit;
use crate::serve::limits::memory::{BufferId, Reservation};
use crate::serve::net::stream::{ClientStream, Unread};
use crate::serve::net::timers::{Timer, Timers};
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Envelope};
use bytes::Buf;
use hyper::StatusCode;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::Instant;

/// The number of bytes of the next request that are read while this one waits.
const READ_AHEAD: usize = 16 << 10;

/// A long poll. The number fields are as small as possible, because every parked poll keeps them.
pub struct LongPoll {
    /// The maximum number of messages in a response.
    limit: u32,
    subscription: Subscription,
    timeout_ms: u32,
    envelope: Arc<dyn Envelope>,
    record: SessionRecord,
    asked: Instant,
    timer: Timer,
    /// The template of the request, if the server can decide about the next request from its head alone.
    template: Option<Arc<PollTemplate>>,
    /// The part of the response's head that does not depend on the batch; see [`PollCache::head`].
    head: Arc<[u8]>,
    /// Bytes that the client has sent and that have not been read yet.
    pub input: Unread,
    /// The memory of these bytes, which counts against the budget while the poll waits; `None` if there are no such
    /// bytes.
    held: Option<Box<Reservation>>,
    _address_permit: Option<Arc<AddressPermit>>,
}

impl LongPoll {
    /// Makes a poll that waits for at most `timeout`. The poll keeps the address permit until it is dropped.
    pub fn new(
        timers: &Arc<Timers>,
        limit: usize,
        subscription: Subscription,
        timeout: Duration,
        envelope: Arc<dyn Envelope>,
        record: SessionRecord,
        address_permit: Option<Arc<AddressPermit>>,
    ) -> LongPoll {
        let asked = Instant::now();
        let timer = timers.at(asked + timeout, asked);
        LongPoll {
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            subscription,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            envelope,
            record,
            asked,
            timer,
            template: None,
            head: Arc::default(),
            input: Unread::default(),
            held: None,
            _address_permit: address_permit,
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.timeout_ms))
    }

    /// Sets the template of the request. Call it only if the server can decide about the next request from its head
    /// alone.
    pub fn set_template(&mut self, template: Arc<PollTemplate>) {
        self.template = Some(template);
    }

    /// Whether the next request may be a repetition.
    pub fn may_repeat(&self) -> bool {
        self.template.is_some()
    }

    /// Repeats the poll if the input begins with the same request and another cursor. All decisions about the previous
    /// request also apply to this one. This function repeats the checks that depend on more than the head.
    pub fn repeat(&mut self, state: &ServerState, peer: &Peer) -> bool {
        let found = self.template.as_ref().and_then(|template| template.find(&self.input));
        let Some((start, size)) = found else { return false };
        // If this returns false, the router answers the request with the refusal.
        if state.drain.has_begun() || state.rates.request(peer.ip).is_err() {
            return false;
        }
        if let Some(log) = &state.access_log {
            let mut entry = log.begin_head(peer.ip, &self.input[..size]);
            entry.answered(StatusCode::OK, None);
            self.record.log(entry);
        }
        self.input.buffer().advance(size);
        self.input.settle();
        if let Some(client) = self.subscription.client() {
            state.hub.polled(self.record.transport(), self.subscription.names(), client, self.timeout());
        }
        self.subscription.come_back(start);
        self.asked = Instant::now();
        true
    }

    /// Gives the poll its entry of the access log.
    pub fn log(&mut self, entry: Entry) {
        self.record.log(entry);
    }

    /// Writes the entry of the access log, because the response is complete.
    pub fn end_entry(&mut self) {
        self.record.end_entry();
    }

    /// Sets the head of the poll's responses: see [`PollCache::head`].
    pub fn set_head(&mut self, head: Arc<[u8]>) {
        self.head = head;
    }

    /// Lets the hub write the response while the poll is parked.
    pub fn allow_direct_writes(&mut self, state: &ServerState, io: &ClientStream) {
        if let Some(socket) = io.plain().filter(|_| state.settings.direct_writes)
            && let Some(outlet) = PollOutlet::new(socket, &self.envelope, &self.head, self.record.number())
        {
            self.subscription.set_outlet(Box::new(outlet));
        }
    }

    /// After this call, the client does not count as a reader until its next poll.
    pub fn leave(&mut self) {
        self.subscription.leave();
    }

    /// Waits for messages. `input` receives the bytes that the client sends during the wait.
    ///
    /// # Errors
    ///
    /// The client has disconnected.
    pub async fn wait(&mut self, state: &ServerState, io: &mut ClientStream) -> io::Result<Waited> {
        let mut client = ClientSide::Open;
        poll_fn(|cx| self.poll_wait(cx, state, io, &mut client)).await
    }

    fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        state: &ServerState,
        io: &mut ClientStream,
        client: &mut ClientSide,
    ) -> Poll<io::Result<Waited>> {
        let due = self.asked + self.timeout();
        let written = self.subscription.unpark();
        if let Some(at) = written.at {
            self.record.wrote_directly(written.weight);
            self.record.answered_at(at);
            return Poll::Ready(Ok(Waited::Answered(written.remainder)));
        }
        // The list stays empty while there is no message, so a parked poll does not keep messages in memory.
        let mut builder = BatchBuilder::new(self.limit as usize);
        if let Poll::Ready(step) = builder.poll_wait(cx, &mut self.subscription) {
            return Poll::Ready(Ok(Waited::Batch(Some(step), Box::new(builder))));
        }
        // The drain is checked after the step, because the step registers the waker that a drain wakes.
        if state.drain.has_begun() {
            return Poll::Ready(Ok(Waited::Batch(None, Box::new(builder))));
        }
        // A response does not reset the timer. The timer fires at the end of the first of several repeated polls, and
        // the poll resets it only then.
        while self.timer.poll(cx).is_ready() {
            let now = Instant::now();
            if now >= due {
                return Poll::Ready(Ok(Waited::Batch(None, Box::new(builder))));
            }
            self.timer.reset(due, now);
        }
        if let Poll::Ready(gone) = poll_client(cx, io, &mut self.input, client) {
            return Poll::Ready(Err(gone));
        }
        if self.hold_input(state).is_err() {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        // A response of the hub does not wake this task; only the client's next bytes do. If those bytes have already
        // arrived, or will never arrive, this task itself must answer.
        if *client == ClientSide::Open && self.input.is_empty() {
            self.subscription.park(Allowance::Answer(self.limit as usize));
        }
        Poll::Pending
    }

    /// Counts the unread input against the memory budget.
    fn hold_input(&mut self, state: &ServerState) -> Result<(), ApiError> {
        if self.input.is_empty() {
            self.held = None;
            return Ok(());
        }
        self.held.get_or_insert_with(|| Box::new(state.budget.reservation())).resize(self.input.len())
    }

    /// Writes the response. Returns whether the response is the last one of the connection.
    ///
    /// # Errors
    ///
    /// The client has disconnected, or does not read.
    pub async fn answer(
        &mut self,
        waited: Waited,
        state: &ServerState,
        cache: &PollCache,
        io: &mut ClientStream,
    ) -> io::Result<bool> {
        let (step, builder) = match waited {
            Waited::Batch(step, builder) => (step, builder),
            Waited::Answered(rest) => {
                state.budget.write(BufferId::of(rest.whole()), io.write_all(rest.bytes())).await?;
                return Ok(false);
            }
        };
        let batch = match step {
            // A gap is reported at once, with the messages after it.
            Some(Step::Gap(_)) => batch::now_behind_gap(&mut self.subscription, *builder).await,
            _ => builder.batch(&self.subscription, true),
        };
        // The client does not count as a reader while the session writes the response.
        self.subscription.leave();
        let is_last = state.drain.has_begun();
        let answer = cache.answer(&self.head, &*self.envelope, &batch, is_last);
        self.record.wrote(answer.body);
        self.record.answer(&batch.messages, batch.gap.is_some(), self.asked);
        let answer = answer.bytes;
        // The session ignores the outcome for a slow client, because the poll ends here in any case.
        state.budget.write(BufferId::of(&answer), io.write_all(&answer)).await?;
        Ok(is_last)
    }
}

/// The end of a wait.
pub enum Waited {
    /// The wait ended with this step and its messages. There is no step if the time is over or the server drains.
    Batch(Option<Step>, Box<BatchBuilder>),
    /// The hub has written the response, except for these last bytes.
    Answered(Remainder),
}

/// The state of a waiting client's sending side.
#[derive(Clone, Copy, PartialEq)]
enum ClientSide {
    /// The client may send more.
    Open,
    /// The client has closed its sending side. It may still wait for the response, or it may have vanished.
    Shut,
    /// The client has closed its sending side, and the server has sent a probe. If the client has vanished, its host
    /// answers the probe with a reset.
    Probed,
}

/// A response that may precede any other (RFC 9110 §15.2). A client that waits for its response skips it.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Reads bytes that the client sends before its response. Ready with an error when the client has disconnected.
fn poll_client(
    cx: &mut Context<'_>,
    io: &mut ClientStream,
    input: &mut Unread,
    client: &mut ClientSide,
) -> Poll<io::Error> {
    while *client == ClientSide::Open && input.len() < READ_AHEAD {
        match std::task::ready!(io.poll_input(cx, input)) {
            Ok(0) => *client = ClientSide::Shut,
            Ok(_) => {}
            Err(error) => return Poll::Ready(error),
        }
    }
    // Otherwise, the poll of a page that the user has left would count towards the connections of its address until its
    // timeout. After a few reloads of a page, the user could not connect any more.
    if *client == ClientSide::Shut
        && let Poll::Ready(written) = Pin::new(&mut *io).poll_write(cx, PROBE)
    {
        match written {
            Ok(written) if written == PROBE.len() => *client = ClientSide::Probed,
            Ok(_) => return Poll::Ready(io::ErrorKind::WriteZero.into()),
            Err(error) => return Poll::Ready(error),
        }
    }
    if *client == ClientSide::Open {
        return Poll::Pending;
    }
    io.poll_reset(cx).map(|()| io::ErrorKind::ConnectionReset.into())
}
