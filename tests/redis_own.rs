//! A node takes what it has appended without reading it back, and still sees the log as it is.

use crate::log_conformance::redis_log;
use crate::support;

use longtail::internals::cursor::{Cursor, Id};
use longtail::internals::log::redis::RedisLog;
use longtail::internals::log::{MessageLog, Retention, TailEvent};
use longtail::internals::message::{Draft, IdempotencyKey, Payload};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use support::redis::RedisServer;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

fn log(redis: &RedisServer) -> Arc<RedisLog> {
    redis_log(redis, Retention { age: Duration::from_secs(600), messages: 100_000, bytes: 64 << 20, control: 10 })
}

/// The entries that a tail returns. It panics if one range does not continue the previous one.
async fn tail(log: &Arc<RedisLog>) -> mpsc::UnboundedReceiver<(Cursor, String)> {
    let mut events = log.clone().tail();
    let (out, seen) = mpsc::unbounded_channel();
    let (caught_up, is_caught_up) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut at, mut caught_up) = (Id::ZERO, Some(caught_up));
        while let Some(event) = events.next().await {
            match event {
                TailEvent::CaughtUp => drop(caught_up.take()),
                TailEvent::Entries { after, messages, upto } => {
                    assert_eq!(after, at, "it continues what came before");
                    at = upto;
                    for message in messages {
                        let cursor = message.cursor().expect("durable");
                        if out.send((cursor, message.payload().to_owned())).is_err() {
                            return;
                        }
                    }
                }
                _ => {}
            }
        }
    });
    let _ = is_caught_up.await;
    seen
}

fn draft(data: String, key: Option<String>) -> Draft {
    Draft {
        key: key.map(|key| IdempotencyKey { publisher: String::new(), owner: String::new(), key }),
        ..Draft::new("c".parse().expect("a channel"), Payload::from_any(&data))
    }
}

/// Appends messages one by one, some with a key that the other node also uses, some in batches.
async fn publish(log: Arc<RedisLog>, node: usize) {
    for n in 0..400 {
        let key = (n % 5 == 0).then(|| n.to_string());
        let drafts = (0..1 + n % 3).map(|part| draft(format!("[{node},{n},{part}]"), key.clone())).collect();
        log.append(drafts).await.expect("appended");
        if n % 50 == 0 {
            // This pause is longer than a flow of appends, so the tail reads by itself in between.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_and_a_stranger_make_one_order() {
    let redis = RedisServer::start().await;
    let nodes = [log(&redis), log(&redis)];
    let mut tails = Vec::new();
    for node in &nodes {
        tails.push(tail(node).await);
    }
    let publishers: Vec<_> = nodes.iter().cloned().enumerate().map(|(n, log)| tokio::spawn(publish(log, n))).collect();
    for n in 0..300 {
        redis.text(&["XADD", "longtail:log", "*", "channel", "c", "data", &format!("[\"stranger\",{n}]")]).await;
    }
    for publisher in publishers {
        publisher.await.expect("published");
    }
    let mut after: Option<Cursor> = None;
    let mut whole = Vec::new();
    loop {
        let epoch =
            nodes[0].read(Cursor { id: Id::ZERO, epoch: longtail::internals::cursor::Epoch::random() }, 1).await;
        let epoch = epoch.expect("reachable").extent.lineage.epoch;
        let from = after.unwrap_or(Cursor { id: Id::ZERO, epoch });
        let page = nodes[0].read(from, 500).await.expect("reachable");
        if page.messages.is_empty() {
            break;
        }
        whole.extend(page.messages.iter().map(|it| (it.cursor().expect("durable"), it.payload().to_owned())));
        after = Some(Cursor { id: page.upto, epoch });
    }
    assert!(whole.len() > 1000, "{} entries", whole.len());
    for tail in &mut tails {
        for expected in &whole {
            let seen = tokio::time::timeout(support::SOON, tail.recv()).await;
            assert_eq!(seen.expect("in time").as_ref(), Some(expected));
        }
        let more = tail.try_recv();
        assert!(more.is_err(), "nothing twice: {more:?}");
    }
}

#[tokio::test]
async fn a_publisher_that_has_its_answer_finds_its_message_read() {
    let redis = RedisServer::start().await;
    let log = log(&redis);
    let mut events = log.clone().tail();
    while !matches!(events.next().await, Some(TailEvent::CaughtUp)) {}
    let mut poll = async || std::future::poll_fn(|cx| Poll::Ready(events.as_mut().poll_next(cx))).await;
    assert!(poll().await.is_pending(), "there is nothing yet");
    for n in 0..300 {
        let cursors = log.append(vec![draft(n.to_string(), None)]).await.expect("appended");
        let Poll::Ready(Some(TailEvent::Entries { messages, upto, .. })) = poll().await else {
            panic!("message {n} has to be read from Redis first");
        };
        assert_eq!(cursors, [messages[0].cursor()]);
        assert_eq!((messages.len(), Some(upto)), (1, cursors[0].map(|cursor| cursor.id)));
    }
}
