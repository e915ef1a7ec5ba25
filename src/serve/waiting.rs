//! A long poll that waits: hyper has parsed the request, and then the connection is taken from it. A
//! parked poll keeps none of hyper's buffers, and those who wait at one place share the bytes of the answer, head
//! and all. Behind the answer the socket goes back to hyper for the next request.

use super::App;
use super::access_log::Entry;
use super::budget::Buffer;
use super::io::ClientIo;
use super::limits::Place;
use super::meters::Meter;
use super::poll::{self, Batch, Collector};
use super::reply::{self, Reply};
use crate::cursor::Cursor;
use crate::hub::{Step, Subscription};
use crate::message::Message;
use crate::transport::Envelope;
use crate::transport::encoding::Encoding;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::io::{self, Write as _};
use std::pin::pin;
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
    collector: Collector,
    subscription: Subscription,
    timeout: Duration,
    envelope: Arc<dyn Envelope>,
    meter: Meter,
    asked: Instant,
    /// Its place among those of its address, where that is counted by request.
    _place: Option<Arc<Place>>,
}

impl Waiting {
    /// Goes on waiting.
    pub fn new(
        collector: Collector,
        subscription: Subscription,
        timeout: Duration,
        envelope: Arc<dyn Envelope>,
        meter: Meter,
    ) -> Waiting {
        Waiting { collector, subscription, timeout, envelope, meter, asked: Instant::now(), _place: None }
    }

    /// Writes a request down when it has ended.
    pub fn log(&mut self, entry: Entry) {
        self.meter.log(entry);
    }

    /// Keeps a place for as long as it waits.
    pub fn hold(&mut self, place: Option<Arc<Place>>) {
        self._place = place;
    }

    /// Waits, answers, and gives what the client has sent meanwhile. `head`: see [`Shared::head`]; `early`: what it
    /// had sent before.
    ///
    /// # Errors
    ///
    /// The client is gone, or takes nothing.
    pub async fn run(
        mut self: Box<Self>,
        app: &App,
        io: &mut ClientIo,
        head: &Bytes,
        early: Bytes,
    ) -> io::Result<Bytes> {
        let mut input = BytesMut::from(early);
        let step = self.wait(app, io, &mut input).await?;
        // A future of its own, made when it is needed: a parked poll does not keep room for it.
        Box::pin(self.answer(step, app, io, head)).await?;
        Ok(input.freeze())
    }

    async fn wait(&mut self, app: &App, io: &mut ClientIo, input: &mut BytesMut) -> io::Result<Option<Step>> {
        let mut is_open = true;
        let mut timer = pin!(tokio::time::sleep(self.timeout));
        poll_fn(|cx| {
            if let Poll::Ready(step) = self.collector.poll_wait(cx, &mut self.subscription) {
                return Poll::Ready(Ok(Some(step)));
            }
            // After the step, which has registered the waker that a drain wakes.
            if app.drain.has_begun() || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(None));
            }
            poll_client(cx, io, input, &mut is_open).map_ok(|()| None)
        })
        .await
    }

    async fn answer(self: Box<Self>, step: Option<Step>, app: &App, io: &mut ClientIo, head: &Bytes) -> io::Result<()> {
        let Waiting { collector, mut subscription, envelope, mut meter, asked, .. } = *self;
        let batch = match step {
            // A gap is told at once, with what there is behind it.
            Some(Step::Gap(_)) => poll::now_behind_gap(&mut subscription, collector).await,
            _ => collector.batch(&subscription, true),
        };
        // Not counted as a reader while the answer is written.
        drop(subscription);
        let answer = app.polls.answer(head, &*envelope, &batch, app.drain.has_begun());
        meter.answer(&batch, asked, answer.body);
        let answer = answer.bytes;
        // Whether it was slow is of no interest: it comes back by itself.
        app.budget.write(Buffer::of(&answer), io.write_all(&answer)).await?;
        Ok(())
    }
}

/// Takes in what the client sends early; an error when it is gone.
fn poll_client(
    cx: &mut Context<'_>,
    io: &mut ClientIo,
    input: &mut BytesMut,
    is_open: &mut bool,
) -> Poll<io::Result<()>> {
    while *is_open && input.len() < AHEAD {
        // A client may shut its sending side and wait for its answer.
        *is_open = std::task::ready!(io.poll_input(cx, input))? > 0;
    }
    if *is_open {
        return Poll::Pending;
    }
    io.poll_reset(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()))
}

/// What polls have in common.
#[derive(Default)]
pub struct Shared {
    heads: Mutex<Vec<Bytes>>,
    last: Mutex<Option<(Key, Answer)>>,
}

/// An answer, whole.
#[derive(Clone)]
struct Answer {
    bytes: Bytes,
    /// How long its body is.
    body: usize,
}

/// What an answer depends on, besides the log's content.
struct Key {
    head: Bytes,
    encoding: Encoding,
    before: Box<[u8]>,
    /// The messages themselves: two readers' batches may begin and end alike and not be the same.
    messages: Vec<Arc<Message>>,
    cursor: Cursor,
    is_last: bool,
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.cursor == other.cursor
            && (self.encoding, self.is_last) == (other.encoding, other.is_last)
            && self.messages.len() == other.messages.len()
            && self.messages.iter().zip(&other.messages).all(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
            && self.before == other.before
            && self.head == other.head
    }
}

impl Shared {
    /// The status line and the headers of a reply, without those that depend on the batch. Equal ones are the same
    /// bytes, so that a parked poll holds a pointer.
    pub fn head(&self, reply: &Reply) -> Bytes {
        let mut head = Vec::with_capacity(512);
        reply::write_head(reply, &mut head);
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

    /// The answer, whole: made once for all who get the same.
    fn answer(&self, head: &Bytes, envelope: &dyn Envelope, batch: &Batch, is_last: bool) -> Answer {
        // A gap names the place that one asked from; an empty batch may be asked for again much later.
        if batch.gap.is_some() || batch.messages.is_empty() {
            return whole(head, envelope, batch, is_last);
        }
        let key = Key {
            head: head.clone(),
            encoding: envelope.encoding(),
            before: envelope.around().0.into(),
            messages: batch.messages.clone(),
            cursor: batch.cursor,
            is_last,
        };
        let mut last = self.last.lock();
        match &*last {
            Some((known, answer)) if *known == key => answer.clone(),
            _ => {
                let answer = whole(head, envelope, batch, is_last);
                *last = Some((key, answer.clone()));
                answer
            }
        }
    }
}

fn whole(head: &[u8], envelope: &dyn Envelope, batch: &Batch, is_last: bool) -> Answer {
    let body = batch.to_bytes(envelope);
    let mut answer = Vec::with_capacity(head.len() + body.len() + 160);
    answer.extend_from_slice(head);
    // Writing to a Vec cannot fail.
    let _ = write!(answer, "etag: \"{}\"\r\n", batch.cursor);
    if is_last {
        answer.extend_from_slice(b"connection: close\r\n");
    }
    reply::write_length(Some(body.len()), &mut answer);
    answer.extend_from_slice(&body);
    Answer { bytes: answer.into(), body: body.len() }
}
