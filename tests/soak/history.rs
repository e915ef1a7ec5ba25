//! What happened, without knowledge of the server: entries of the log, what publishers were told, what readers saw.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// A position in the log, without the epoch: cursors of one epoch can be compared by it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub ms: u64,
    pub seq: u64,
}

impl Place {
    /// The position of an id or a cursor; `None` if it is neither.
    pub fn of(text: &str) -> Option<Place> {
        let (ms, seq) = text.split('.').next()?.split_once('-')?;
        Some(Place { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }

    /// The place right before this one.
    pub fn before(self) -> Place {
        match (self.ms, self.seq) {
            (ms, seq @ 1..) => Place { ms, seq: seq - 1 },
            (ms @ 1.., 0) => Place { ms: ms - 1, seq: u64::MAX },
            (0, 0) => self,
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A payload: the way by which it came, and its number there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    pub way: char,
    pub number: u32,
}

impl Value {
    /// The way and number of a payload such as `K-17`, `"K-17"` or `C-40:xxxx`; `None` if no publisher of the test has
    /// sent it.
    pub fn of(text: &str) -> Option<Value> {
        let (way, rest) = text.trim_matches('"').split_once('-')?;
        let number = rest.split(':').next()?.parse().ok()?;
        let mut letters = way.chars();
        match (letters.next(), letters.next()) {
            (Some(way), None) => Some(Value { way, number }),
            _ => None,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.way, self.number)
    }
}

/// One entry of the log.
pub type Entry = (Place, Value);

/// The outcome of publishing one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Acknowledged, with its id if the way returns one; or at least one listener heard it.
    Good(Option<Place>),
    /// Refused: it is not in the log, and will not be.
    Never,
    /// Anything else.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Sent {
    pub value: Value,
    /// The first try.
    pub began: Instant,
    /// The try that was answered.
    pub tried: Instant,
    pub ended: Instant,
    pub told: Told,
    /// The text of the outcome, for people.
    pub words: String,
}

/// Something that a reader saw.
#[derive(Clone, Debug)]
pub enum Seen {
    Message(Entry),
    /// A payload that nobody has published.
    Stranger,
    /// From where, and where it goes on; a batch does not say the latter.
    Gap(Place, Option<Place>),
    /// A cursor: of a hello, a heartbeat, a batch.
    Cursor(Place),
}

#[derive(Clone, Debug)]
pub struct Event {
    pub at: Instant,
    /// Transport and node.
    pub by: String,
    pub seen: Seen,
    /// The first bytes as they were on the wire.
    pub text: String,
}

/// One reader's history, which its task writes and the judge takes.
pub struct History {
    pub name: String,
    events: Mutex<Vec<Event>>,
    /// The last probe that it has seen.
    probe: AtomicU32,
}

impl History {
    pub fn new(name: String) -> History {
        History { name, events: Mutex::new(Vec::new()), probe: AtomicU32::new(0) }
    }

    pub fn add(&self, event: Event) {
        if let Seen::Message((_, Value { way: PROBE, number })) = event.seen {
            self.probe.fetch_max(number, Ordering::Relaxed);
        }
        self.events.lock().expect("a history").push(event);
    }

    pub fn probe(&self) -> u32 {
        self.probe.load(Ordering::Relaxed)
    }

    /// The events since the last call.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().expect("a history"))
    }

    /// The newest events, for a person.
    pub fn newest(&self, count: usize) -> String {
        let events = self.events.lock().expect("a history");
        let lines = events[events.len().saturating_sub(count)..].iter().map(Event::line);
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Event {
    pub fn line(&self) -> String {
        format!("      {:?} ago on {}: {:?} {}", self.at.elapsed(), self.by, self.seen, self.text)
    }
}

/// Probes are messages that every reader has to see after each fault.
pub const PROBE: char = 'Q';

/// A fault that removes entries of the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Old entries go, by age or number. A reader that has not seen them is told; one that has need not be.
    Trimmed,
    /// The log is another one after some position: a reader that has read beyond it is told.
    Replaced,
}

/// What faults may have done, so that the judge knows what to allow.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// What was published by a try that began before this moment may be lost in this way. `true`: but not what is
    /// published by HTTP, since that waits for a replica.
    pub losses: Vec<(Instant, Loss, bool)>,
    /// Entries that were deleted, exactly these.
    pub deleted: Vec<Entry>,
    /// No node that lives on hears a `PUBLISH` between these moments.
    pub deaf: Vec<(Instant, Instant)>,
    /// Moments at which Redis or its connections died: it may have counted listeners whose bytes it dropped.
    pub cuts: Vec<Instant>,
    /// Nodes died, and when Redis was away or cut: both at once leave no node that has heard the message.
    pub node_died: bool,
    pub redis_failed: Vec<(Instant, Instant)>,
    /// Keys may have expired, and the record of a node's last batch: what was under way at this moment may come twice.
    pub forgot_keys: Vec<Instant>,
    /// The entries that the fault itself has added.
    pub added: Vec<Sent>,
    /// Violations that were found while the fault ran.
    pub broken: Vec<String>,
}

impl Effects {
    pub fn join(&mut self, other: Effects) {
        self.losses.extend(other.losses);
        self.deleted.extend(other.deleted);
        self.deaf.extend(other.deaf);
        self.cuts.extend(other.cuts);
        self.node_died |= other.node_died;
        self.redis_failed.extend(other.redis_failed);
        self.forgot_keys.extend(other.forgot_keys);
        self.added.extend(other.added);
        self.broken.extend(other.broken);
    }

    pub fn has(&self, loss: Loss) -> bool {
        self.losses.iter().any(|(_, kind, _)| *kind == loss)
    }
}
