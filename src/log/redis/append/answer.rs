//! The answer of the append script, and the run of entries that it proves for the tail.

use crate::cursor::{Cursor, Epoch, Id};
use crate::log::AppendError;
use crate::log::redis::local_append::AppendedRun;
use crate::log::redis::queue::Job;
use crate::message::{Message, Payload};
use std::sync::Arc;
use std::time::Duration;

/// The append script's answer.
#[derive(Debug, PartialEq)]
pub(super) struct Appended {
    epoch: Epoch,
    /// The position after which the log holds only this batch; `None` if it also holds other entries there.
    after: Option<Id>,
    /// The outcome of each draft.
    pub(super) places: Vec<Place>,
}

/// The outcome of a draft.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// The draft is an entry of this batch.
    New(Cursor),
    /// The draft's idempotency key was already known; this is the message that has the key.
    Known(Cursor),
    /// There is no room for the draft's key, or for the key of another draft of the same append. There may be room
    /// after this time. Zero means that there is never enough room.
    NoRoom(Duration),
}

impl Place {
    fn parse(word: &str, epoch: Epoch) -> Option<Place> {
        if let Some(wait) = word.strip_prefix('!') {
            return Some(Place::NoRoom(Duration::from_millis(wait.parse().ok()?)));
        }
        Some(match word.contains('.') {
            true => Place::Known(word.parse().ok()?),
            false => Place::New(Cursor { id: word.parse().ok()?, epoch }),
        })
    }

    /// The draft's position.
    ///
    /// # Errors
    ///
    /// There was not enough room for the keys.
    pub(super) fn cursor(self) -> Result<Cursor, AppendError> {
        match self {
            Place::New(cursor) | Place::Known(cursor) => Ok(cursor),
            Place::NoRoom(Duration::ZERO) => Err(AppendError::TooManyKeys),
            Place::NoRoom(wait) => Err(AppendError::NoRoomForKeys(wait)),
        }
    }
}

impl Appended {
    /// `position` is the tail's cursor and the number of entries that were ever added up to it.
    pub(super) fn parse(text: &str, position: Option<(Cursor, u64)>) -> Option<Appended> {
        let mut words = text.split(' ');
        let epoch = words.next()?.parse().ok()?;
        let after = match words.next()? {
            "-" => None,
            // A repeated batch gets its first answer, which may be for another position of the tail.
            number => {
                let number: u64 = number.parse().ok()?;
                position.filter(|(at, added)| *added == number && at.epoch == epoch).map(|(at, _)| at.id)
            }
        };
        let places = words.map(|word| Place::parse(word, epoch)).collect::<Option<_>>()?;
        Some(Appended { epoch, after, places })
    }

    /// The batch's messages, if the log holds only them after the tail's position.
    pub(super) fn run(&self, jobs: &[Job], max_payload: usize) -> Option<AppendedRun> {
        let after = self.after?;
        let mut messages = Vec::with_capacity(self.places.len());
        let mut last = after;
        for (draft, place) in jobs.iter().flat_map(Job::drafts).zip(&self.places) {
            let Place::New(cursor) = place else { continue };
            // A node skips each entry that is longer than its limit, even an entry of its own.
            if cursor.id <= last || !Payload::fits(draft.payload.as_str(), max_payload) {
                return None;
            }
            last = cursor.id;
            let (channel, event) = (draft.channel.clone(), draft.event.clone());
            messages.push(Arc::new(Message::new(Some(*cursor), channel, event, &draft.payload, draft.exclude.clone())));
        }
        Some(AppendedRun { epoch: self.epoch, after, messages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let id = |text: &str| text.parse::<Id>().expect("an id");
        let cursor = |text: &str| text.parse::<Cursor>().expect("a cursor");
        let position = Some((cursor("4-2.k3"), 7));
        let parsed = Appended::parse("k3 7 5-0 2-1.j1 5-1 !250", position).expect("an answer");
        let no_room = Place::NoRoom(Duration::from_millis(250));
        let places =
            vec![Place::New(cursor("5-0.k3")), Place::Known(cursor("2-1.j1")), Place::New(cursor("5-1.k3")), no_room];
        assert_eq!((parsed.after, parsed.places), (Some(id("4-2")), places));
        // There are entries of other publishers in between, or the tail has read on since then.
        for text in ["k3 - 5-0", "k3 6 5-0", "k4 7 5-0"] {
            assert_eq!(Appended::parse(text, position).map(|parsed| parsed.after), Some(None), "{text}");
        }
        for text in ["", "k3", "k3 x", "k3 - ", "k3 - 5", "K3 - 5-0", "k3 - 5-0.K", "k3 - !", "k3 - !-1"] {
            assert_eq!(Appended::parse(text, position), None, "{text}");
        }
    }
}
