//! The queue of calls to the application: it bounds their number and their memory, for one client, for one network and
//! for all, and lets the calls of one client run one after the other.

use crate::serve::limits::rate_limiter::EventSender;
use crate::transport::{ApiError, Code};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The maximum number of calls that wait for their turn or their answer.
const MAX_CALLS: usize = 4096;

/// The memory for these calls. A single call always fits, within the limits of one request.
const MAX_BYTES: usize = 16 << 20;

/// The maximum number and the memory of the calls of one network. A client may make up any number of client ids, but
/// its address is known, so one machine cannot fill the queue for all others.
const MAX_CALLS_OF_NETWORK: usize = MAX_CALLS / 4;
const MAX_BYTES_OF_NETWORK: usize = MAX_BYTES / 4;

/// The maximum number of calls of one client.
const MAX_CALLS_OF_CLIENT: usize = 100;

/// The memory for the calls of one client. A single call always fits.
const MAX_BYTES_OF_CLIENT: usize = 1 << 20;

/// The time after which a client that has filled its part of the queue should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The part of the calls in flight that the calls of one network may take: the others always find some free, also while
/// the application answers slowly.
const SHARE_OF_NETWORK: usize = 2;

/// The queue.
pub struct CallQueue {
    state: Mutex<State>,
    waiting: Gauge,
    /// Permits for calls in flight. They are given in the order in which the calls wait for them.
    in_flight: Arc<Semaphore>,
    /// How many calls of one network may be in flight, or wait for one of these permits.
    share: usize,
}

#[derive(Default)]
struct State {
    all: Usage,
    networks: HashMap<IpAddr, NetworkQueue>,
    clients: HashMap<EventSender, ClientQueue>,
}

/// The calls of one network.
struct NetworkQueue {
    usage: Usage,
    /// Permits for its share of the calls in flight.
    in_flight: Arc<Semaphore>,
}

/// The calls of one client.
struct ClientQueue {
    usage: Usage,
    /// One permit: the turn.
    turn: Arc<Semaphore>,
}

/// The part of the queue that some calls take.
#[derive(Clone, Copy, Default)]
struct Usage {
    calls: usize,
    bytes: usize,
}

impl Usage {
    /// The usage with one more call, if that is within the limits.
    fn with(self, bytes: usize, max_calls: usize, max_bytes: usize) -> Option<Usage> {
        let more = Usage { calls: self.calls + 1, bytes: self.bytes + bytes };
        let fits = more.calls <= max_calls && (self.calls == 0 || more.bytes <= max_bytes);
        fits.then_some(more)
    }

    fn without(self, bytes: usize) -> Usage {
        Usage { calls: self.calls - 1, bytes: self.bytes - bytes }
    }
}

type Acquiring = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// The place of a call, from its beginning to its end.
pub struct Place {
    queue: Arc<CallQueue>,
    sender: EventSender,
    bytes: usize,
    order: Order,
    permits: Permits,
}

/// The permits for the calls in flight of a network.
#[derive(Clone)]
pub struct Permits {
    of_network: Arc<Semaphore>,
    of_all: Arc<Semaphore>,
}

/// The permission of a call to be in flight.
pub struct InFlight {
    _of_network: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// The order among the calls of a client.
enum Order {
    /// The client does not have an id, so its calls may run in any order.
    None,
    /// Earlier calls have not ended.
    Waiting(Acquiring),
    /// It is the turn of this call.
    Turn { _permit: OwnedSemaphorePermit },
}

impl CallQueue {
    /// An empty queue. `max_in_flight` of its calls may be in flight.
    pub fn new(max_in_flight: usize) -> Arc<CallQueue> {
        Arc::new(CallQueue {
            state: Mutex::default(),
            waiting: Gauge::default(),
            in_flight: Arc::new(Semaphore::new(max_in_flight)),
            share: max_in_flight.div_ceil(SHARE_OF_NETWORK),
        })
    }

    /// The number of calls in the queue.
    pub fn waiting(&self) -> Gauge {
        self.waiting.clone()
    }

    /// Gives a call of `bytes` bytes its place. Calls of one client have their turns in the order in which they enter.
    ///
    /// # Errors
    ///
    /// `rate_limited`: the client or its network has too many calls here. `not_ready`: all clients together have too
    /// many.
    pub fn enter(self: &Arc<CallQueue>, sender: EventSender, bytes: usize) -> Result<Place, ApiError> {
        let mut state = self.state.lock();
        let refused = |text| ApiError::until(Code::RateLimited, text, RETRY_AFTER);
        let own = state.clients.get(&sender).map(|queue| queue.usage).unwrap_or_default();
        let Some(own) = own.with(bytes, MAX_CALLS_OF_CLIENT, MAX_BYTES_OF_CLIENT) else {
            return Err(refused("too many events of this client wait for the application"));
        };
        let network = state.networks.get(&sender.network()).map(|queue| queue.usage).unwrap_or_default();
        let Some(network) = network.with(bytes, MAX_CALLS_OF_NETWORK, MAX_BYTES_OF_NETWORK) else {
            return Err(refused("too many events from this address wait for the application"));
        };
        let Some(all) = state.all.with(bytes, MAX_CALLS, MAX_BYTES) else {
            return Err(ApiError::new(Code::NotReady, "too many events wait for the application"));
        };
        state.all = all;
        let new = || NetworkQueue { usage: network, in_flight: Arc::new(Semaphore::new(self.share)) };
        let queue = state.networks.entry(sender.network()).or_insert_with(new);
        queue.usage = network;
        let permits = Permits { of_network: queue.in_flight.clone(), of_all: self.in_flight.clone() };
        let new = || ClientQueue { usage: own, turn: Arc::new(Semaphore::new(1)) };
        let queue = state.clients.entry(sender.clone()).or_insert_with(new);
        queue.usage = own;
        let order = if sender.client.is_some() { Order::of(queue.turn.clone()) } else { Order::None };
        self.waiting.inc();
        Ok(Place { queue: self.clone(), sender, bytes, order, permits })
    }

    fn leave(&self, sender: &EventSender, bytes: usize) {
        let mut state = self.state.lock();
        state.all = state.all.without(bytes);
        if let Entry::Occupied(mut network) = state.networks.entry(sender.network()) {
            network.get_mut().usage = network.get().usage.without(bytes);
            if network.get().usage.calls == 0 {
                network.remove();
            }
        }
        if let Entry::Occupied(mut client) = state.clients.entry(sender.clone()) {
            client.get_mut().usage = client.get().usage.without(bytes);
            if client.get().usage.calls == 0 {
                client.remove();
            }
        }
        self.waiting.dec();
    }
}

impl Order {
    fn of(turn: Arc<Semaphore>) -> Order {
        let mut acquiring: Acquiring = Box::pin(turn.acquire_owned());
        // The first poll takes the place in the order. A later poll leaves the waker of the task that waits.
        match acquiring.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(permit)) => Order::Turn { _permit: permit },
            _ => Order::Waiting(acquiring),
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
        if let Order::Waiting(acquiring) = &mut self.order
            && let Ok(permit) = acquiring.await
        {
            self.order = Order::Turn { _permit: permit };
        }
    }

    /// The permits for calls in flight.
    pub fn permits(&self) -> &Permits {
        &self.permits
    }
}

impl Permits {
    /// Waits until a call may be in flight. `None` is not possible, because nobody closes the semaphores.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the call loses its place among the calls that wait for the permission.
    pub async fn acquire(&self) -> Option<InFlight> {
        // A call does not wait among the calls of all before its network has room: otherwise the calls of one network
        // would stand in front of all others.
        let of_network = self.of_network.clone().acquire_owned().await.ok()?;
        let of_all = self.of_all.clone().acquire_owned().await.ok()?;
        Some(InFlight { _of_network: of_network, _of_all: of_all })
    }

    /// The permission for one more call in flight, if there is one now.
    pub fn try_acquire(&self) -> Option<InFlight> {
        let of_network = self.of_network.clone().try_acquire_owned().ok()?;
        let of_all = self.of_all.clone().try_acquire_owned().ok()?;
        Some(InFlight { _of_network: of_network, _of_all: of_all })
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

    fn sender(client: Option<&str>) -> EventSender {
        let client = client.map(|client| client.parse().expect("a client id"));
        EventSender::new(client, None, IpAddr::from([192, 0, 2, 1]))
    }

    fn size(queue: &CallQueue) -> (usize, usize, usize, usize) {
        let state = queue.state.lock();
        (state.all.calls, state.all.bytes, state.networks.len(), state.clients.len())
    }

    #[test]
    fn calls_of_one_client_have_their_turns_in_order() {
        let queue = CallQueue::new(64);
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
        assert_eq!(size(&queue), (0, 0, 0, 0));
    }

    #[test]
    fn calls_of_a_session_have_one_order_and_count_for_their_network() {
        let code = |entered: Result<Place, ApiError>| entered.err().map(|error| error.code);
        let queue = CallQueue::new(64);
        let session = |n: usize, network: u8| EventSender::of_session(&format!("s{n}"), [192, 0, network, 1].into());
        let first = queue.enter(session(0, 2), 1).expect("room");
        let mut moved = queue.enter(session(0, 3), 1).expect("room");
        assert!(moved.turn().now_or_never().is_none(), "the client has another address, and is the same client");
        drop(first);
        assert!(moved.turn().now_or_never().is_some());
        let places: Vec<Place> =
            (0..MAX_CALLS_OF_NETWORK).map(|n| queue.enter(session(n, 2), 1).expect("room")).collect();
        let next = MAX_CALLS_OF_NETWORK;
        assert_eq!(code(queue.enter(session(next, 2), 1)), Some(Code::RateLimited));
        assert_eq!(code(queue.enter(session(next, 4), 1)), None, "sessions in another network have room");
        drop((moved, places));
        assert_eq!(size(&queue), (0, 0, 0, 0));
    }

    /// However many calls one network has, a call of another one may be in flight at once.
    #[test]
    fn a_network_has_a_share_of_the_calls_in_flight() {
        for (max, share) in [(1, 1), (2, 1), (5, 3), (64, 32)] {
            let queue = CallQueue::new(max);
            let enter = |n: u8, network: u8| {
                let client = format!("c{n}").parse().ok();
                queue.enter(EventSender::new(client, None, [192, 0, network, 1].into()), 1).expect("room")
            };
            let flood: Vec<Place> = (0..200).map(|n| enter(n, 2)).collect();
            let mut waiting: Vec<_> = flood.iter().map(|place| Box::pin(place.permits().acquire())).collect();
            let mut flying: Vec<_> = waiting.iter_mut().filter_map(|it| it.as_mut().now_or_never().flatten()).collect();
            assert_eq!(flying.len(), share, "of {max}");
            assert!(flood[199].permits().try_acquire().is_none(), "of {max}: a repetition counts, too");
            let other = enter(0, 3);
            let permit = other.permits().acquire().now_or_never().flatten();
            assert_eq!(permit.is_some(), max > 1, "of {max}");
            drop(permit);
            flying.pop();
            assert!(waiting[share].as_mut().now_or_never().is_some(), "of {max}: the next one has its turn");
            drop((waiting, flying));
            drop((flood, other));
            assert_eq!(size(&queue), (0, 0, 0, 0));
        }
    }

    #[test]
    fn the_queue_is_bounded_for_one_client_one_network_and_all() {
        let code = |entered: Result<Place, ApiError>| entered.err().map(|error| error.code);
        let queue = CallQueue::new(64);
        let mut places: Vec<Place> = Vec::new();
        for _ in 0..MAX_CALLS_OF_CLIENT {
            places.push(queue.enter(sender(Some("a")), 1).expect("room"));
        }
        assert_eq!(code(queue.enter(sender(Some("a")), 1)), Some(Code::RateLimited));
        // Client ids are free: one network has a quarter of the queue for all of them together, and for calls without
        // an id.
        let numbered =
            |n: usize, network: u8| EventSender::new(format!("c{n}").parse().ok(), None, [192, 0, network, 1].into());
        for n in places.len()..MAX_CALLS / 4 {
            places.push(queue.enter(numbered(n, 2), 1).expect("room"));
        }
        for (n, client) in [Some("b"), None].into_iter().enumerate() {
            assert_eq!(code(queue.enter(sender(client), 1)), Some(Code::RateLimited), "{client:?}");
            places.push(queue.enter(numbered(n, 3), 1).expect("room for another network"));
        }
        for n in places.len()..MAX_CALLS {
            places.push(queue.enter(numbered(n, 4 + (n % 10) as u8), 1).expect("room"));
        }
        assert_eq!(code(queue.enter(numbered(0, 99), 1)), Some(Code::NotReady));
        places.clear();
        assert_eq!(size(&queue), (0, 0, 0, 0));

        let large = queue.enter(sender(Some("a")), MAX_BYTES_OF_CLIENT + 1).expect("a single call always fits");
        assert_eq!(code(queue.enter(sender(Some("a")), 1)), Some(Code::RateLimited));
        for n in 2..MAX_BYTES / MAX_BYTES_OF_CLIENT / 4 {
            places.push(queue.enter(numbered(n, 2), MAX_BYTES_OF_CLIENT).expect("room"));
        }
        assert_eq!(code(queue.enter(sender(Some("b")), MAX_BYTES_OF_CLIENT)), Some(Code::RateLimited));
        for n in places.len() + 2..MAX_BYTES / MAX_BYTES_OF_CLIENT {
            places.push(queue.enter(numbered(n, 4 + (n % 10) as u8), MAX_BYTES_OF_CLIENT).expect("room"));
        }
        assert_eq!(code(queue.enter(numbered(0, 99), MAX_BYTES_OF_CLIENT)), Some(Code::NotReady));
        drop((large, places));
        assert_eq!(size(&queue), (0, 0, 0, 0));
    }
}
