//! A member of the bridge, without its connections: what it has heard, what it knows, what it does next.

use super::queue::{Bounds, Place, Queue, Room};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How long the holder's beat may be missing, by this member's own clock, before another member holds the lease. This
/// is for the time in which nothing is PUBLISHed: what waits does not wait for it.
pub(super) const LEASE: Duration = Duration::from_secs(3);

/// How long what waits is left to the holder. Past it a member offers it itself.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);

/// What is added to [`PATIENCE`] at most, so that members do not all offer in the same moment.
pub(super) const JITTER: Duration = Duration::from_millis(100);

/// How long a member that knows later numbers to be taken than Redis does leaves those between to members that
/// may still have them.
const HOLE: Duration = Duration::from_millis(600);

/// How often a marker is asked for until one is heard.
const JOIN: Duration = Duration::from_millis(500);

/// Places before the first marker that a member keeps. They come between its subscription and the marker, which takes
/// a round trip.
const EARLY: usize = 32;

/// Segments that a member keeps. Each join begins one, and each that is behind and empty is forgotten.
const SEGMENTS: usize = 64;

/// The bridge's state in Redis, as a reply of the script tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The member that offers at once. Empty if there is none.
    pub(super) holder: String,
    pub(super) beat: String,
    /// The server that members listen to, by its `run_id`.
    pub(super) server: String,
    pub(super) address: String,
    /// Changes while any member listens there; in a Cluster only.
    pub(super) alive: String,
    /// How many of the entries that were offered are in the log for this request.
    pub(super) added: usize,
    /// The last number taken in each segment of the request; `None` for one that was dropped.
    pub(super) taken: Vec<Option<i64>>,
}

/// What a member wants of the script beside its look at the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Want {
    #[default]
    Look,
    /// A marker.
    Join,
    /// The lease, as of the beat that was seen.
    Take,
    /// To give the lease back; it hears no more.
    Release,
    /// To bring what it has heard to the log; it hears no more.
    Finish,
}

/// What a member has of one segment.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) segment: String,
    /// The number of the first place.
    pub(super) first: i64,
    /// Whether it may be taken although numbers before it are not.
    pub(super) over_hole: bool,
    pub(super) places: Vec<Place>,
}

/// One run of the script.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) want: Want,
    pub(super) holder: String,
    pub(super) beat: String,
    pub(super) stretches: Vec<Stretch>,
}

impl Request {
    pub(super) fn offers(&self) -> bool {
        self.stretches.iter().any(|stretch| !stretch.places.is_empty())
    }
}

/// What a reply has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    /// Messages that this member has appended.
    pub(super) bridged: usize,
    /// Messages that another had appended.
    pub(super) struck_out: usize,
    /// Messages in segments that Redis has dropped.
    pub(super) dropped: usize,
    /// The lease has changed hands since the reply before.
    pub(super) changed_hands: bool,
    /// Something was offered, and nothing came of it.
    pub(super) in_vain: bool,
    /// The segment that it listens to is dropped: it has to join anew.
    pub(super) has_lost_track: bool,
}

/// What a join publishes: `<segment> <server>`, and behind that ` first` where nobody has joined at this server process
/// before. A segment is `<how many have joined>-<random>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) segment: String,
    /// The server that the members which count from it listen to.
    pub(super) server: String,
    /// Nobody has numbered what comes before it.
    pub(super) is_first: bool,
    joined: u64,
}

impl Marker {
    /// Takes a text apart. It may come from anybody.
    pub(super) fn parse(text: &str) -> Option<Marker> {
        let (segment, server) = text.split_once(' ')?;
        let (server, is_first) = server.strip_suffix(" first").map_or((server, false), |server| (server, true));
        let (joined, random) = segment.split_once('-')?;
        let is_number = joined.len() <= 15 && joined.bytes().all(|byte| byte.is_ascii_digit());
        let is_id =
            |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_number || !is_id(random) || !is_id(server) {
            return None;
        }
        Some(Marker { segment: segment.into(), server: server.into(), is_first, joined: joined.parse().ok()? })
    }
}

/// The member's server is no longer the one that members listen to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moved;

/// A member is one subscription's life. What it heard is kept until it is known to be in the log.
#[derive(Debug)]
pub(super) struct Member {
    id: String,
    bounds: Bounds,
    /// [`PATIENCE`] and this member's part of [`JITTER`].
    patience: Duration,
    /// What was heard behind each marker.
    segments: VecDeque<Segment>,
    /// What was heard before the first marker. It is left to members that had joined before, if there are any.
    early: VecDeque<Place>,
    has_joined: bool,
    /// It hears no more.
    is_finishing: bool,
    asked_to_join: Option<Instant>,
    state: Option<State>,
    /// Since when holder and beat are as they are.
    unchanged: Instant,
    /// Since when something waits and nothing of it was taken.
    since: Instant,
    /// It has waited long enough for the holder.
    is_overdue: bool,
}

#[derive(Debug)]
struct Segment {
    marker: Marker,
    /// From number 1 on.
    queue: Queue,
    /// Since when Redis does not know what it had taken.
    hole: Option<Instant>,
}

impl Member {
    pub(super) fn new(id: String, bounds: Bounds, patience: Duration, now: Instant) -> Member {
        Member {
            id,
            bounds,
            patience,
            segments: VecDeque::new(),
            early: VecDeque::new(),
            has_joined: false,
            is_finishing: false,
            asked_to_join: None,
            state: None,
            unchanged: now,
            since: now,
            is_overdue: false,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn has_joined(&self) -> bool {
        self.has_joined
    }

    /// Whether it held the lease when it last looked.
    pub(super) fn holds(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.holder == self.id)
    }

    /// Messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.segments.iter().map(|segment| segment.queue.entries()).sum()
    }

    /// From now on it hears nothing, and offers what it has heard at once.
    pub(super) fn finish(&mut self) {
        self.is_finishing = true;
    }

    /// Takes in what was heard. Answers how many messages were dropped for it.
    pub(super) fn hear(&mut self, place: Place, now: Instant) -> usize {
        let waited = self.waiting() > 0;
        let Some(segment) = self.segments.back_mut() else {
            self.early.push_back(place);
            if self.early.len() > EARLY {
                self.early.pop_front();
            }
            self.since = now;
            return 0;
        };
        let mut dropped = segment.queue.push(place);
        if !waited {
            self.since = now;
        }
        // All segments have one bound between them.
        while self.segments.len() > 1 {
            let (entries, bytes) = self.segments.iter().fold((0, 0), |(entries, bytes), segment| {
                (entries + segment.queue.entries(), bytes + segment.queue.bytes())
            });
            if entries <= self.bounds.messages && bytes <= self.bounds.bytes {
                break;
            }
            let Some(oldest) = self.segments.front_mut() else { break };
            if oldest.queue.entries() == 0 {
                self.segments.pop_front();
            } else {
                dropped += usize::from(oldest.queue.hollow_out_oldest());
            }
        }
        dropped
    }

    /// Takes in a marker, behind which a segment begins. Answers how many messages were dropped for it.
    ///
    /// # Errors
    ///
    /// Members listen to another server now. A replica delivers what is PUBLISHed at its primary, and the servers
    /// of a Cluster deliver to one another: what comes behind the marker is heard there, too, and counted there.
    pub(super) fn hear_marker(&mut self, marker: Marker, server: &str, is_cluster: bool) -> Result<usize, Moved> {
        if marker.server != server {
            // The servers of a Cluster have no common order: there one that is older than this member is late.
            let newest = self.segments.back().map_or(u64::MAX, |segment| segment.marker.joined);
            return if is_cluster && marker.joined <= newest { Ok(0) } else { Err(Moved) };
        }
        let early = std::mem::take(&mut self.early);
        if !self.has_joined && marker.is_first {
            self.number_backwards(early, &marker);
        }
        self.has_joined = true;
        self.segments.retain(|segment| segment.queue.entries() > 0);
        let mut dropped = 0;
        if self.segments.len() >= SEGMENTS {
            dropped = self.segments.pop_front().map_or(0, |segment| segment.queue.entries());
        }
        self.segments.push_back(Segment { marker, queue: Queue::new(1, self.bounds), hole: None });
        Ok(dropped)
    }

    /// Makes each place before a first marker a segment of its own, numbered from the marker backwards: members that have
    /// subscribed later have heard fewer of them, and agree on these numbers.
    fn number_backwards(&mut self, early: VecDeque<Place>, marker: &Marker) {
        let count = early.len();
        for (index, place) in early.into_iter().enumerate() {
            let segment = format!("{}:{}", marker.segment, count - index);
            let mut queue = Queue::new(1, self.bounds);
            queue.push(place);
            self.segments.push_back(Segment { marker: Marker { segment, ..marker.clone() }, queue, hole: None });
        }
    }

    /// When there is something to say before the next beat is due.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.waiting() == 0 {
            return None;
        }
        let ripe = self.first_waiting().and_then(|segment| self.ripe(segment)).unwrap_or(self.since);
        Some(if self.offers_at_once() { ripe } else { ripe.max(self.since + self.patience) })
    }

    /// When a segment is offered over its hole, where it has one.
    fn ripe(&self, segment: &Segment) -> Option<Instant> {
        segment.hole.map(|hole| hole + HOLE + self.patience.saturating_sub(PATIENCE))
    }

    fn offers_at_once(&self) -> bool {
        let is_vacant = self.state.as_ref().is_some_and(|state| state.holder.is_empty());
        self.is_finishing || self.is_overdue || is_vacant || self.holds()
    }

    fn first_waiting(&self) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.queue.entries() > 0)
    }

    /// What to say next.
    pub(super) fn next_request(&mut self, now: Instant) -> Request {
        let (holder, beat) =
            self.state.as_ref().map_or_else(Default::default, |state| (state.holder.clone(), state.beat.clone()));
        let vacant = self.state.is_some() && (holder.is_empty() || now - self.unchanged >= LEASE);
        let wants_to_join = !self.has_joined && self.asked_to_join.is_none_or(|asked| now - asked >= JOIN);
        let want = if self.is_finishing {
            if self.holds() { Want::Release } else { Want::Finish }
        } else if wants_to_join {
            self.asked_to_join = Some(now);
            Want::Join
        } else if self.has_joined && vacant && !self.holds() {
            Want::Take
        } else {
            Want::Look
        };
        Request { want, holder, beat, stretches: self.stretches(now) }
    }

    /// What it has of each segment, and of what it offers as much as goes out at a time.
    fn stretches(&self, now: Instant) -> Vec<Stretch> {
        let is_due = self.due().is_some_and(|due| due <= now);
        let mut room = (is_due && self.offers_at_once()).then(Room::default);
        let mut stretches = Vec::new();
        for segment in &self.segments {
            let has_entries = segment.queue.entries() > 0;
            let over_hole = self.ripe(segment).is_some_and(|ripe| ripe <= now);
            if has_entries && segment.hole.is_some() && !over_hole {
                room = None;
            }
            let places = match &mut room {
                Some(room) if has_entries => segment.queue.first_batch(room),
                _ => Vec::new(),
            };
            // What comes behind it keeps its order.
            if has_entries && places.len() < segment.queue.len() {
                room = None;
            }
            stretches.push(Stretch {
                segment: segment.marker.segment.clone(),
                first: segment.queue.front(),
                over_hole,
                places,
            });
        }
        stretches
    }

    /// An answer did not come: a join that was asked for may be asked for again.
    pub(super) fn unanswered(&mut self) {
        self.asked_to_join = None;
    }

    /// Takes in a reply to a request.
    pub(super) fn learn(&mut self, request: &Request, state: State, now: Instant) -> Learned {
        let mut learned = Learned::default();
        match &self.state {
            Some(known) if known.holder == state.holder && known.beat == state.beat => {}
            known => {
                learned.changed_hands = known.as_ref().is_some_and(|known| known.holder != state.holder)
                    || known.is_none() && state.holder == self.id;
                self.unchanged = now;
            }
        }
        // What only this member has heard must not wait for as long as the holder goes on with what comes behind it.
        let oldest = self.first_waiting().map(|segment| segment.marker.segment.clone());
        let (mut gone, mut has_gone_on) = (0, oldest.is_none());
        for (stretch, taken) in request.stretches.iter().zip(&state.taken) {
            let mut segments = self.segments.iter_mut();
            let Some(segment) = segments.find(|segment| segment.marker.segment == stretch.segment) else { continue };
            let Some(taken) = *taken else {
                learned.dropped += segment.queue.entries();
                let end = segment.queue.end();
                drop(segment.queue.split_before(end));
                let newest = self.segments.back().map(|segment| &segment.marker.segment);
                learned.has_lost_track |= newest == Some(&stretch.segment);
                continue;
            };
            let has_hole = taken + 1 < segment.queue.front();
            let is_oldest = oldest.as_ref() == Some(&stretch.segment);
            has_gone_on |= is_oldest && has_hole && segment.hole.is_none();
            segment.hole = has_hole.then(|| segment.hole.unwrap_or(now));
            let struck_out = segment.queue.split_before(taken + 1);
            has_gone_on |= is_oldest && !struck_out.is_empty();
            gone += struck_out.entries();
        }
        // What was heard while the answer was under way is not what the holder has left lying.
        let is_late = now - self.since >= self.patience;
        if has_gone_on {
            self.since = now;
        }
        self.is_overdue = is_late && !has_gone_on && self.waiting() > 0;
        learned.in_vain = request.offers() && !has_gone_on;
        learned.bridged = state.added.min(gone);
        learned.struck_out = gone - learned.bridged;
        while self.segments.len() > 1 && self.segments.front().is_some_and(|segment| segment.queue.entries() == 0) {
            self.segments.pop_front();
        }
        self.state = Some(state);
        learned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marker_is_taken_for_one() {
        let good = Marker::parse("12-0a9 abc").expect("a marker");
        assert_eq!((good.segment.as_str(), good.server.as_str(), good.joined), ("12-0a9", "abc", 12));
        assert!(!good.is_first);
        assert_eq!(Marker::parse("12-0a9 abc first"), Some(Marker { is_first: true, ..good }));
        for text in [
            "",
            "12-0a9",
            "12 abc",
            "-0a9 abc",
            "x-0a9 abc",
            "1234567890123456-a b",
            "1- b",
            "1-a ",
            "1-a b c",
            "1-a b first ",
            "1-a b first first",
            "1-a\n b",
        ] {
            assert_eq!(Marker::parse(text), None, "{text:?}");
        }
    }
}
