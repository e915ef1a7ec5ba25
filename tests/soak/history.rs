//! The history of a run, without knowledge of the server: entries of the log, answers to publishers, and events of
//! readers.

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

    /// The position right before this one.
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

/// A payload: the way by which it was published, and its number.
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
    /// Acknowledged, with its id if the way returns one; or at least one listener received it.
    Good(Option<Place>),
    /// Refused: the message is not in the log, and never will be.
    Never,
    /// Any other outcome.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Sent {
    pub value: Value,
    /// The time of the first try.
    pub began: Instant,
    /// The time of the try that got an answer.
    pub tried: Instant,
    pub ended: Instant,
    pub told: Told,
    /// The text of the outcome, for people.
    pub words: String,
}

/// An object that a reader got.
#[derive(Clone, Debug)]
pub enum Seen {
    Message(Entry),
    /// A payload that no publisher has published.
    Stranger,
    /// The position where the gap begins, and where reading continues; a batch does not give the latter.
    Gap(Place, Option<Place>),
    /// A cursor: of a hello, a heartbeat, a batch.
    Cursor(Place),
}

#[derive(Clone, Debug)]
pub struct Event {
    pub at: Instant,
    /// The transport and the node.
    pub by: String,
    pub seen: Seen,
    /// The first bytes of the object, unchanged from the wire.
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

    /// Whether the reader has read beyond a position: it got a later message, or was told of a gap that ends later. A
    /// reader that is slow may have a gap in place of a probe, where the log keeps little.
    pub fn is_beyond(&self, place: Place) -> bool {
        self.events.lock().expect("a history").iter().any(|event| match event.seen {
            Seen::Message((at, _)) | Seen::Gap(_, Some(at)) => at > place,
            _ => false,
        })
    }

    /// The events since the last call.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().expect("a history"))
    }

    /// The newest events, for people.
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
    /// Old entries go, by age or number. A reader that has not seen them gets a gap; a reader that has seen them need
    /// not get one.
    Trimmed,
    /// The log is another one after some position: a reader that has read beyond it gets a gap.
    Replaced,
}

/// The possible effects of faults, so that the judge knows what to allow.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The moments before which a try may have begun whose message is lost in this way. With `true`, messages that were
    /// published by HTTP are not lost, because they wait for a replica.
    pub losses: Vec<(Instant, Loss, bool)>,
    /// Entries that were deleted, exactly these.
    pub deleted: Vec<Entry>,
    /// No node that survives receives a `PUBLISH` between these moments.
    pub deaf: Vec<(Instant, Instant)>,
    /// Moments at which Redis or its connections died: Redis may have counted listeners whose bytes it dropped.
    pub cuts: Vec<Instant>,
    /// Whether nodes died while Redis was away or cut: after both at once, it is possible that no node has received the
    /// message.
    pub node_died: bool,
    pub redis_failed: Vec<(Instant, Instant)>,
    /// Keys may have expired, and the record of a node's last batch: a message that was under way at this moment may
    /// come twice.
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
