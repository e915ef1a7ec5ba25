//! The pump turns a subscription into the bytes of a stream, for every transport.

use super::attached::{Attached, End};
use super::entry_filter::EntryFilter;
use super::frames::{frames_size, write_frames};
use super::outlet::StreamOutlet;
use super::protocol_stream::Ends;
use super::record::SessionRecord;
use super::stream_settings::StreamSettings;
use crate::hub::{Allowance, LIMIT, Limit, Remainder, Step, Subscription};
use crate::message::{ClientId, Message};
use crate::serve::access::renewal::GrantRenewal;
use crate::serve::client_sessions::live::LiveSession;
use crate::serve::http::access_log::Entry;
use crate::serve::http::chunked::Framing;
use crate::serve::limits::connections::AddressPermit;
use crate::serve::limits::memory::WriteOutcome;
use crate::serve::net::drain::Drain;
use crate::serve::net::socket::Socket;
use crate::serve::net::timers::{Timer, Timers};
use crate::transport::{CloseReason, Control, Envelope};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The time that a client waits before it reconnects after a rollover. It is short, but long enough to prevent a busy
/// loop.
const ROLLOVER_RETRY: Duration = Duration::from_millis(10);

/// The time that a reader waits before it reconnects if the server disconnected it because it was slow.
const SLOW_RETRY: Duration = Duration::from_secs(4);

/// How long a client waits before it comes back after its session was interrupted: another request finds out whether the
/// session is lost.
const LOST_RETRY: Duration = Duration::from_secs(1);

/// A running stream. Each poll returns the bytes to write next.
pub struct Pump {
    subscription: Subscription,
    envelope: Arc<dyn Envelope>,
    settings: StreamSettings,
    record: SessionRecord,
    drain: Drain,
    /// What most streams do not have. It is boxed, so that they pay for one word.
    attached: Option<Box<Attached>>,
    _address_permit: Option<Arc<AddressPermit>>,
    phase: Phase,
    started: Instant,
    /// The last write. When the timer fires, the pump computes the next heartbeat from this time. So a delivery does
    /// not have to change the timer.
    last_write: Instant,
    timer: Timer,
    written: usize,
    /// Whether the server has not answered some commands yet. The farewell comes after these answers.
    is_answering: bool,
    /// Whether the envelope is not that of the outlet.
    has_new_envelope: bool,
    /// Bytes that the pump returns before any other bytes.
    #[expect(clippy::box_collection, reason = "a parked stream has no bytes in it, and pays for one word")]
    ready: Option<Box<VecDeque<Bytes>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The stream has not begun: a raw TCP connection is in this state before its first `subscribe`.
    Silent,
    Running,
    Ended,
}

impl Pump {
    /// Makes a pump that has not sent its hello yet.
    pub fn new(
        subscription: Subscription,
        envelope: Arc<dyn Envelope>,
        settings: StreamSettings,
        record: SessionRecord,
        drain: Drain,
        timers: &Arc<Timers>,
    ) -> Pump {
        let now = Instant::now();
        let quiet = settings.quiet();
        let soonest = settings.rollover.as_ref().map_or(quiet, |rollover| rollover.time.min(quiet));
        Pump {
            subscription,
            envelope,
            settings,
            record,
            drain,
            attached: None,
            _address_permit: None,
            phase: Phase::Silent,
            started: now,
            last_write: now,
            timer: timers.at(now + soonest, now),
            written: 0,
            is_answering: false,
            has_new_envelope: false,
            ready: None,
        }
    }

    /// Begins the stream with its prelude and its hello.
    pub fn hello(&mut self) {
        if self.phase != Phase::Silent {
            return;
        }
        self.phase = Phase::Running;
        let client = self.subscription.client().cloned().unwrap_or_else(ClientId::random);
        let mut out = Vec::with_capacity(512);
        self.envelope.prelude(&mut out);
        let (cursor, heartbeat) = (self.subscription.cursor(), self.settings.heartbeat());
        let session = self.attached.as_mut().and_then(|attached| attached.session());
        let session = session.map(|session| &**session.id().secret());
        let hello = Control::Hello { cursor, client: &client, transport: self.record.transport(), heartbeat, session };
        self.envelope.control(&hello, &mut out);
        self.subscription.set_client(client);
        // A protocol may begin a response without bytes of its own.
        if !out.is_empty() {
            self.ready.get_or_insert_default().push_back(out.into());
        }
    }

    /// Lets the hub write to this socket while the pump is parked.
    pub fn allow_direct_writes(&mut self, socket: Socket, framing: Option<Framing>) {
        let outlet = StreamOutlet::new(socket, self.envelope.clone(), framing, self.record.number());
        self.subscription.set_outlet(Box::new(outlet));
        self.has_new_envelope = false;
    }

    /// Changes how messages look from now on. An outlet has to be made again before the pump parks.
    pub fn set_envelope(&mut self, envelope: Arc<dyn Envelope>) {
        self.envelope = envelope;
        self.has_new_envelope = true;
    }

    /// How messages look.
    pub fn envelope(&self) -> &dyn Envelope {
        &*self.envelope
    }

    /// Whether the envelope is not that of the outlet.
    pub fn has_new_envelope(&self) -> bool {
        self.has_new_envelope
    }

    /// Parks after a [`poll_next`](Pump::poll_next) that was pending. From this line on, the hub may write to the
    /// socket.
    pub fn park(&mut self) {
        let is_quiet = self.phase == Phase::Running && self.ready.is_none() && self.subscription.has_begun();
        if is_quiet && let Some(limit) = self.limit() {
            let left = if self.settings.rollover.is_some() { limit.bytes } else { usize::MAX };
            self.subscription.park(Allowance::Bytes(left));
        }
    }

    /// Takes the socket back from the hub, whether or not the pump was parked. Call it before you write to the socket.
    /// Returns bytes that must be written unchanged before any others: the rest of a write that the socket accepted
    /// only in part.
    pub fn unpark(&mut self) -> Remainder {
        let written = self.subscription.unpark();
        self.written += written.weight;
        self.record.wrote_directly(written.weight);
        if let Some(at) = written.at {
            self.last_write = at;
        }
        written.remainder
    }

    /// Ends the stream when this grant ends.
    pub fn set_grant(&mut self, grant: Option<GrantRenewal>) {
        self.attached = Attached::with_grant(self.attached.take(), grant);
    }

    /// Makes the stream that of a session, from its present position on. Call it before the hello.
    pub fn set_session(&mut self, mut session: LiveSession) {
        session.begin(&mut self.subscription);
        self.attached = Some(Attached::with_session(self.attached.take(), session));
    }

    /// The client's session, if it has one, and the subscription that reads it.
    pub fn session(&mut self) -> Option<(&mut LiveSession, &mut Subscription)> {
        Some((self.attached.as_mut()?.session()?, &mut self.subscription))
    }

    /// The filter of a stream of another protocol. The first call makes it.
    pub fn filter(&mut self) -> &mut EntryFilter {
        &mut Attached::protocol(&mut self.attached).filter
    }

    /// Sets when the connection of another protocol ends.
    pub fn set_ends(&mut self, ends: Ends) {
        Attached::protocol(&mut self.attached).ends = Some(ends);
    }

    /// When the connection of another protocol ends.
    pub fn ends(&mut self) -> Option<&mut Ends> {
        self.attached.as_mut()?.ends()
    }

    /// Keeps the permit while the stream runs.
    pub fn hold(&mut self, permit: Option<Arc<AddressPermit>>) {
        self._address_permit = permit;
    }

    /// Gives the stream its entry of the access log. The entry is written when the stream has ended.
    pub fn log(&mut self, entry: Entry) {
        self.record.log(entry);
    }

    /// The grant to read, if the grant has an end.
    pub fn grant(&mut self) -> Option<&mut GrantRenewal> {
        self.attached.as_mut()?.grant()
    }

    /// Whether the hello was sent.
    pub fn has_begun(&self) -> bool {
        self.phase != Phase::Silent
    }

    /// The subscription whose messages the pump sends.
    pub fn subscription(&mut self) -> &mut Subscription {
        &mut self.subscription
    }

    /// Whether the farewell was sent or waits to be sent.
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Sets whether the server has not answered some commands yet. The farewell waits for these answers.
    pub fn set_answering(&mut self, is_answering: bool) {
        self.is_answering = is_answering;
    }

    /// Queues a control object. The pump sends it before messages, and before a waiting farewell.
    pub fn push_control(&mut self, control: &Control<'_>) {
        let mut out = Vec::with_capacity(256);
        self.envelope.control(control, &mut out);
        // A protocol may not have a frame for the object.
        if !out.is_empty() {
            self.push_frame(out.into());
        }
    }

    /// Queues the bytes of a frame that only the protocol of the connection knows, in the same way.
    pub fn push_frame(&mut self, frame: Bytes) {
        let is_held = self.is_held();
        let ready = self.ready.get_or_insert_default();
        ready.insert(ready.len() - usize::from(is_held), frame);
    }

    /// Ends the stream with these frames.
    pub fn end(&mut self, frames: Bytes) {
        self.push_frame(frames);
        self.phase = Phase::Ended;
    }

    /// Whether the last object in `ready` is a waiting farewell.
    fn is_held(&self) -> bool {
        self.is_answering && self.phase == Phase::Ended && self.ready.is_some()
    }

    /// The next queued control object.
    pub fn next_control(&mut self) -> Option<Bytes> {
        let is_held = self.is_held();
        let ready = self.ready.as_mut().filter(|ready| ready.len() > usize::from(is_held))?;
        let bytes = ready.pop_front()?;
        if ready.is_empty() {
            self.ready = None;
        }
        self.count(&bytes);
        Some(bytes)
    }

    /// The bytes to write next; `None` at the end. Only one task may poll the pump. Only the task that polls is woken.
    ///
    /// # Cancel safety
    ///
    /// The returned bytes count as written, so the cursor is already after their messages.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.next_control() {
                return Poll::Ready(Some(bytes));
            }
            match self.phase {
                Phase::Ended if self.is_held() => return Poll::Pending,
                Phase::Ended => return Poll::Ready(None),
                Phase::Silent => return Poll::Pending,
                Phase::Running => {}
            }
            if let Some(attached) = &mut self.attached
                && let Some(end) = attached.poll_end(cx)
            {
                match end {
                    End::Revoked if attached.session().is_some_and(|session| session.has_ended()) => {
                        self.bye(CloseReason::SessionEnded, None);
                    }
                    End::Revoked => self.bye(CloseReason::Revoked, None),
                    End::Lost => self.bye(CloseReason::Rollover, Some(LOST_RETRY)),
                    End::Left(reason) => self.bye(reason, None),
                }
                continue;
            }
            let Some(limit) = self.limit() else {
                self.bye(CloseReason::Rollover, Some(ROLLOVER_RETRY));
                continue;
            };
            // If a connection has not named a channel yet, it keeps its initial position.
            if self.subscription.has_begun() {
                let mut batch = Vec::new();
                let step = self.subscription.poll_step(cx, limit, &mut batch);
                if let Some(attached) = &mut self.attached
                    && attached.take(&step, &mut batch, &mut self.subscription)
                {
                    continue;
                }
                let frames = (!batch.is_empty()).then(|| self.frames(&batch));
                match (step, frames) {
                    (Poll::Ready(Step::Gap(gap)), frames) => {
                        // Volatile messages may have arrived together with the gap.
                        if let Some(frames) = frames {
                            self.ready.get_or_insert_default().push_back(frames);
                        }
                        self.record.gap();
                        self.push_control(&Control::Gap(gap));
                        if self.session().is_some_and(|(session, it)| session.is_interrupted_by(&gap, it)) {
                            self.bye(CloseReason::Rollover, Some(LOST_RETRY));
                        } else if self.envelope.ends_at_gap() {
                            self.bye(CloseReason::SlowReader, None);
                        }
                        // A client that cannot be told what it has missed gets everything anew with a new connection.
                        self.leave(CloseReason::SlowReader);
                        continue;
                    }
                    (_, Some(bytes)) => {
                        self.count(&bytes);
                        return Poll::Ready(Some(bytes));
                    }
                    (_, None) => {}
                }
            }
            // The drain is checked after the step, because the step registers the waker that a drain wakes.
            if self.drain.has_begun() && !self.leave(CloseReason::Drain) {
                let retry = self.drain.retry();
                self.bye(CloseReason::Drain, Some(retry));
                continue;
            }
            std::task::ready!(self.timer.poll(cx));
            self.timer_fired();
        }
    }

    /// The limit on the next write; `None` when it is time for a rollover. A stream that has not delivered a message
    /// yet continues even if its limit is very small. Otherwise, it would never deliver a message.
    fn limit(&self) -> Option<Limit> {
        let Some(rollover) = &self.settings.rollover else { return Some(LIMIT) };
        if self.started.elapsed() >= rollover.time || (self.written >= rollover.bytes && self.last_write > self.started)
        {
            return None;
        }
        let left = rollover.bytes.saturating_sub(self.written).max(1);
        Some(Limit { messages: LIMIT.messages, bytes: LIMIT.bytes.min(left) })
    }

    /// Plans the end of a connection whose ends are spread. Returns whether it is one.
    fn leave(&mut self, reason: CloseReason) -> bool {
        let Some(ends) = self.ends() else { return false };
        if ends.leaves_at().is_none() {
            ends.leave(reason);
            self.set_timer(Instant::now());
        }
        true
    }

    fn timer_fired(&mut self) {
        let (now, quiet) = (Instant::now(), self.settings.quiet());
        // A client that reads many messages may have no reason to send anything but the answer to a heartbeat.
        let is_silent = self.ends().is_some_and(|ends| ends.is_silent_for(quiet, now));
        if is_silent || now >= self.last_write + quiet {
            self.heartbeat();
        }
        self.set_timer(now);
    }

    fn set_timer(&mut self, now: Instant) {
        let next = (self.last_write + self.settings.quiet()).max(now + Duration::from_millis(1));
        let next = self.settings.rollover.as_ref().map_or(next, |rollover| next.min(self.started + rollover.time));
        let leaves = self.ends().and_then(|ends| ends.leaves_at());
        let next = leaves.map_or(next, |at| next.min(at));
        self.timer.reset(next.max(now), now);
    }

    /// Sends a heartbeat now.
    pub fn heartbeat(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        self.last_write = Instant::now();
        self.settings.probe = false;
        self.push_control(&Control::Heartbeat { cursor: self.subscription.cursor() });
    }

    /// Ends the stream with a farewell. `retry`: the time after which the client should reconnect; `None` if it should
    /// not reconnect.
    pub fn bye(&mut self, bye: CloseReason, retry: Option<Duration>) {
        let cursor = Some(self.subscription.cursor());
        self.record.bye(bye);
        self.push_control(&Control::Bye { bye, retry, cursor });
        self.phase = Phase::Ended;
    }

    /// Ends the stream of a reader that reads too slowly while the memory limit is exceeded.
    fn disconnect_slow(&mut self) {
        if self.phase == Phase::Running {
            // The retry times are random, so that clients do not all return at once. They are longer than other retry
            // times, because memory is short.
            let retry = SLOW_RETRY.mul_f64(0.5 + fastrand::f64());
            self.bye(CloseReason::SlowReader, Some(retry));
        }
    }

    /// Handles the outcome of the last write.
    pub fn wrote(&mut self, outcome: WriteOutcome) {
        if outcome == WriteOutcome::Slow {
            self.disconnect_slow();
        }
    }

    fn count(&mut self, bytes: &Bytes) {
        self.written += bytes.len();
        self.record.wrote(bytes.len());
    }

    /// Returns a batch as the bytes of one write. For a single message, these are the bytes that all readers share.
    fn frames(&mut self, batch: &[Arc<Message>]) -> Bytes {
        self.last_write = Instant::now();
        self.record.batch(batch, self.started, self.last_write);
        let (before, after) = self.envelope.around();
        if let ([message], true) = (batch, before.is_empty() && after.is_empty()) {
            return self.envelope.encoding().frame(message);
        }
        let mut out = Vec::with_capacity(frames_size(&*self.envelope, batch));
        write_frames(&*self.envelope, batch, &mut out);
        out.into()
    }
}
