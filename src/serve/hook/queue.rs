//! The queue of calls to the application: it bounds their number and their memory, for one client and for all, and lets
//! the calls of one client run one after the other.

use crate::serve::limits::rate_limiter::EventSender;
use crate::transport::{ApiError, Code};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The maximum number of calls that wait for their turn or their answer.
const MAX_CALLS: usize = 4096;

/// The memory for these calls. A single call always fits, within the limits of one request.
const MAX_BYTES: usize = 16 << 20;

/// The maximum number of calls of one client.
const MAX_CALLS_OF_CLIENT: usize = 100;

/// The memory for the calls of one client. A single call always fits.
const MAX_BYTES_OF_CLIENT: usize = 1 << 20;

/// The time after which a client that has filled its part of the queue should try again.
const COME_BACK: Duration = Duration::from_secs(1);

/// The queue.
#[derive(Default)]
pub struct CallQueue {
    state: Mutex<State>,
    waiting: Gauge,
}

#[derive(Default)]
struct State {
    all: Load,
    lines: HashMap<EventSender, Line>,
}

/// The calls of one client.
struct Line {
    load: Load,
    /// One permit: the turn.
    turn: Arc<Semaphore>,
}

/// The resources that some calls take.
#[derive(Clone, Copy, Default)]
struct Load {
    calls: usize,
    bytes: usize,
}

impl Load {
    /// The load with one more call, if that is within the limits.
    fn with(self, bytes: usize, max_calls: usize, max_bytes: usize) -> Option<Load> {
        let more = Load { calls: self.calls + 1, bytes: self.bytes + bytes };
        let fits = more.calls <= max_calls && (self.calls == 0 || more.bytes <= max_bytes);
        fits.then_some(more)
    }

    fn without(self, bytes: usize) -> Load {
        Load { calls: self.calls - 1, bytes: self.bytes - bytes }
    }
}

type Acquiring = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// The place of a call, from its beginning to its end.
pub struct Place {
    queue: Arc<CallQueue>,
    sender: EventSender,
    bytes: usize,
    turn: Turn,
}

enum Turn {
    /// The client does not have an id, so its calls have no order.
    Free,
    Waits(Acquiring),
    Has {
        _permit: OwnedSemaphorePermit,
    },
}

impl CallQueue {
    /// The number of calls in the queue.
    pub fn waiting(&self) -> Gauge {
        self.waiting.clone()
    }

    /// Gives a call of `bytes` bytes its place. Calls of one client have their turns in the order in which they enter.
    ///
    /// # Errors
    ///
    /// `rate_limited`: the client has too many calls here. `not_ready`: all clients together have too many.
    pub fn enter(self: &Arc<CallQueue>, sender: EventSender, bytes: usize) -> Result<Place, ApiError> {
        let mut state = self.state.lock();
        let own = state.lines.get(&sender).map(|line| line.load).unwrap_or_default();
        let Some(own) = own.with(bytes, MAX_CALLS_OF_CLIENT, MAX_BYTES_OF_CLIENT) else {
            let text = "too many events of this client wait for the application";
            return Err(ApiError::until(Code::RateLimited, text, COME_BACK));
        };
        let Some(all) = state.all.with(bytes, MAX_CALLS, MAX_BYTES) else {
            return Err(ApiError::new(Code::NotReady, "too many events wait for the application"));
        };
        state.all = all;
        let new = || Line { load: own, turn: Arc::new(Semaphore::new(1)) };
        let line = state.lines.entry(sender.clone()).or_insert_with(new);
        line.load = own;
        let turn = if sender.client.is_some() { Turn::of(line.turn.clone()) } else { Turn::Free };
        self.waiting.inc();
        Ok(Place { queue: self.clone(), sender, bytes, turn })
    }

    fn leave(&self, sender: &EventSender, bytes: usize) {
        let mut state = self.state.lock();
        state.all = state.all.without(bytes);
        if let Some(line) = state.lines.get_mut(sender) {
            line.load = line.load.without(bytes);
            if line.load.calls == 0 {
                state.lines.remove(sender);
            }
        }
        self.waiting.dec();
    }
}

impl Turn {
    fn of(turn: Arc<Semaphore>) -> Turn {
        let mut acquiring: Acquiring = Box::pin(turn.acquire_owned());
        // The first poll takes the place in the order. A later poll leaves the waker of the task that waits.
        match acquiring.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(permit)) => Turn::Has { _permit: permit },
            _ => Turn::Waits(acquiring),
        }
    }
}

impl Place {
    /// Waits until all earlier calls of the client have ended.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the call keeps its place.
    pub async fn turn(&mut self) {
        if let Turn::Waits(acquiring) = &mut self.turn
            && let Ok(permit) = acquiring.await
        {
            self.turn = Turn::Has { _permit: permit };
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.leave(&self.sender, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::net::IpAddr;

    fn sender(client: Option<&str>) -> EventSender {
        let client = client.map(|client| client.parse().expect("a client id"));
        EventSender::new(client, IpAddr::from([192, 0, 2, 1]))
    }

    fn size(queue: &CallQueue) -> (usize, usize, usize) {
        let state = queue.state.lock();
        (state.all.calls, state.all.bytes, state.lines.len())
    }

    #[test]
    fn calls_of_one_client_have_their_turns_in_order() {
        let queue = Arc::<CallQueue>::default();
        let enter = |client| queue.enter(sender(client), 10).expect("room");
        let mut first = enter(Some("a"));
        let (mut second, mut third) = (enter(Some("a")), enter(Some("a")));
        let mut other = enter(Some("b"));
        assert!(first.turn().now_or_never().is_some() && other.turn().now_or_never().is_some());
        assert!(second.turn().now_or_never().is_none() && third.turn().now_or_never().is_none());
        // A call that gives up does not let the next one overtake the first.
        drop(second);
        assert!(third.turn().now_or_never().is_none());
        drop(first);
        assert!(third.turn().now_or_never().is_some());
        let (mut one, mut two) = (enter(None), enter(None));
        assert!(one.turn().now_or_never().is_some() && two.turn().now_or_never().is_some(), "they have no order");
        drop((third, other, one, two));
        assert_eq!(size(&queue), (0, 0, 0));
    }

    #[test]
    fn the_queue_is_bounded_for_one_client_and_for_all() {
        let code = |entered: Result<Place, ApiError>| entered.err().map(|error| error.code);
        let queue = Arc::<CallQueue>::default();
        let mut places: Vec<Place> = Vec::new();
        for _ in 0..MAX_CALLS_OF_CLIENT {
            places.push(queue.enter(sender(Some("a")), 1).expect("room"));
        }
        assert_eq!(code(queue.enter(sender(Some("a")), 1)), Some(Code::RateLimited));
        for n in places.len()..MAX_CALLS {
            places.push(queue.enter(sender(Some(&format!("c{n}"))), 1).expect("room"));
        }
        assert_eq!(code(queue.enter(sender(Some("b")), 1)), Some(Code::NotReady));
        places.clear();
        assert_eq!(size(&queue), (0, 0, 0));

        let large = queue.enter(sender(Some("a")), MAX_BYTES_OF_CLIENT + 1).expect("a single call always fits");
        assert_eq!(code(queue.enter(sender(Some("a")), 1)), Some(Code::RateLimited));
        for n in 2..MAX_BYTES / MAX_BYTES_OF_CLIENT {
            places.push(queue.enter(sender(Some(&format!("c{n}"))), MAX_BYTES_OF_CLIENT).expect("room"));
        }
        assert_eq!(code(queue.enter(sender(Some("b")), MAX_BYTES_OF_CLIENT)), Some(Code::NotReady));
        drop((large, places));
        assert_eq!(size(&queue), (0, 0, 0));
    }
}
