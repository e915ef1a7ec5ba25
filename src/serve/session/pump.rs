//! The pump: the one loop that carries a subscription into a stream, whatever the transport.

use super::outlet::Direct;
use super::stream::Framing;
use crate::hub::{Allowance, LIMIT, Limit, Remainder, Step, Subscription};
use crate::message::{ClientId, Message};
use crate::serve::access::renewal::Lease;
use crate::serve::http::access_log::Entry;
use crate::serve::limits::connections::Place;
use crate::serve::limits::memory;
use crate::serve::metrics::delivery::Meter;
use crate::serve::net::drain::Drain;
use crate::serve::net::socket::Socket;
use crate::serve::net::timers::{Timer, Timers};
use crate::transport::{CloseReason, Control, Envelope};
use bytes::Bytes;
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How soon a client comes back after a rollover: at once, but not in a busy loop.
const ROLLOVER_RETRY: Duration = Duration::from_millis(10);

/// When a reader comes back that was sent away for being slow.
const SLOW_RETRY: Duration = Duration::from_secs(4);

/// How soon a stream that is to prove itself says its first heartbeat: late enough to be a write of its
/// own for whatever stands in between, and early enough for somebody who waits for it.
const PROBE: Duration = Duration::from_millis(500);

/// How a stream runs.
#[derive(Clone, Debug)]
pub struct Pace {
    /// A heartbeat comes after so many milliseconds of silence. A parked stream is as large as its task, so it is no
    /// `Duration`.
    pub heartbeat_ms: u32,
    /// Whether the first heartbeat comes early ([`PROBE`]): a stream whose path is tried out.
    pub probe: bool,
    /// When the stream ends to give the browser its memory back.
    pub rollover: Option<Box<Rollover>>,
}

impl Pace {
    fn heartbeat(&self) -> Duration {
        Duration::from_millis(u64::from(self.heartbeat_ms))
    }

    /// The silence after which the next heartbeat is due.
    fn quiet(&self) -> Duration {
        if self.probe { self.heartbeat().min(PROBE) } else { self.heartbeat() }
    }
}

/// The end of a stream that the browser keeps in memory.
#[derive(Clone, Copy, Debug)]
pub struct Rollover {
    /// After so many bytes.
    pub bytes: usize,
    /// After so long.
    pub time: Duration,
}

/// A stream on its way: polled, it gives what is to be written next.
pub struct Pump {
    subscription: Subscription,
    envelope: Arc<dyn Envelope>,
    pace: Pace,
    meter: Meter,
    drain: Drain,
    /// The permission to read, where permissions end.
    lease: Option<Box<Lease>>,
    /// Its place among those of its address, where that is counted by request.
    _place: Option<Arc<Place>>,
    state: State,
    born: Instant,
    /// When something was written last. A heartbeat's time is reckoned from it when the timer fires,
    /// so a delivery does not touch the timer.
    spoke: Instant,
    timer: Timer,
    /// Whether the timer knows whom to wake; then it need not be polled before its time.
    is_armed: bool,
    written: usize,
    /// Whether its owner has answers to give still: then the farewell waits, and comes behind them.
    is_answering: bool,
    /// Whether `spoke` is the present moment: nothing was waited for since.
    is_fresh: bool,
    /// What the next polls give before anything else. Boxed while there is any.
    #[expect(clippy::box_collection, reason = "a parked stream, which has nothing to say, pays for one word")]
    ready: Option<Box<VecDeque<Bytes>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing may be said yet (raw TCP before its first `subscribe`).
    Silent,
    Running,
    Ended,
}

impl Pump {
    /// A pump that has not said hello yet.
    pub fn new(
        subscription: Subscription,
        envelope: Arc<dyn Envelope>,
        pace: Pace,
        meter: Meter,
        drain: Drain,
        timers: &Arc<Timers>,
    ) -> Pump {
        let now = Instant::now();
        let quiet = pace.quiet();
        let soonest = pace.rollover.as_ref().map_or(quiet, |rollover| rollover.time.min(quiet));
        Pump {
            subscription,
            envelope,
            pace,
            meter,
            drain,
            lease: None,
            _place: None,
            state: State::Silent,
            born: now,
            spoke: now,
            timer: timers.at(now + soonest, now),
            is_armed: false,
            written: 0,
            is_answering: false,
            is_fresh: false,
            ready: None,
        }
    }

    /// Begins: the prelude and the hello come first.
    pub fn hello(&mut self) {
        if self.state != State::Silent {
            return;
        }
        self.state = State::Running;
        let client = self.subscription.client().cloned().unwrap_or_else(ClientId::random);
        let mut out = Vec::with_capacity(512);
        self.envelope.prelude(&mut out);
        let (cursor, heartbeat) = (self.subscription.cursor(), self.pace.heartbeat());
        let hello = Control::Hello { cursor, client: &client, transport: self.meter.transport(), heartbeat };
        self.envelope.control(&hello, &mut out);
        self.subscription.set_client(client);
        self.ready.get_or_insert_default().push_back(out.into());
    }

    /// Lets the hub write to this socket while the pump is parked.
    pub fn write_directly(&mut self, socket: Socket, framing: Option<Framing>) {
        let outlet = Direct::new(socket, self.envelope.clone(), framing, self.meter.number());
        self.subscription.set_outlet(Box::new(outlet));
    }

    /// Parks, behind a [`poll_next`](Pump::poll_next) that was pending: the hub may write now.
    pub fn park(&mut self) {
        let is_quiet = self.state == State::Running && self.ready.is_none() && self.subscription.has_begun();
        if is_quiet && let Some(limit) = self.limit() {
            let left = if self.pace.rollover.is_some() { limit.bytes } else { usize::MAX };
            self.subscription.park(Allowance::Bytes(left));
        }
    }

    /// Ends that, whether or not it was parked; to be called before anything else is written. Gives what is to be
    /// written first, as it stands: the rest of what the socket took a part of.
    pub fn unpark(&mut self) -> Remainder {
        let written = self.subscription.unpark();
        self.written += written.weight;
        self.meter.wrote_directly(written.weight);
        if let Some(at) = written.at {
            self.spoke = at;
        }
        written.remainder
    }

    /// Runs only as long as this permission.
    pub fn lease(&mut self, lease: Option<Lease>) {
        self.lease = lease.map(Box::new);
    }

    /// Counts for as long as it runs.
    pub fn hold(&mut self, place: Option<Arc<Place>>) {
        self._place = place;
    }

    /// Writes a request down when the stream has ended.
    pub fn log(&mut self, entry: Entry) {
        self.meter.log(entry);
    }

    /// The permission to read, where permissions end.
    pub fn permission(&mut self) -> Option<&mut Lease> {
        self.lease.as_deref_mut()
    }

    /// Whether the hello was said.
    pub fn has_begun(&self) -> bool {
        self.state != State::Silent
    }

    /// The subscription.
    pub fn subscription(&mut self) -> &mut Subscription {
        &mut self.subscription
    }

    /// Whether the farewell was said, or waits to be.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether there are answers to come, for which the farewell is to wait.
    pub fn answering(&mut self, is_answering: bool) {
        self.is_answering = is_answering;
    }

    /// A control object that goes out next; where the farewell waits, in front of it.
    pub fn say(&mut self, control: &Control<'_>) {
        let mut out = Vec::with_capacity(256);
        self.envelope.control(control, &mut out);
        let is_held = self.is_held();
        let ready = self.ready.get_or_insert_default();
        ready.insert(ready.len() - usize::from(is_held), out.into());
    }

    /// Whether the last of what is ready is a farewell that waits.
    fn is_held(&self) -> bool {
        self.is_answering && self.state == State::Ended && self.ready.is_some()
    }

    /// What it was told to say and has not given yet.
    pub fn said(&mut self) -> Option<Bytes> {
        let is_held = self.is_held();
        let ready = self.ready.as_mut().filter(|ready| ready.len() > usize::from(is_held))?;
        let bytes = ready.pop_front()?;
        if ready.is_empty() {
            self.ready = None;
        }
        self.count(&bytes);
        Some(bytes)
    }

    /// What is to be written next; `None` at the end. To be polled by one task only, which is woken.
    ///
    /// # Cancel safety
    ///
    /// What was given counts as written: the cursor is behind it.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.said() {
                return Poll::Ready(Some(bytes));
            }
            match self.state {
                State::Ended if self.is_held() => return Poll::Pending,
                State::Ended => return Poll::Ready(None),
                State::Silent => return Poll::Pending,
                State::Running => {}
            }
            if self.lease.as_mut().is_some_and(|lease| lease.poll_end(cx).is_ready()) {
                self.bye(CloseReason::Revoked, None);
                continue;
            }
            let Some(limit) = self.limit() else {
                self.bye(CloseReason::Rollover, Some(ROLLOVER_RETRY));
                continue;
            };
            // A connection that has not named a channel yet keeps the position it was given.
            if self.subscription.has_begun() {
                let mut batch = BATCH.take();
                let step = self.subscription.poll_step(cx, limit, &mut batch);
                let frames = (!batch.is_empty()).then(|| self.frames(&batch));
                batch.clear();
                BATCH.set(batch);
                match (step, frames) {
                    (Poll::Ready(Step::Gap(gap)), frames) => {
                        // Volatile messages may have come with it.
                        if let Some(frames) = frames {
                            self.ready.get_or_insert_default().push_back(frames);
                        }
                        self.meter.gap();
                        self.say(&Control::Gap(gap));
                        continue;
                    }
                    (_, Some(bytes)) => return self.give(bytes),
                    (_, None) => {}
                }
            }
            // After the step, which has registered the waker that a drain wakes.
            if self.drain.has_begun() {
                let retry = self.drain.retry();
                self.bye(CloseReason::Drain, Some(retry));
                continue;
            }
            let now = if std::mem::take(&mut self.is_fresh) { self.spoke } else { Instant::now() };
            if self.is_armed && self.timer.is_ahead(now) {
                return Poll::Pending;
            }
            self.is_armed = true;
            std::task::ready!(self.timer.poll(cx));
            self.is_armed = false;
            self.time_is_up();
        }
    }

    /// How much may still be written; nothing once it is time for a rollover. A stream that has
    /// delivered nothing yet goes on, however small its bound: it could else never deliver anything.
    fn limit(&self) -> Option<Limit> {
        let Some(rollover) = &self.pace.rollover else { return Some(LIMIT) };
        if self.born.elapsed() >= rollover.time || (self.written >= rollover.bytes && self.spoke > self.born) {
            return None;
        }
        let left = rollover.bytes.saturating_sub(self.written).max(1);
        Some(Limit { messages: LIMIT.messages, bytes: LIMIT.bytes.min(left) })
    }

    fn time_is_up(&mut self) {
        let now = Instant::now();
        if now >= self.spoke + self.pace.quiet() {
            self.heartbeat();
        }
        let next = (self.spoke + self.pace.quiet()).max(now + Duration::from_millis(1));
        let next = self.pace.rollover.as_ref().map_or(next, |rollover| next.min(self.born + rollover.time));
        self.timer.reset(next.max(now), now);
    }

    /// Says a heartbeat out of turn.
    pub fn heartbeat(&mut self) {
        if self.state != State::Running {
            return;
        }
        self.spoke = Instant::now();
        self.pace.probe = false;
        let cursor = self.subscription.cursor();
        self.say(&Control::Heartbeat { cursor });
    }

    /// Ends the stream. `retry`: when to come back; `None`: not at all.
    pub fn bye(&mut self, bye: CloseReason, retry: Option<Duration>) {
        let cursor = Some(self.subscription.cursor());
        self.meter.bye(bye);
        self.say(&Control::Bye { bye, retry, cursor });
        self.state = State::Ended;
    }

    /// Ends the stream of a reader that does not keep up, while memory is short.
    fn send_away(&mut self) {
        if self.state == State::Running {
            // Later than others, and not all at once: it is memory that is wanted.
            let retry = SLOW_RETRY.mul_f64(0.5 + fastrand::f64());
            self.bye(CloseReason::SlowReader, Some(retry));
        }
    }

    /// How the write of what it gave last went.
    pub fn wrote(&mut self, pace: memory::Pace) {
        match pace {
            memory::Pace::Good => {}
            // The timer may have fired meanwhile, and its wake-up was the write's: it is to be looked at anew.
            memory::Pace::Waited => self.is_fresh = false,
            memory::Pace::Slow => self.send_away(),
        }
    }

    fn give(&mut self, bytes: Bytes) -> Poll<Option<Bytes>> {
        self.count(&bytes);
        Poll::Ready(Some(bytes))
    }

    fn count(&mut self, bytes: &Bytes) {
        self.written += bytes.len();
        self.meter.bytes(bytes.len());
    }

    /// The batch as one write. A single message goes out as the bytes that all receivers share.
    fn frames(&mut self, batch: &[Arc<Message>]) -> Bytes {
        self.spoke = Instant::now();
        self.is_fresh = true;
        self.meter.batch(batch, self.born, self.spoke);
        let (before, after) = self.envelope.around();
        if let ([message], true) = (batch, before.is_empty() && after.is_empty()) {
            return self.envelope.encoding().frame(message);
        }
        let mut out = Vec::with_capacity(frames_size(&*self.envelope, batch));
        write_frames(&*self.envelope, batch, &mut out);
        out.into()
    }
}

/// About how long a batch's frames are.
pub fn frames_size(envelope: &dyn Envelope, batch: &[Arc<Message>]) -> usize {
    let (before, after) = envelope.around();
    batch.iter().map(|message| message.object().len() + before.len() + after.len() + 160).sum()
}

/// A batch's frames, one behind the other.
pub fn write_frames(envelope: &dyn Envelope, batch: &[Arc<Message>], out: &mut Vec<u8>) {
    let ((before, after), encoding) = (envelope.around(), envelope.encoding());
    for message in batch {
        out.extend_from_slice(before);
        out.extend_from_slice(&encoding.frame(message));
        out.extend_from_slice(after);
    }
}

thread_local! {
    /// What a step copies out, for the moment until it is framed. One a thread: a parked reader keeps
    /// none, and a delivery finds it in the cache.
    static BATCH: Cell<Vec<Arc<Message>>> = const { Cell::new(Vec::new()) };
}
