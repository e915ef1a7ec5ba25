//! What the connection of another protocol has besides its subscription: a filter, the times at which it ends, and a grant.

use super::entry_filter::EntryFilter;
use crate::serve::access::renewal::GrantRenewal;
use crate::transport::CloseReason;
use std::time::Duration;
use tokio::time::Instant;

/// The time over which the ends of connections that have missed messages are spread.
pub const GAP_SPREAD: Duration = Duration::from_secs(2);

/// The part of a drain over which the ends of connections are spread. The rest is for the last writes.
const DRAIN_PART: f64 = 0.8;

/// How many heartbeats a client may leave without an answer.
const UNANSWERED: u32 = 4;

/// What the stream of another protocol has.
#[derive(Default)]
pub struct ProtocolStream {
    /// What the client gets.
    pub filter: EntryFilter,
    /// When the stream ends, if its protocol has such times.
    pub ends: Option<Ends>,
    /// The grant to read, if the grant has an end.
    pub grant: Option<GrantRenewal>,
}

/// When the connection of a client ends that comes back at once, because it does not know a time at which it should. So
/// the server spreads the ends.
pub struct Ends {
    /// The silence of the client after which the connection ends, and the time that a drain may take.
    silence: Duration,
    drain: Duration,
    /// When the client has sent something for the last time.
    heard: Instant,
    leaves: Option<(Instant, CloseReason)>,
}

impl ProtocolStream {
    /// Why the stream ends now.
    pub fn end(&self) -> Option<CloseReason> {
        if self.filter.has_ended() {
            return Some(CloseReason::Revoked);
        }
        self.ends.as_ref().and_then(Ends::reason)
    }
}

impl Ends {
    /// The ends of a connection with these heartbeats. `drain`: the time that a drain may take.
    pub fn new(heartbeat: Duration, drain: Duration) -> Ends {
        Ends { silence: heartbeat * UNANSWERED, drain, heard: Instant::now(), leaves: None }
    }

    /// Notes that the client has sent something.
    pub fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Whether the client has been silent for this time.
    pub fn is_silent_for(&self, time: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= time
    }

    /// Plans the end of the connection, unless one is planned: at a random time of the spread.
    pub fn leave(&mut self, reason: CloseReason) {
        let spread = if reason == CloseReason::Drain { self.drain.mul_f64(DRAIN_PART) } else { GAP_SPREAD };
        self.leaves.get_or_insert_with(|| (Instant::now() + spread.mul_f64(fastrand::f64()), reason));
    }

    /// The time at which the connection ends, if it is planned.
    pub fn leaves_at(&self) -> Option<Instant> {
        self.leaves.map(|(at, _)| at)
    }

    fn reason(&self) -> Option<CloseReason> {
        let now = Instant::now();
        if self.is_silent_for(self.silence, now) {
            return Some(CloseReason::SlowReader);
        }
        self.leaves.filter(|(at, _)| *at <= now).map(|(_, reason)| reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_left() {
        let second = Duration::from_secs(1);
        let mut ends = Ends::new(second, second);
        for _ in 0..3 {
            tokio::time::advance(second * 3).await;
            assert_eq!(ends.reason(), None);
            ends.heard();
        }
        assert!(!ends.is_silent_for(second, Instant::now()));
        tokio::time::advance(second * 4).await;
        assert_eq!(ends.reason(), Some(CloseReason::SlowReader));
    }

    #[tokio::test(start_paused = true)]
    async fn the_ends_of_connections_are_spread() {
        let second = Duration::from_secs(1);
        let began = Instant::now();
        let mut times: Vec<Duration> = (0..100)
            .map(|_| {
                let mut ends = Ends::new(60 * second, 10 * second);
                ends.leave(CloseReason::Drain);
                let at = ends.leaves_at();
                // The first plan stays.
                ends.leave(CloseReason::SlowReader);
                assert_eq!(ends.leaves_at(), at);
                at.map_or(Duration::ZERO, |at| at - began)
            })
            .collect();
        times.sort_unstable();
        assert!(times[10] < 2 * second && times[90] > 6 * second && times[99] <= 8 * second, "{times:?}");
        let mut ends = Ends::new(60 * second, 10 * second);
        ends.leave(CloseReason::SlowReader);
        tokio::time::advance(GAP_SPREAD).await;
        assert_eq!(ends.reason(), Some(CloseReason::SlowReader));
    }
}
