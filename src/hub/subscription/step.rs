//! Reads the next messages: from the node's memory, or from the log if the memory does not have them.

use super::Subscription;
use super::outside_memory::{LogRequest, OutsideMemory, PageFuture};
use crate::cursor::{Cursor, Epoch, Id};
use crate::hub::Hub;
use crate::hub::limit::Limit;
use crate::hub::memory::{Copier, Lookup, Recipient};
use crate::hub::message_id::id_of;
use crate::log::{Descent, Page, Resolved};
use crate::message::{Kind, Message};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The maximum number of entries of the log that a reader reads at a time to catch up.
const PAGE: usize = 512;

/// A gap: messages after `from` may have been dropped before the reader saw them. Reading continues at `cursor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The cursor from which the reader wanted to continue.
    pub from: Cursor,
    /// The cursor from which reading continues.
    pub cursor: Cursor,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Messages were copied out.
    Messages,
    /// A gap. The reader takes another step to read on after the gap.
    Gap(Gap),
    /// There are no new messages. The reader is woken when a message arrives.
    Idle,
    /// The cursor is ahead of this node, and the log has confirmed that the cursor is valid: the node is behind. The
    /// reader is woken when its channels have new messages, and when the log has changed for all readers. It is not
    /// woken just because the node reaches its cursor.
    Ahead,
}

impl Subscription {
    /// Begins at a later position than requested. Dropped entries before this position do not count as missed.
    fn begin_at(&mut self, at: Cursor, told: Id) {
        self.at = at;
        self.outside = Some(Box::new(OutsideMemory { request: LogRequest::NotAsked, told, is_fresh: true }));
    }

    /// Records that the position is valid: the next gap after it is reported again.
    fn has_read(&mut self) {
        if let Some(outside) = self.outside.as_deref_mut() {
            outside.is_fresh = false;
            if outside.told <= self.at.id && matches!(outside.request, LogRequest::NotAsked) {
                self.outside = None;
            }
        }
    }

    fn set_request(&mut self, request: LogRequest) {
        let (told, is_fresh) = (self.told(), self.is_fresh());
        self.outside = Some(Box::new(OutsideMemory { request, told, is_fresh }));
    }

    fn is_fresh(&self) -> bool {
        self.outside.as_deref().is_some_and(|outside| outside.is_fresh)
    }

    fn told(&self) -> Id {
        self.outside.as_deref().map_or(Id::ZERO, |outside| outside.told)
    }

    /// Copies out the next messages. It is pending only while the log is asked. In that case, and after [`Step::Idle`]
    /// and [`Step::Ahead`], the task is woken when a new call is useful.
    ///
    /// # Cancel safety
    ///
    /// Only the messages in `out` count as delivered.
    pub fn poll_step(&mut self, cx: &mut Context<'_>, limit: Limit, out: &mut Vec<Arc<Message>>) -> Poll<Step> {
        // The waker is registered before the search: otherwise a wake-up between the search and the parking would be
        // lost.
        self.reader.register(cx.waker());
        self.take_volatile(out);
        loop {
            if self.is_asking() {
                let step = std::task::ready!(self.poll_log(cx, limit, out));
                if step != Step::Idle {
                    return Poll::Ready(step);
                }
            }
            let memory = self.hub.memory.read();
            let head = memory.cursor();
            let lookup = memory.look(self.at, &self.registrations, self.recipient(), limit, out);
            drop(memory);
            match lookup {
                Lookup::Read(at) => {
                    self.set_at(at);
                    self.has_read();
                    return Poll::Ready(if out.is_empty() { Step::Idle } else { Step::Messages });
                }
                Lookup::Rebased(at) => self.set_at(at),
                Lookup::Gap(at) if self.is_fresh() => self.begin_at(at, Id::ZERO),
                Lookup::Gap(at) => return Poll::Ready(Step::Gap(self.gap(at))),
                Lookup::AskTheLog if !out.is_empty() => return Poll::Ready(Step::Messages),
                Lookup::AskTheLog if self.is_ahead_of(head) => return Poll::Ready(Step::Ahead),
                Lookup::AskTheLog => {
                    let page = read_page(self.hub.clone(), self.at);
                    self.set_request(LogRequest::UnderWay(page));
                }
            }
        }
    }

    #[inline]
    fn recipient(&self) -> Recipient<'_> {
        Recipient { client: self.client.as_ref(), reads_members: self.reads_members }
    }

    fn take_volatile(&self, out: &mut Vec<Arc<Message>>) {
        let is_wanted = |message: &Arc<Message>| self.client.as_ref().is_none_or(|client| !message.excludes(client));
        out.extend(self.reader.take_volatile().filter(is_wanted));
    }

    /// Whether the log has confirmed the position and this node is still behind it.
    fn is_ahead_of(&self, head: Option<Cursor>) -> bool {
        let request = self.outside.as_deref().map(|outside| &outside.request);
        let Some(LogRequest::Ahead(epoch)) = request else { return false };
        // If the node has read up to the position by now but does not hold the messages after it, it has dropped them:
        // the log has to be asked again.
        *epoch == head.map(|head| head.epoch)
            && head.is_none_or(|head| head.epoch != self.at.epoch || head.id < self.at.id)
    }

    /// Polls the log's answer. `Idle` means that the answer was handled and the caller should look for messages again.
    fn poll_log(&mut self, cx: &mut Context<'_>, limit: Limit, out: &mut Vec<Arc<Message>>) -> Poll<Step> {
        let request = self.outside.as_deref_mut().map(|outside| &mut outside.request);
        let Some(LogRequest::UnderWay(page)) = request else { return Poll::Ready(Step::Idle) };
        let page = std::task::ready!(page.as_mut().poll(cx));
        let (told, is_fresh) = (self.told(), self.is_fresh());
        self.settle();
        let control_floor = page.extent.control_floor;
        if self.at.epoch == page.extent.lineage.epoch && self.at.id < control_floor && self.may_lack(control_floor) {
            // Changes of the session may have been dropped.
            let cursor = Cursor { id: page.extent.control_floor, epoch: page.extent.lineage.epoch };
            return Poll::Ready(Step::Gap(self.gap(cursor)));
        }
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
            // The gap is reported to the reader once. After the gap, the reader continues with the remaining entries,
            // in the present epoch.
            Resolved::Gap(id) if is_news(id) => {
                let gap = self.gap(Cursor { id, epoch });
                let told = if id < page.extent.deleted { page.extent.deleted } else { Id::ZERO };
                let (request, is_fresh) = (LogRequest::NotAsked, false);
                self.outside = (told > self.at.id).then(|| Box::new(OutsideMemory { request, told, is_fresh }));
                Step::Gap(gap)
            }
            Resolved::Gap(_) | Resolved::At(_) | Resolved::Until(_) => {
                let at = self.copy(&page, epoch, limit, out);
                if at == self.at {
                    // The log has nothing after the position, and this node does not know the position: the node is
                    // behind.
                    let epoch = self.hub.memory.read().cursor().map(|cursor| cursor.epoch);
                    self.set_request(LogRequest::Ahead(epoch));
                } else {
                    self.set_at(at);
                }
                self.has_read();
                if out.is_empty() { Step::Idle } else { Step::Messages }
            }
        })
    }

    /// Whether the log may have dropped control entries of the subscription between its position and this one. The
    /// node's memory may tell that there were only those of other sessions.
    fn may_lack(&self, upto: Id) -> bool {
        let memory = self.hub.memory.read();
        let mut control = self.registrations.iter().filter(|registration| registration.channel.is_reserved());
        control.any(|registration| !memory.has_nothing_between(registration, self.at.id, upto))
    }

    fn copy(&self, page: &Page, epoch: Epoch, limit: Limit, out: &mut Vec<Arc<Message>>) -> Cursor {
        let mut copier = Copier::new(limit);
        let news = page.messages.iter().filter(|message| id_of(message) > self.at.id);
        let mut mine = news.filter_map(|message| self.variant_of(message));
        let cut = mine.find_map(|message| copier.copy(&message, self.recipient(), out));
        Cursor { id: cut.unwrap_or(page.upto), epoch }
    }

    /// The message as this subscription reads it: under the name of the first of the message's channels that it reads.
    /// `None` if it does not read any of them, or reads a channel whose readers do not get the message.
    fn variant_of(&self, message: &Arc<Message>) -> Option<Arc<Message>> {
        let Some(extras) = message.extras() else { return self.reads(message.channel()).then(|| message.clone()) };
        let channel = message.channels().iter().find(|channel| self.reads(channel))?;
        let is_readable = match extras.kind {
            Kind::Session => channel.is_reserved(),
            _ => !self.names().any(|name| message.excludes_readers_of(name)),
        };
        if !is_readable {
            return None;
        }
        Some(if channel == message.channel() { message.clone() } else { Arc::new(message.variant(channel)) })
    }

    fn gap(&mut self, mut cursor: Cursor) -> Gap {
        let from = self.at;
        let memory = self.hub.memory.read();
        if memory.locate(from) == Descent::Unknown {
            // The log that this reader has read before may be back (RENAME). The reader has seen that log up to the
            // position that it had when the log was replaced.
            if let Some(Descent::Same(id)) = self.left.as_deref().map(|left| memory.locate(*left)) {
                cursor.id = cursor.id.max(id);
            }
            self.left = Some(Box::new(from));
        }
        if let Some(n) = self.last
            && memory.cursor().is_some_and(|head| head.epoch == cursor.epoch)
        {
            cursor.id = memory.nth_newest(&self.registrations, n as usize, cursor.id);
        }
        drop(memory);
        self.set_at(cursor);
        Gap { from, cursor }
    }
}

/// Reads a page, and tries again until the log answers. While the log cannot be reached, the reader waits: it does not
/// get a gap that may not exist.
fn read_page(hub: Arc<Hub>, after: Cursor) -> PageFuture {
    Box::pin(async move {
        let mut pause = Duration::from_millis(50);
        loop {
            if let Ok(page) = hub.log.read(after, PAGE).await {
                return page;
            }
            // Because of the jitter, the waiting readers do not all ask again at once.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    })
}
