//! A long poll that waits: hyper has parsed the request, and then the connection is taken from it. A
//! parked poll keeps none of hyper's buffers, and those who wait at one place share the bytes of the answer, head
//! and all. Behind the answer the socket goes back to hyper for the next request.

use super::batch::{self, Collector};
use super::outlet::{DirectAnswer, answer_format};
use crate::cursor::Cursor;
use crate::hub::{Allowance, Format, OwnedFormat, Remainder, Step, Subscription};
use crate::message::Message;
use crate::serve::App;
use crate::serve::conn::http1::poll_template::Shape;
use crate::serve::http::access_log::Entry;
use crate::serve::http::peer::Client;
use crate::serve::limits::connections::Place;
use crate::serve::limits::memory::Buffer;
use crate::serve::metrics::delivery::Meter;
use crate::serve::net::stream::{ClientIo, Unread};
use crate::serve::net::timers::{Timer, Timers};
use crate::serve::routes::response::{self, Reply};
use crate::transport::{Batch, Envelope};
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

/// Bytes of a next request that may wait for the answer to this one. More is not read.
const AHEAD: usize = 16 << 10;

/// Heads that are shared; callers' origins make heads, and are their choice.
const HEADS: usize = 8;

/// A poll that found nothing yet.
pub struct Waiting {
    /// How many messages at most. No more bits than it needs: so is what else is kept here.
    limit: u32,
    subscription: Subscription,
    timeout_ms: u32,
    envelope: Arc<dyn Envelope>,
    meter: Meter,
    asked: Instant,
    timer: Timer,
    /// Whether the timer knows whom to wake; then it need not be polled before its time.
    is_armed: bool,
    /// How it asks again, where that is known.
    shape: Option<Arc<Shape>>,
    /// What goes before each answer; see [`Shared::head`].
    head: Arc<[u8]>,
    /// What the client has sent and nobody has looked at.
    pub input: Unread,
    /// Its place among those of its address, where that is counted by request.
    _place: Option<Arc<Place>>,
}

impl Waiting {
    /// Goes on waiting.
    pub fn new(
        timers: &Arc<Timers>,
        limit: usize,
        subscription: Subscription,
        timeout: Duration,
        envelope: Arc<dyn Envelope>,
        meter: Meter,
    ) -> Waiting {
        let asked = Instant::now();
        let timer = timers.at(asked + timeout, asked);
        Waiting {
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            subscription,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            envelope,
            meter,
            asked,
            timer,
            is_armed: false,
            shape: None,
            head: Arc::default(),
            input: Unread::default(),
            _place: None,
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.timeout_ms))
    }

    /// Remembers how it has asked. Only where a head alone decides what becomes of a request.
    pub fn remember(&mut self, shape: Arc<Shape>) {
        self.shape = Some(shape);
    }

    /// Whether it is worth a look how the next request asks.
    pub fn may_come_again(&self) -> bool {
        self.shape.is_some()
    }

    /// Asks again, if what was read begins with the same request but for its cursor: all that was decided about the last
    /// one holds for this one. What depends on more than the head is asked here again.
    pub fn again(&mut self, app: &App, client: &Client) -> bool {
        let Some((start, size)) = self.shape.as_ref().and_then(|shape| shape.find(&self.input)) else { return false };
        // One that is refused is told so by those who refuse.
        if app.drain.has_begun() || app.rates.request(client.ip).is_err() {
            return false;
        }
        self.input.buffer().advance(size);
        self.input.settle();
        if let Some(client) = self.subscription.client() {
            app.hub.polled(self.meter.transport(), self.subscription.names(), client, self.timeout());
        }
        self.subscription.come_back(start);
        self.asked = Instant::now();
        true
    }

    /// Writes a request down when it has ended.
    pub fn log(&mut self, entry: Entry) {
        self.meter.log(entry);
    }

    /// Keeps a place for as long as it waits.
    pub fn hold(&mut self, place: Option<Arc<Place>>) {
        self._place = place;
    }

    /// Its answers go behind this head ([`Shared::head`]).
    pub fn set_head(&mut self, head: Arc<[u8]>) {
        self.head = head;
    }

    /// Waits and answers; whether the answer said that it is the connection's last. What the client has sent meanwhile is
    /// in `input`.
    ///
    /// # Errors
    ///
    /// The client is gone, or takes nothing.
    pub async fn run(&mut self, app: &App, io: &mut ClientIo) -> io::Result<bool> {
        let mut is_open = true;
        let waited = poll_fn(|cx| self.poll_wait(cx, app, io, &mut is_open)).await?;
        if matches!(&waited, Waited::Answered(rest) if rest.is_empty()) {
            return Ok(false);
        }
        // A future of its own, made when it is needed: a parked poll does not keep room for it.
        Box::pin(self.answer(waited, app, io)).await
    }

    /// Lets the hub answer while it waits.
    pub fn answer_directly(&mut self, app: &App, io: &ClientIo) {
        if let Some(stream) = io.plain().filter(|_| app.settings.direct_writes)
            && let Some(outlet) = DirectAnswer::new(stream, &self.envelope, &self.head, self.meter.number())
        {
            self.subscription.set_outlet(Box::new(outlet));
        }
    }

    /// Counts as no reader until it asks again.
    pub fn leave(&mut self) {
        self.subscription.leave();
    }

    fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        app: &App,
        io: &mut ClientIo,
        is_open: &mut bool,
    ) -> Poll<io::Result<Waited>> {
        let due = self.asked + self.timeout();
        let written = self.subscription.unpark();
        if written.at.is_some() {
            self.meter.wrote_directly(written.weight);
            return Poll::Ready(Ok(Waited::Answered(written.remainder)));
        }
        // It is empty as long as there is nothing: a parked poll keeps none.
        let mut collector = Collector::new(self.limit as usize);
        if let Poll::Ready(step) = collector.poll_wait(cx, &mut self.subscription) {
            return Poll::Ready(Ok(Waited::For(Some(step), Box::new(collector))));
        }
        // After the step, which has registered the waker that a drain wakes.
        if app.drain.has_begun() {
            return Poll::Ready(Ok(Waited::For(None, Box::new(collector))));
        }
        // It fires for the first of these polls, and is set anew only then: an answer does not touch it.
        if !(self.is_armed && self.timer.is_ahead(Instant::now())) {
            while self.timer.poll(cx).is_ready() {
                let now = Instant::now();
                if now >= due {
                    return Poll::Ready(Ok(Waited::For(None, Box::new(collector))));
                }
                self.timer.reset(due, now);
            }
            self.is_armed = true;
        }
        if let Poll::Ready(gone) = poll_client(cx, io, &mut self.input, is_open) {
            return Poll::Ready(Err(gone));
        }
        // Behind an answer of the hub's nobody is woken but by what the client sends next. Where that is here already, or will
        // not come, the task answers.
        if *is_open && self.input.is_empty() {
            self.subscription.park(Allowance::Answer(self.limit as usize));
        }
        Poll::Pending
    }

    async fn answer(&mut self, waited: Waited, app: &App, io: &mut ClientIo) -> io::Result<bool> {
        let (step, collector) = match waited {
            Waited::For(step, collector) => (step, collector),
            Waited::Answered(rest) => {
                app.budget.write(Buffer::of(rest.whole()), io.write_all(rest.bytes())).await?;
                return Ok(false);
            }
        };
        let batch = match step {
            // A gap is told at once, with what there is behind it.
            Some(Step::Gap(_)) => batch::now_behind_gap(&mut self.subscription, *collector).await,
            _ => collector.batch(&self.subscription, true),
        };
        // Not counted as a reader while the answer is written.
        self.subscription.leave();
        let is_last = app.drain.has_begun();
        let answer = app.polls.answer(&self.head, &*self.envelope, &batch, is_last);
        self.meter.answer(&batch, self.asked, answer.body);
        let answer = answer.bytes;
        // Whether it was slow is of no interest: it comes back by itself.
        app.budget.write(Buffer::of(&answer), io.write_all(&answer)).await?;
        Ok(is_last)
    }
}

/// What a poll has waited for.
enum Waited {
    /// This, and what has come; nothing, when the time was up.
    For(Option<Step>, Box<Collector>),
    /// The hub has answered, but for this rest.
    Answered(Remainder),
}

/// Takes in what the client sends early; an error when it is gone.
fn poll_client(cx: &mut Context<'_>, io: &mut ClientIo, input: &mut Unread, is_open: &mut bool) -> Poll<io::Error> {
    while *is_open && input.len() < AHEAD {
        match std::task::ready!(io.poll_input(cx, input)) {
            // A client may shut its sending side and wait for its answer.
            Ok(read) => *is_open = read > 0,
            Err(error) => return Poll::Ready(error),
        }
    }
    if *is_open {
        return Poll::Pending;
    }
    io.poll_reset(cx).map(|()| io::ErrorKind::ConnectionReset.into())
}

/// What polls have in common.
#[derive(Default)]
pub struct Shared {
    heads: Mutex<Vec<Arc<[u8]>>>,
    shapes: Mutex<Vec<Arc<Shape>>>,
    last: Mutex<Option<(Key, Answer)>>,
}

/// An answer, whole.
#[derive(Clone)]
pub struct Answer {
    /// All of it.
    pub bytes: Bytes,
    /// How long its body is.
    pub body: usize,
}

/// What an answer depends on, besides the log's content.
struct Key {
    head: Arc<[u8]>,
    format: OwnedFormat,
    /// The messages themselves: two readers' batches may begin and end alike and not be the same.
    messages: Vec<Arc<Message>>,
    cursor: Cursor,
    is_last: bool,
}

impl Key {
    fn is(&self, head: &[u8], format: Format<'_>, batch: &Batch, is_last: bool) -> bool {
        self.cursor == batch.cursor
            && self.is_last == is_last
            && self.messages.len() == batch.messages.len()
            && self.messages.iter().zip(&batch.messages).all(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
            && self.format.is(format)
            && *self.head == *head
    }
}

impl Shared {
    /// The status line and the headers of a reply, without those that depend on the batch. Equal ones are the same
    /// bytes, so that a parked poll holds a pointer.
    pub fn head(&self, reply: &Reply) -> Arc<[u8]> {
        let mut head = Vec::with_capacity(512);
        response::write_head(reply, &mut head);
        let mut heads = self.heads.lock();
        if let Some(known) = heads.iter().find(|known| ***known == *head) {
            return known.clone();
        }
        if heads.len() == HEADS {
            heads.remove(0);
        }
        heads.push(head.into());
        heads[heads.len() - 1].clone()
    }

    /// How a request asks, by its head. Heads that are alike but for their cursors are one piece of memory.
    pub fn shape(&self, head: &Bytes) -> Option<Arc<Shape>> {
        let shape = Shape::of(head)?;
        let mut shapes = self.shapes.lock();
        if let Some(known) = shapes.iter().find(|known| known.is_like(&shape)) {
            return Some(known.clone());
        }
        if shapes.len() == HEADS {
            shapes.remove(0);
        }
        shapes.push(Arc::new(shape));
        shapes.last().cloned()
    }

    /// The answer, whole: made once for all who get the same.
    fn answer(&self, head: &Arc<[u8]>, envelope: &dyn Envelope, batch: &Batch, is_last: bool) -> Answer {
        // A gap names the place that one asked from; an empty batch may be asked for again much later.
        if batch.gap.is_some() || batch.messages.is_empty() {
            return Answer::new(head, envelope, batch, is_last);
        }
        let format = answer_format(envelope);
        let mut last = self.last.lock();
        match &*last {
            Some((known, answer)) if known.is(head, format, batch, is_last) => answer.clone(),
            _ => {
                let answer = Answer::new(head, envelope, batch, is_last);
                let (head, format, cursor) = (head.clone(), format.to_owned(), batch.cursor);
                let key = Key { head, format, messages: batch.messages.clone(), cursor, is_last };
                *last = Some((key, answer.clone()));
                answer
            }
        }
    }
}

impl Answer {
    /// A batch behind a head ([`Shared::head`]). `is_last`: whether the connection ends with it.
    pub fn new(head: &[u8], envelope: &dyn Envelope, batch: &Batch, is_last: bool) -> Answer {
        let mut body = Vec::with_capacity(batch.size_hint());
        envelope.batch(batch, &mut body);
        let mut answer = Vec::with_capacity(head.len() + body.len() + 160);
        answer.extend_from_slice(head);
        // Writing to a Vec cannot fail.
        let _ = write!(answer, "etag: \"{}\"\r\n", batch.cursor);
        if is_last {
            answer.extend_from_slice(b"connection: close\r\n");
        }
        response::write_length(Some(body.len()), &mut answer);
        answer.extend_from_slice(&body);
        Answer { bytes: answer.into(), body: body.len() }
    }
}
