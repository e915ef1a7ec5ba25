//! A log for tests: the test sends the events of its tail, and the pages that it reads.

use super::Hub;
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::queued::Queued;
use crate::log::{
    Ancestor, AppendError, BoxFuture, Extent, Lineage, MessageLog, Page, Retention, TailEvent, Unreachable,
};
use crate::message::{Channel, Draft, Event, Message, Payload};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// A log whose tail the test controls. Its `read` returns a page that the test sends.
struct ControlledLog {
    tail: Mutex<Option<mpsc::UnboundedReceiver<TailEvent>>>,
    pages: tokio::sync::Mutex<mpsc::UnboundedReceiver<Page>>,
}

/// What the test sends.
pub struct Controls {
    /// The events of the tail.
    pub tail: mpsc::UnboundedSender<TailEvent>,
    /// The pages, in the order in which the hub asks for them.
    pub pages: mpsc::UnboundedSender<Page>,
}

/// A hub that reads a log under the control of the test.
pub fn controlled() -> (Arc<Hub>, Controls) {
    let ((tail, tail_rx), (pages, pages_rx)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let log = ControlledLog { tail: Mutex::new(Some(tail_rx)), pages: tokio::sync::Mutex::new(pages_rx) };
    let retention = Retention { age: Duration::from_secs(60), messages: 9, bytes: 999, control: 10 };
    let hub = Hub::new(Arc::new(log), retention, Duration::ZERO);
    tokio::spawn(hub.clone().follow());
    (hub, Controls { tail, pages })
}

/// An id of the first entry of a millisecond.
pub fn id(ms: u64) -> Id {
    Id { ms, seq: 0 }
}

/// The extent of a log that holds the entries after `floor`.
pub fn extent(epoch: Epoch, ancestors: Vec<Ancestor>, floor: Id, end: Id) -> Extent {
    let lineage = Lineage { epoch, ancestors };
    Extent { lineage, floor, deleted: floor, control_floor: floor, end, now_ms: end.ms }
}

/// A message on a channel; a volatile one without a position.
pub fn message(at: Option<Cursor>, channel: &Channel) -> Arc<Message> {
    Arc::new(Message::new(at, channel.clone(), Event::default(), &Payload::from_any("1"), None))
}

impl MessageLog for ControlledLog {
    fn append_in_order(&self, _: Vec<Draft>, _: Queued) -> BoxFuture<'_, Result<Vec<Option<Cursor>>, AppendError>> {
        Box::pin(std::future::pending())
    }

    fn read(&self, _: Cursor, _: usize) -> BoxFuture<'_, Result<Page, Unreachable>> {
        Box::pin(async { self.pages.lock().await.recv().await.ok_or(Unreachable) })
    }

    fn tail(self: Arc<Self>) -> Pin<Box<dyn Stream<Item = TailEvent> + Send>> {
        Box::pin(UnboundedReceiverStream::new(self.tail.lock().take().expect("one tail")))
    }

    fn now_ms(&self) -> u64 {
        5
    }
}
