//! A member of the bridge, without its connections: what it has heard, what it knows, what it does next.

use super::queue::{Bounds, Place, Queue};
use std::time::Duration;
use tokio::time::Instant;

/// How long a holder's beat may be missing, by our own clock, before another member takes its place.
pub(super) const LEASE: Duration = Duration::from_secs(3);

/// How long a member without a place leaves a vacant lease to those that have one, beyond [`LEASE`].
const GRACE: Duration = Duration::from_secs(2);

/// How long a member waits for its place while somebody holds the lease. Past it, its marker was lost.
const PLACE_WAIT: Duration = Duration::from_secs(10);

/// How long a member may be without a place in all. Its number is noted for ten minutes.
const STALE: Duration = Duration::from_secs(60);

/// The bridge's state in Redis, as a reply of the script tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Who appends; nobody where it is empty.
    pub(super) holder: String,
    pub(super) beat: String,
    /// Empty where the state is new, or was lost with the rest of Redis.
    pub(super) generation: String,
    /// The last number taken.
    pub(super) taken: i64,
    /// The lowest number taken.
    pub(super) low: i64,
    /// The marker whose number is 0.
    pub(super) origin: String,
    /// The generation before, and the last number taken in it.
    pub(super) previous: String,
    pub(super) previous_taken: i64,
    /// The marker that it began with.
    pub(super) previous_origin: String,
    /// The generation and the number of this member's marker, once somebody has taken it.
    pub(super) note: Option<(String, i64)>,
}

/// What a member wants of the script beside its look at the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// To look, and to beat where it holds the lease.
    Look,
    /// Its marker published, and a generation where there is none.
    Join,
    /// The lease, as of the beat that was seen.
    Take,
    /// A new generation, which begins with another marker.
    Begin,
    /// To give the lease back.
    Release,
}

/// One run of the script.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) want: Want,
    /// What [`Want::Join`] and [`Want::Begin`] publish.
    pub(super) marker: String,
    /// For [`Want::Join`] where Redis has lost the state: the generation that was, and the last number
    /// that this member knows to be taken in it.
    pub(super) lost: (String, i64),
    pub(super) holder: String,
    pub(super) beat: String,
    pub(super) generation: String,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) places: Vec<Place>,
}

/// What a reply has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    /// Messages that this member has appended.
    pub(super) bridged: usize,
    /// Messages that another had appended.
    pub(super) struck_out: usize,
    /// The lease has changed hands since the reply before.
    pub(super) changed_hands: bool,
}

/// The member can no longer tell what was taken; it has to join anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LostTrack;

/// A member is one subscription's life. What it heard is kept until it is known to be in the log.
#[derive(Debug)]
pub(super) struct Member {
    id: String,
    /// Its marker's text, and the key that its number is noted under.
    marker: String,
    bounds: Bounds,
    /// What came behind its marker, at position 0; `None` until that was heard. What comes before is
    /// left to those who had joined before.
    queue: Option<Queue>,
    /// What was heard before the present generation began, at its numbers.
    before: Option<Queue>,
    anchor: Option<Anchor>,
    state: Option<State>,
    /// Since when holder and beat are as they are.
    unchanged: Instant,
    /// Since when it knows no place in the present generation.
    placeless: Option<Instant>,
}

/// Number = position + offset, in one generation.
#[derive(Clone, Debug)]
struct Anchor {
    generation: String,
    offset: i64,
}

impl Member {
    pub(super) fn new(id: String, marker: String, bounds: Bounds, now: Instant) -> Member {
        Member {
            id,
            marker,
            bounds,
            queue: None,
            before: None,
            anchor: None,
            state: None,
            unchanged: now,
            placeless: None,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn marker(&self) -> &str {
        &self.marker
    }

    pub(super) fn has_joined(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether it appended when it last looked.
    pub(super) fn holds(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.holder == self.id)
    }

    /// Messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.iter().chain(&self.before).map(Queue::entries).sum()
    }

    /// Whether there is something to say before the next beat is due.
    pub(super) fn is_urgent(&self) -> bool {
        let can_give = self.holds() && self.queue.as_ref().is_some_and(Queue::is_urgent);
        can_give || self.before.as_ref().is_some_and(|before| before.entries() > 0)
    }

    /// Takes in what was heard. Answers how many messages were dropped for it.
    pub(super) fn hear(&mut self, place: Place) -> usize {
        match (&mut self.queue, place) {
            (Some(queue), place) => queue.push(place),
            (none, Place::Marker(key)) if key == self.marker => {
                *none = Some(Queue::new(1, self.bounds));
                0
            }
            (None, _) => 0,
        }
    }

    /// The first word: publishes the marker.
    pub(super) fn join(&self) -> Request {
        self.request(Want::Join)
    }

    /// The last word.
    pub(super) fn release(&self) -> Request {
        self.request(Want::Release)
    }

    fn request(&self, want: Want) -> Request {
        let State { holder, beat, generation, .. } = self.state.clone().unwrap_or_default();
        // A marker is heard once. The first one has this member's number; others only begin generations.
        let marker = match (&want, &self.state) {
            (Want::Join, None) => self.marker.clone(),
            (Want::Join | Want::Begin, _) => renewed(&self.marker),
            _ => String::new(),
        };
        let lost = match (&want, &self.anchor, &self.queue) {
            (Want::Join, Some(anchor), Some(queue)) => (anchor.generation.clone(), queue.front() - 1 + anchor.offset),
            _ => (String::new(), 0),
        };
        Request { want, marker, lost, holder, beat, generation, first: 0, last: 0, places: Vec::new() }
    }

    /// What to say next.
    pub(super) fn next_request(&self, now: Instant) -> Request {
        let Some(state) = &self.state else { return self.request(Want::Look) };
        let is_anchored = self.anchor.as_ref().is_some_and(|anchor| anchor.generation == state.generation);
        let vacant = if state.holder.is_empty() { LEASE } else { now - self.unchanged };
        // Those that have a place had the first LEASE for themselves; a holder that went has told them.
        let patience = if state.holder.is_empty() { GRACE } else { LEASE + GRACE };
        let want = match (&self.queue, &self.anchor) {
            (None, _) => Want::Look,
            // Lost with the rest of Redis. A marker begins a generation that all who hear it can find
            // their places in.
            _ if state.generation.is_empty() => Want::Join,
            _ if state.holder == self.id => Want::Look,
            _ if is_anchored && vacant >= LEASE => Want::Take,
            (_, None) if now - self.unchanged >= patience => Want::Begin,
            _ => Want::Look,
        };
        let mut request = self.request(want);
        if let (true, Some(anchor), Some(queue)) = (is_anchored, &self.anchor, &self.queue) {
            if let Some(before) = self.before.as_ref().filter(|before| before.entries() > 0) {
                request.places = before.last_batch();
                request.last = before.end() - 1;
                request.first = before.end() - places(&request.places);
            } else if state.holder == self.id && !queue.is_empty() {
                request.places = queue.first_batch();
                request.first = queue.front() + anchor.offset;
                request.last = request.first + places(&request.places) - 1;
            }
        }
        request
    }

    /// Takes in a reply to a request.
    ///
    /// # Errors
    ///
    /// It can no longer tell what was taken.
    pub(super) fn learn(&mut self, request: &Request, state: State, now: Instant) -> Result<Learned, LostTrack> {
        let mut learned = Learned::default();
        match &self.state {
            Some(known) if known.holder == state.holder && known.beat == state.beat => {}
            known => {
                learned.changed_hands = known.as_ref().is_some_and(|known| known.holder != state.holder)
                    || known.is_none() && state.holder == self.id;
                self.unchanged = now;
            }
        }
        if self.anchor.is_none() && self.placeless.is_some_and(|since| now - since > STALE) {
            // It has slept through whatever could have told it its place.
            return Err(LostTrack);
        }
        self.find_place(&state);
        let mut gone = 0;
        if let (Some(anchor), Some(queue)) = (&self.anchor, &mut self.queue)
            && anchor.generation == state.generation
        {
            if queue.front() + anchor.offset > state.taken + 1 {
                // Redis has lost what it had taken.
                return Err(LostTrack);
            }
            gone += queue.split_before(state.taken + 1 - anchor.offset).entries();
            if let Some(before) = &mut self.before {
                let waiting = before.entries();
                before.cut_from(state.low);
                gone += waiting - before.entries();
            }
            self.placeless = None;
        } else if self.queue.is_some() {
            let since = *self.placeless.get_or_insert(now);
            // Whoever holds the lease should have told us our place by now, or it is in a generation
            // whose beginning we did not hear.
            let is_late = now - since > PLACE_WAIT && (self.anchor.is_some() || now - self.unchanged < LEASE);
            if is_late || (state.generation.is_empty() && self.anchor.is_none()) {
                // (Without a place and without a generation a fresh start costs nothing.)
                return Err(LostTrack);
            }
        }
        let is_forward = request.last == state.taken && state.holder == self.id;
        if !request.places.is_empty() && (is_forward || request.first == state.low) {
            let entries = request.places.iter().filter(|place| matches!(place, Place::Entry(_))).count();
            learned.bridged = entries.min(gone);
        }
        learned.struck_out = gone - learned.bridged;
        self.state = Some(state);
        Ok(learned)
    }

    fn find_place(&mut self, state: &State) {
        let Some(queue) = &mut self.queue else { return };
        if state.generation.is_empty() || self.anchor.as_ref().is_some_and(|at| at.generation == state.generation) {
            return;
        }
        if let (None, Some((generation, number))) = (&self.anchor, &state.note) {
            // The number may be known before the marker is heard, since they come on two sockets.
            self.anchor = Some(Anchor { generation: generation.clone(), offset: *number });
            if *generation == state.generation {
                return;
            }
        }
        let marker = self.marker.as_str();
        let find = |queue: &Queue, origin: &str| {
            if origin == marker { Some(0) } else { queue.position_of(origin) }
        };
        // Not heard yet, perhaps.
        let Some(origin) = find(queue, &state.origin) else { return };
        // What the generation before has taken is done, what came behind that is not.
        let taken = match (&self.anchor, find(queue, &state.previous_origin)) {
            _ if state.previous.is_empty() => queue.front() - 1,
            (Some(anchor), _) if anchor.generation == state.previous => state.previous_taken - anchor.offset,
            (_, Some(previous_origin)) => state.previous_taken + previous_origin,
            // It began before our marker, and has not taken that one, or it would have been noted.
            (None, None) => 0,
            (Some(_), None) => origin,
        };
        let mut before = queue.split_before(origin);
        before.split_before(taken + 1);
        before.renumber(-origin);
        self.before = Some(before).filter(|before| before.entries() > 0);
        self.anchor = Some(Anchor { generation: state.generation.clone(), offset: -origin });
    }
}

fn places(places: &[Place]) -> i64 {
    places.iter().map(|place| place.count() as i64).sum()
}

/// Another marker of the same make.
fn renewed(marker: &str) -> String {
    let stem = marker.rsplit_once(':').map_or(marker, |(stem, _)| stem);
    format!("{stem}:{}", uuid::Uuid::new_v4())
}
