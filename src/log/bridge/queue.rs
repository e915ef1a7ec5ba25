//! What has been heard of one segment and is not known to be taken: places in Redis's order.

use std::collections::VecDeque;

/// One or more places in the order of PUBLISHes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// So many in a row that hold nothing to append: volatile messages, garbage, what was dropped.
    Nothing(u64),
    /// An idempotency key, which may be empty, and an entry's fields.
    Entry(Vec<String>),
}

impl Place {
    /// How many places it takes.
    pub(super) fn count(&self) -> u64 {
        match self {
            Place::Nothing(count) => *count,
            Place::Entry(_) => 1,
        }
    }

    fn size(&self) -> usize {
        match self {
            Place::Nothing(_) => 0,
            Place::Entry(words) => words.iter().map(|word| word.len() + 24).sum::<usize>() + 64,
        }
    }

    fn is_entry(&self) -> bool {
        matches!(self, Place::Entry(_))
    }
}

/// What a queue may hold. Past it the oldest are dropped, and counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// How much more goes out at a time.
#[derive(Debug)]
pub(super) struct Room {
    places: usize,
    bytes: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { places: 500, bytes: 1 << 20 }
    }
}

/// A stretch of places without a hole. Positions count from wherever its owner begins.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    places: VecDeque<Place>,
    /// The position of the first place.
    front: i64,
    /// One past the position of the last.
    end: i64,
    bytes: usize,
    entries: usize,
}

impl Queue {
    /// An empty stretch that begins at a position.
    pub(super) fn new(front: i64, bounds: Bounds) -> Queue {
        Queue { bounds, places: VecDeque::new(), front, end: front, bytes: 0, entries: 0 }
    }

    pub(super) fn front(&self) -> i64 {
        self.front
    }

    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Messages in it.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// Their size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// In how many pieces it lies.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds at the end. Answers how many messages had to be dropped for it.
    pub(super) fn push(&mut self, place: Place) -> usize {
        self.end += place.count() as i64;
        self.bytes += place.size();
        self.entries += usize::from(place.is_entry());
        match (self.places.back_mut(), place) {
            (Some(Place::Nothing(run)), Place::Nothing(more)) => *run += more,
            (_, place) => self.places.push_back(place),
        }
        let mut dropped = 0;
        while self.entries > self.bounds.messages || self.bytes > self.bounds.bytes {
            dropped += usize::from(self.hollow_out_oldest());
        }
        dropped
    }

    /// Empties the oldest place that holds something, and keeps it: the numbers of those behind it
    /// must not change. Tells whether that was a message.
    pub(super) fn hollow_out_oldest(&mut self) -> bool {
        // Empty places lie in one run, so the oldest that is not is first or second.
        let run = match self.places.front() {
            Some(Place::Nothing(run)) => *run,
            _ => 0,
        };
        if run > 0 {
            self.places.pop_front();
        }
        let Some(oldest) = self.places.pop_front() else { return false };
        self.forget(&oldest);
        let mut run = run + 1;
        if let Some(Place::Nothing(next)) = self.places.front() {
            run += next;
            self.places.pop_front();
        }
        self.places.push_front(Place::Nothing(run));
        oldest.is_entry()
    }

    fn forget(&mut self, place: &Place) {
        self.bytes -= place.size();
        self.entries -= usize::from(place.is_entry());
    }

    /// Takes out everything before a position, which is kept within the queue's ends.
    pub(super) fn split_before(&mut self, position: i64) -> Queue {
        let mut before = Queue::new(self.front, self.bounds);
        let position = position.min(self.end);
        while self.front < position {
            let Some(place) = self.places.pop_front() else { break };
            self.forget(&place);
            let room = (position - self.front) as u64;
            let place = match place {
                Place::Nothing(run) if run > room => {
                    self.places.push_front(Place::Nothing(run - room));
                    Place::Nothing(room)
                }
                place => place,
            };
            self.front += place.count() as i64;
            before.push(place);
        }
        before
    }

    /// The first places, as many as there is room for.
    pub(super) fn first_batch(&self, room: &mut Room) -> Vec<Place> {
        let mut batch = Vec::new();
        for place in &self.places {
            if room.places == 0 || room.bytes == 0 {
                break;
            }
            room.places -= 1;
            room.bytes = room.bytes.saturating_sub(place.size());
            batch.push(place.clone());
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDE: Bounds = Bounds { messages: 1000, bytes: 1 << 20 };

    fn entry(n: u64) -> Place {
        Place::Entry(vec![String::new(), n.to_string()])
    }

    fn place() -> impl Strategy<Value = Place> {
        prop_oneof![(1..4u64).prop_map(Place::Nothing), (0..100u64).prop_map(entry), (0..100u64).prop_map(entry),]
    }

    /// One element a place.
    fn flat(queue: &Queue) -> Vec<Option<Place>> {
        let one = |place: &Place| match place {
            Place::Nothing(run) => vec![None; *run as usize],
            place => vec![Some(place.clone())],
        };
        queue.places.iter().flat_map(one).collect()
    }

    proptest! {
        #[test]
        fn a_queue_is_a_list_of_places(places in prop::collection::vec(place(), 0..40), cut in 0..60i64) {
            let mut queue = Queue::new(5, WIDE);
            for place in places {
                prop_assert_eq!(queue.push(place), 0);
            }
            let whole = flat(&queue);
            prop_assert_eq!(queue.end() - queue.front(), whole.len() as i64);
            let before = queue.split_before(cut);
            let at = ((cut - 5).max(0) as usize).min(whole.len());
            prop_assert_eq!(flat(&before), whole[..at].to_vec());
            prop_assert_eq!(flat(&queue), whole[at..].to_vec());
            prop_assert_eq!((queue.front(), before.end()), (5 + at as i64, 5 + at as i64));
            let messages = |places: &[Option<Place>]| places.iter().flatten().filter(|place| place.is_entry()).count();
            prop_assert_eq!(queue.entries(), messages(&whole[at..]));
        }

        #[test]
        fn what_does_not_fit_keeps_its_place(places in prop::collection::vec(place(), 0..60)) {
            let mut queue = Queue::new(0, Bounds { messages: 5, bytes: 1 << 20 });
            let mut wide = Queue::new(0, WIDE);
            let mut dropped = 0;
            for place in places {
                dropped += queue.push(place.clone());
                wide.push(place);
            }
            prop_assert_eq!(queue.end(), wide.end());
            prop_assert_eq!(queue.entries() + dropped, wide.entries());
            prop_assert!(queue.entries() <= 5 && queue.places.len() <= 70);
            for (kept, place) in flat(&queue).into_iter().zip(flat(&wide)) {
                prop_assert!(kept.is_none() || kept == place);
            }
        }
    }
}
