//! Several streams of one session, at different positions of the log. The record in the store and the log together give
//! the same state as a stream that has read everything.

use super::super::address::Addressee;
use super::super::bookmark_store::BookmarkStore as _;
use super::super::catch_up::catch_up;
use super::super::change::{Change, ControlEntry, Json, Send};
use super::super::live::LiveSession;
use super::*;
use crate::cursor::Start;
use crate::hub::{Hub, LIMIT, Subscription};
use crate::log::memory::MemoryLog;
use crate::log::sessions::{MemorySessions, SessionWrite, SessionsRenewed, StoredSession};
use crate::log::{BoxFuture, MessageLog as _, Retention, Unreachable};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;

const KEEP: Retention = Retention { age: Duration::from_secs(60), messages: 100, bytes: 1 << 20, control: 100 };

/// A node with one session in its store, and another node.
struct World {
    log: Arc<MemoryLog>,
    hub: Arc<Hub>,
    store: Arc<Weather>,
    sessions: Arc<ClientSessions>,
    other: Arc<ClientSessions>,
    id: SessionId,
}

/// A store whose renewals can fail: before they are carried out, or after that.
struct Weather {
    store: MemorySessions,
    fails_before: AtomicBool,
    fails_after: AtomicBool,
    /// Each renewal takes a permit.
    permits: Semaphore,
    /// Each renewal gives a permit when it has come.
    begun: Semaphore,
}

impl SessionStore for Weather {
    fn create<'a>(&'a self, session: &'a SessionWrite, most: usize) -> BoxFuture<'a, Result<bool, Unreachable>> {
        self.store.create(session, most)
    }

    fn begin<'a>(&'a self, id: &'a str, time: Duration) -> BoxFuture<'a, Result<Option<StoredSession>, Unreachable>> {
        self.store.begin(id, time)
    }

    fn renew<'a>(
        &'a self,
        sessions: &'a [SessionWrite],
        sweep: usize,
    ) -> BoxFuture<'a, Result<SessionsRenewed, Unreachable>> {
        Box::pin(async move {
            self.begun.add_permits(1);
            self.permits.acquire().await.expect("open").forget();
            if self.fails_before.load(Ordering::Relaxed) {
                return Err(Unreachable);
            }
            let renewed = self.store.renew(sessions, sweep).await;
            if self.fails_after.load(Ordering::Relaxed) { Err(Unreachable) } else { renewed }
        })
    }

    fn end<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredSession>, Unreachable>> {
        self.store.end(id)
    }

    fn list<'a>(
        &'a self,
        channel: &'a Channel,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ListedSession>, Unreachable>> {
        self.store.list(channel, after, limit)
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, Unreachable>> {
        self.store.count()
    }
}

/// A stream of the session.
struct Stream {
    session: LiveSession,
    subscription: Subscription,
}

fn channel(name: &str) -> Channel {
    name.parse().expect("a channel")
}

fn joins(name: &str) -> ControlEntry {
    ControlEntry::Change(Change { join: vec![name.to_owned()], ..Change::default() })
}

fn joins_of_readers(of: &str, name: &str) -> ControlEntry {
    let to = Some(Addressee::Channel(of.to_owned()));
    ControlEntry::Change(Change { to, join: vec![name.to_owned()], ..Change::default() })
}

fn event() -> ControlEntry {
    let args = Json::parse("[]").expect("JSON");
    ControlEntry::Send(Send { to: None, filter: None, event: "hi".to_owned(), args, ack: None })
}

impl World {
    async fn start() -> World {
        let log = Arc::new(MemoryLog::new(KEEP));
        let hub = Hub::new(log.clone(), KEEP, Duration::from_secs(30));
        tokio::spawn(hub.clone().follow());
        hub.ready().await;
        let settings = SessionSettings { most: 10, away: Duration::from_secs(30), per_network: 0 };
        let store = Arc::new(Weather {
            store: MemorySessions::new(log.clone()),
            fails_before: AtomicBool::new(false),
            fails_after: AtomicBool::new(false),
            permits: Semaphore::new(100),
            begun: Semaphore::new(0),
        });
        let node = || ClientSessions::new(settings.clone(), store.clone(), SessionMetrics::default());
        let (sessions, other) = (node(), node());
        let id = SessionId::random().expect("an id");
        let client = "me".parse().expect("a client id");
        let mut state = SessionState::new(id.clone(), "native", "/", client, hub.head().expect("a position"));
        state.name_all(&[channel("own")]).expect("room");
        sessions.create(&mut state, Duration::ZERO, true).await.expect("created");
        World { log, hub, store, sessions, other, id }
    }

    async fn append(&self, entry: &ControlEntry) {
        let draft = entry.draft(Some(&self.id)).expect("a draft");
        let cursor = self.log.append(vec![draft]).await.expect("appended")[0].expect("a position");
        self.hub.reached(cursor).await;
    }

    /// The state in the store.
    async fn stored(&self) -> SessionState {
        self.sessions.find(self.id.secret(), Duration::ZERO).await.expect("the session")
    }

    /// A stream that begins at a state, and names these channels.
    fn open(&self, state: SessionState, channels: &[&str]) -> Stream {
        self.open_at(&self.sessions, state, channels)
    }

    fn open_at(&self, node: &Arc<ClientSessions>, mut state: SessionState, channels: &[&str]) -> Stream {
        let channels: Vec<Channel> = channels.iter().map(|name| channel(name)).collect();
        state.name_all(&channels).expect("room");
        let mut subscription = self.hub.subscribe(None, &channels, Start::After(state.cursor), None, None);
        let mut session = LiveSession::of_stream(node, &self.hub, state);
        session.begin(&mut subscription);
        Stream { session, subscription }
    }

    async fn renew(&self) {
        self.sessions.renew(&self.hub, 0).await;
    }

    async fn renew_at(&self, node: &Arc<ClientSessions>) {
        node.renew(&self.hub, 0).await;
    }

    /// Makes renewals fail, or no longer fail.
    fn fail(&self, is_carried_out: bool, fails: bool) {
        let flag = if is_carried_out { &self.store.fails_after } else { &self.store.fails_before };
        flag.store(fails, Ordering::Relaxed);
    }

    /// The channels of a client that comes back now.
    async fn channels(&self) -> Vec<String> {
        let state = catch_up(&self.hub, self.stored().await, None).await.expect("the present state");
        state.channels.keys().map(Channel::to_string).collect()
    }
}

impl Stream {
    async fn read(&mut self) {
        loop {
            let mut batch = Vec::new();
            let step = poll_fn(|cx| self.subscription.poll_step(cx, LIMIT, &mut batch)).await;
            self.session.take(&mut batch, &mut self.subscription);
            if step == crate::hub::Step::Idle {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_behind_does_not_take_changes_back() {
    for is_first_open in [true, false] {
        let world = World::start().await;
        let before = world.stored().await;
        let mut first = Some(world.open(before.clone(), &["own"]));
        world.append(&joins("late")).await;
        first.as_mut().expect("open").read().await;
        first.take_if(|_| !is_first_open);
        // The second request has found the session in the store before the change was stored there.
        let mut second = world.open(before, &["own", "other"]);
        world.renew().await;
        assert_eq!(world.channels().await, ["late", "own"], "the first stream is open: {is_first_open}");
        // Changes for the readers of a channel that only the first stream has read so far.
        world.append(&joins_of_readers("late", "later")).await;
        world.renew().await;
        assert_eq!(world.channels().await, ["late", "later", "own"], "the first stream is open: {is_first_open}");
        second.read().await;
        world.renew().await;
        assert_eq!(world.channels().await, ["late", "later", "other", "own"], "what the second one names counts now");
    }
}

#[tokio::test]
async fn a_stream_does_not_move_the_bookmark_of_another_one() {
    let world = World::start().await;
    let before = world.stored().await;
    let mut first = world.open(before.clone(), &["own"]);
    let _second = world.open(before, &["own", "other"]);
    world.append(&joins_of_readers("other", "joined")).await;
    world.append(&event()).await;
    // This entry changes nothing, and the one before it is not for this stream.
    first.read().await;
    world.renew().await;
    assert_eq!(world.channels().await, ["joined", "other", "own"]);
}

#[tokio::test]
async fn a_channel_counts_from_the_position_at_which_it_is_named() {
    let world = World::start().await;
    let mut stream = world.open(world.stored().await, &["own"]);
    world.append(&joins_of_readers("named", "not for it")).await;
    world.renew().await;
    stream.session.name(&[channel("named")]).expect("room");
    stream.session.attach(&mut stream.subscription);
    stream.read().await;
    world.renew().await;
    assert_eq!(world.channels().await, ["named", "own"]);
}

/// A write that fails while the session changes, in all the ways in which it may have changed.
#[tokio::test]
async fn after_a_failed_write_the_newest_bookmark_counts() {
    // What the client does during the write, and what its session reads afterwards.
    type Meanwhile = fn(&World, Stream, SessionState) -> Option<Stream>;
    let cases: [(&str, Meanwhile, &[&str]); 5] = [
        ("it stays", |_, stream, _| Some(stream), &["first", "own"]),
        ("it goes", |_, _, _| None, &["first", "own"]),
        (
            "it names another channel",
            |_, mut stream, _| {
                stream.session.name(&[channel("second")]).expect("room");
                Some(stream)
            },
            &["first", "own", "second"],
        ),
        ("it comes back with less", |world, _, found| Some(world.open(found, &["own"])), &["own"]),
        ("it comes back with another channel", |world, _, found| Some(world.open(found, &["second"])), &["second"]),
    ];
    for (case, meanwhile, channels) in cases {
        for is_carried_out in [false, true] {
            let world = World::start().await;
            let found = world.stored().await;
            let mut stream = world.open(found.clone(), &["own"]);
            stream.session.name(&[channel("first")]).expect("room");
            world.fail(is_carried_out, true);
            world.store.permits.forget_permits(100);
            let (mut kept, mut stream) = (None, Some(stream));
            tokio::join!(world.renew(), async {
                world.store.begun.acquire().await.expect("open").forget();
                kept = meanwhile(&world, stream.take().expect("a stream"), found.clone());
                world.store.permits.add_permits(1);
            });
            world.fail(is_carried_out, false);
            world.store.permits.add_permits(100);
            world.renew().await;
            assert_eq!(world.channels().await, channels, "{case}, carried out: {is_carried_out}");
            let position = world.stored().await.cursor;
            drop(kept);
            world.renew().await;
            let later = world.stored().await;
            assert!(!world.hub.precedes(later.cursor, position), "{case}: the position does not go back");
            assert_eq!(world.channels().await, channels, "{case}, at the end");
            assert!(world.sessions.connected.lock().sessions.is_empty(), "{case}: it is not known here any more");
            assert_eq!(world.sessions.connected.lock().closed, 0, "{case}");
        }
    }
}

/// The session of a poll that does not wait, which ends before the store has answered.
#[tokio::test]
async fn a_poll_that_ends_during_a_write_that_fails_is_stored_later() {
    let world = World::start().await;
    let stream = world.open(world.stored().await, &["own", "other"]);
    world.fail(false, true);
    world.store.permits.forget_permits(100);
    let mut stream = Some(stream);
    tokio::join!(world.renew(), async {
        world.store.begun.acquire().await.expect("open").forget();
        let mut stream = stream.take().expect("a stream");
        stream.session.ends_at(stream.session.state().cursor);
        drop(stream);
        world.store.permits.add_permits(1);
    });
    world.fail(false, false);
    world.store.permits.add_permits(100);
    world.renew().await;
    assert_eq!(world.channels().await, ["other", "own"]);
}

/// Two streams that read different channels, on one node or on two: a change for the readers of a channel that only one
/// of them reads is not lost, in whatever order they read and write.
#[tokio::test]
async fn a_change_that_only_one_of_two_streams_reads_is_not_lost() {
    for orders in 0..64 {
        let is = |bit: u32| orders >> bit & 1 == 1;
        let world = World::start().await;
        let second_node = if is(0) { &world.other } else { &world.sessions };
        let nodes = [&world.sessions, second_node];
        let before = world.stored().await;
        let mut streams =
            [world.open_at(nodes[0], before.clone(), &["own"]), world.open_at(nodes[1], before, &["own", "other"])];
        if is(1) {
            world.renew_at(nodes[usize::from(is(2))]).await;
        }
        world.append(&joins_of_readers("other", "joined")).await;
        if is(3) {
            streams[1].read().await;
        }
        world.append(&event()).await;
        let order = |bit| if is(bit) { [0, 1] } else { [1, 0] };
        for at in order(2) {
            streams[at].read().await;
            world.renew_at(nodes[at]).await;
        }
        let case = format!("{orders:06b}");
        assert_eq!(world.channels().await, ["joined", "other", "own"], "{case}");
        world.append(&joins("later")).await;
        for at in order(4) {
            streams[at].read().await;
        }
        for at in order(5) {
            world.renew_at(nodes[at]).await;
        }
        assert_eq!(world.channels().await, ["joined", "later", "other", "own"], "{case}, after another change");
        world.append(&event()).await;
        for stream in &mut streams {
            stream.read().await;
        }
        let head = world.hub.head().expect("a position");
        tokio::time::pause();
        tokio::time::advance(RENEW_EVERY).await;
        for at in order(4) {
            world.renew_at(nodes[at]).await;
        }
        tokio::time::resume();
        let stored = world.stored().await;
        assert!(!world.hub.precedes(stored.cursor, head), "{case}: the position is still moved on");
        assert_eq!(world.channels().await, ["joined", "later", "other", "own"], "{case}, at the end");
    }
}
