//! The fold of random histories.

use super::super::bookmark;
use super::super::change::Send;
use super::*;
use crate::cursor::{Epoch, Id};
use crate::message::{Draft, Payload};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["a", "b", "room/1", "c~d"];
const USERS: [&str; 3] = ["7", "8", "ann"];
const CLIENTS: [&str; 2] = ["me", "you"];

fn ids() -> [SessionId; 2] {
    ["A", "B"].map(|name| SessionId::parse(&name.repeat(27)).expect("an id"))
}

fn at(n: usize) -> Cursor {
    at_in("a", n)
}

fn at_in(epoch: &str, n: usize) -> Cursor {
    let epoch: Epoch = epoch.parse().expect("an epoch");
    Cursor { id: Id { ms: 1000 * n as u64, seq: 0 }, epoch }
}

fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(&NAMES[..]).prop_map(str::to_owned)
}

fn addressee() -> impl Strategy<Value = Option<Addressee>> {
    prop_oneof![
        4 => Just(None),
        1 => proptest::sample::select(&CLIENTS[..]).prop_map(|name| Some(Addressee::Client(name.into()))),
        1 => proptest::sample::select(&USERS[..]).prop_map(|name| Some(Addressee::User(name.into()))),
        2 => name().prop_map(|name| Some(Addressee::Channel(name))),
    ]
}

fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(name(), 0..3)
}

prop_compose! {
    fn change()(to in addressee(), leave in names(), join in names(), rooms in names(),
        user in proptest::option::weighted(0.3, proptest::sample::select(&USERS[..])),
        data in proptest::option::weighted(0.3, proptest::sample::select(&["null", "[1e400]", "\"x\""][..])),
        ttl in proptest::option::weighted(0.2, 0..100u64),
        acked in proptest::collection::vec(("[x-z]", (1..40usize).prop_map(|n| at(n).to_string())), 0..2),
        disconnect in proptest::bool::weighted(0.02)) -> ControlEntry {
        let user = user.and_then(|id| Json::parse(&format!("{{\"id\":\"{id}\",\"info\":{{\"n\":1}}}}")));
        let data = data.and_then(Json::parse);
        ControlEntry::Change(Change { to, leave, join, rooms, user, data, ttl, acked, disconnect, ..Change::default() })
    }
}

prop_compose! {
    fn send()(to in addressee(), ack in proptest::option::of("[x-z]")) -> ControlEntry {
        ControlEntry::Send(Send { to, filter: None, event: "hi".into(), args: Json::parse("[1]").expect("JSON"), ack })
    }
}

/// A control entry whose addressee does not depend on the user: the state does not know earlier users.
fn change_or_send() -> impl Strategy<Value = ControlEntry> {
    prop_oneof![3 => change(), 1 => send()].prop_map(|mut entry| {
        let to = match &mut entry {
            ControlEntry::Change(change) => &mut change.to,
            ControlEntry::Send(send) => &mut send.to,
        };
        if matches!(to, Some(Addressee::User(_))) {
            *to = None;
        }
        entry
    })
}

/// An entry of the log: a control entry for one of two sessions or for an addressee, or a message.
fn entry() -> impl Strategy<Value = (usize, Option<ControlEntry>)> {
    let control = prop_oneof![3 => change(), 1 => send()];
    (0..2usize, proptest::option::weighted(0.8, control))
}

fn history(entries: &[(usize, Option<ControlEntry>)]) -> Vec<Message> {
    history_with_fork(entries, usize::MAX)
}

/// A history whose log begins another epoch at this entry, as after a restart of Redis. The positions go on.
fn history_with_fork(entries: &[(usize, Option<ControlEntry>)], fork: usize) -> Vec<Message> {
    let message = |(n, (session, entry)): (usize, &(usize, Option<ControlEntry>))| {
        let draft = match entry {
            Some(entry) => entry.draft(Some(&ids()[*session])).expect("a draft"),
            None => Draft::new(NAMES[*session].parse().expect("a channel"), Payload::from_any("1")),
        };
        draft.into_message(Some(at_in(if n < fork { "a" } else { "b" }, n + 1)))
    };
    entries.iter().enumerate().map(message).collect()
}

fn new() -> SessionState {
    SessionState::new(ids()[0].clone(), "longtail", "/", "me".parse().expect("a client id"), at(0))
}

/// Applies the entries that a reader of the session's control channels gets. Returns the objects of its events.
fn fold<'a>(state: &mut SessionState, log: impl IntoIterator<Item = &'a Message>) -> Vec<String> {
    let mut events = Vec::new();
    for message in log {
        if state.control_channels().contains(message.channel()) {
            let effects = state.apply(message);
            events.extend(effects.event.map(|event| format!("{event:?}")));
        } else {
            assert!(state.clone().apply(message).event.is_none(), "an entry that the session does not read");
            let before = state.clone();
            let effects = state.apply(message);
            assert!(!effects.has_changed && SessionState { cursor: before.cursor, ..state.clone() } == before);
        }
    }
    events
}

proptest! {
    /// A bookmark at any place of the history, and the rest of it, give the same state and the same events. Entries on
    /// channels that the session does not read never concern it.
    #[test]
    fn any_split_into_bookmark_and_rest_gives_the_same(
        entries in proptest::collection::vec(entry(), 0..40), split in 0..40usize, later in 0..3usize, fork in 0..60usize,
    ) {
        let log = history_with_fork(&entries, fork);
        let mut whole = new();
        let all = fold(&mut whole, &log);
        let (before, after) = log.split_at(split.min(log.len()));
        let mut first = new();
        let mut events = fold(&mut first, before);
        let text = bookmark::write(&first);
        let mut second = bookmark::read(&text, first.cursor).expect("a bookmark");
        prop_assert_eq!(&second, &first);
        // The store may have moved the position on, where there is nothing for the session.
        second.cursor.id.ms += later as u64;
        events.extend(fold(&mut second, after));
        if !after.is_empty() {
            prop_assert_eq!(second, whole);
        }
        prop_assert_eq!(events, all);
    }

    /// A client that comes back at an earlier position than the state's gets the same messages and events as a client
    /// that was there all the time: also those of channels that the session has left since, and of no others.
    #[test]
    fn a_client_that_comes_back_earlier_gets_what_it_would_have_got(
        entries in proptest::collection::vec((0..2usize, proptest::option::weighted(0.5, change_or_send())), 0..40),
        come_back in 0..40usize, fork in 0..60usize,
    ) {
        let log = history_with_fork(&entries, fork);
        let mut state = new();
        state.name(&["b".parse().expect("a channel")]).expect("room");
        let (mut live, mut again, mut seen) = (Vec::new(), Vec::new(), 0);
        for (n, message) in log.iter().enumerate() {
            let gets = if message.is_control() { state.apply(message).event.is_some() } else { state.gets(message) };
            if gets && n >= come_back {
                live.push(n);
            }
            seen = n + 1;
            if state.has_ended {
                break;
            }
        }
        for (n, message) in log.iter().enumerate().take(seen) {
            let gets = if message.is_control() { state.event_again(message).is_some() } else { state.gets(message) };
            let is_read = message.channels().iter().any(|channel| state.channels_from(at(come_back).id).contains(channel));
            if gets && is_read && n >= come_back {
                again.push(n);
            }
        }
        prop_assert_eq!(again, live);
    }

    /// The state by a model that knows only sets.
    #[test]
    fn the_channels_are_those_that_were_joined_and_not_left(entries in proptest::collection::vec(entry(), 0..40)) {
        let mut state = new();
        let (mut model, mut user, mut has_ended) = (BTreeMap::<String, usize>::new(), None::<String>, false);
        for (n, (message, (session, entry))) in history(&entries).iter().zip(&entries).enumerate() {
            state.apply(message);
            let Some(ControlEntry::Change(change)) = entry else { continue };
            let is_mine = match &change.to {
                None => *session == 0,
                Some(Addressee::Client(client)) => client == "me",
                Some(Addressee::User(id)) => user.as_ref() == Some(id),
                Some(Addressee::Channel(name)) => model.contains_key(name),
            };
            if !is_mine || has_ended {
                continue;
            }
            change.leave.iter().for_each(|name| { model.remove(name); });
            let rooms = change.rooms.iter().map(|name| name.replace('~', "=7E"));
            for name in change.join.iter().cloned().chain(rooms) {
                model.entry(name).or_insert(n + 1);
            }
            if let Some(json) = &change.user {
                user = Some(User::parse(json.as_str()).expect("a user").id().to_owned());
            }
            has_ended |= change.disconnect;
        }
        let channels: BTreeMap<String, usize> = state.channels.iter()
            .map(|(channel, it)| (channel.to_string(), it.joined.map_or(0, |at| at.id.ms as usize / 1000))).collect();
        prop_assert_eq!(channels, model);
        prop_assert_eq!(state.user.as_ref().map(|user| user.id().to_owned()), user);
        prop_assert_eq!(state.has_ended, has_ended);
    }
}

#[test]
fn each_list_has_a_limit() {
    let mut state = new();
    let join: Vec<String> = (0..MAX_CHANNELS + 5).map(|n| n.to_string()).collect();
    assert_eq!(state.change(&Change { join: join.clone(), ..Change::default() }).refused_joins, 5);
    let unusable = vec!["~s/1".into(), "a b".into(), String::new()];
    assert_eq!(state.change(&Change { join: unusable, ..Change::default() }).refused_joins, 3);
    let name = |name: &str| name.parse::<Channel>().expect("a channel");
    assert_eq!(state.name(&[name("0"), name("more")]), Err(TooManyChannels), "one of them is new");
    assert_eq!(state.name(&[name("0")]), Ok(()), "it is joined already");
    state.change(&Change { leave: join, ..Change::default() });
    assert_eq!((state.channels.len(), state.left.len()), (0, MAX_LEFT));
    assert_eq!(state.departures.len(), MAX_DEPARTURES);
    for n in 0..MAX_AWAITED + 5 {
        let (args, ack) = (Json::parse("[]").expect("JSON"), Some(n.to_string()));
        let send = ControlEntry::Send(Send { to: None, filter: None, event: "hi".into(), args, ack });
        state.apply(&send.draft(Some(&state.id)).expect("a draft").into_message(Some(at(n + 1))));
    }
    assert_eq!((state.awaited.len(), state.awaited[0].name.as_str()), (MAX_AWAITED, "5"));
}

#[test]
fn a_client_cannot_name_again_what_it_was_made_to_leave() {
    let (a, b): (Channel, Channel) = ("a".parse().expect("a channel"), "b".parse().expect("a channel"));
    let mut state = new();
    state.name_all(&[a.clone(), b.clone()]).expect("room");
    state.change(&Change { leave: vec!["a".into()], join: vec!["c".into()], ..Change::default() });
    state.name_all(&[a.clone(), b.clone()]).expect("room");
    assert_eq!(state.channels.keys().map(Channel::as_str).collect::<Vec<_>>(), ["b", "c"]);
    state.name_all(&[]).expect("room");
    assert_eq!(state.channels.keys().map(Channel::as_str).collect::<Vec<_>>(), ["c"], "joins stay");
    state.change(&Change { join: vec!["a".into()], ..Change::default() });
    assert!(state.channels.contains_key(&a) && state.left.is_empty());
}

#[test]
fn a_message_before_a_join_is_not_for_the_session() {
    let mut state = new();
    state.cursor = at(5);
    state.change(&Change { join: vec!["a".into()], ..Change::default() });
    state.name(&["b".parse().expect("a channel")]).expect("room");
    let message =
        |name: &str, n| Draft::new(name.parse().expect("a channel"), Payload::from_any("1")).into_message(Some(at(n)));
    for (name, n, gets) in [("a", 4, false), ("a", 5, false), ("a", 6, true), ("b", 1, true), ("c", 9, false)] {
        assert_eq!(state.gets(&message(name, n)), gets, "{name} {n}");
    }
}

#[test]
fn a_channel_is_read_for_the_client_and_for_the_application() {
    let n: Channel = "n".parse().expect("a channel");
    let mut state = new();
    state.name_all(std::slice::from_ref(&n)).expect("room");
    state.change(&Change { join: vec!["n".into()], ..Change::default() });
    let joined = Some(state.cursor);
    assert_eq!(state.channels.get(&n), Some(&Membership { joined, is_named: true }));
    // The client does not name it any more. The application's join stays.
    state.name_all(&[]).expect("room");
    assert_eq!(state.channels.get(&n), Some(&Membership { joined, is_named: false }));
    state.name(std::slice::from_ref(&n)).expect("room");
    state.unname(std::slice::from_ref(&n));
    assert_eq!(state.channels.get(&n), Some(&Membership { joined, is_named: false }));
    state.change(&Change { leave: vec!["n".into()], ..Change::default() });
    assert!(state.channels.is_empty());
}

#[test]
fn an_answer_is_known_by_its_name_and_its_event() {
    let mut state = new();
    let ask = |state: &mut SessionState, n| {
        let (args, ack) = (Json::parse("[]").expect("JSON"), Some("q".to_owned()));
        let send = ControlEntry::Send(Send { to: None, filter: None, event: "ask".into(), args, ack });
        state.apply(&send.draft(Some(&state.id)).expect("a draft").into_message(Some(at(n))));
    };
    ask(&mut state, 1);
    ask(&mut state, 2);
    assert_eq!(state.awaited, [Awaited { name: "q".into(), at: at(2) }], "the newer event asks for it now");
    state.change(&Change { acked: vec![("q".into(), at(1).to_string())], ..Change::default() });
    assert_eq!(state.awaited.len(), 1, "that was the answer to the first one");
    state.change(&Change { acked: vec![("q".into(), at(2).to_string())], ..Change::default() });
    assert!(state.awaited.is_empty());
}
