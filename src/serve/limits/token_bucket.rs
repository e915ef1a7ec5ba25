//! A token bucket: it holds a bounded number of tokens and refills at a steady rate.

use std::time::Duration;
use tokio::time::Instant;

/// The maximum number of tokens in a bucket, and the rate at which it refills.
#[derive(Clone, Copy, Debug)]
pub struct Refill {
    /// The maximum number of tokens that a bucket holds. A new bucket is full.
    pub capacity: f64,
    /// The tokens that a bucket gains per second.
    pub per_second: f64,
}

impl Refill {
    /// The refill of a bucket that holds the tokens of one second.
    pub fn of_one_second(tokens: u32) -> Refill {
        Refill { capacity: f64::from(tokens), per_second: f64::from(tokens) }
    }
}

/// A bucket. The owner of the bucket passes in the [`Refill`], because thousands of buckets share one.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(refill: &Refill, now: Instant) -> TokenBucket {
        TokenBucket { tokens: refill.capacity, at: now }
    }

    /// The last time at which the bucket was used.
    pub fn last_used(&self) -> Instant {
        self.at
    }

    fn refill(&mut self, refill: &Refill, now: Instant) {
        // A clock that steps back does not add tokens.
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * refill.per_second).min(refill.capacity);
        self.at = now;
    }

    /// Takes tokens if there are enough.
    ///
    /// # Errors
    ///
    /// There are too few tokens, and the bucket keeps them. The duration is the wait until there are enough, or until
    /// the bucket is full.
    pub fn try_take(&mut self, refill: &Refill, tokens: f64, now: Instant) -> Result<(), Duration> {
        self.refill(refill, now);
        if self.tokens >= tokens {
            self.tokens -= tokens;
            return Ok(());
        }
        Err(Duration::from_secs_f64((tokens.min(refill.capacity) - self.tokens) / refill.per_second))
    }

    /// Takes tokens in any case, for an event that has already happened. Returns false if the bucket is overdrawn.
    pub fn spend(&mut self, refill: &Refill, tokens: f64, now: Instant) -> bool {
        self.refill(refill, now);
        self.tokens -= tokens;
        self.tokens >= 0.0
    }

    /// Adds tokens. Tokens beyond the capacity are lost at the next use.
    pub fn add(&mut self, tokens: f64) {
        self.tokens += tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_refills_with_time_up_to_its_capacity() {
        let begun = Instant::now();
        let refill = Refill { capacity: 10.0, per_second: 2.0 };
        let mut bucket = TokenBucket::full(&refill, begun);
        assert!(bucket.spend(&refill, 10.0, begun));
        assert!(!bucket.spend(&refill, 1.0, begun));
        assert!(bucket.spend(&refill, 1.0, begun + Duration::from_secs(1)));
        assert!(bucket.spend(&refill, 10.0, begun + Duration::from_secs(3600)));
        assert!(!bucket.spend(&refill, 0.1, begun + Duration::from_secs(3600)));
    }

    #[test]
    fn a_refused_request_takes_no_tokens() {
        let refill = Refill::of_one_second(4);
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut bucket = TokenBucket::full(&refill, begin);
        for _ in 0..4 {
            assert_eq!(bucket.try_take(&refill, 1.0, at(0)), Ok(()));
        }
        assert_eq!(bucket.try_take(&refill, 1.0, at(0)), Err(Duration::from_millis(250)));
        assert_eq!(bucket.try_take(&refill, 1.0, at(250)), Ok(()));
        assert!(bucket.try_take(&refill, 1.0, at(260)).is_err());
        // The bucket holds at most the tokens of one second.
        assert!(bucket.try_take(&refill, 5.0, at(60_000)).is_err());
        assert_eq!(bucket.try_take(&refill, 4.0, at(60_000)), Ok(()));
        assert!(bucket.try_take(&refill, 1.0, at(0)).is_err(), "a clock that steps back adds nothing");
    }
}
