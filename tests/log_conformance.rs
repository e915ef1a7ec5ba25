//! The rules for every log: one suite, run over the log in memory and the log in Redis.

use crate::support;

use longtail::internals::cursor::{Cursor, Epoch, Id};
use longtail::internals::log::memory::MemoryLog;
use longtail::internals::log::redis::{Endpoint, RedisConfig, RedisLog};
use longtail::internals::log::{MessageLog, Resolved, Retention, TailEvent};
use longtail::internals::message::{Channel, Draft, ExceptItem, Extras, IdempotencyKey, Kind, Message, Payload};
use std::sync::Arc;
use std::time::Duration;
use support::redis::RedisServer;
use tokio_stream::StreamExt;

const KEEP: Retention = Retention { age: Duration::from_secs(600), messages: 1000, bytes: 64 << 20 };

/// A log of either kind, with the values that must live as long as the log.
struct Fixture {
    log: Arc<dyn MessageLog>,
    _redis: Option<RedisServer>,
}

async fn both(retention: Retention) -> Vec<(&'static str, Fixture)> {
    let redis = RedisServer::start().await;
    let log = redis_log(&redis, retention);
    let in_redis = Fixture { log, _redis: Some(redis) };
    let in_memory = Fixture { log: Arc::new(MemoryLog::new(retention)), _redis: None };
    vec![("memory", in_memory), ("redis", in_redis)]
}

/// The log in a Redis.
pub fn redis_log(redis: &RedisServer, retention: Retention) -> Arc<RedisLog> {
    log_with(redis, redis_config(retention))
}

/// The log in a Redis, with other settings.
pub fn log_with(redis: &RedisServer, config: RedisConfig) -> Arc<RedisLog> {
    let (log, _appender) = RedisLog::new(Endpoint::parse(&redis.url(), None).expect("a URL"), config);
    log
}

/// The usual settings.
pub fn redis_config(retention: Retention) -> RedisConfig {
    RedisConfig {
        prefix: "longtail".into(),
        retention,
        timeout: Duration::from_secs(4),
        wait_replicas: 0,
        max_payload: 65536,
        key_bytes: 64 << 20,
        subscribe: Vec::new(),
    }
}

fn draft(channel: &str, data: &str) -> Draft {
    Draft::new(channel.parse().expect("a channel"), Payload::from_any(data))
}

async fn append(log: &Arc<dyn MessageLog>, data: &str) -> Cursor {
    let cursors = log.append(vec![draft("c", data)]).await.expect("appended");
    cursors[0].expect("a durable message has a cursor")
}

fn payloads(messages: &[Arc<Message>]) -> Vec<String> {
    messages.iter().map(|message| message.payload().to_owned()).collect()
}

#[tokio::test]
async fn what_is_appended_is_read_in_order_from_any_position() {
    for (name, Fixture { log, _redis }) in both(KEEP).await {
        let mut cursors = Vec::new();
        for n in 0..10 {
            cursors.push(append(&log, &n.to_string()).await);
        }
        assert!(cursors.is_sorted_by(|a, b| a.id < b.id), "{name}: ids grow");
        for (n, cursor) in cursors.iter().enumerate() {
            let page = log.read(*cursor, 100).await.expect("reachable");
            let expected: Vec<_> = (n + 1..10).map(|n| n.to_string()).collect();
            assert_eq!(payloads(&page.messages), expected, "{name}: after message {n}");
            assert_eq!(page.upto, cursors[9].id, "{name}");
            assert_eq!(page.extent.resolve(*cursor), Resolved::At(cursor.id), "{name}");
        }
        let page = log.read(cursors[2], 3).await.expect("reachable");
        assert_eq!((payloads(&page.messages).join(""), page.upto), ("345".into(), cursors[5].id), "{name}: a limit");
    }
}

#[tokio::test]
async fn a_batch_is_appended_whole_and_in_order() {
    for (name, Fixture { log, _redis }) in both(KEEP).await {
        let before = append(&log, "before").await;
        let drafts = (0..500).map(|n| draft(&format!("c{}", n % 7), &n.to_string())).collect();
        let cursors = log.append(drafts).await.expect("appended");
        let ids: Vec<_> = cursors.iter().map(|cursor| cursor.expect("durable").id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{name}");
        let page = log.read(before, 1000).await.expect("reachable");
        assert_eq!(payloads(&page.messages), (0..500).map(|n| n.to_string()).collect::<Vec<_>>(), "{name}");
    }
}

/// A message with everything that most messages lack is in the log as it was published.
#[tokio::test]
async fn extras_are_kept() {
    for (name, Fixture { log, _redis }) in both(KEEP).await {
        let before = append(&log, "before").await;
        let channel = |name: &str| Channel::reserved(name).or_else(|_| name.parse()).expect("a channel");
        let extras = Extras {
            channels: ["a", "~s/1"].map(channel).into(),
            except: ["me", "room/1"].map(|name| ExceptItem::new(channel(name))).into(),
            is_args: true,
            is_text: true,
            attachments: [b"\0\xff"[..].into()].into(),
            kind: Kind::Message,
        };
        let message = draft("x", "[1]").with_extras(extras.clone());
        let control = draft("c", "{}").with_extras(Extras { kind: Kind::MemberAdded, ..Extras::default() });
        let keyed = |key: &str| Draft { key: Some(IdempotencyKey::new("", key).expect("a key")), ..message.clone() };
        let drafts = vec![message.clone(), control, keyed("k")];
        // A node in Redis waits until it knows that all nodes read them.
        let cursors = support::eventually("all nodes to read it", async || log.append(drafts.clone()).await.ok()).await;
        assert_eq!(log.append(vec![keyed("k")]).await, Ok(vec![cursors[2]]), "{name}: the same channels and key");
        let one = Draft { extras: None, ..keyed("k") };
        assert_ne!(log.append(vec![one]).await, Ok(vec![cursors[2]]), "{name}: one of the channels");
        let page = log.read(before, 100).await.expect("reachable");
        let kinds: Vec<_> = page.messages.iter().map(|message| message.kind()).collect();
        assert_eq!(kinds, [Kind::Message, Kind::MemberAdded, Kind::Message, Kind::Message], "{name}");
        assert_eq!(page.messages[0].extras(), Some(&extras), "{name}");
        let object = std::str::from_utf8(page.messages[0].object()).expect("UTF-8");
        assert!(object.ends_with(r#""channel":"a","event":"message","data":[1],"args":true}"#), "{name}: {object}");
        assert_eq!(page.messages[3].extras(), None, "{name}");
    }
}

#[tokio::test]
async fn appends_of_many_at_once_are_each_there_once() {
    for (name, Fixture { log, _redis }) in both(KEEP).await {
        let first = append(&log, "first").await;
        let appends: Vec<_> = (0..200)
            .map(|n| {
                let log = log.clone();
                tokio::spawn(async move { (append(&log, &n.to_string()).await.id, n.to_string()) })
            })
            .collect();
        let mut answered = Vec::new();
        for append in appends {
            answered.push(append.await.expect("no panic"));
        }
        answered.sort();
        let page = log.read(first, 1000).await.expect("reachable");
        let in_log: Vec<_> =
            page.messages.iter().map(|m| (m.cursor().expect("durable").id, m.payload().into())).collect();
        assert_eq!(in_log, answered, "{name}: each answer names its own message");
    }
}

#[tokio::test]
async fn a_key_names_one_message_of_its_channel_and_publisher() {
    for (name, Fixture { log, _redis }) in both(KEEP).await {
        let keyed = |channel: &str, publisher: &str, key: &str| Draft {
            key: Some(IdempotencyKey::new(publisher, key).expect("a key")),
            ..draft(channel, "x")
        };
        let append = async |draft: Draft| log.append(vec![draft]).await.expect("appended")[0];
        let first = append(keyed("c", "p", "k")).await;
        assert_eq!(append(keyed("c", "p", "k")).await, first, "{name}: the same");
        for other in [keyed("d", "p", "k"), keyed("c", "q", "k"), keyed("c", "p", "l")] {
            assert_ne!(append(other).await, first, "{name}");
        }
        let twice = log.append(vec![keyed("c", "p", "m"), keyed("c", "p", "m")]).await.expect("appended");
        assert_eq!(twice[0], twice[1], "{name}: also within a batch");
        let start = Cursor { id: Id::ZERO, epoch: first.expect("durable").epoch };
        assert_eq!(log.read(start, 100).await.expect("reachable").messages.len(), 5, "{name}");
    }
}

#[tokio::test]
async fn the_oldest_go_first_and_the_floor_says_so() {
    for (name, Fixture { log, _redis }) in both(Retention { messages: 5, ..KEEP }).await {
        let mut cursors = Vec::new();
        for n in 0..12 {
            cursors.push(append(&log, &n.to_string()).await);
        }
        let page = log.read(cursors[6], 100).await.expect("reachable");
        assert_eq!(payloads(&page.messages).join(","), "7,8,9,10,11", "{name}: nothing behind it was dropped");
        let page = log.read(cursors[5], 100).await.expect("reachable");
        assert_eq!(page.extent.floor, cursors[6].id, "{name}");
        assert_eq!(page.extent.resolve(cursors[5]), Resolved::Gap(cursors[6].id), "{name}: 6 was dropped unseen");
        assert!(page.messages.is_empty(), "{name}: a gap is told before what comes behind it");
    }
}

#[tokio::test]
async fn entries_grow_old() {
    for (name, Fixture { log, _redis }) in both(Retention { age: Duration::from_secs(1), ..KEEP }).await {
        let old = append(&log, "old").await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let new = append(&log, "new").await;
        let page = log.read(Cursor { id: old.id.before(), ..old }, 10).await.expect("reachable");
        assert_eq!(page.extent.floor, old.id, "{name}");
        let page = log.read(old, 10).await.expect("reachable");
        assert_eq!((payloads(&page.messages).join(""), page.upto), ("\"new\"".into(), new.id), "{name}");
    }
}

#[tokio::test]
async fn cursors_ahead_and_of_other_epochs_are_gaps() {
    for (name, Fixture { log, _redis }) in both(KEEP).await {
        let end = append(&log, "x").await;
        let ahead = Cursor { id: Id { ms: end.id.ms + 1000, seq: 0 }, ..end };
        let extent = log.read(ahead, 10).await.expect("reachable").extent;
        assert_eq!(extent.resolve(ahead), Resolved::Gap(end.id), "{name}: the log has lost its end");
        let farthest = Cursor { id: Id { ms: u64::MAX, seq: u64::MAX }, ..end };
        assert!(log.read(farthest, 10).await.is_ok(), "{name}");
        let foreign = Cursor { epoch: Epoch::random(), ..end };
        let extent = log.read(foreign, 10).await.expect("reachable").extent;
        assert_eq!(extent.resolve(foreign), Resolved::Gap(extent.floor), "{name}: all of this log is unseen");
    }
}

#[tokio::test]
async fn a_tail_gives_what_is_there_and_then_what_comes() {
    for (name, Fixture { log, _redis }) in both(KEEP).await {
        for n in 0..3 {
            append(&log, &n.to_string()).await;
        }
        let mut tail = log.clone().tail();
        let Some(TailEvent::Opened(extent)) = tail.next().await else { panic!("{name}: opened first") };
        let (mut seen, mut caught_up_at, mut upto) = (Vec::new(), None, extent.floor);
        let volatile = Draft { volatile: true, ..draft("c", "now") };
        while seen.len() < 6 {
            match support::within(support::SOON, "the tail's next event", tail.next()).await {
                Some(TailEvent::Entries { after, messages, upto: to }) => {
                    assert_eq!(after, upto, "{name}: no hole");
                    upto = to;
                    seen.extend(payloads(&messages));
                }
                Some(TailEvent::CaughtUp) => {
                    caught_up_at = Some(seen.len());
                    append(&log, "3").await;
                    // Volatile messages pass, and are not in the log.
                    assert_eq!(log.append(vec![volatile.clone()]).await, Ok(vec![None]), "{name}");
                    log.append(vec![draft("c", "4"), draft("c", "5")]).await.expect("appended");
                }
                Some(TailEvent::Volatile(message)) => assert_eq!(message.cursor(), None, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert_eq!((seen.join(""), caught_up_at), ("012345".into(), Some(3)), "{name}");
        let start = Cursor { id: Id::ZERO, epoch: extent.lineage.epoch };
        assert_eq!(log.read(start, 100).await.expect("reachable").messages.len(), 6, "{name}");
    }
}

/// A copy of the log as it is now.
async fn dump(redis: &RedisServer) -> Vec<u8> {
    let mut connection = redis.connect().await.expect("a connection");
    redis::cmd("DUMP").arg("longtail:log").query_async(&mut connection).await.expect("DUMP")
}

/// Does the same as a crash: the server starts again with an older state of the log.
async fn restart_with(redis: &mut RedisServer, copy: &[u8]) {
    redis.kill();
    redis.restart().await;
    let mut connection = redis.connect().await.expect("a connection");
    let mut restore = redis::cmd("RESTORE");
    let restored = restore.arg("longtail:log").arg(0).arg(copy).query_async::<redis::Value>(&mut connection).await;
    restored.expect("RESTORE");
}

#[tokio::test]
async fn a_stream_that_lost_its_end_begins_a_new_epoch_and_keeps_what_is_left() {
    let mut redis = RedisServer::start().await;
    let log: Arc<dyn MessageLog> = redis_log(&redis, KEEP);
    let mut cursors = Vec::new();
    for n in 0..3 {
        cursors.push(append(&log, &n.to_string()).await);
    }
    let copy = dump(&redis).await;
    for n in 3..5 {
        cursors.push(append(&log, &n.to_string()).await);
    }
    restart_with(&mut redis, &copy).await;
    let next = append(&log, "next").await;
    assert_ne!(next.epoch, cursors[0].epoch, "what was acknowledged is gone, and the epoch says so");
    let page = log.read(cursors[1], 10).await.expect("reachable");
    assert_eq!(page.extent.resolve(cursors[1]), Resolved::At(cursors[1].id), "before the loss: good");
    assert_eq!(payloads(&page.messages).join(","), "2,\"next\"");
    assert_eq!(page.extent.resolve(cursors[3]), Resolved::Gap(cursors[2].id), "behind it: a gap");
    assert_eq!(page.extent.resolve(next), Resolved::At(next.id));
}

#[tokio::test]
async fn a_server_that_starts_again_with_all_it_had_is_no_gap() {
    let mut redis = RedisServer::start_durable().await;
    let log: Arc<dyn MessageLog> = redis_log(&redis, KEEP);
    let (first, last) = (append(&log, "1").await, append(&log, "2").await);
    redis.kill();
    redis.restart().await;
    let next = append(&log, "3").await;
    let page = log.read(first, 10).await.expect("reachable");
    assert_eq!(payloads(&page.messages).join(","), "2,3");
    for cursor in [first, last, next] {
        assert_eq!(page.extent.resolve(cursor), Resolved::At(cursor.id), "{cursor}");
    }
}

#[tokio::test]
async fn the_sixteen_newest_of_the_earlier_epochs_are_kept() {
    let mut redis = RedisServer::start().await;
    let log: Arc<dyn MessageLog> = redis_log(&redis, KEEP);
    let mut survived = Vec::new();
    for n in 0..20 {
        survived.push(append(&log, &n.to_string()).await);
        let copy = dump(&redis).await;
        let lost = append(&log, "lost").await;
        assert_eq!(lost.epoch, survived[n].epoch, "nothing was lost since");
        restart_with(&mut redis, &copy).await;
    }
    let present = append(&log, "present").await;
    let extent = log.read(present, 10).await.expect("reachable").extent;
    let mut kept: Vec<_> = extent.lineage.ancestors.iter().map(|ancestor| (ancestor.last, ancestor.epoch)).collect();
    kept.sort_by_key(|(last, _)| *last);
    let newest: Vec<_> = survived[4..].iter().map(|cursor| (cursor.id, cursor.epoch)).collect();
    assert_eq!(kept, newest);
    assert_eq!(extent.resolve(survived[4]), Resolved::At(survived[4].id));
    let resolved = extent.resolve(survived[3]);
    assert!(matches!(resolved, Resolved::Gap(_)), "a gap, since it is older than sixteen losses: {resolved:?}");
}

/// Far more entries arrive between two checks than one round of trimming drops.
#[tokio::test]
async fn bytes_are_kept_however_much_comes() {
    let redis = RedisServer::start().await;
    let bytes = 2 << 20;
    let log: Arc<dyn MessageLog> = redis_log(&redis, Retention { messages: 100_000, bytes, ..KEEP });
    let data = "x".repeat(900);
    let mut last = append(&log, "first").await;
    for _ in 0..12 {
        let drafts = (0..1000).map(|_| draft("c", &data)).collect();
        last = log.append(drafts).await.expect("appended")[999].expect("durable");
    }
    let used = async || redis.number(&["MEMORY", "USAGE", "longtail:log"]).await;
    let all = used().await;
    assert!(all > 4 * (2 << 20), "{all} bytes are there to be trimmed");
    // Only one check comes within these six seconds.
    support::within(Duration::from_secs(11), "the bound to be kept", async {
        while used().await > 2 << 20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let kept = used().await;
    assert!(kept > 1 << 20, "no more is dropped than has to be: {kept} bytes are left");
    let extent = log.read(last, 10).await.expect("reachable").extent;
    assert_eq!(extent.resolve(last), Resolved::At(last.id));
    let first = redis
        .text(&["EVAL", "return redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1]", "1", "longtail:log"])
        .await;
    let first = first.parse().expect("an id");
    assert!(extent.floor < first, "the floor {:?} is below the first entry {first:?}", extent.floor);
}

/// The newest entry stays, and the log does not check it again and again.
#[tokio::test]
async fn a_bound_that_cannot_be_kept_is_no_endless_work() {
    let redis = RedisServer::start().await;
    let log: Arc<dyn MessageLog> = redis_log(&redis, Retention { bytes: 1, ..KEEP });
    for n in 0..50 {
        append(&log, &n.to_string()).await;
    }
    support::within(support::SOON, "all but one to be dropped", async {
        while redis.number(&["XLEN", "longtail:log"]).await > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    redis.command(&["CONFIG", "RESETSTAT"]).await;
    tokio::time::sleep(Duration::from_millis(6500)).await;
    let stats = redis.text(&["INFO", "commandstats"]).await;
    let calls = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_memory|usage:calls=")?.split(',').next()?.parse().ok());
    assert!(calls.is_some_and(|calls: u32| calls <= 6), "two looks at most: {stats}");
}

#[tokio::test]
async fn entries_that_others_trimmed_are_known_to_be_gone() {
    let redis = RedisServer::start().await;
    let log: Arc<dyn MessageLog> = redis_log(&redis, KEEP);
    let mut cursors = Vec::new();
    for n in 0..5 {
        cursors.push(append(&log, &n.to_string()).await);
    }
    let mut connection = redis::Client::open(redis.url()).expect("a URL").get_connection().expect("connected");
    let _: i64 = redis::cmd("XTRIM").arg("longtail:log").arg("MAXLEN").arg(2).query(&mut connection).expect("XTRIM");
    let extent = log.read(cursors[0], 10).await.expect("reachable").extent;
    let resolved = extent.resolve(cursors[0]);
    let is_trimmed = matches!(resolved, Resolved::Gap(at) if at >= cursors[2].id && at < cursors[3].id);
    assert!(is_trimmed, "a gap to below {:?}, not {resolved:?}", cursors[3].id);
    assert_eq!(extent.resolve(cursors[3]), Resolved::At(cursors[3].id), "it has seen all that was trimmed");
    let _: i64 = redis::cmd("XTRIM").arg("longtail:log").arg("MAXLEN").arg(0).query(&mut connection).expect("XTRIM");
    let extent = log.read(cursors[4], 10).await.expect("reachable").extent;
    assert_eq!(extent.lineage.epoch, cursors[0].epoch, "a log that is trimmed to nothing is the same log");
    assert_eq!(extent.resolve(cursors[4]), Resolved::At(cursors[4].id));
    let resolved = extent.resolve(cursors[3]);
    assert!(matches!(resolved, Resolved::Gap(_)), "a gap, not {resolved:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_takes_appends_from_its_first_moment() {
    // An appender that runs before its log is complete must not end for good.
    let redis = RedisServer::start().await;
    for _ in 0..50 {
        let log: Arc<dyn MessageLog> = redis_log(&redis, KEEP);
        tokio::task::yield_now().await;
        append(&log, "1").await;
    }
}
