//! One reader's way through the log, from gap to gap.

use super::history::{Entry, Event, Loss, Place, Seen, Value};
use super::judge::{Figures, Kind, Violation};
use std::collections::{HashMap, HashSet, VecDeque};

/// How many events are shown with a violation.
const CONTEXT: usize = 24;

/// A gap that a reader was told of: it need not have seen the entries between these positions.
#[derive(Clone, Copy, Debug)]
struct Gap {
    from: Place,
    /// The last position within it; `None` until something has come after it.
    until: Option<Place>,
}

#[derive(Default)]
pub struct Track {
    pub name: String,
    seen: HashSet<Entry>,
    values: HashSet<Value>,
    gaps: Vec<Gap>,
    /// Gaps of this round begin here.
    round: usize,
    /// What the reader has read since its last gap, and before that in this round, split at the gaps. With each entry
    /// the number of the connection that brought it.
    runs: Vec<Vec<(Entry, u32)>>,
    /// The connection's number, and what it is.
    connection: (u32, String),
    /// Everything that the reader has read in this round.
    fresh: Vec<Entry>,
    /// "Everything up to here has been written to you." `None` after a gap that does not say where reading goes on.
    at: Option<Place>,
    /// Where it was when the round began.
    began: Place,
    recent: VecDeque<String>,
    pub broken: Vec<Violation>,
    again: usize,
}

impl Track {
    pub fn of(name: String) -> Track {
        Track { name, at: Some(Place::default()), runs: vec![Vec::new()], ..Track::default() }
    }

    pub fn has_seen(&self, entry: &Entry) -> bool {
        self.seen.contains(entry)
    }

    pub fn has_value(&self, value: Value) -> bool {
        self.values.contains(&value)
    }

    pub fn fresh(&self) -> impl Iterator<Item = Entry> + '_ {
        self.fresh.iter().copied()
    }

    /// Takes the next event. Finds events that are out of order.
    pub fn take(&mut self, event: &Event) {
        if self.recent.len() == CONTEXT {
            self.recent.pop_front();
        }
        self.recent.push_back(event.line());
        if self.connection.1 != event.by {
            self.connection = (self.connection.0 + 1, event.by.clone());
        }
        match event.seen {
            Seen::Message(entry) => self.message(entry),
            Seen::Stranger => self.breaks(Kind::Ghost, "a payload that nobody has published".to_owned()),
            Seen::Gap(from, to) => {
                self.ends_gap(from);
                self.gaps.push(Gap { from, until: to });
                self.runs.push(Vec::new());
                self.at = to;
            }
            Seen::Cursor(place) => {
                self.ends_gap(place);
                if self.at.is_some_and(|at| place < at) {
                    self.breaks(Kind::Disorder, format!("the cursor {place:?} is behind {:?}, and no gap", self.at));
                }
                self.at = Some(place);
            }
        }
    }

    fn message(&mut self, entry: Entry) {
        let (place, value) = entry;
        self.ends_gap(place.before());
        if self.at.is_some_and(|at| place <= at) {
            let kind = if self.seen.contains(&entry) { Kind::Doubled } else { Kind::Disorder };
            self.breaks(kind, format!("{value:?} at {place:?} comes behind {:?}, and no gap", self.at));
        }
        self.at = Some(place);
        self.again += usize::from(!self.seen.insert(entry));
        self.values.insert(value);
        self.fresh.push(entry);
        if let Some(run) = self.runs.last_mut() {
            run.push((entry, self.connection.0));
        }
    }

    /// A batch's gap ends where something comes.
    fn ends_gap(&mut self, until: Place) {
        if let Some(gap) = self.gaps.last_mut().filter(|gap| gap.until.is_none()) {
            gap.until = Some(until);
        }
    }

    fn breaks(&mut self, kind: Kind, what: String) {
        let context: Vec<_> = self.recent.iter().cloned().collect();
        self.broken.push(Violation { kind, words: format!("{}: {what}\n{}", self.name, context.join("\n")) });
    }

    fn is_in_gap(&self, place: Place) -> bool {
        self.gaps.iter().any(|gap| gap.from < place && gap.until.is_none_or(|until| place <= until))
    }

    fn around(&self, place: Place) -> String {
        let mut near: Vec<_> = self.fresh.iter().collect();
        near.sort_by_key(|(at, _)| *at);
        let middle = near.partition_point(|(at, _)| *at < place);
        let range = middle.saturating_sub(3)..near.len().min(middle + 3);
        let gaps = &self.gaps[self.round..];
        let last: Vec<_> = self.recent.iter().cloned().collect();
        format!(
            "\n      around it: {:?}\n      gaps of this round: {gaps:?}\n      at the end:\n{}",
            &near[range],
            last.join("\n")
        )
    }

    /// Checks that the reader has seen each entry of the log, or was told of a gap there.
    pub fn covers(&mut self, found: &mut Vec<Violation>, log: &[Entry], figures: &mut Figures) {
        let unseen: Vec<_> = log.iter().filter(|entry| !self.seen.contains(entry)).collect();
        let (told, missed): (Vec<_>, Vec<_>) = unseen.into_iter().partition(|(place, _)| self.is_in_gap(*place));
        if let Some((place, value)) = missed.first() {
            let words = format!(
                "{}: {} entries are in the log and were not seen, and no gap was told. The first is {value:?} at {place:?}{}",
                self.name,
                missed.len(),
                self.around(*place)
            );
            found.push(Violation { kind: Kind::Lost, words });
        }
        // The entry is counted once: from now on it counts as seen.
        figures.skipped += told.len();
        self.seen.extend(told);
    }

    /// After an entry that the log has lost with its end, nothing comes without a gap.
    ///
    /// Two cases are left out if a gap follows that covers all of it.
    ///
    /// - A reader changes from a node that has read the lost entries to one that has not. For the second node the log
    ///   goes on where it stands, and nothing in it says otherwise. The gap comes as soon as a node that has read more
    ///   looks at the log.
    /// - Redis's clock is behind the last id, so ids only count. Then a `PUBLISH` that was lost and is appended again
    ///   may get its old id. The reader has read it twice, before the gap and after it, and the first one was lost.
    pub fn went_on(&self, found: &mut Vec<Violation>, gone: &HashMap<Entry, Loss>, log: &HashSet<Entry>) {
        let is_lost = |entry: &Entry| gone.get(entry) == Some(&Loss::Replaced);
        for (index, run) in self.runs.iter().enumerate() {
            let Some(first) = run.iter().position(|(entry, _)| is_lost(entry)) else { continue };
            let lost_at = run[first].0.0;
            let is_covered = |entry: &Entry| {
                let covers = |gap: &Gap| gap.until.is_some_and(|until| until < lost_at) && entry.0 <= gap.from;
                self.gaps[self.round..].iter().any(covers)
            };
            let may_be_lost = |entry: &Entry| {
                let is_again = self.runs[index + 1..].iter().flatten().any(|(later, _)| later == entry);
                entry.0.ms == lost_at.ms && is_again && is_covered(entry)
            };
            let goes_on = |(entry, _): &(Entry, u32)| log.contains(entry) && !may_be_lost(entry);
            let Some(next) = run[first..].iter().position(goes_on) else { continue };
            let next = first + next;
            let has_hopped = run[next - 1].1 != run[next].1;
            if has_hopped && is_covered(&run[next].0) {
                continue;
            }
            let lost = run[first..].iter().filter(|(entry, _)| is_lost(entry)).count();
            let words = format!(
                "{}: it has read {:?}, which the log has lost ({lost} entries), and then {:?}, which it has; no gap between them{}",
                self.name,
                run[first].0,
                run[next].0,
                self.around(run[first].0.0)
            );
            found.push(Violation { kind: Kind::Unannounced, words });
            return;
        }
    }

    /// A gap covers entries that were deleted before the reader could see them.
    pub fn was_told(&self, found: &mut Vec<Violation>, gone: &HashMap<Entry, Loss>, end: Place, figures: &mut Figures) {
        let gaps = &self.gaps[self.round..];
        let is_unseen =
            |(place, value): &Entry| self.began < *place && *place < end && !self.seen.contains(&(*place, *value));
        let mut unseen: Vec<_> = gone.keys().filter(|entry| is_unseen(entry)).collect();
        if unseen.is_empty() {
            figures.needless += gaps.len();
        }
        let is_told =
            |place: Place| gaps.iter().any(|gap| gap.from < place || gap.until.is_some_and(|until| place <= until));
        unseen.retain(|(place, _)| !is_told(*place));
        unseen.sort_unstable();
        if let Some((place, value)) = unseen.first() {
            let words = format!(
                "{}: {} entries were deleted before it saw them, and no gap was told. The first is {value:?} at {place:?}{}",
                self.name,
                unseen.len(),
                self.around(*place)
            );
            found.push(Violation { kind: Kind::Unannounced, words });
        }
    }

    /// Ends the round.
    pub fn close(&mut self, figures: &mut Figures) {
        figures.gaps += self.gaps.len() - self.round;
        figures.read_again += std::mem::take(&mut self.again);
        self.round = self.gaps.len();
        self.fresh.clear();
        let last = self.runs.pop().unwrap_or_default();
        self.runs = vec![last];
        self.began = self.at.unwrap_or_default();
    }
}
