//! Several streams of one session, at different positions of the log. The record in the store and the log together give
//! the same state as a stream that has read everything.

use super::super::address::Addressee;
use super::super::catch_up::catch_up;
use super::super::change::{Change, ControlEntry, Json, Send};
use super::super::live::LiveSession;
use super::*;
use crate::cursor::Start;
use crate::hub::{Hub, LIMIT, Subscription};
use crate::log::memory::MemoryLog;
use crate::log::sessions::MemorySessions;
use crate::log::{MessageLog as _, Retention};
use std::future::poll_fn;

const KEEP: Retention = Retention { age: Duration::from_secs(60), messages: 100, bytes: 1 << 20, control: 100 };

/// A node with one session in its store.
struct World {
    log: Arc<MemoryLog>,
    hub: Arc<Hub>,
    sessions: Arc<ClientSessions>,
    id: SessionId,
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
    ControlEntry::Send(Send { to: None, event: "hi".to_owned(), args, ack: None })
}

impl World {
    async fn start() -> World {
        let log = Arc::new(MemoryLog::new(KEEP));
        let hub = Hub::new(log.clone(), KEEP, Duration::from_secs(30));
        tokio::spawn(hub.clone().follow());
        hub.ready().await;
        let settings = SessionSettings { most: 10, away: Duration::from_secs(30), per_network: 0 };
        let store = Arc::new(MemorySessions::new(log.clone()));
        let sessions = ClientSessions::new(settings, store, SessionMetrics::default());
        let id = SessionId::random().expect("an id");
        let client = "me".parse().expect("a client id");
        let mut state = SessionState::new(id.clone(), "native", "/", client, hub.head().expect("a position"));
        state.name_all(&[channel("own")]).expect("room");
        sessions.create(&mut state, Duration::ZERO, true).await.expect("created");
        World { log, hub, sessions, id }
    }

    async fn append(&self, entry: &ControlEntry) {
        let draft = entry.draft(Some(&self.id)).expect("a draft");
        let cursor = self.log.append(vec![draft]).await.expect("appended")[0].expect("a position");
        self.hub.reached(cursor).await;
    }

    /// The state in the store.
    async fn stored(&self) -> SessionState {
        self.sessions.find(&self.id, Duration::ZERO).await.expect("the session")
    }

    /// A stream that begins at a state, and names these channels.
    fn open(&self, mut state: SessionState, channels: &[&str]) -> Stream {
        let channels: Vec<Channel> = channels.iter().map(|name| channel(name)).collect();
        state.name_all(&channels).expect("room");
        let mut subscription = self.hub.subscribe(None, &channels, Start::After(state.cursor), None, None);
        let mut session = LiveSession::of_stream(&self.sessions, &self.hub, state);
        session.begin(&mut subscription);
        Stream { session, subscription }
    }

    async fn renew(&self) {
        self.sessions.renew(0, |channels, cursor| self.hub.unchanged_until(channels, cursor)).await;
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
