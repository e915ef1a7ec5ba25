//! A member of the bridge without its connections: the messages that it has received, its view of the bridge's state,
//! and its next request.

use super::queue::{BatchRoom, Bounds, PublishSlot, Queue};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How long the holder's renewals may be missing before another member takes the lease. Each member measures this with
/// its own clock. This matters only while there are no PUBLISHes: other members offer waiting messages long before the
/// lease expires.
pub(super) const LEASE: Duration = Duration::from_secs(3);

/// How long a member leaves waiting messages to the holder. After this time it offers them itself.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);

/// The maximum time that is added to [`PATIENCE`], so that members do not all offer at the same moment.
pub(super) const JITTER: Duration = Duration::from_millis(100);

/// The time that is added to a member's wait soon after its join. Earlier members may still have messages from before
/// its marker, and these come first. If an earlier member does not run for this time, the new member overtakes it. The
/// longest wait of a member is 300 ms. Both times leave 400 ms of the second within which the bridge appends each
/// message.
const NEWCOMER_PATIENCE: Duration = Duration::from_millis(300);

/// The time after a join during which a member adds [`NEWCOMER_PATIENCE`] to its wait.
pub(super) const NEWCOMER: Duration = Duration::from_secs(2);

/// How long a member waits if its numbers have a hole: other members may still have the missing messages.
const HOLE: Duration = Duration::from_millis(600);

/// How often a member asks for a marker until it receives one.
const JOIN: Duration = Duration::from_millis(500);

/// How many slots from before the first marker a member keeps. These slots arrive between the member's subscription and
/// the marker. The marker takes a round trip.
const EARLY: usize = 32;

/// How many segments a member keeps. Each join begins a segment. A member forgets an empty segment that is not the
/// last.
const SEGMENTS: usize = 64;

/// The bridge's state in Redis, from a reply of the script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BridgeState {
    /// The member that holds the lease and offers at once. The text is empty if no member holds the lease.
    pub(super) holder: String,
    pub(super) beat: String,
    /// The server that members listen to, by its `run_id`.
    pub(super) server: String,
    pub(super) address: String,
    /// A value that keeps changing while any member listens to that server. It is used only in a Cluster.
    pub(super) alive: String,
    /// How many of the offered messages this request has appended to the log.
    pub(super) added: usize,
    /// How many of the appended entries have an idempotency key that Redis does not remember, because there was no room
    /// for it.
    pub(super) forgotten: u64,
    /// The last number that Redis has taken in each segment of the request; `None` for a segment that Redis has
    /// dropped.
    pub(super) taken: Vec<Option<i64>>,
}

/// The purpose of a request, in addition to reading the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Want {
    #[default]
    Look,
    /// The member asks for a marker.
    Join,
    /// The member takes the lease, if no member has renewed it since this member's last request.
    Take,
    /// The member has stopped listening, and gives the lease back.
    Release,
    /// The member has stopped listening, and appends its remaining messages.
    Finish,
}

/// The slots of one segment that a member offers.
#[derive(Clone, Debug)]
pub(super) struct SegmentOffer {
    pub(super) segment: String,
    /// The number of the first slot.
    pub(super) first: i64,
    /// Whether Redis may take the slots although earlier numbers of the segment are missing.
    pub(super) over_hole: bool,
    pub(super) places: Vec<PublishSlot>,
}

/// One run of the script.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) want: Want,
    pub(super) holder: String,
    pub(super) beat: String,
    pub(super) offers: Vec<SegmentOffer>,
}

impl Request {
    pub(super) fn offers_entries(&self) -> bool {
        self.offers.iter().any(|offer| !offer.places.is_empty())
    }
}

/// The results of a request, as a member reads them from the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    /// Messages that this member has appended.
    pub(super) bridged: usize,
    /// Messages that another member had appended.
    pub(super) already_appended: usize,
    /// Messages in segments that Redis has dropped.
    pub(super) dropped: usize,
    /// Whether the lease has changed hands since the previous reply.
    pub(super) changed_hands: bool,
    /// Whether the member has offered messages and Redis has taken none of them.
    pub(super) in_vain: bool,
    /// Whether Redis has dropped the member's newest segment. If it has, the member has to join again.
    pub(super) has_lost_track: bool,
}

/// A marker. A join publishes it as `<segment> <server>`, followed by ` first` if no member has joined at this server
/// process before. A segment is `<number of joins>-<random>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) segment: String,
    /// The server that members listen to if they count from this marker.
    pub(super) server: String,
    /// Whether the messages before the marker do not have numbers yet.
    pub(super) is_first: bool,
    joined: u64,
}

impl Marker {
    /// Parses a text. Any client of Redis may have published the message.
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

/// The other members no longer listen to this member's server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moved;

/// The state of the protocol in one session. It keeps each message until it knows that the message is in the log.
#[derive(Debug)]
pub(super) struct Member {
    id: String,
    bounds: Bounds,
    /// The sum of [`PATIENCE`] and this member's random part of [`JITTER`].
    patience: Duration,
    /// The messages that arrived after each marker.
    segments: VecDeque<Segment>,
    /// The messages that arrived before the first marker. Earlier members, if there are any, append them.
    early: VecDeque<PublishSlot>,
    has_joined: bool,
    /// Until this time the member waits longer, so that earlier members can offer their messages.
    newcomer_until: Option<Instant>,
    /// Whether the member has stopped listening.
    is_finishing: bool,
    asked_to_join: Option<Instant>,
    state: Option<BridgeState>,
    /// The time at which the holder or its beat last changed.
    unchanged: Instant,
    /// The time since which messages have waited and Redis has not taken any of them.
    since: Instant,
    /// Whether the member has waited long enough for the holder.
    is_overdue: bool,
}

#[derive(Debug)]
struct Segment {
    marker: Marker,
    /// The messages of the segment, from number 1 on.
    queue: Queue,
    /// If Redis has not taken the numbers before the queue, the time since which these numbers have been missing;
    /// otherwise `None`.
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
            newcomer_until: None,
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

    /// Whether the member held the lease according to the last reply.
    pub(super) fn holds(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.holder == self.id)
    }

    /// How many messages wait to be appended.
    pub(super) fn waiting(&self) -> usize {
        self.segments.iter().map(|segment| segment.queue.entries()).sum()
    }

    /// Stops listening. From now on the member offers its waiting messages at once.
    pub(super) fn finish(&mut self) {
        self.is_finishing = true;
    }

    /// Queues the slot of a PUBLISH that has arrived. Returns how many messages were dropped to make room.
    pub(super) fn receive(&mut self, place: PublishSlot, now: Instant) -> usize {
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
        // All segments share one bound.
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

    /// Begins a segment after a marker. Returns how many messages were dropped to make room.
    ///
    /// # Errors
    ///
    /// The other members listen to another server now. A replica delivers the PUBLISHes of its primary, and the servers
    /// of a Cluster deliver PUBLISHes to one another. So another member also receives and counts the messages that follow
    /// the marker.
    pub(super) fn receive_marker(
        &mut self,
        marker: Marker,
        server: &str,
        is_cluster: bool,
        now: Instant,
    ) -> Result<usize, Moved> {
        if marker.server != server {
            // The servers of a Cluster have no common order: a marker with a lower number than the newest segment has
            // simply arrived late.
            let newest = self.segments.back().map_or(u64::MAX, |segment| segment.marker.joined);
            return if is_cluster && marker.joined <= newest { Ok(0) } else { Err(Moved) };
        }
        let early = std::mem::take(&mut self.early);
        if !self.has_joined {
            if marker.is_first {
                self.number_backwards(early, &marker);
            } else {
                self.newcomer_until = Some(now + NEWCOMER);
            }
            self.has_joined = true;
        }
        self.segments.retain(|segment| segment.queue.entries() > 0);
        let mut dropped = 0;
        if self.segments.len() >= SEGMENTS {
            dropped = self.segments.pop_front().map_or(0, |segment| segment.queue.entries());
        }
        self.segments.push_back(Segment { marker, queue: Queue::new(1, self.bounds), hole: None });
        Ok(dropped)
    }

    /// Makes each slot before a first marker a segment of its own, and numbers these slots backwards from the marker. A
    /// member that subscribed later has received fewer of these slots, but gives them the same numbers.
    fn number_backwards(&mut self, early: VecDeque<PublishSlot>, marker: &Marker) {
        let count = early.len();
        for (index, place) in early.into_iter().enumerate() {
            let segment = format!("{}:{}", marker.segment, count - index);
            let mut queue = Queue::new(1, self.bounds);
            queue.push(place);
            self.segments.push_back(Segment { marker: Marker { segment, ..marker.clone() }, queue, hole: None });
        }
    }

    /// The time at which the member has to offer messages; `None` if no message waits.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.waiting() == 0 {
            return None;
        }
        let ripe = self.first_waiting().and_then(|segment| self.ripe(segment)).unwrap_or(self.since);
        Some(if self.offers_at_once() { ripe } else { ripe.max(self.since + self.patience()) })
    }

    /// How long the member leaves waiting messages to other members.
    fn patience(&self) -> Duration {
        match self.newcomer_until {
            Some(until) if self.since < until => self.patience + NEWCOMER_PATIENCE,
            _ => self.patience,
        }
    }

    /// The time from which the member offers a segment with a hole and skips the missing numbers.
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

    /// The next request.
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
        Request { want, holder, beat, offers: self.offers(now) }
    }

    /// Returns an offer for each segment. All offers together are at most one batch.
    fn offers(&self, now: Instant) -> Vec<SegmentOffer> {
        let is_due = self.due().is_some_and(|due| due <= now);
        let mut room = (is_due && self.offers_at_once()).then(BatchRoom::default);
        let mut offers = Vec::new();
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
            // Later segments wait, so that the order is kept.
            if has_entries && places.len() < segment.queue.len() {
                room = None;
            }
            offers.push(SegmentOffer {
                segment: segment.marker.segment.clone(),
                first: segment.queue.front(),
                over_hole,
                places,
            });
        }
        offers
    }

    /// Records that no answer came. The member may then ask for a marker again.
    pub(super) fn unanswered(&mut self) {
        self.asked_to_join = None;
    }

    /// Applies the reply to a request.
    pub(super) fn learn(&mut self, request: &Request, state: BridgeState, now: Instant) -> Learned {
        let mut learned = Learned::default();
        match &self.state {
            Some(known) if known.holder == state.holder && known.beat == state.beat => {}
            known => {
                learned.changed_hands = known.as_ref().is_some_and(|known| known.holder != state.holder)
                    || known.is_none() && state.holder == self.id;
                self.unchanged = now;
            }
        }
        // Only the oldest segment counts as progress. Otherwise a message that only this member has received would wait
        // while the holder goes on with later messages.
        let oldest = self.first_waiting().map(|segment| segment.marker.segment.clone());
        let (mut gone, mut has_gone_on) = (0, oldest.is_none());
        for (offer, taken) in request.offers.iter().zip(&state.taken) {
            let mut segments = self.segments.iter_mut();
            let Some(segment) = segments.find(|segment| segment.marker.segment == offer.segment) else { continue };
            let Some(taken) = *taken else {
                learned.dropped += segment.queue.entries();
                let end = segment.queue.end();
                drop(segment.queue.split_before(end));
                let newest = self.segments.back().map(|segment| &segment.marker.segment);
                learned.has_lost_track |= newest == Some(&offer.segment);
                continue;
            };
            let has_hole = taken + 1 < segment.queue.front();
            let is_oldest = oldest.as_ref() == Some(&offer.segment);
            has_gone_on |= is_oldest && has_hole && segment.hole.is_none();
            segment.hole = has_hole.then(|| segment.hole.unwrap_or(now));
            let already_appended = segment.queue.split_before(taken + 1);
            has_gone_on |= is_oldest && !already_appended.is_empty();
            gone += already_appended.entries();
        }
        // Messages that arrived while the answer was under way are not overdue yet.
        let is_late = now - self.since >= self.patience();
        if has_gone_on {
            self.since = now;
        }
        self.is_overdue = is_late && !has_gone_on && self.waiting() > 0;
        learned.in_vain = request.offers_entries() && !has_gone_on;
        learned.bridged = state.added.min(gone);
        learned.already_appended = gone - learned.bridged;
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
