//! Both stores of bookmarks give a request the same session. And what is special about sealed ones.

use super::super::address::Addressee;
use super::super::catch_up::{CannotCatchUp, catch_up};
use super::super::change::{Change, ControlEntry, Json};
use super::super::metrics::SessionMetrics;
use super::super::registry::SessionSettings;
use super::*;
use crate::log::memory::MemoryLog;
use crate::log::seal_keys::{MemorySealKeys, SealKey, SealKeys};
use crate::log::sessions::MemorySessions;
use crate::log::{MessageLog as _, Retention, Unreachable};
use crate::message::User;
use crate::transport::Code;
use std::sync::atomic::{AtomicUsize, Ordering};

const KEEP: Retention = Retention { age: Duration::from_secs(60), messages: 100, bytes: 1 << 20, control: 10 };
const LIFE: Duration = Duration::from_secs(45);
const SEALED: Bookmarks = Bookmarks::Sealed { life: LIFE };

/// A node with both stores.
struct Node {
    log: Arc<MemoryLog>,
    hub: Arc<Hub>,
    record: Arc<ClientSessions>,
    sealed: Arc<SealedSessions>,
}

/// Keys that a test chooses.
#[derive(Default)]
struct ChosenKeys {
    keys: Mutex<Option<SealKeys>>,
    calls: AtomicUsize,
}

impl SealKeyStore for ChosenKeys {
    fn keys<'a>(&'a self, _: &'a SealKey) -> BoxFuture<'a, Result<SealKeys, Unreachable>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(self.keys.lock().clone().ok_or(Unreachable)))
    }
}

impl ChosenKeys {
    fn rotate(&self) {
        let mut keys = self.keys.lock();
        let previous = keys.take().map(|keys| keys.present);
        *keys = Some(SealKeys { present: SealKey::random().expect("a key"), previous });
    }
}

impl Node {
    async fn start(most: usize) -> Node {
        Node::with(most, Arc::new(MemorySealKeys::default()), false).await
    }

    async fn with(most: usize, keys: Arc<dyn SealKeyStore>, tells_ends: bool) -> Node {
        let log = Arc::new(MemoryLog::new(KEEP));
        let hub = Hub::new(log.clone(), KEEP, Duration::from_secs(30));
        tokio::spawn(hub.clone().follow());
        hub.ready().await;
        let settings = SessionSettings { most, away: Duration::from_secs(30), per_network: 0 };
        let store = Arc::new(MemorySessions::new(log.clone()));
        let record = ClientSessions::new(settings, store, SessionMetrics::default());
        let sealed = SealedSessions::new(record.clone(), hub.clone(), None, tells_ends, keys, Arc::default());
        Node { log, hub, record, sealed }
    }

    /// Another node of the same log.
    fn beside(&self, keys: Arc<dyn SealKeyStore>) -> Arc<SealedSessions> {
        SealedSessions::new(self.record.clone(), self.hub.clone(), None, false, keys, Arc::default())
    }

    fn store(&self, bookmarks: Bookmarks) -> &dyn BookmarkStore {
        if bookmarks == Bookmarks::Record { &*self.record } else { &*self.sealed }
    }

    fn state(&self, bookmarks: Bookmarks) -> SessionState {
        let client = "me".parse().expect("a client id");
        let id = SessionId::random().expect("an id");
        let mut state = SessionState::new(id, "toy", "/", client, self.hub.head().expect("a position"));
        state.bookmarks = bookmarks;
        state.name_all(&["own".parse().expect("a channel")]).expect("room");
        state.user = Some(Arc::new(User::new("7", None).expect("a user")));
        state
    }

    async fn append(&self, id: &SessionId, change: Change) {
        let draft = ControlEntry::Change(change).draft(Some(id)).expect("a draft");
        let cursor = self.log.append(vec![draft]).await.expect("appended")[0].expect("a position");
        self.hub.reached(cursor).await;
    }
}

fn code(found: Result<SessionState, ApiError>) -> Result<(), Code> {
    found.map(drop).map_err(|error| error.code)
}

#[tokio::test]
async fn a_request_finds_what_the_one_before_has_kept() {
    for bookmarks in [Bookmarks::Record, SEALED] {
        let node = Node::start(10).await;
        let store = node.store(bookmarks);
        let mut state = node.state(bookmarks);
        store.create(&mut state, Duration::ZERO, true).await.expect("created");
        assert_eq!(state.bookmarks, bookmarks);
        let brought = store.keep(&state).await.expect("kept");
        let found = store.find(&brought, Duration::ZERO).await.expect("found");
        assert_eq!((&found, found.bookmarks), (&state, bookmarks));
        // Changes after that are in the log.
        let readers = Some(Addressee::Channel("own".into()));
        node.append(&state.id, Change { to: readers, join: vec!["b".into()], ..Change::default() }).await;
        node.append(&state.id, Change { leave: vec!["own".into()], ..Change::default() }).await;
        let found = catch_up(&node.hub, found, None).await.expect("the present state");
        assert_eq!(found.channels.keys().map(Channel::as_str).collect::<Vec<_>>(), ["b"], "{bookmarks:?}");
        assert!(!found.has_ended);
        // After the end, the bookmark is still there, and opens nothing.
        node.append(&state.id, Change { disconnect: true, ..Change::default() }).await;
        let found = store.find(&brought, Duration::ZERO).await.expect("found");
        assert_eq!(
            catch_up(&node.hub, found, None).await.err(),
            Some(CannotCatchUp::Ended { closes: false }),
            "{bookmarks:?}"
        );
    }
}

/// A bookmark whose changes may have been dropped from the log opens nothing.
#[tokio::test]
async fn a_bookmark_is_lost_with_the_entries_after_it() {
    for bookmarks in [Bookmarks::Record, SEALED] {
        let node = Node::start(10).await;
        let store = node.store(bookmarks);
        let mut state = node.state(bookmarks);
        store.create(&mut state, Duration::ZERO, true).await.expect("created");
        let brought = store.keep(&state).await.expect("kept");
        for n in 0..200 {
            node.append(&state.id, Change { join: vec![format!("c{n}")], ..Change::default() }).await;
        }
        let found = store.find(&brought, Duration::ZERO).await.expect("found");
        assert_eq!(catch_up(&node.hub, found, None).await.err(), Some(CannotCatchUp::Lost), "{bookmarks:?}");
    }
}

#[tokio::test]
async fn both_stores_have_a_limit() {
    for bookmarks in [Bookmarks::Record, SEALED] {
        let node = Node::start(3).await;
        for n in 0..5 {
            let created = node.store(bookmarks).create(&mut node.state(bookmarks), Duration::ZERO, true).await;
            let expected = if n < 3 { None } else { Some(Code::TooManyConnections) };
            assert_eq!(created.err().map(|error| error.code), expected, "{bookmarks:?}, session {n}");
        }
    }
}

/// Which sessions need the record, and what the client brings then.
#[tokio::test]
async fn a_session_that_needs_the_record_moves_there() {
    type Step = fn(&mut SessionState);
    let small: Step = |state| state.data = Json::parse(&format!("\"{}\"", "x".repeat(MAX_DATA - 2)));
    let large: Step = |state| state.data = Json::parse(&format!("\"{}\"", "x".repeat(MAX_DATA - 1)));
    let many: Step = |state| {
        let channels: Vec<Channel> = (0..100).map(|n| format!("room/{n}").parse().expect("a channel")).collect();
        state.name(&channels).expect("room");
    };
    for (case, step, is_moved) in [("small data", small, false), ("large data", large, true), ("channels", many, true)]
    {
        let node = Node::start(10).await;
        let mut state = node.state(SEALED);
        node.sealed.create(&mut state, Duration::ZERO, true).await.expect("created");
        step(&mut state);
        let brought = node.sealed.keep(&state).await.expect("kept");
        assert_eq!(SessionId::parse(&brought).is_some(), is_moved, "{case}");
        assert!(brought.len() <= token::MAX_CHARACTERS, "{case}");
        // A client that repeats its request moves the session again, which changes nothing.
        assert_eq!(SessionId::parse(&node.sealed.keep(&state).await.expect("kept")).is_some(), is_moved, "{case}");
        let store = node.store(if is_moved { Bookmarks::Record } else { SEALED });
        let found = store.find(&brought, Duration::ZERO).await.expect("found");
        assert_eq!(
            (&found.channels, &found.data, found.bookmarks == SEALED),
            (&state.channels, &state.data, !is_moved)
        );
    }
    // The application is told of the ends of sessions, so somebody has to notice them.
    let node = Node::with(10, Arc::new(MemorySealKeys::default()), true).await;
    let mut state = node.state(SEALED);
    node.sealed.create(&mut state, Duration::ZERO, true).await.expect("created");
    assert_eq!(state.bookmarks, Bookmarks::Record);
    assert!(node.record.find(state.id.secret(), Duration::ZERO).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_for_its_life() {
    let node = Node::start(10).await;
    let mut state = node.state(Bookmarks::Sealed { life: Duration::ZERO });
    node.sealed.create(&mut state, Duration::ZERO, true).await.expect("created");
    let brought = node.sealed.keep(&state).await.expect("kept");
    assert_eq!(code(node.sealed.find(&brought, Duration::ZERO).await), Err(Code::NoSession));
}

#[tokio::test(start_paused = true)]
async fn keys_change_and_the_last_two_open_tokens() {
    let keys = Arc::new(ChosenKeys::default());
    let node = Node::with(100, keys.clone(), false).await;
    let other = node.beside(keys.clone());
    let mut state = node.state(Bookmarks::Sealed { life: Duration::from_secs(3600) });
    let away = node.sealed.create(&mut state, Duration::ZERO, true).await;
    assert_eq!(away.err().map(|error| error.code), Some(Code::LogUnavailable), "there are no keys");
    keys.rotate();
    tokio::time::advance(PAUSE_OF_TEST).await;
    node.sealed.create(&mut state, Duration::ZERO, true).await.expect("created");
    let first = node.sealed.keep(&state).await.expect("kept");
    assert!(other.find(&first, Duration::ZERO).await.is_ok());
    // Another node has changed the key. This one finds it when it meets the first token.
    keys.rotate();
    tokio::time::advance(PAUSE_OF_TEST).await;
    let third = node.beside(keys.clone());
    let second = third.keep(&state).await.expect("kept");
    for token in [&first, &second] {
        assert!(node.sealed.find(token, Duration::ZERO).await.is_ok());
    }
    keys.rotate();
    tokio::time::advance(2 * Duration::from_secs(60)).await;
    node.sealed.ring().refresh().await;
    assert!(node.sealed.find(&second, Duration::ZERO).await.is_ok(), "it is the previous key");
    assert_eq!(code(node.sealed.find(&first, Duration::ZERO).await), Err(Code::NoSession), "it is older");
    // Tokens of keys that nobody has: they do not make the node ask again and again.
    let foreign = node.beside(Arc::new(MemorySealKeys::default()));
    let calls = keys.calls.load(Ordering::Relaxed);
    let began = Instant::now();
    let token = foreign.keep(&state).await.expect("kept");
    for _ in 0..10 {
        let requests = (0..20).map(|_| node.sealed.find(&token, Duration::ZERO));
        let found = futures_util::future::join_all(requests).await;
        assert!(found.into_iter().all(|found| code(found) == Err(Code::NoSession)));
    }
    let calls = keys.calls.load(Ordering::Relaxed) - calls;
    assert!(calls as u64 <= began.elapsed().as_secs() + 1 && calls <= 20, "{calls} calls");
}

/// A token of a key that another node has just made opens here, even if this node has asked for keys a moment before.
#[tokio::test(start_paused = true)]
async fn a_node_waits_for_a_key_that_is_new() {
    let keys = Arc::new(ChosenKeys::default());
    keys.rotate();
    let node = Node::with(100, keys.clone(), false).await;
    let mut state = node.state(SEALED);
    node.sealed.create(&mut state, Duration::ZERO, true).await.expect("created");
    let foreign = node.beside(Arc::new(MemorySealKeys::default()));
    let forged = foreign.keep(&state).await.expect("kept");
    tokio::time::advance(PAUSE_OF_TEST).await;
    assert_eq!(code(node.sealed.find(&forged, Duration::ZERO).await), Err(Code::NoSession));
    keys.rotate();
    let token = node.beside(keys.clone()).keep(&state).await.expect("kept");
    let began = Instant::now();
    let requests = [&token, &forged, &token].map(|token| node.sealed.find(token, Duration::ZERO));
    let found = futures_util::future::join_all(requests).await.into_iter().map(code).collect::<Vec<_>>();
    assert_eq!(found, [Ok(()), Err(Code::NoSession), Ok(())]);
    assert!(began.elapsed() <= PAUSE_OF_TEST);
    assert_eq!(keys.calls.load(Ordering::Relaxed), 4, "one call is for all that wait");
}

/// Longer than the pause between two calls for the keys.
const PAUSE_OF_TEST: Duration = Duration::from_secs(2);
