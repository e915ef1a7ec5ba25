//! The one reader: a set of channels and a cursor.

use super::copy::Taken;
use super::direct::{Room, Written};
use super::memory::{Look, Seat};
use super::outlet::Outlet;
use super::waiter::Waiter;
use super::{Hub, id_of};
use crate::cursor::{Cursor, Epoch, Id, Start};
use crate::log::{Descent, Page, Resolved};
use crate::message::{Channel, ClientId, Message};
use smallvec::SmallVec;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How many entries of the log are read at a time to catch up.
const PAGE: usize = 512;

/// How much one step may copy out. A first message goes out whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Messages, at least 1.
    pub messages: usize,
    /// Bytes of JSON.
    pub bytes: usize,
}

/// Something behind `from` may have been dropped unseen; reading goes on at `cursor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The cursor that was asked for.
    pub from: Cursor,
    /// Where reading goes on.
    pub cursor: Cursor,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Messages were copied out.
    Messages,
    /// A gap; step again to read on behind it.
    Gap(Gap),
    /// Nothing new. The reader is woken when there is.
    Idle,
    /// The cursor is ahead of this node, and the log has confirmed it: the node is behind and the
    /// cursor stands. The reader is woken by news of its channels, and when the log has changed under
    /// all readers; that the node has come as far as the cursor alone wakes nobody.
    Ahead,
}

/// A reader with a cursor over any set of channels.
///
/// It never looks anywhere but in the log and the node's memory of it, so joining history to live
/// needs no buffer, and falling behind the memory is the same path as coming with an old cursor.
pub struct Subscription {
    hub: Arc<Hub>,
    waiter: Arc<Waiter>,
    seats: SmallVec<[Seat; 1]>,
    at: Cursor,
    client: Option<ClientId>,
    /// Replay at most this many after a gap.
    last: Option<u32>,
    has_begun: bool,
    /// Whether it has left its seats, and counts as no reader.
    is_away: bool,
    /// Only where the node alone cannot tell how to go on.
    beyond: Option<Box<Beyond>>,
    /// Where it stood in another log that took this one's place, or was in its place, for a while.
    left: Option<Box<Cursor>>,
}

/// How a reader stands that the node's memory does not reach to.
struct Beyond {
    state: State,
    /// The reader was told of a gap for entries that are missing up to here, and goes on with those that are there.
    told: Id,
    /// The reader has named no position and has read nothing yet: it misses nothing of what is gone.
    is_fresh: bool,
}

enum State {
    /// The log is asked.
    Asked(Question),
    /// `at` is ahead of this node, which was of this epoch then, and not of the log, as it has confirmed.
    Ahead(Option<Epoch>),
    /// The log is to be asked.
    Unasked,
}

type Question = Pin<Box<dyn Future<Output = Page> + Send>>;

impl Subscription {
    pub(super) fn open(
        hub: Arc<Hub>,
        transport: Option<&'static str>,
        channels: &[Channel],
        start: Start,
        last: Option<usize>,
        client: Option<ClientId>,
    ) -> Subscription {
        // Only a hub that has not read its log yet has no head, and such a one is not ready.
        let nowhere = Cursor { id: Id::ZERO, epoch: Epoch::random() };
        let waiter = Waiter::new(transport);
        let mut subscription = Subscription {
            hub,
            waiter,
            seats: SmallVec::new(),
            at: nowhere,
            client,
            last: None,
            has_begun: false,
            is_away: false,
            beyond: None,
            left: None,
        };
        for channel in channels {
            subscription.take_seat(channel);
        }
        subscription.tell_slots();
        subscription.start(start, last);
        subscription
    }

    /// Moves to where a reader that has not read yet wants to begin.
    pub fn start(&mut self, start: Start, last: Option<usize>) {
        let memory = self.hub.memory.read();
        let at = match (start, last) {
            (Start::After(cursor), _) => Some(cursor),
            (Start::Earliest, _) => memory.floor(),
            (Start::Latest, None) => memory.cursor(),
            (Start::Latest, Some(n)) => memory
                .floor()
                .map(|floor| Cursor { id: memory.nth_newest(&self.seats, n, floor.id), epoch: floor.epoch }),
        };
        let hole = memory.hole();
        drop(memory);
        self.last = last.map(|last| u32::try_from(last).unwrap_or(u32::MAX));
        self.set_at(at.unwrap_or(self.at));
        let is_fresh = !matches!((start, last), (Start::After(_), _) | (Start::Latest, None));
        if is_fresh {
            self.beyond = Some(Box::new(Beyond { state: State::Unasked, told: hole, is_fresh }));
        }
    }

    /// Everything of the channels up to here has been handed out by [`step`](Subscription::poll_step).
    pub fn cursor(&self) -> Cursor {
        self.at
    }

    /// Whether a gap is all that comes next: it has read its epoch up to where the log has lost the rest.
    pub fn is_at_cut(&self) -> bool {
        self.hub.memory.read().is_at_cut(self.at)
    }

    /// The client left out of what excludes it.
    pub fn client(&self) -> Option<&ClientId> {
        self.client.as_ref()
    }

    /// Names the client.
    pub fn set_client(&mut self, client: ClientId) {
        self.waiter.desk().client = Some(client.clone());
        self.client = Some(client);
    }

    /// Gives the hub a way to write to the reader while it is parked.
    pub fn set_outlet(&mut self, outlet: Box<dyn Outlet>) {
        self.waiter.desk().client = self.client.clone();
        self.waiter.set_outlet(outlet);
    }

    /// Parks behind a [`Step::Idle`]: from now on the hub may write what there is room for, and moves the
    /// cursor. Nobody else may write to the socket until [`unpark`](Subscription::unpark).
    pub fn park(&mut self, room: Room) {
        if self.beyond.is_some() || self.seats.is_empty() || self.waiter.outlet().is_none() {
            return;
        }
        self.waiter.desk().park(self.at, room);
    }

    /// Takes the desk back: the hub writes no more. Says what it has written. To be called before a step, whether or
    /// not it has parked: what comes from here on is not overtaken by what the hub would write.
    pub fn unpark(&mut self) -> Written {
        let Some((at, written)) = self.waiter.desk().unpark() else { return Written::default() };
        self.set_at(at);
        written
    }

    /// Whether it has ever read a channel: before that it keeps the position it was given.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// How many channels it reads.
    pub fn channels(&self) -> usize {
        self.seats.len()
    }

    /// Whether it reads this channel.
    pub fn reads(&self, channel: &Channel) -> bool {
        self.seats.iter().any(|seat| seat.channel == *channel)
    }

    /// Reads a channel, too, from the present position on.
    pub fn add(&mut self, channel: &Channel) {
        if self.take_seat(channel) {
            self.tell_slots();
            self.ask_no_longer();
        }
    }

    fn take_seat(&mut self, channel: &Channel) -> bool {
        let is_new = !self.reads(channel);
        if is_new {
            self.seats.push(self.hub.seat(channel, &self.waiter));
            self.has_begun = true;
        }
        is_new
    }

    /// Reads a channel no longer.
    pub fn remove(&mut self, channel: &Channel) {
        if let Some(index) = self.seats.iter().position(|seat| seat.channel == *channel) {
            let seat = self.seats.swap_remove(index);
            self.hub.unseat(&[seat]);
            self.tell_slots();
            self.ask_no_longer();
        }
    }

    /// Counts as no reader, and is not woken, until it has [come back](Subscription::come_back).
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.is_away, true) {
            self.hub.unseat(&self.seats);
            self.ask_no_longer();
            // Who is not there has no volatile messages, and gets none when they are old.
            drop(self.waiter.take_volatile());
        }
    }

    /// Reads the same channels again, from here on.
    pub fn come_back(&mut self, start: Start) {
        if std::mem::take(&mut self.is_away) {
            for seat in &mut self.seats {
                *seat = self.hub.seat(&seat.channel, &self.waiter);
            }
            self.tell_slots();
        }
        self.start(start, self.last.map(|last| last as usize));
    }

    /// What it reads.
    pub fn names(&self) -> impl Iterator<Item = &Channel> {
        self.seats.iter().map(|seat| &seat.channel)
    }

    fn tell_slots(&self) {
        self.waiter.desk().set_slots(self.seats.iter().map(Seat::slot));
    }

    fn set_at(&mut self, at: Cursor) {
        if at != self.at {
            self.at = at;
            self.settle();
        }
    }

    /// What was asked was about other channels.
    fn ask_no_longer(&mut self) {
        if self.is_asking() {
            self.settle();
        }
    }

    fn is_asking(&self) -> bool {
        self.beyond.as_deref().is_some_and(|beyond| matches!(beyond.state, State::Asked(_)))
    }

    /// Nothing is asked or confirmed about the present position. A gap that was told counts up to its end.
    fn settle(&mut self) {
        if let Some(beyond) = self.beyond.as_deref_mut() {
            beyond.state = State::Unasked;
            if beyond.told <= self.at.id {
                self.beyond = None;
            }
        }
    }

    /// Begins further on than the reader was to begin: what is gone in front of that it has not missed.
    fn begin_at(&mut self, at: Cursor, told: Id) {
        self.at = at;
        self.beyond = Some(Box::new(Beyond { state: State::Unasked, told, is_fresh: true }));
    }

    /// The position is good: a gap behind it is told.
    fn has_read(&mut self) {
        if let Some(beyond) = self.beyond.as_deref_mut() {
            beyond.is_fresh = false;
            if beyond.told <= self.at.id && matches!(beyond.state, State::Unasked) {
                self.beyond = None;
            }
        }
    }

    fn set_beyond(&mut self, state: State) {
        let (told, is_fresh) = (self.told(), self.is_fresh());
        self.beyond = Some(Box::new(Beyond { state, told, is_fresh }));
    }

    fn is_fresh(&self) -> bool {
        self.beyond.as_deref().is_some_and(|beyond| beyond.is_fresh)
    }

    fn told(&self) -> Id {
        self.beyond.as_deref().map_or(Id::ZERO, |beyond| beyond.told)
    }

    /// Copies out what comes next. Pending only while the log is asked; then, as at
    /// [`Step::Idle`] and [`Step::Ahead`], the task is woken when it is worth a new call.
    ///
    /// # Cancel safety
    ///
    /// What is in `out` counts as handed out; nothing else does.
    pub fn poll_step(&mut self, cx: &mut Context<'_>, limit: Limit, out: &mut Vec<Arc<Message>>) -> Poll<Step> {
        // Before the look, or a wake-up could fall between the look and the parking.
        self.waiter.register(cx.waker());
        self.take_volatile(out);
        loop {
            if self.is_asking() {
                let step = std::task::ready!(self.poll_question(cx, limit, out));
                if step != Step::Idle {
                    return Poll::Ready(step);
                }
            }
            let memory = self.hub.memory.read();
            let head = memory.cursor();
            let look = memory.look(self.at, &self.seats, self.client.as_ref(), limit, out);
            drop(memory);
            match look {
                Look::Read(at) => {
                    self.set_at(at);
                    self.has_read();
                    return Poll::Ready(if out.is_empty() { Step::Idle } else { Step::Messages });
                }
                Look::Rebased(at) => self.set_at(at),
                Look::Gap(at) if self.is_fresh() => self.begin_at(at, Id::ZERO),
                Look::Gap(at) => return Poll::Ready(Step::Gap(self.gap(at))),
                Look::AskTheLog if !out.is_empty() => return Poll::Ready(Step::Messages),
                Look::AskTheLog if self.is_ahead_of(head) => return Poll::Ready(Step::Ahead),
                Look::AskTheLog => self.set_beyond(State::Asked(ask(self.hub.clone(), self.at))),
            }
        }
    }

    fn take_volatile(&self, out: &mut Vec<Arc<Message>>) {
        let wanted = |message: &Arc<Message>| self.client.as_ref().is_none_or(|client| !message.excludes(client));
        out.extend(self.waiter.take_volatile().filter(wanted));
    }

    /// Whether the log has confirmed the position, and this node is still behind it.
    fn is_ahead_of(&self, head: Option<Cursor>) -> bool {
        let Some(State::Ahead(seen)) = self.beyond.as_deref().map(|beyond| &beyond.state) else { return false };
        // A node that has come as far and does not hold what follows has dropped it: the log is to be asked again.
        *seen == head.map(|head| head.epoch)
            && head.is_none_or(|head| head.epoch != self.at.epoch || head.id < self.at.id)
    }

    /// `Idle` says: the question is settled, look again.
    fn poll_question(&mut self, cx: &mut Context<'_>, limit: Limit, out: &mut Vec<Arc<Message>>) -> Poll<Step> {
        let Some(State::Asked(question)) = self.beyond.as_deref_mut().map(|beyond| &mut beyond.state) else {
            return Poll::Ready(Step::Idle);
        };
        let page = std::task::ready!(question.as_mut().poll(cx));
        let (told, is_fresh) = (self.told(), self.is_fresh());
        self.settle();
        let mut epoch = page.extent.lineage.epoch;
        let resolved = page.extent.resolve(self.at);
        if let Resolved::Until(_) = resolved {
            epoch = self.at.epoch;
        }
        let at = self.at;
        let is_news = |id: Id| id != at.id || epoch != at.epoch || told < page.extent.deleted;
        Poll::Ready(match resolved {
            Resolved::Gap(id) if is_fresh && is_news(id) => {
                self.begin_at(Cursor { id, epoch }, page.extent.deleted);
                Step::Idle
            }
            // Told once: behind it the reader goes on with what is there, in the present epoch.
            Resolved::Gap(id) if is_news(id) => {
                let gap = self.gap(Cursor { id, epoch });
                let told = if id < page.extent.deleted { page.extent.deleted } else { Id::ZERO };
                let is_fresh = false;
                self.beyond = (told > self.at.id).then(|| Box::new(Beyond { state: State::Unasked, told, is_fresh }));
                Step::Gap(gap)
            }
            Resolved::Gap(_) | Resolved::At(_) | Resolved::Until(_) => {
                let at = self.copy(&page, epoch, limit, out);
                if at == self.at {
                    // Nothing behind it in the log, and this node does not know it: it is behind.
                    let epoch = self.hub.memory.read().cursor().map(|cursor| cursor.epoch);
                    self.set_beyond(State::Ahead(epoch));
                } else {
                    self.set_at(at);
                }
                self.has_read();
                if out.is_empty() { Step::Idle } else { Step::Messages }
            }
        })
    }

    fn copy(&self, page: &Page, epoch: Epoch, limit: Limit, out: &mut Vec<Arc<Message>>) -> Cursor {
        let mut taken = Taken::new(limit);
        let mine = page.messages.iter().filter(|message| self.reads(message.channel()));
        let mut news = mine.filter(|message| id_of(message) > self.at.id);
        let cut = news.find_map(|message| taken.take(message, self.client.as_ref(), out));
        Cursor { id: cut.unwrap_or(page.upto), epoch }
    }

    fn gap(&mut self, mut cursor: Cursor) -> Gap {
        let from = self.at;
        let memory = self.hub.memory.read();
        if memory.locate(from) == Descent::Unknown {
            // The log that this reader has read before may be back (RENAME): it has seen that up to where it left it.
            if let Some(Descent::Same(id)) = self.left.as_deref().map(|left| memory.locate(*left)) {
                cursor.id = cursor.id.max(id);
            }
            self.left = Some(Box::new(from));
        }
        if let Some(n) = self.last
            && memory.cursor().is_some_and(|head| head.epoch == cursor.epoch)
        {
            cursor.id = memory.nth_newest(&self.seats, n as usize, cursor.id);
        }
        drop(memory);
        self.set_at(cursor);
        Gap { from, cursor }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.is_away {
            self.hub.unseat(&self.seats);
        }
    }
}

/// Asks until the log answers: while it cannot be reached the reader waits, and is not told of a gap
/// that there may not be.
fn ask(hub: Arc<Hub>, after: Cursor) -> Question {
    Box::pin(async move {
        let mut pause = Duration::from_millis(50);
        loop {
            if let Ok(page) = hub.log.read(after, PAGE).await {
                return page;
            }
            // Jitter, or all who wait would ask again at once.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    })
}
