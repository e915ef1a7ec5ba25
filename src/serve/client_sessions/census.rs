//! Counts the sessions that have been seen lately, in little memory: it does not grow with their number.
//!
//! It is HyperLogLog (Flajolet, Fusy, Gandouet and Meunier, 2007), with linear counting for small numbers. The ids of
//! sessions are random, so they are their own hashes.

use super::id::SessionId;
use std::time::Duration;
use tokio::time::Instant;

/// How many registers a window has. The error is about 3 percent.
const REGISTERS: usize = 1024;

/// The sessions of two windows of time: the present one and the one before it.
pub struct Census {
    present: Window,
    previous: Window,
    began: Instant,
}

#[derive(Clone)]
struct Window(Box<[u8; REGISTERS]>);

impl Default for Census {
    fn default() -> Census {
        let empty = Window(Box::new([0; REGISTERS]));
        Census { present: empty.clone(), previous: empty, began: Instant::now() }
    }
}

impl Census {
    /// Notes a session. It counts for this time, and for twice this time at most.
    pub fn note(&mut self, id: &SessionId, time: Duration, now: Instant) {
        self.go_on(time, now);
        let Some(bytes) = id.to_bytes() else { return };
        let register = usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % REGISTERS;
        let rest = bytes[2..10].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let rank = rest.leading_zeros() as u8 + 1;
        self.present.0[register] = self.present.0[register].max(rank);
    }

    /// About how many sessions there are.
    pub fn count(&mut self, time: Duration, now: Instant) -> usize {
        self.go_on(time, now);
        let registers = self.present.0.iter().zip(self.previous.0.iter()).map(|(one, other)| *one.max(other));
        let (mut sum, mut zeros) = (0.0, 0u32);
        for rank in registers {
            sum += f64::from(rank).exp2().recip();
            zeros += u32::from(rank == 0);
        }
        let m = REGISTERS as f64;
        let estimate = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let small = estimate <= 2.5 * m && zeros > 0;
        (if small { m * (m / f64::from(zeros)).ln() } else { estimate }).round() as usize
    }

    fn go_on(&mut self, time: Duration, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed < time {
            return;
        }
        std::mem::swap(&mut self.present, &mut self.previous);
        self.present.0.fill(0);
        if passed >= 2 * time {
            self.previous.0.fill(0);
        }
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_for_some_time() {
        let (mut census, start, time) = (Census::default(), Instant::now(), Duration::from_secs(45));
        let ids: Vec<SessionId> = (0..20_000).map(|_| SessionId::random().expect("an id")).collect();
        let mut noted = 0;
        for most in [0, 1, 2, 5, 50, 1000, 20_000] {
            while noted < most {
                for _ in 0..2 {
                    census.note(&ids[noted], time, start);
                }
                noted += 1;
            }
            let count = census.count(time, start);
            let error = most / 8 + usize::from(most > 5);
            assert!(count.abs_diff(most) <= error, "{count} instead of {most}");
        }
        let later = start + time + Duration::from_secs(1);
        assert!(census.count(time, later) > 17_000);
        census.note(&ids[0], time, later);
        assert!(census.count(time, later + time) == 1);
        assert_eq!(census.count(time, later + 5 * time), 0);
    }
}
