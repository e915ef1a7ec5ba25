//! The messages of one segment that have arrived and may not be in the log yet, in Redis's order.

use std::collections::VecDeque;

/// One or more slots in the order of PUBLISHes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublishSlot {
    /// Consecutive slots that do not need to be appended, as a count: volatile messages, payloads that are not
    /// messages, dropped messages.
    Nothing(u64),
    /// The entries of one PUBLISH, at least one. Each is an idempotency key, which may be empty, and the entry's fields.
    Entries(Vec<Vec<String>>),
}

impl PublishSlot {
    /// How many slots the item stands for.
    pub(super) fn count(&self) -> u64 {
        match self {
            PublishSlot::Nothing(count) => *count,
            PublishSlot::Entries(_) => 1,
        }
    }

    fn size(&self) -> usize {
        match self {
            PublishSlot::Nothing(_) => 0,
            PublishSlot::Entries(entries) => {
                entries.iter().map(|words| words.iter().map(|word| word.len() + 24).sum::<usize>() + 64).sum()
            }
        }
    }

    fn is_entry(&self) -> bool {
        matches!(self, PublishSlot::Entries(_))
    }
}

/// The limits of a queue. Beyond them the queue drops the oldest messages, and counts them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// The room that is left in one request.
#[derive(Debug)]
pub(super) struct BatchRoom {
    places: usize,
    bytes: usize,
}

impl Default for BatchRoom {
    fn default() -> BatchRoom {
        BatchRoom { places: 500, bytes: 1 << 20 }
    }
}

/// A queue of slots with consecutive positions. The owner of the queue chooses the position of the first slot.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    places: VecDeque<PublishSlot>,
    /// The position of the first slot.
    front: i64,
    /// The position after the last slot.
    end: i64,
    bytes: usize,
    entries: usize,
}

impl Queue {
    /// An empty queue that begins at a position.
    pub(super) fn new(front: i64, bounds: Bounds) -> Queue {
        Queue { bounds, places: VecDeque::new(), front, end: front, bytes: 0, entries: 0 }
    }

    pub(super) fn front(&self) -> i64 {
        self.front
    }

    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// How many messages the queue holds.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// The size of the queue's messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many items the queue has.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds an item at the end. Returns how many messages had to be dropped to make room.
    pub(super) fn push(&mut self, place: PublishSlot) -> usize {
        self.end += place.count() as i64;
        self.bytes += place.size();
        self.entries += usize::from(place.is_entry());
        match (self.places.back_mut(), place) {
            (Some(PublishSlot::Nothing(run)), PublishSlot::Nothing(more)) => *run += more,
            (_, place) => self.places.push_back(place),
        }
        let mut dropped = 0;
        while self.entries > self.bounds.messages || self.bytes > self.bounds.bytes {
            dropped += usize::from(self.hollow_out_oldest());
        }
        dropped
    }

    /// Empties the oldest slot that is not empty. The slot itself stays, because the numbers of later slots must not
    /// change. Returns whether the slot held a message.
    pub(super) fn hollow_out_oldest(&mut self) -> bool {
        // Empty slots in a row form one item, so the oldest slot that is not empty is in the first or the second item.
        let run = match self.places.front() {
            Some(PublishSlot::Nothing(run)) => *run,
            _ => 0,
        };
        if run > 0 {
            self.places.pop_front();
        }
        let Some(oldest) = self.places.pop_front() else { return false };
        self.forget(&oldest);
        let mut run = run + 1;
        if let Some(PublishSlot::Nothing(next)) = self.places.front() {
            run += next;
            self.places.pop_front();
        }
        self.places.push_front(PublishSlot::Nothing(run));
        oldest.is_entry()
    }

    fn forget(&mut self, place: &PublishSlot) {
        self.bytes -= place.size();
        self.entries -= usize::from(place.is_entry());
    }

    /// Removes all slots before a position, at most up to the queue's end.
    pub(super) fn split_before(&mut self, position: i64) -> Queue {
        let mut before = Queue::new(self.front, self.bounds);
        let position = position.min(self.end);
        while self.front < position {
            let Some(place) = self.places.pop_front() else { break };
            self.forget(&place);
            let room = (position - self.front) as u64;
            let place = match place {
                PublishSlot::Nothing(run) if run > room => {
                    self.places.push_front(PublishSlot::Nothing(run - room));
                    PublishSlot::Nothing(room)
                }
                place => place,
            };
            self.front += place.count() as i64;
            before.push(place);
        }
        before
    }

    /// Returns as many of the first slots as fit into the room.
    pub(super) fn first_batch(&self, room: &mut BatchRoom) -> Vec<PublishSlot> {
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

    fn entry(n: u64) -> PublishSlot {
        PublishSlot::Entries(vec![vec![String::new(), n.to_string()]])
    }

    fn place() -> impl Strategy<Value = PublishSlot> {
        prop_oneof![(1..4u64).prop_map(PublishSlot::Nothing), (0..100u64).prop_map(entry), (0..100u64).prop_map(entry),]
    }

    /// One element for each slot.
    fn flat(queue: &Queue) -> Vec<Option<PublishSlot>> {
        let one = |place: &PublishSlot| match place {
            PublishSlot::Nothing(run) => vec![None; *run as usize],
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
            let messages = |places: &[Option<PublishSlot>]| places.iter().flatten().filter(|place| place.is_entry()).count();
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
