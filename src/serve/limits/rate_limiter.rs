//! Rate limits: requests per address, and messages per publisher.

use super::connections::network;
use super::token_bucket::{Refill, TokenBucket};
use crate::message::ClientId;
use crate::transport::{ApiError, Code};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// The maximum number of buckets that are kept at a time. After a second without use, a bucket is full again and can be
/// dropped.
const BUCKETS: usize = 100_000;

/// A publisher: the owner of a message rate and of idempotency keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Publisher {
    /// A client with a server key: one of the operator's own programs. Such a client does not have a rate limit.
    Server,
    /// The `sub` of a token.
    Subject(String),
    /// A client without a name, by its address.
    Address(IpAddr),
    /// An anonymous publisher on an open server.
    Anonymous(IpAddr),
}

impl Publisher {
    /// The scope of the publisher's idempotency keys. Scopes of different kinds never collide.
    pub fn scope(&self) -> String {
        match self {
            Publisher::Server => "key".to_owned(),
            Publisher::Subject(subject) => format!("sub:{subject}"),
            Publisher::Address(ip) => format!("ip:{}", network(*ip)),
            Publisher::Anonymous(_) => String::new(),
        }
    }

    /// The publisher whose share of idempotency keys is used: the rate limiter counts messages for the same publisher.
    pub fn owner(&self) -> String {
        match self {
            Publisher::Anonymous(ip) => Publisher::Address(*ip).scope(),
            publisher => publisher.scope(),
        }
    }
}

/// A client that sends events to the application. Any client may name any client id, so the network of its address and
/// its user belong to its identity: a client in another network, or of another user, cannot use up its part. A client may
/// also make up many client ids, so the hook's queue has a limit for each network, too. Only the client itself knows the
/// id of its session, so the client of a session is the same client in each network.
#[derive(Clone, Debug)]
pub struct EventSender {
    /// The client id, if there is one.
    pub client: Option<ClientId>,
    user: Option<Box<str>>,
    network: IpAddr,
    is_session: bool,
}

impl PartialEq for EventSender {
    fn eq(&self, other: &EventSender) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for EventSender {}

impl Hash for EventSender {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.identity().hash(hasher);
    }
}

impl EventSender {
    /// The client with this id at this address, and the user that its token names.
    pub fn new(client: Option<ClientId>, user: Option<&str>, ip: IpAddr) -> EventSender {
        EventSender { client, user: user.map(Into::into), network: network(ip), is_session: false }
    }

    /// The client of a session, at this address. Only the client itself and the application know the session's id.
    pub fn of_session(id: &str, ip: IpAddr) -> EventSender {
        let client = Some(ClientId::Token(format!("session.{id}").into()));
        EventSender { client, user: None, network: network(ip), is_session: true }
    }

    /// The network of its address.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// What distinguishes clients.
    fn identity(&self) -> (Option<&ClientId>, Option<&str>, Option<IpAddr>) {
        (self.client.as_ref(), self.user.as_deref(), (!self.is_session).then_some(self.network))
    }

    /// The scope of the keys of its events. A client keeps its keys when its address changes. Two users never share a
    /// scope: a client id is public.
    pub fn scope(&self) -> String {
        let client = match &self.client {
            Some(client) => format!("client:{client}"),
            None => format!("ip:{}", self.network),
        };
        match &self.user {
            // The length says where the user ends.
            Some(user) => format!("user:{}:{user}:{client}", user.len()),
            None => client,
        }
    }
}

/// The rate limits of a server.
pub struct RateLimiter {
    requests: Option<Limiter<IpAddr>>,
    messages: Option<Limiter<Publisher>>,
    events: Option<Limiter<EventSender>>,
}

impl RateLimiter {
    /// Limits the requests per second of an address, the messages per second of a publisher, and the events per second
    /// of a client. 0 means no limit.
    pub fn new(requests: u32, messages: u32, events: u32) -> RateLimiter {
        let (requests, messages, events) = (Limiter::new(requests), Limiter::new(messages), Limiter::new(events));
        RateLimiter { requests, messages, events }
    }

    /// Counts a request or a command.
    ///
    /// # Errors
    ///
    /// `rate_limited`.
    pub fn request(&self, ip: IpAddr) -> Result<(), ApiError> {
        let Some(limiter) = &self.requests else { return Ok(()) };
        limiter.take(network(ip), 1, Instant::now()).map_err(|wait| {
            let text = format!("at most {} requests per second from one address", limiter.per_second);
            ApiError::until(Code::RateLimited, text, wait)
        })
    }

    /// Counts an event for the application.
    ///
    /// # Errors
    ///
    /// `rate_limited`.
    pub fn event(&self, sender: &EventSender) -> Result<(), ApiError> {
        let Some(limiter) = &self.events else { return Ok(()) };
        limiter.take(sender.clone(), 1, Instant::now()).map_err(|wait| {
            let text = format!("at most {} events per second from one client", limiter.per_second);
            ApiError::until(Code::RateLimited, text, wait)
        })
    }

    /// Counts messages. A client with a server key is not counted.
    ///
    /// # Errors
    ///
    /// `rate_limited`: all of the messages are refused. `too_large`: one request can never have so many messages.
    pub fn publish(&self, publisher: &Publisher, messages: usize) -> Result<(), ApiError> {
        let Some(limiter) = &self.messages else { return Ok(()) };
        let publisher = match publisher {
            Publisher::Server => return Ok(()),
            Publisher::Address(ip) | Publisher::Anonymous(ip) => Publisher::Anonymous(network(*ip)),
            Publisher::Subject(_) => publisher.clone(),
        };
        // A client that waits and repeats them would be refused forever.
        if messages > limiter.per_second as usize {
            let text = format!("at most {0} messages in one request, and at most {0} per second", limiter.per_second);
            return Err(ApiError::new(Code::TooLarge, text));
        }
        limiter.take(publisher, messages, Instant::now()).map_err(|wait| {
            let text = format!("at most {} messages per second, and at most {0} in one request", limiter.per_second);
            ApiError::until(Code::RateLimited, text, wait)
        })
    }
}

/// One rate, with a bucket per key. A bucket holds one second's tokens.
struct Limiter<K> {
    per_second: u32,
    buckets: Mutex<HashMap<K, TokenBucket>>,
}

impl<K: Eq + Hash> Limiter<K> {
    fn new(per_second: u32) -> Option<Limiter<K>> {
        (per_second > 0).then(|| Limiter { per_second, buckets: Mutex::default() })
    }

    /// Takes tokens, or returns the wait until there are enough.
    fn take(&self, key: K, count: usize, now: Instant) -> Result<(), Duration> {
        let refill = Refill::of_one_second(self.per_second);
        let mut buckets = self.buckets.lock();
        if buckets.len() >= BUCKETS && !buckets.contains_key(&key) {
            evict(&mut buckets, now);
        }
        let bucket = buckets.entry(key).or_insert_with(|| TokenBucket::full(&refill, now));
        bucket.try_take(&refill, count as f64, now)
    }
}

fn evict<K: Eq + Hash>(buckets: &mut HashMap<K, TokenBucket>, now: Instant) {
    buckets.retain(|_, bucket| now.saturating_duration_since(bucket.last_used()) < Duration::from_secs(1));
    if buckets.len() >= BUCKETS {
        // The table is full, so half of the buckets are dropped, and their keys start again with a full bucket. This
        // keeps the table bounded.
        let mut keep = false;
        buckets.retain(|_, _| {
            keep = !keep;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_bucket_of_its_own() {
        let limiter = Limiter::new(4).expect("a limit");
        let now = Instant::now();
        assert_eq!(limiter.take("a", 4, now), Ok(()));
        assert_eq!(limiter.take("a", 1, now), Err(Duration::from_millis(250)));
        assert_eq!(limiter.take("b", 4, now), Ok(()));
    }

    #[test]
    fn messages_that_never_fit_are_too_large_and_the_others_have_to_wait() {
        let limiter = RateLimiter::new(0, 5, 0);
        let publish =
            |publisher: &Publisher, messages| limiter.publish(publisher, messages).map_err(|error| error.code);
        let ann = Publisher::Subject("ann".into());
        for (messages, answer) in
            [(6, Err(Code::TooLarge)), (1000, Err(Code::TooLarge)), (5, Ok(())), (5, Err(Code::RateLimited))]
        {
            assert_eq!(publish(&ann, messages), answer, "{messages}");
        }
        assert_eq!(publish(&Publisher::Server, 1000), Ok(()), "a server key has no rate");
    }

    #[test]
    fn keys_count_for_the_publisher_that_the_rate_limiter_names() {
        let ip: IpAddr = "2001:db8:1:2::3".parse().expect("an address");
        for (publisher, scope, owner) in [
            (Publisher::Server, "key", "key"),
            (Publisher::Subject("ann".into()), "sub:ann", "sub:ann"),
            (Publisher::Address(ip), "ip:2001:db8:1:2::", "ip:2001:db8:1:2::"),
            (Publisher::Anonymous(ip), "", "ip:2001:db8:1:2::"),
        ] {
            assert_eq!((publisher.scope().as_str(), publisher.owner().as_str()), (scope, owner));
        }
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let limiter = Limiter::new(1).expect("a limit");
        let now = Instant::now();
        for n in 0..BUCKETS * 2 {
            let _ = limiter.take(n, 1, now);
        }
        assert!(limiter.buckets.lock().len() <= BUCKETS);
    }
}
