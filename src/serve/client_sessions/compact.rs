//! The state of a session as few bytes, for a sealed token. Everything that is read has a bound.

use super::change::Json;
use super::id::{self, SessionId};
use super::state::{Awaited, Departure, MAX_AWAITED, MAX_CHANNELS, MAX_DEPARTURES, MAX_LEFT, Membership, SessionState};
use crate::cursor::{Cursor, Epoch, Id};
use crate::message::{Channel, User};
use std::sync::Arc;

/// The bits of a membership and of a position.
const NAMED: u8 = 1;
const JOINED: u8 = 2;

/// The bits that say which optional parts a state has.
const USER: u8 = 1;
const DATA: u8 = 2;
const ASKS_AGAIN: u8 = 4;

/// Writes a state. `None` if its id is not one that this server has made.
pub fn write(state: &SessionState, out: &mut Vec<u8>) -> Option<()> {
    let epoch = state.cursor.epoch;
    out.extend_from_slice(&state.id.to_bytes()?);
    number(out, state.cursor.epoch.number());
    id_of(out, state.cursor.id);
    [state.dialect.as_str(), state.endpoint.as_str(), &state.client.to_string()].iter().for_each(|it| text(out, it));
    let bit = |is_there: bool, bit: u8| if is_there { bit } else { 0 };
    out.push(
        bit(state.user.is_some(), USER)
            | bit(state.data.is_some(), DATA)
            | bit(state.asks_again_ms.is_some(), ASKS_AGAIN),
    );
    state.user.iter().for_each(|user| text(out, user.data()));
    state.data.iter().for_each(|data| text(out, data.as_str()));
    state.asks_again_ms.iter().for_each(|at| number(out, *at));
    number(out, state.channels.len() as u64);
    for (channel, membership) in &state.channels {
        text(out, channel.as_str());
        out.push(bit(membership.is_named, NAMED) | bit(membership.joined.is_some(), JOINED));
        membership.joined.iter().for_each(|at| cursor(out, *at, epoch));
    }
    number(out, state.left.len() as u64);
    state.left.iter().for_each(|channel| text(out, channel.as_str()));
    number(out, state.departures.len() as u64);
    for departure in &state.departures {
        text(out, departure.channel.as_str());
        out.push(bit(departure.since.is_some(), JOINED));
        departure.since.iter().for_each(|at| cursor(out, *at, epoch));
        cursor(out, departure.until, epoch);
    }
    number(out, state.awaited.len() as u64);
    for awaited in &state.awaited {
        text(out, &awaited.name);
        cursor(out, awaited.at, epoch);
    }
    Some(())
}

/// Reads a state, which is all of these bytes; `None` if they are not one.
pub fn read(bytes: &[u8]) -> Option<SessionState> {
    let mut input = Input(bytes);
    let id = SessionId::from_bytes(input.take(id::BYTES)?.try_into().ok()?);
    let epoch = Epoch::from_number(input.number()?);
    let at = Cursor { id: input.id()?, epoch };
    let (dialect, endpoint) = (input.text()?, input.text()?);
    let mut state = SessionState::new(id, dialect, endpoint, input.text()?.parse().ok()?, at);
    let flags = input.flags(USER | DATA | ASKS_AGAIN)?;
    if flags & USER != 0 {
        state.user = Some(Arc::new(User::parse(input.text()?).ok()?));
    }
    if flags & DATA != 0 {
        state.data = Some(Json::parse(input.text()?)?);
    }
    if flags & ASKS_AGAIN != 0 {
        state.asks_again_ms = Some(input.number()?);
    }
    for _ in 0..input.count(MAX_CHANNELS)? {
        let (channel, flags) = (input.channel()?, input.flags(NAMED | JOINED)?);
        let joined = if flags & JOINED != 0 { Some(input.cursor(epoch)?) } else { None };
        let membership = Membership { joined, is_named: flags & NAMED != 0 };
        if state.channels.insert(channel, membership).is_some() {
            return None;
        }
    }
    for _ in 0..input.count(MAX_LEFT)? {
        if !state.left.insert(input.channel()?) {
            return None;
        }
    }
    for _ in 0..input.count(MAX_DEPARTURES)? {
        let (channel, flags) = (input.channel()?, input.flags(JOINED)?);
        let since = if flags & JOINED != 0 { Some(input.cursor(epoch)?) } else { None };
        state.departures.push(Departure { channel, since, until: input.cursor(epoch)? });
    }
    for _ in 0..input.count(MAX_AWAITED)? {
        state.awaited.push(Awaited { name: input.text()?.to_owned(), at: input.cursor(epoch)? });
    }
    input.0.is_empty().then_some(state)
}

/// Writes a number: seven bits in each byte, the lowest ones first.
pub fn number(out: &mut Vec<u8>, mut rest: u64) {
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Writes a text with its length.
pub fn text(out: &mut Vec<u8>, text: &str) {
    number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn id_of(out: &mut Vec<u8>, id: Id) {
    number(out, id.ms);
    number(out, id.seq);
}

/// Writes a position. Nearly all of them are of the state's epoch, which is then left out.
fn cursor(out: &mut Vec<u8>, cursor: Cursor, epoch: Epoch) {
    id_of(out, cursor.id);
    let is_other = cursor.epoch != epoch;
    out.push(u8::from(is_other));
    if is_other {
        number(out, cursor.epoch.number());
    }
}

/// Bytes that are still to be read.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Takes bytes.
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// Reads bits, of which only these are defined.
    pub fn flags(&mut self, defined: u8) -> Option<u8> {
        self.byte().filter(|flags| flags & !defined == 0)
    }

    /// Reads a number, which has one form.
    pub fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    /// Reads a number that is not larger than another one.
    pub fn count(&mut self, most: usize) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= most)
    }

    /// Reads a text.
    pub fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn channel(&mut self) -> Option<Channel> {
        Channel::of_server(self.text()?).ok()
    }

    fn id(&mut self) -> Option<Id> {
        Some(Id { ms: self.number()?, seq: self.number()? })
    }

    fn cursor(&mut self, epoch: Epoch) -> Option<Cursor> {
        let id = self.id()?;
        match self.byte()? {
            0 => Some(Cursor { id, epoch }),
            1 => Some(Epoch::from_number(self.number()?))
                .filter(|other| *other != epoch)
                .map(|epoch| Cursor { id, epoch }),
            _ => None,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at() -> impl Strategy<Value = Cursor> {
        (any::<u64>(), any::<u64>(), any::<u8>()).prop_map(|(ms, seq, epoch)| Cursor {
            id: Id { ms, seq },
            epoch: Epoch::from_number(if epoch < 200 { 77 } else { u64::from(epoch) }),
        })
    }

    fn channel() -> impl Strategy<Value = Channel> {
        "[a-z/.]{1,12}".prop_filter_map("a channel", |name| name.parse().ok())
    }

    prop_compose! {
        /// States of all kinds.
        pub fn state()(id in any::<[u8; 20]>(), cursor in at(), client in "[a-z0-9]{1,20}",
            user in proptest::option::of("[a-z0-9]{1,9}"), data in proptest::option::of("[ -~é]{0,40}"),
            asks_again_ms in proptest::option::of(any::<u64>()),
            channels in proptest::collection::btree_map(channel(), (proptest::option::of(at()), any::<bool>()), 0..12),
            left in proptest::collection::btree_set(channel(), 0..4),
            departures in proptest::collection::vec((channel(), proptest::option::of(at()), at()), 0..4),
            awaited in proptest::collection::vec(("[ -~ä]{0,9}", at()), 0..4)) -> SessionState {
            let client = client.parse().expect("a client id");
            let mut state = SessionState::new(SessionId::from_bytes(&id), "socket.io", "/chat", client, cursor);
            state.user = user.map(|id| Arc::new(User::new(&id, Some("{\"n\":1}")).expect("a user")));
            state.data = data.and_then(|data| Json::parse(&serde_json::to_string(&data).expect("JSON")));
            state.asks_again_ms = asks_again_ms;
            state.channels = channels.into_iter()
                .map(|(channel, (joined, is_named))| (channel, Membership { joined, is_named })).collect();
            state.left = left;
            state.departures = departures.into_iter()
                .map(|(channel, since, until)| Departure { channel, since, until }).collect();
            state.awaited = awaited.into_iter().map(|(name, at)| Awaited { name, at }).collect();
            state
        }
    }

    proptest! {
        #[test]
        fn a_state_is_read_as_it_was_written(state in state()) {
            let mut bytes = Vec::new();
            write(&state, &mut bytes).expect("an id");
            prop_assert_eq!(read(&bytes).expect("a state"), state);
        }

        /// Whatever is cut off, put behind or changed, nothing panics, and what is read has been written like that.
        #[test]
        fn other_bytes_are_no_state_or_another_one(state in state(), cut in any::<usize>(), with in 1..=255u8) {
            let mut bytes = Vec::new();
            write(&state, &mut bytes).expect("an id");
            let cut = cut % bytes.len();
            prop_assert!(read(&bytes[..cut]).is_none());
            prop_assert!(read(&[&bytes[..], &[with]].concat()).is_none());
            bytes[cut] ^= with;
            prop_assert!(read(&bytes).is_none_or(|other| other != state));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn numbers_have_one_form(value in any::<u64>(), bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut out = Vec::new();
            number(&mut out, value);
            prop_assert_eq!(Input(&out).number(), Some(value));
            let mut input = Input(&bytes);
            if let Some(value) = input.number() {
                let mut out = Vec::new();
                number(&mut out, value);
                prop_assert_eq!(&bytes[..bytes.len() - input.0.len()], out);
            }
        }
    }
}
