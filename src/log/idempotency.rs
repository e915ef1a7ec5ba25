//! The idempotency keys of a log in memory, and the rules for all logs: how long a log remembers a key, and how many
//! bytes keys may take.
//!
//! The log remembers an accepted key for [`KEY_LIFE`], however many keys arrive later: a publisher that repeats a
//! message relies on this. So when the keys take `--key-bytes`, the log refuses new keys instead of forgetting old
//! ones. Each publisher has a share: its keys may take at most as many bytes as are still free in the limit. A single
//! publisher can take half of the bytes, and two publishers can take a third each. So there is always room for another
//! publisher.

use super::AppendError;
use crate::cursor::Id;
use crate::message::{Draft, IdempotencyKey};
use sha1::{Digest as _, Sha1};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// The time for which an idempotency key is remembered.
pub const KEY_LIFE: Duration = Duration::from_secs(300);

/// The default of `--key-bytes`: the maximum number of bytes that the keys of a log take.
pub const KEY_BYTES: usize = 64 << 20;

/// The number of bytes that the limit counts for a key: the size of its entry in a table of a [`Generation`], when the
/// table has just grown and is half empty.
const KEY_COST: usize = 80;

/// The number of bytes that the limit counts for a publisher in each generation in which the publisher has keys.
const PUBLISHER_COST: usize = 64;

/// The length of a generation. The log forgets all keys of a generation together.
const GENERATION: Duration = Duration::from_secs(30);

/// The hash of a name. It is kept in place of the name, because the publisher chooses the name's length.
type Hash = [u8; 16];

fn hash(name: &str) -> Hash {
    let sum: [u8; 20] = Sha1::digest(name.as_bytes()).into();
    let mut hash = Hash::default();
    hash.copy_from_slice(&sum[..16]);
    hash
}

/// The idempotency keys of a log in memory.
pub struct RememberedKeys {
    /// The maximum number of bytes that keys take.
    limit: usize,
    used: usize,
    /// Oldest first.
    generations: VecDeque<Generation>,
}

/// The keys of one [`GENERATION`]. Whole tables are dropped, so keys do not need a queue.
struct Generation {
    began: Instant,
    used: usize,
    /// The messages that have the keys.
    messages: HashMap<Hash, Id>,
    /// The bytes that each publisher takes.
    publishers: HashMap<Hash, usize>,
}

impl Generation {
    fn forgotten_at(&self) -> Instant {
        self.began + GENERATION + KEY_LIFE
    }
}

/// A key, as [`RememberedKeys`] knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(Hash);

impl KeyHash {
    /// The hash of a draft's key, if it has one.
    pub fn of(draft: &Draft) -> Option<KeyHash> {
        draft.scoped_key().map(|key| KeyHash(hash(&key)))
    }
}

impl RememberedKeys {
    /// Makes an empty set of keys with room for `limit` bytes.
    pub fn new(limit: usize) -> RememberedKeys {
        RememberedKeys { limit, used: 0, generations: VecDeque::new() }
    }

    /// Returns the message that has a key. `now_ms` is the time of the log's clock, which also gives the ids their
    /// times.
    pub fn find(&self, key: KeyHash, now_ms: u64) -> Option<Id> {
        let found = self.generations.iter().rev().find_map(|generation| generation.messages.get(&key.0)).copied();
        found.filter(|id| now_ms.saturating_sub(id.ms) < KEY_LIFE.as_millis() as u64)
    }

    /// Takes room for the new keys of drafts that are appended together. If there is not enough room for all of the new
    /// keys, it does not take any room. `keys` has one item for each draft.
    ///
    /// # Errors
    ///
    /// The publisher does not have enough room now, or can never have enough.
    pub fn admit(&mut self, drafts: &[Draft], keys: &[Option<KeyHash>], now_ms: u64) -> Result<(), AppendError> {
        self.forget(Instant::now());
        let unknown = keys.iter().flatten().filter(|key| self.find(**key, now_ms).is_none());
        let new = unknown.collect::<HashSet<_>>().len();
        // Drafts that are appended together come from one publisher.
        let Some(IdempotencyKey { owner, .. }) = drafts.iter().find_map(|draft| draft.key.as_ref()) else {
            return Ok(());
        };
        if new == 0 {
            return Ok(());
        }
        self.take_room(hash(owner), new * KEY_COST)
    }

    fn take_room(&mut self, owner: Hash, cost: usize) -> Result<(), AppendError> {
        let now = Instant::now();
        let is_known = self
            .generations
            .back()
            .is_some_and(|last| now.duration_since(last.began) < GENERATION && last.publishers.contains_key(&owner));
        let cost = if is_known { cost } else { cost + PUBLISHER_COST };
        if cost > self.limit / 2 {
            return Err(AppendError::TooManyKeys);
        }
        let mut own = self.generations.iter().filter_map(|it| it.publishers.get(&owner)).copied();
        if own.by_ref().sum::<usize>() + cost > self.limit.saturating_sub(self.used + cost) {
            let oldest = self.generations.iter().find(|it| it.publishers.contains_key(&owner));
            let oldest = oldest.or(self.generations.front());
            let wait = oldest.map_or(KEY_LIFE, |oldest| oldest.forgotten_at().saturating_duration_since(now));
            return Err(AppendError::NoRoomForKeys(wait));
        }
        let generation = self.current(now);
        generation.used += cost;
        *generation.publishers.entry(owner).or_default() += cost;
        self.used += cost;
        Ok(())
    }

    /// Remembers a key after [`admit`](RememberedKeys::admit) has taken room for it.
    pub fn remember(&mut self, key: KeyHash, id: Id) {
        self.current(Instant::now()).messages.insert(key.0, id);
    }

    fn current(&mut self, now: Instant) -> &mut Generation {
        let is_over = self.generations.back().is_none_or(|last| now.duration_since(last.began) >= GENERATION);
        if is_over {
            let (messages, publishers) = (HashMap::new(), HashMap::new());
            self.generations.push_back(Generation { began: now, used: 0, messages, publishers });
        }
        let last = self.generations.len() - 1;
        &mut self.generations[last]
    }

    fn forget(&mut self, now: Instant) {
        while self.generations.front().is_some_and(|oldest| oldest.forgotten_at() <= now) {
            self.used -= self.generations.pop_front().map_or(0, |oldest| oldest.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    const SECOND: Duration = Duration::from_secs(1);

    fn keyed(owner: &str, key: &str) -> Draft {
        let key = IdempotencyKey { owner: owner.into(), ..IdempotencyKey::new(owner, key).expect("a key") };
        Draft { key: Some(key), ..Draft::new("c".parse().expect("a channel"), Payload::from_any("1")) }
    }

    /// Treats drafts as the log does. Each id is the number of milliseconds since the start.
    fn append(keys: &mut RememberedKeys, drafts: &[Draft], now_ms: u64) -> Result<(), AppendError> {
        let hashes: Vec<_> = drafts.iter().map(KeyHash::of).collect();
        keys.admit(drafts, &hashes, now_ms)?;
        for key in hashes.into_iter().flatten().filter(|key| keys.find(*key, now_ms).is_none()).collect::<Vec<_>>() {
            keys.remember(key, Id { ms: now_ms, seq: 0 });
        }
        Ok(())
    }

    fn fill(keys: &mut RememberedKeys, owner: &str, now_ms: u64) -> usize {
        (0..).take_while(|n| append(keys, &[keyed(owner, &format!("{now_ms}-{n}"))], now_ms).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn each_publisher_may_take_as_much_as_is_free_after_it() {
        let mut keys = RememberedKeys::new(KEY_COST * 1000);
        let mut taken = Vec::new();
        for owner in ["a", "b", "c", "d"] {
            taken.push(fill(&mut keys, owner, 0));
        }
        // The first publisher takes half of the room, and each later one takes half of the rest. A new publisher always
        // finds room.
        assert_eq!(taken, [499, 249, 124, 62], "keys of each");
        assert!(append(&mut keys, &[keyed("e", "1")], 0).is_ok());
        assert!(keys.used <= keys.limit);
    }

    #[tokio::test(start_paused = true)]
    async fn no_flood_makes_the_log_forget_a_key_and_each_lives_exactly_its_life() {
        let mut keys = RememberedKeys::new(KEY_COST * 100);
        let order = KeyHash::of(&keyed("shop", "order-17")).expect("a key");
        append(&mut keys, &[keyed("shop", "order-17")], 0).expect("room");
        for second in 0..KEY_LIFE.as_secs() {
            fill(&mut keys, "flood", second * 1000);
            assert_eq!(keys.find(order, second * 1000), Some(Id::ZERO), "after {second} s");
            tokio::time::advance(SECOND).await;
        }
        assert_eq!(keys.find(order, KEY_LIFE.as_millis() as u64), None);
        tokio::time::advance(GENERATION + KEY_LIFE).await;
        assert!(append(&mut keys, &[keyed("shop", "order-18")], 900_000).is_ok());
        assert_eq!((keys.generations.len(), keys.used), (1, KEY_COST + PUBLISHER_COST), "the rest is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_says_when_the_oldest_keys_go() {
        let mut keys = RememberedKeys::new(KEY_COST * 100);
        fill(&mut keys, "a", 0);
        tokio::time::advance(100 * SECOND).await;
        let refused = append(&mut keys, &[keyed("a", "one more")], 100_000);
        assert_eq!(refused, Err(AppendError::NoRoomForKeys(GENERATION + KEY_LIFE - 100 * SECOND)));
        // A key that is already known does not need room.
        assert_eq!(append(&mut keys, &[keyed("a", "0-0")], 100_000), Ok(()));
        tokio::time::advance(GENERATION + KEY_LIFE - 100 * SECOND).await;
        assert_eq!(append(&mut keys, &[keyed("a", "one more")], 330_000), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_come_together_are_taken_all_or_none_and_too_many_never() {
        let mut keys = RememberedKeys::new(KEY_COST * 100);
        let drafts = |from: usize, count: usize| -> Vec<Draft> {
            (from..from + count).map(|n| keyed("a", &n.to_string())).collect()
        };
        assert_eq!(append(&mut keys, &drafts(0, 50), 0), Err(AppendError::TooManyKeys), "more than half, for ever");
        assert_eq!(append(&mut keys, &drafts(0, 40), 0), Ok(()));
        assert!(matches!(append(&mut keys, &drafts(40, 40), 0), Err(AppendError::NoRoomForKeys(_))));
        assert_eq!(append(&mut keys, &drafts(0, 40), 0), Ok(()), "repeated");
        let same = vec![keyed("b", "x"); 90];
        assert_eq!(append(&mut keys, &same, 0), Ok(()), "one key, however often it is in a batch");
    }
}
