//! The records of sessions: random histories give the same answers in memory and in Redis. And control entries, which
//! have a retention of their own.

use crate::log_conformance::redis_log;
use crate::support::RedisServer;
use longtail::internals::cursor::{Cursor, Epoch, Id};
use longtail::internals::hub::Hub;
use longtail::internals::log::memory::MemoryLog;
use longtail::internals::log::redis::RedisSessions;
use longtail::internals::log::sessions::{MemorySessions, SessionStore, SessionWrite, digest};
use longtail::internals::log::{MessageLog, Retention};
use longtail::internals::message::{Channel, Draft, Payload};
use std::sync::Arc;
use std::time::Duration;

const KEEP: Retention = Retention { age: Duration::from_secs(600), messages: 1000, bytes: 64 << 20, control: 10 };
const MOST: usize = 5;
const CHANNELS: [&str; 3] = ["a", "b", "c~d"];

/// A random step of a history.
#[derive(Debug)]
enum Step {
    Create(SessionWrite),
    Begin(String),
    Renew(Vec<SessionWrite>, usize),
    End(String),
    List(Channel, String, usize),
    Count,
}

fn id(random: &mut fastrand::Rng) -> String {
    format!("session-{}", random.u8(..8))
}

/// A deadline is over at once, or never within the test.
fn write(random: &mut fastrand::Rng, epoch: Epoch) -> SessionWrite {
    let cursor = Cursor { id: Id { ms: random.u64(..20), seq: random.u64(..3) }, epoch };
    let channels = CHANNELS.iter().filter(|_| random.bool()).map(|name| name.parse().expect("a channel")).collect();
    let bookmark = random.f64() < 0.7;
    let mut text = || format!("{{\"n\":{}}}", random.u32(..4));
    let (text, known) = (text(), text());
    let base = random.bool().then(|| digest(&known));
    let ends_in = if random.f64() < 0.2 { Duration::ZERO } else { Duration::from_secs(3600) };
    let bookmark = bookmark.then(|| (text.into(), channels));
    SessionWrite { id: id(random).into(), bookmark, cursor, base, ends_in }
}

fn step(random: &mut fastrand::Rng, epoch: Epoch) -> Step {
    match random.u8(..10) {
        0..3 => {
            let session = write(random, epoch);
            let bookmark = session.bookmark.clone().or_else(|| Some(("{}".into(), Vec::new())));
            Step::Create(SessionWrite { bookmark, base: None, ..session })
        }
        3..5 => Step::Begin(id(random)),
        5..7 => {
            let count = random.usize(..4);
            Step::Renew((0..count).map(|_| write(random, epoch)).collect(), random.usize(..3))
        }
        7 => Step::End(id(random)),
        8 => {
            let channel = CHANNELS[random.usize(..CHANNELS.len())].parse().expect("a channel");
            let after = if random.bool() { String::new() } else { "8".repeat(40) };
            Step::List(channel, after, random.usize(1..4))
        }
        _ => Step::Count,
    }
}

/// The answer of a store, as a text. Sessions that end together have no order.
async fn answer(store: &dyn SessionStore, step: &Step) -> String {
    match step {
        // A session is created once: its id is random.
        Step::Create(session) => match store.begin(&session.id, Duration::ZERO).await.expect("an answer") {
            Some(_) => "known".to_owned(),
            None => {
                let ended = store.end(&session.id).await.expect("an answer");
                format!("{ended:?} {:?}", store.create(session, MOST).await)
            }
        },
        Step::Begin(id) => format!("{:?}", store.begin(id, Duration::from_secs(10)).await),
        Step::Renew(sessions, sweep) => {
            let mut renewed = store.renew(sessions, *sweep).await.expect("an answer");
            // Which of several late sessions end first is not a promise, so all of them end here.
            while renewed.has_more {
                let more = store.renew(&[], 10).await.expect("an answer");
                renewed.ended.extend(more.ended);
                renewed.has_more = more.has_more;
            }
            renewed.ended.sort_by(|one, other| one.0.cmp(&other.0));
            format!("{renewed:?}")
        }
        Step::End(id) => format!("{:?}", store.end(id).await),
        Step::List(channel, after, limit) => format!("{:?}", store.list(channel, after, *limit).await),
        Step::Count => format!("{:?}", store.count().await),
    }
}

#[tokio::test]
async fn the_stores_give_the_same_answers_to_random_histories() {
    let redis = RedisServer::start().await;
    let epoch = Epoch::random();
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        redis.command(&["FLUSHALL"]).await;
        let log = redis_log(&redis, KEEP);
        log.probe().await.expect("Redis");
        let in_redis = RedisSessions::new(log);
        let in_memory = MemorySessions::new(Arc::new(MemoryLog::new(KEEP)));
        let mut done = Vec::new();
        for _ in 0..60 {
            let step = step(&mut random, epoch);
            done.push(format!("{step:?}"));
            let (one, other) = (answer(&in_memory, &step).await, answer(&in_redis, &step).await);
            assert_eq!(one, other, "memory and Redis, with seed {seed}, after {done:#?}");
        }
    }
}

#[tokio::test]
async fn control_entries_never_take_the_place_of_messages() {
    let keep = Retention { messages: 200, ..KEEP };
    let log = Arc::new(MemoryLog::new(keep));
    let hub = Hub::new(log.clone(), keep, Duration::from_secs(30));
    tokio::spawn(hub.clone().follow());
    hub.ready().await;
    let message = |n: usize| Draft::new("a".parse().expect("a channel"), Payload::from_any(&n.to_string()));
    let control = |n: usize| {
        Draft::control(Channel::reserved(&format!("~s/{}", n % 7)).expect("reserved"), "change", "{\"join\":[\"x\"]}")
    };
    let first = log.append((0..200).map(message).collect()).await.expect("appended")[0].expect("a cursor");
    for n in 0..1000 {
        log.append(vec![control(n)]).await.expect("appended");
    }
    let page = log.read(Cursor { id: first.id.before(), epoch: first.epoch }, 10_000).await.expect("a page");
    let messages = page.messages.iter().filter(|message| !message.is_control()).count();
    assert_eq!((messages, page.messages.len() - messages), (200, 20), "a tenth of them are control entries");
    assert!(page.extent.floor < first.id && page.extent.control_floor > first.id);
    hub.reached(Cursor { id: page.extent.end, epoch: first.epoch }).await;
    assert_eq!(hub.retained().messages, 200);
    // A reader without a session reads all messages, and no control entries.
    let channel = "a".parse().expect("a channel");
    let start = longtail::internals::cursor::Start::Earliest;
    let mut reader = hub.subscribe(None, &[channel], start, None, None);
    let mut read = Vec::new();
    let limit = longtail::internals::hub::Limit { messages: 1000, bytes: 1 << 20 };
    std::future::poll_fn(|cx| reader.poll_step(cx, limit, &mut read)).await;
    assert_eq!(read.len(), 200);
    // Messages come and go without the control entries, too.
    log.append((0..300).map(message).collect()).await.expect("appended");
    let page = log.read(Cursor { id: page.extent.end, epoch: first.epoch }, 10_000).await.expect("a page");
    assert!(page.messages.len() <= 200);
}

/// Each node has a deadline of its own for a session, and the latest one counts.
#[tokio::test]
async fn a_node_does_not_end_what_lives_at_another_node() {
    let redis = RedisServer::start().await;
    let log = redis_log(&redis, KEEP);
    log.probe().await.expect("Redis");
    let (one, other) = (RedisSessions::new(log.clone()), RedisSessions::new(log));
    let cursor = Cursor { id: Id { ms: 5, seq: 0 }, epoch: Epoch::random() };
    let write = |hours: u64| SessionWrite {
        id: "s".into(),
        bookmark: Some(("{}".into(), Vec::new())),
        cursor,
        base: None,
        ends_in: Duration::from_secs(3600 * hours),
    };
    assert!(one.create(&write(1), MOST).await.expect("an answer"));
    assert!(other.begin("s", Duration::from_secs(3600)).await.expect("an answer").is_some());
    // The last stream at one node was closed a while ago.
    let renewed = one.renew(&[write(0)], 10).await.expect("an answer");
    assert_eq!((renewed.ended.len(), renewed.unknown.len()), (0, 0));
    assert!(one.begin("s", Duration::ZERO).await.expect("an answer").is_some());
    assert!(redis.number(&["PTTL", "{longtail:log}:session:s"]).await > 0, "it goes if all nodes are away for good");
    // Now at the other one, too.
    let renewed = other.renew(&[write(0)], 10).await.expect("an answer");
    assert_eq!(renewed.ended.len(), 1);
}
