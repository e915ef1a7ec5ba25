//! The judge. It knows nothing of the server: it compares the answers to publishers and the events of readers with the
//! log's entries at the end of each round, and allows the differences that the faults of the round explain.

use super::history::{Effects, Entry, Loss, Place, Sent, Told, Value};
use super::track::Track;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// The number of `PUBLISH`es that Redis may have counted as received at each moment at which it dropped connections:
/// the bytes in its own buffers for them are lost.
const PER_CUT: usize = 3;

/// The time before and after such a moment in which a `PUBLISH` counts.
const AROUND_CUT: Duration = Duration::from_millis(1000);

/// The judge looks for a `PUBLISH` in the log when it is this old, because it waits while the log cannot be written.
const BRIDGED: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Lost,
    Doubled,
    Unannounced,
    Stuck,
    Disorder,
    Ghost,
    Other,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub kind: Kind,
    pub words: String,
}

/// A round: the faults are over, and every reader has seen the probe.
pub struct Round<'a> {
    pub effects: &'a Effects,
    pub sent: Vec<Sent>,
    /// The log, as Redis has it after the probe.
    pub log: &'a [Entry],
    pub probe: Value,
    /// Whether retention drops entries all the time.
    pub trims: bool,
    /// When the test asked for the probe.
    pub probed: Instant,
}

/// Figures for the report, which are not violations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub gaps: usize,
    /// Gaps after which nothing was missing that the reader had not seen.
    pub needless: usize,
    /// Entries that the log has and a reader did not get, inside a gap.
    pub skipped: usize,
    pub read_again: usize,
    /// `PUBLISH`es whose loss was allowed.
    pub unheard: usize,
}

impl Round<'_> {
    /// The probe's position; `None` if the log has lost the probe. Retention may drop it before the slowest reader has
    /// read so far.
    fn end(&self) -> Option<Place> {
        let probe = self.sent.iter().find(|sent| sent.value == self.probe);
        let (floor, told) = (self.log.first()?.0, probe.map(|probe| &probe.told));
        match self.log.iter().find(|(_, value)| *value == self.probe) {
            Some((place, _)) => Some(*place),
            None => match told {
                Some(Told::Good(Some(place))) if self.trims && *place < floor => Some(*place),
                _ => None,
            },
        }
    }
}

#[derive(Default)]
pub struct Judge {
    pub tracks: Vec<Track>,
    /// The entries of the log at the last round.
    log: HashSet<Entry>,
    /// The entries that the log has lost, and the kind of the loss.
    gone: HashMap<Entry, Loss>,
    /// `PUBLISH`es that are too young to be looked for.
    young: Vec<Sent>,
    /// All effects so far.
    past: Effects,
    may_be_twice: HashSet<Value>,
    /// The time at which each message was first sent: its key may be used again later.
    first_sent: HashMap<Value, Instant>,
    /// The time at which the oldest message of a log with a short retention was sent.
    trimmed: Option<Instant>,
    /// The entries that other programs have deleted so far. A failover may bring one back, and nodes that have read it
    /// may still return it: it then counts as if it had not been deleted.
    deleted: HashSet<Entry>,
    pub figures: Figures,
}

impl Judge {
    pub fn of(readers: Vec<String>) -> Judge {
        Judge { tracks: readers.into_iter().map(Track::of).collect(), ..Judge::default() }
    }

    pub fn judge(&mut self, mut round: Round<'_>) -> Vec<Violation> {
        let mut found = Vec::new();
        let now: HashSet<Entry> = round.log.iter().copied().collect();
        let Some(end) = round.end() else {
            let words = format!("the probe {:?} was acknowledged and is not in the log", round.probe);
            return vec![Violation { kind: Kind::Lost, words }];
        };
        self.remember(round.effects);
        self.doubled(&mut found, &round, &now);
        let newly = self.newly_gone(&mut found, &round, &now);
        self.sent(&mut found, &mut round, &now);
        let is_owed = |entry: &&Entry| !self.deleted.contains(entry);
        let upto_probe = round.log.iter().take_while(|(place, _)| *place <= end);
        let owed: Vec<Entry> = upto_probe.filter(is_owed).copied().collect();
        for track in &mut self.tracks {
            found.append(&mut track.broken);
            track.covers(&mut found, &owed, &mut self.figures);
            track.went_on(&mut found, &newly, &now);
            if !round.effects.has(Loss::Replaced) {
                track.was_told(&mut found, &newly, end, &mut self.figures);
            }
            track.close(&mut self.figures);
        }
        self.gone.extend(newly);
        self.log = now;
        found
    }

    /// Whether other programs have deleted anything so far.
    pub fn has_deleted(&self) -> bool {
        !self.deleted.is_empty()
    }

    /// Keeps the effects of earlier rounds, because the judge looks for `PUBLISH`es late.
    fn remember(&mut self, effects: &Effects) {
        self.past.join(effects.clone());
        self.deleted.extend(&effects.deleted);
        if effects.node_died {
            // Only nodes that died had received these messages: the others were cut off, or could not write them.
            let around = |(from, until): &(Instant, Instant)| (*from - AROUND_CUT, *until + 5 * AROUND_CUT);
            // This includes earlier rounds, because a node may come back late.
            let failed: Vec<_> = self.past.redis_failed.iter().map(around).collect();
            self.past.deaf.extend(failed);
        }
    }

    /// Finds messages that are in the log twice.
    fn doubled(&mut self, found: &mut Vec<Violation>, round: &Round<'_>, now: &HashSet<Entry>) {
        for sent in &round.sent {
            let began = *self.first_sent.entry(sent.value).or_insert(sent.began);
            let is_within = |moment: &&Instant| began <= **moment && **moment <= sent.ended;
            if self.past.forgot_keys.iter().any(|moment| is_within(&moment)) {
                self.may_be_twice.insert(sent.value);
            }
        }
        let mut places: HashMap<Value, Vec<Place>> = HashMap::new();
        now.iter().for_each(|(place, value)| places.entry(*value).or_default().push(*place));
        let is_bad = |value: &Value, places: &[Place]| places.len() > 1 && !self.may_be_twice.contains(value);
        let mut twice: Vec<_> = places.into_iter().filter(|(value, places)| is_bad(value, places)).collect();
        twice.sort_unstable();
        if let Some((value, places)) = twice.first() {
            let words = format!("{} messages are in the log twice. The first is {value:?}, at {places:?}", twice.len());
            found.push(Violation { kind: Kind::Doubled, words });
        }
    }

    /// Whether nodes may return the entry or leave it out.
    pub fn is_free(&self, entry: &Entry) -> bool {
        self.deleted.contains(entry) || self.gone.get(entry) == Some(&Loss::Trimmed)
    }

    /// The entries that the log had, or that a reader or publisher knew to be in it, and that it no longer has; with
    /// the reason, if a fault explains it.
    fn newly_gone(&self, found: &mut Vec<Violation>, round: &Round<'_>, now: &HashSet<Entry>) -> HashMap<Entry, Loss> {
        let effects = round.effects;
        let floor = round.log.first().map_or(Place::default(), |(place, _)| *place);
        let seen = self.tracks.iter().flat_map(|track| track.fresh());
        let told = round.sent.iter().chain(&effects.added).filter_map(|sent| match sent.told {
            Told::Good(Some(place)) => Some((place, sent.value)),
            _ => None,
        });
        let known: HashSet<Entry> = self.log.iter().copied().chain(seen).chain(told).collect();
        let mut newly = HashMap::new();
        let mut unexplained = Vec::new();
        for entry in known.into_iter().filter(|entry| !now.contains(entry) && !self.gone.contains_key(entry)) {
            let is_trimmed =
                self.deleted.contains(&entry) || ((effects.has(Loss::Trimmed) || round.trims) && entry.0 < floor);
            if is_trimmed {
                newly.insert(entry, Loss::Trimmed);
            } else if effects.has(Loss::Replaced) {
                newly.insert(entry, Loss::Replaced);
            } else {
                unexplained.push(entry);
            }
        }
        unexplained.sort_unstable();
        if let Some(first) = unexplained.first() {
            let readers = self.tracks.iter().filter(|track| track.has_seen(first)).map(|track| &track.name);
            let readers: Vec<_> = readers.collect();
            let words = format!(
                "{} entries have been in the log and are not, and no fault has taken them. The first is {first:?}, seen by {readers:?}",
                unexplained.len()
            );
            found.push(Violation { kind: Kind::Lost, words });
        }
        newly
    }

    /// Compares the answers to publishers with the log.
    fn sent(&mut self, found: &mut Vec<Violation>, round: &mut Round<'_>, now: &HashSet<Entry>) {
        let in_log: HashMap<Value, Place> = now.iter().map(|(place, value)| (*value, *place)).collect();
        if round.trims {
            let oldest = round.log.first().and_then(|(_, value)| self.first_sent.get(value));
            self.trimmed = self.trimmed.max(oldest.copied());
        }
        let (publishes, mut judged): (Vec<Sent>, Vec<Sent>) =
            std::mem::take(&mut round.sent).into_iter().partition(|sent| sent.value.way == 'P');
        self.young.extend(publishes);
        let is_old = |sent: &Sent| sent.ended + BRIDGED < round.probed;
        let (old, young) = std::mem::take(&mut self.young).into_iter().partition(is_old);
        self.young = young;
        judged.extend(old);
        let mut absent: HashMap<char, Vec<&Sent>> = HashMap::new();
        for sent in &judged {
            let place = in_log.get(&sent.value);
            match (&sent.told, place) {
                (Told::Never, Some(place)) => {
                    let words = format!("{:?} was refused ({}) and is in the log at {place:?}", sent.value, sent.words);
                    found.push(Violation { kind: Kind::Ghost, words });
                }
                (Told::Good(Some(told)), Some(place))
                    if !now.contains(&(*told, sent.value)) && !self.is_forgiven(sent, round) =>
                {
                    let words = format!("{:?} was acknowledged as {told:?} and is in the log at {place:?}", sent.value);
                    found.push(Violation { kind: Kind::Disorder, words });
                }
                (Told::Good(_), None) if !self.is_forgiven(sent, round) => {
                    absent.entry(sent.value.way).or_default().push(sent);
                }
                _ => {}
            }
        }
        for (way, list) in absent {
            let forgiven = if way == 'P' { forgiven(&list, &self.past) } else { HashSet::new() };
            self.figures.unheard += forgiven.len();
            let lost: Vec<_> = list.iter().filter(|sent| !forgiven.contains(&sent.value)).collect();
            let Some(first) = lost.first() else { continue };
            let ago = round.probed.saturating_duration_since(first.tried);
            let words = format!(
                "{} of {way} were acknowledged and are not in the log. The first is {:?} ({}), sent {ago:?} before the probe; all: {:?}",
                lost.len(),
                first.value,
                first.words,
                lost.iter().map(|sent| sent.value.number).take(40).collect::<Vec<_>>()
            );
            found.push(Violation { kind: Kind::Lost, words });
        }
    }

    /// Whether a fault may have removed the message from the log after it was acknowledged.
    fn is_forgiven(&self, sent: &Sent, round: &Round<'_>) -> bool {
        let effects = &self.past;
        let is_http = matches!(sent.value.way, 'K' | 'H' | 'W' | 'Q');
        if let Told::Good(Some(place)) = sent.told {
            let entry = (place, sent.value);
            let floor = round.log.first().map_or(Place::default(), |(place, _)| *place);
            let was_trimmed = self.gone.get(&entry) == Some(&Loss::Trimmed);
            if was_trimmed || self.deleted.contains(&entry) || (round.trims && place < floor) {
                return true;
            }
        }
        // PUBLISHes have no position: one that a reader has seen, or that may have been deleted, is not lost.
        if sent.value.way == 'P' {
            let is_it = |entry: &Entry| entry.1 == sent.value;
            if self.deleted.iter().any(is_it) || self.gone.keys().any(is_it) {
                return true;
            }
            if self.tracks.iter().any(|track| track.has_value(sent.value)) {
                return true;
            }
            // It was sent before the oldest message of the log, so it may have been trimmed before a reader saw it.
            if self.trimmed.is_some_and(|oldest| sent.ended <= oldest) {
                return true;
            }
        }
        effects.losses.iter().any(|(until, _, spares_http)| sent.tried <= *until && !(*spares_http && is_http))
    }
}

/// `PUBLISH`es whose answer counted listeners, and that may still be lost.
fn forgiven(lost: &[&Sent], effects: &Effects) -> HashSet<Value> {
    let mut forgiven = HashSet::new();
    let is_within = |sent: &Sent, from: Instant, until: Instant| sent.ended >= from && sent.tried <= until;
    for sent in lost {
        if effects.deaf.iter().any(|(from, until)| is_within(sent, *from, *until)) {
            forgiven.insert(sent.value);
        }
    }
    for cut in &effects.cuts {
        let near = lost.iter().filter(|sent| is_within(sent, *cut - AROUND_CUT, *cut + AROUND_CUT));
        let near: Vec<Value> = near.map(|sent| sent.value).filter(|value| !forgiven.contains(value)).collect();
        forgiven.extend(near.into_iter().take(PER_CUT));
    }
    forgiven
}
