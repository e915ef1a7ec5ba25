//! How much somebody may ask and publish in a time.

use super::connections::network;
use crate::serve::access::authorizer::Publisher;
use crate::transport::{ApiError, Code};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Those who are remembered. One who has been quiet for a second need not be.
const REMEMBERED: usize = 100_000;

/// The rates there are.
pub struct Rates {
    requests: Option<Rate<IpAddr>>,
    publications: Option<Rate<Publisher>>,
}

impl Rates {
    /// Requests a second of an address, messages a second of a publisher; 0 is no limit.
    pub fn new(requests: u32, publications: u32) -> Rates {
        Rates { requests: Rate::new(requests), publications: Rate::new(publications) }
    }

    /// Counts a request, or a command.
    ///
    /// # Errors
    ///
    /// `rate_limited`.
    pub fn request(&self, ip: IpAddr) -> Result<(), ApiError> {
        let Some(rate) = &self.requests else { return Ok(()) };
        rate.take(network(ip), 1, Instant::now()).map_err(|wait| {
            let text = format!("at most {} requests a second of an address", rate.per_second);
            ApiError::until(Code::RateLimited, text, wait)
        })
    }

    /// Counts messages. Who has a server key is not counted.
    ///
    /// # Errors
    ///
    /// `rate_limited`: all or none of them.
    pub fn publish(&self, publisher: &Publisher, messages: usize) -> Result<(), ApiError> {
        let Some(rate) = &self.publications else { return Ok(()) };
        let publisher = match publisher {
            Publisher::Server => return Ok(()),
            Publisher::Address(ip) | Publisher::Anybody(ip) => Publisher::Anybody(network(*ip)),
            Publisher::Subject(_) => publisher.clone(),
        };
        rate.take(publisher, messages, Instant::now()).map_err(|wait| {
            let text = format!("at most {} messages a second, and as many in one request", rate.per_second);
            ApiError::until(Code::RateLimited, text, wait)
        })
    }
}

/// A rate, and who has how much of it left: a bucket each, which holds what one second allows.
struct Rate<K> {
    per_second: u32,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Eq + Hash> Rate<K> {
    fn new(per_second: u32) -> Option<Rate<K>> {
        (per_second > 0).then(|| Rate { per_second, buckets: Mutex::default() })
    }

    /// Takes so many, or says when they could be had.
    fn take(&self, who: K, count: usize, now: Instant) -> Result<(), Duration> {
        let (rate, count) = (f64::from(self.per_second), count as f64);
        let full = Bucket { left: rate, at: now };
        let mut buckets = self.buckets.lock();
        if buckets.len() >= REMEMBERED && !buckets.contains_key(&who) {
            make_room(&mut buckets, now);
        }
        let bucket = buckets.entry(who).or_insert(full);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        *bucket = Bucket { left: (bucket.left + passed * rate).min(rate), at: now };
        if bucket.left >= count {
            bucket.left -= count;
            return Ok(());
        }
        Err(Duration::from_secs_f64((count.min(rate) - bucket.left) / rate))
    }
}

fn make_room<K: Eq + Hash>(buckets: &mut HashMap<K, Bucket>, now: Instant) {
    // A second fills any bucket.
    buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < Duration::from_secs(1));
    if buckets.len() >= REMEMBERED {
        // So many at once: every other is forgiven. What is kept stays bounded.
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
    fn a_bucket_holds_a_second_and_fills_again() {
        let rate = Rate::new(4).expect("a rate");
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        for _ in 0..4 {
            assert_eq!(rate.take("a", 1, at(0)), Ok(()));
        }
        assert_eq!(rate.take("a", 1, at(0)), Err(Duration::from_millis(250)));
        assert_eq!(rate.take("b", 4, at(0)), Ok(()), "another's bucket");
        assert_eq!(rate.take("a", 1, at(250)), Ok(()));
        assert!(rate.take("a", 1, at(260)).is_err());
        // It does not fill beyond a second, and takes nothing where it refuses.
        assert!(rate.take("a", 5, at(60_000)).is_err());
        assert_eq!(rate.take("a", 4, at(60_000)), Ok(()));
        // Time that steps back gives nothing.
        assert!(rate.take("a", 1, at(0)).is_err());
    }

    #[test]
    fn no_more_are_remembered_than_the_bound() {
        let rate = Rate::new(1).expect("a rate");
        let now = Instant::now();
        for n in 0..REMEMBERED * 2 {
            let _ = rate.take(n, 1, now);
        }
        assert!(rate.buckets.lock().len() <= REMEMBERED);
    }
}
