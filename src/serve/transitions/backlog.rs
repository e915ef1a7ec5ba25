//! The transitions that were not told yet. A transition is told after the earlier ones of its channel. The channels take
//! turns, and do not wait for each other.

use super::told::{Subject, Told};
use super::{Transition, TransitionConsumer};
use crate::message::Channel;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many transitions wait at most, apart from those of one step that has begun. Beyond it, entries stay in the log,
/// and channels are looked at later.
const MAX_WAITING: usize = 1000;

/// How many transitions are told at once: if the consumers answer, and if they have failed several times.
const AT_ONCE: usize = 16;
const FAILURES: u32 = 3;

/// The pauses before a transition is told again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The consumers that have to be told a transition.
pub type Consumers = Vec<Arc<dyn TransitionConsumer>>;

/// A transition that waits.
pub struct Waiting {
    /// The transition.
    pub transition: Arc<Transition>,
    /// The consumers that were not told yet.
    pub consumers: Consumers,
    /// What it is about.
    pub subject: Subject,
    /// The text of the record after it, and the one that it removes.
    pub add: Option<String>,
    pub remove: Option<String>,
    /// The number of the step of the log that it belongs to.
    pub step: Option<u64>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    is_telling: bool,
    failures: u32,
    not_before: Option<Instant>,
}

/// The transitions that were not told yet, by channel.
#[derive(Default)]
pub struct Backlog {
    queues: HashMap<Channel, Queue>,
    /// The channels, in the order of their turns.
    turns: VecDeque<Channel>,
    /// What will be known about a subject when everything was told, and how many transitions of it wait.
    later: HashMap<Subject, (usize, Option<String>)>,
    count: usize,
    telling: usize,
    /// How many attempts have failed since the last one that did not.
    failures: u32,
}

impl Backlog {
    /// How many transitions wait.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether more transitions may be added.
    pub fn has_room(&self) -> bool {
        self.count < MAX_WAITING
    }

    /// The text about a subject when everything was told.
    pub fn text_later<'a>(&'a self, told: &'a Told, subject: &Subject) -> Option<&'a str> {
        match self.later.get(subject) {
            Some((_, text)) => text.as_deref(),
            None => told.text(subject),
        }
    }

    /// The subjects of the transitions that wait, with their texts.
    pub fn later(&self) -> impl Iterator<Item = (&Subject, Option<&str>)> {
        self.later.iter().map(|(subject, (_, text))| (subject, text.as_deref()))
    }

    /// Adds a transition behind the others of its channel.
    pub fn push(&mut self, waiting: Waiting) {
        let later = self.later.entry(waiting.subject.clone()).or_default();
        *later = (later.0 + 1, waiting.add.clone());
        self.count += 1;
        let channel = waiting.transition.channel.clone();
        let queue = self.queues.entry(channel.clone()).or_default();
        if queue.waiting.is_empty() && !queue.is_telling {
            self.turns.push_back(channel);
        }
        queue.waiting.push_back(waiting);
    }

    /// The next transition that may be told now, with its consumers.
    pub fn next(&mut self, now: Instant) -> Option<(Arc<Transition>, Consumers)> {
        let at_once = if self.failures < FAILURES { AT_ONCE } else { 1 };
        for _ in 0..self.turns.len() {
            if self.telling >= at_once {
                return None;
            }
            let channel = self.turns.pop_front()?;
            let Some(queue) = self.queues.get_mut(&channel) else { continue };
            if queue.not_before.is_some_and(|at| at > now) {
                self.turns.push_back(channel);
                continue;
            }
            let Some(first) = queue.waiting.front() else { continue };
            queue.is_telling = true;
            self.telling += 1;
            return Some((first.transition.clone(), first.consumers.clone()));
        }
        None
    }

    /// Ends the attempt to tell the first transition of a channel. `failed`: the consumers that have to be told again.
    /// Returns the transition if everybody was told.
    pub fn end(&mut self, channel: &Channel, failed: Consumers, now: Instant) -> Option<Waiting> {
        let queue = self.queues.get_mut(channel)?;
        (queue.is_telling, self.telling) = (false, self.telling - 1);
        let has_failed = !failed.is_empty();
        self.failures = if has_failed { self.failures.saturating_add(1) } else { 0 };
        if has_failed {
            queue.waiting.front_mut()?.consumers = failed;
            let pause = (FIRST_PAUSE * 2u32.pow(queue.failures.min(6))).min(LONGEST_PAUSE);
            queue.failures += 1;
            queue.not_before = Some(now + pause.mul_f64(0.75 + fastrand::f64() / 2.0));
            self.turns.push_back(channel.clone());
            return None;
        }
        (queue.failures, queue.not_before) = (0, None);
        let told = queue.waiting.pop_front()?;
        if queue.waiting.is_empty() {
            self.queues.remove(channel);
        } else {
            self.turns.push_back(channel.clone());
        }
        self.count -= 1;
        if let Some(later) = self.later.get_mut(&told.subject) {
            later.0 -= 1;
            if later.0 == 0 {
                self.later.remove(&told.subject);
            }
        }
        Some(told)
    }
}
