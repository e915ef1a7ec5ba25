//! Joins the states of two streams of one session that read other channels.

use super::state::{Departure, MAX_CHANNELS, MAX_DEPARTURES, MAX_LEFT, Membership, SessionState};
use crate::message::Channel;

impl SessionState {
    /// Adds what another state of the same session has. Each of the two has applied entries that the other one does not
    /// read. Of a join and a leave of one channel, the later one counts.
    pub fn merge(&mut self, other: &SessionState) {
        let (own, others) = (self.clone(), &other.channels);
        self.channels.retain(|channel, membership| !other.has_left(channel, membership));
        for (channel, membership) in others.iter().filter(|(channel, it)| !own.has_left(channel, it)) {
            if self.channels.len() >= MAX_CHANNELS && !self.channels.contains_key(channel) {
                continue;
            }
            let known = self.channels.entry(channel.clone()).or_default();
            known.is_named |= membership.is_named;
            known.joined = match (known.joined, membership.joined) {
                (Some(one), Some(two)) => Some(if two.id < one.id { two } else { one }),
                (one, two) => one.or(two),
            };
        }
        self.left.extend(other.left.iter().cloned());
        let channels = &self.channels;
        self.left.retain(|channel| !channels.contains_key(channel));
        while self.left.len() > MAX_LEFT {
            self.left.pop_first();
        }
        let is_new = |departure: &&Departure| !own.departures.contains(departure);
        self.departures.extend(other.departures.iter().filter(is_new).cloned());
        self.departures.sort_by_key(|departure| departure.until.id);
        let excess = self.departures.len().saturating_sub(MAX_DEPARTURES);
        self.departures.drain(..excess);
    }

    /// Whether the session has left a channel after this membership has begun.
    fn has_left(&self, channel: &Channel, membership: &Membership) -> bool {
        match membership.joined {
            Some(at) => self.departures.iter().any(|it| it.channel == *channel && it.until.id > at.id),
            None => self.left.contains(channel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::Change;
    use super::super::id::SessionId;
    use super::*;
    use crate::cursor::{Cursor, Epoch, Id};

    fn at(ms: u64) -> Cursor {
        Cursor { id: Id { ms, seq: 0 }, epoch: "a".parse::<Epoch>().expect("an epoch") }
    }

    fn changes(state: &mut SessionState, steps: &[(u64, &str)]) {
        for (ms, step) in steps {
            state.cursor = at(*ms);
            let (kind, name) = step.split_at(1);
            let names = vec![name.to_owned()];
            match kind {
                "+" => drop(state.change(&Change { join: names, ..Change::default() })),
                "-" => drop(state.change(&Change { leave: names, ..Change::default() })),
                _ => state.name(&[name.parse().expect("a channel")]).expect("room"),
            }
        }
    }

    #[test]
    fn of_a_join_and_a_leave_the_later_one_counts() {
        for (one, other, channels, left) in [
            (&[(1, "+a")][..], &[(2, "+b")][..], &["a", "b"][..], &[][..]),
            (&[(1, "+a")], &[(1, "+a"), (2, "-a")], &[], &["a"]),
            (&[(1, "+a"), (2, "-a")], &[(3, "+a")], &["a"], &[]),
            (&[(1, "=a")], &[(1, "=b")], &["a", "b"], &[]),
            (&[(1, "=a"), (2, "-a")], &[(1, "=a")], &[], &["a"]),
            (&[(1, "=a"), (2, "-a"), (3, "+a")], &[(2, "-a")], &["a"], &[]),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                let client = "me".parse().expect("a client id");
                let new = SessionState::new(SessionId::random().expect("an id"), "native", "/", client, at(0));
                let (mut first, mut second) = (new.clone(), new);
                changes(&mut first, one);
                changes(&mut second, other);
                first.merge(&second);
                assert_eq!(
                    first.channels.keys().map(Channel::as_str).collect::<Vec<_>>(),
                    channels,
                    "{one:?} {other:?}"
                );
                assert_eq!(first.left.iter().map(Channel::as_str).collect::<Vec<_>>(), left, "{one:?} {other:?}");
            }
        }
    }
}
