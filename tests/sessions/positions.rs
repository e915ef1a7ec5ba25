//! Positions of sessions: what the store has, what a client that comes back gets, and what is lost with the log.

use super::*;
use std::collections::BTreeSet;
use std::time::Duration;
use support::{RawWebSocket, RedisServer};

on_both_logs! {
    a_client_that_comes_back_gets_what_came_before_a_leave
    messages_that_are_lost_do_not_end_a_session
    changes_of_another_session_do_not_end_a_poll
    a_channel_may_be_named_and_joined
    named_channels_beyond_the_limit_are_an_error
    a_session_that_was_disconnected_is_not_listed
}

/// The data of a poll's messages, and the cursor of the answer.
async fn poll(node: &Node, fields: &str) -> (Vec<Value>, String) {
    let answer = node.get(&format!("/poll?{fields}")).await;
    assert_eq!(answer.status, 200, "{fields}: {}", answer.text());
    let batch = answer.json();
    let messages = batch["messages"].as_array().expect("messages");
    (
        messages.iter().map(|message| message["data"].clone()).collect(),
        batch["cursor"].as_str().expect("a cursor").into(),
    )
}

/// The session and the cursor of a new session that polls.
async fn begin(node: &Node, fields: &str) -> (String, String) {
    let batch = node.get(&format!("/poll?session=1&{fields}")).await.json();
    let text = |name: &str| batch[name].as_str().unwrap_or_else(|| panic!("{batch}")).to_owned();
    (text("session"), text("cursor"))
}

async fn a_client_that_comes_back_gets_what_came_before_a_leave(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1").await;
    let hello = socket.next_of("hello").await;
    let (session, cursor) =
        (hello["session"].as_str().expect("a session"), hello["cursor"].as_str().expect("a cursor"));
    change(node, &json!({"session": session, "join": ["x"]})).await;
    publish(node, "x", "\"m1\"").await;
    change(node, &json!({"channel": "x", "send": [{"event": "to x"}]})).await;
    change(node, &json!({"session": session, "leave": ["x"], "join": ["y"]})).await;
    publish(node, "x", "\"not for it\"").await;
    publish(node, "y", "\"m2\"").await;
    // The stream has read all of it, and the client has not.
    while socket.frame().await.expect("an object").json()["data"] != "m2" {}
    tokio::time::sleep(Duration::from_millis(200)).await;
    let expected = [message("x", "m1"), event("to x", json!([])), message("y", "m2")];
    for name in ["ws", "sse", "long-poll", "poll"] {
        let transport = node.transport(name).await;
        let subscription = Subscription::to(&["a"]).from(cursor).with("session", session).with("timeout", "5");
        let mut reader = Reader::open(node, &transport, subscription).await;
        for expected in &expected {
            expect(&mut reader, expected).await;
        }
        // It has left x.
        publish(node, "x", "\"later\"").await;
        publish(node, "y", "\"m3\"").await;
        expect(&mut reader, &message("y", "m3")).await;
        // The next transport begins before that, too.
        change(node, &json!({"session": session, "leave": ["y"]})).await;
        change(node, &json!({"session": session, "join": ["y"]})).await;
        if name == "ws" {
            break;
        }
    }
}

async fn messages_that_are_lost_do_not_end_a_session(log: Log) {
    let world = start(log, &["--retain-messages", "50"]).await;
    let node = &world.node;
    let (polls, first) = begin(node, "channel=a&client=polls").await;
    let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1&client=stream").await;
    let streams = socket.next_of("hello").await["session"].as_str().expect("a session").to_owned();
    // Redis drops messages only after the node has read them: then it knows that there were no changes among them.
    for n in 0..6 {
        let list: Vec<Value> = (0..30).map(|i| json!({"channel": "a", "data": n * 30 + i})).collect();
        let answer = Request::post("/publish", json!(list).to_string().as_bytes()).send(node.http).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let (data, cursor) = poll(node, &format!("channel=a&session={polls}&cursor={first}")).await;
    assert!(data.len() <= 50, "{data:?}");
    drop(socket);
    let mut socket = RawWebSocket::open(node, &format!("/ws?channel=a&session={streams}&cursor={first}")).await;
    assert_eq!(socket.next_of("hello").await["session"], streams.as_str());
    socket.next_of("gap").await;
    // Both sessions go on, and hear of later changes.
    change(node, &json!({"client": "polls", "join": ["room"]})).await;
    publish(node, "room", "\"still here\"").await;
    let (data, _) = poll(node, &format!("channel=a&session={polls}&cursor={cursor}")).await;
    assert_eq!(data.last(), Some(&json!("still here")));
}

/// A poll waits while another session has more changes than the log keeps.
async fn changes_of_another_session_do_not_end_a_poll(log: Log) {
    let world = start(log, &["--retain-messages", "3000"]).await;
    let node = &world.node;
    let (waits, cursor) = begin(node, "channel=v").await;
    let (other, _) = begin(node, "channel=w").await;
    let path = format!("/long-poll?channel=v&session={waits}&timeout=20&cursor={cursor}");
    let mut waiting = std::pin::pin!(node.get(&path));
    let events: Vec<Value> = (0..100).map(|n| json!({"event": "e", "data": n})).collect();
    for _ in 0..5 {
        change(node, &json!({"session": other, "send": events})).await;
    }
    assert!(futures_util::poll!(&mut waiting).is_pending());
    for n in 0..2 {
        publish(node, "v", &n.to_string()).await;
        if n == 0 {
            assert_eq!(waiting.as_mut().await.status, 200);
        }
        for _ in 0..5 {
            change(node, &json!({"session": other, "send": events})).await;
        }
    }
    let (data, _) = poll(node, &format!("channel=v&session={waits}&cursor={cursor}")).await;
    assert_eq!(data, [json!(0), json!(1)]);
}

async fn a_channel_may_be_named_and_joined(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    let (session, cursor) = begin(node, "channel=a,n").await;
    change(node, &json!({"session": session, "join": ["n"]})).await;
    let (_, cursor) = poll(node, &format!("channel=a,n&session={session}&cursor={cursor}")).await;
    publish(node, "n", "1").await;
    let (data, _) = poll(node, &format!("channel=a&session={session}&cursor={cursor}")).await;
    assert_eq!(data, [json!(1)], "the client does not name it any more, and the join of the application stays");
    let mut socket = RawWebSocket::open(node, &format!("/ws?channel=a,n&session={session}")).await;
    socket.next_of("hello").await;
    socket.text(&json!({"type": "unsubscribe", "channels": ["n", "a"], "ref": 1}).to_string()).await;
    socket.next_of("ack").await;
    publish(node, "a", "2").await;
    publish(node, "n", "3").await;
    assert_eq!(socket.frame().await.expect("an object").json()["data"], 3);
}

async fn named_channels_beyond_the_limit_are_an_error(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    let (session, _) = begin(node, "channel=v").await;
    for n in 0..10 {
        let join: Vec<String> = (0..100).map(|i| format!("j{n}.{i}")).collect();
        change(node, &json!({"session": session, "join": join})).await;
    }
    let refused = node.get(&format!("/poll?channel=v,new&session={session}")).await;
    assert_eq!((refused.status, refused.error_code().as_str()), (400, "too_many_channels"));
    let mut socket = RawWebSocket::open(node, &format!("/ws?channel=v&session={session}")).await;
    socket.next_of("hello").await;
    socket.text(&json!({"type": "subscribe", "channels": ["new"], "ref": 1}).to_string()).await;
    assert_eq!(socket.next_of("error").await["code"], "too_many_channels");
}

async fn a_session_that_was_disconnected_is_not_listed(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    let (session, _) = begin(node, "channel=a&client=kicked").await;
    begin(node, "channel=a&client=stays").await;
    change(node, &json!({"session": session, "disconnect": true})).await;
    let listed = node.get("/sessions?channel=a").await.json();
    let clients: Vec<_> =
        listed["sessions"].as_array().expect("sessions").iter().map(|it| it["client"].clone()).collect();
    assert_eq!(clients, ["stays"]);
}

/// The position of the only session in Redis.
async fn stored(redis: &RedisServer, session: &str) -> u64 {
    let cursor = redis.text(&["HGET", &format!("{{longtail:log}}:session:{session}"), "cursor"]).await;
    cursor.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("{cursor}"))
}

#[tokio::test]
async fn a_stream_s_position_follows_entries_that_change_nothing() {
    let world = start(Log::Redis, &[]).await;
    let (node, redis) = (&world.node, world.redis.as_ref().expect("Redis"));
    let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1&client=me").await;
    let session = socket.next_of("hello").await["session"].as_str().expect("a session").to_owned();
    change(node, &json!({"session": session, "send": [{"event": "nothing changes"}]})).await;
    socket.next_of("event").await;
    publish(node, "b", "1").await;
    let ms = publish(node, "b", "2").await.split('-').next().and_then(|ms| ms.parse::<u64>().ok()).expect("a time");
    eventually("the position", async || (stored(redis, &session).await >= ms).then_some(())).await;
    // The position is behind the last change of the state now. A channel that is named later is stored all the same.
    socket.text(&json!({"type": "subscribe", "channels": ["zz"], "ref": 1}).to_string()).await;
    socket.next_of("ack").await;
    eventually("the list with the client", async || {
        let listed = node.get("/sessions?channel=zz").await.json();
        (listed["sessions"][0]["client"] == "me").then_some(())
    })
    .await;
}

/// Polls of a client that goes on from its cursor, or repeats it because the answer was lost. Redis begins another epoch
/// in between.
#[tokio::test]
async fn nothing_is_lost_or_doubled_when_redis_begins_another_epoch() {
    for seed in 0..2 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut redis = RedisServer::start_durable().await;
        let node = support::world::start_on(&redis, &[]).await;
        settled(&node).await;
        let (session, mut cursor) = begin(&node, "channel=a").await;
        let mut socket = RawWebSocket::open(&node, "/ws?channel=a&session=1&client=stream").await;
        let hello = socket.next_of("hello").await;
        let (streams, start) =
            (hello["session"].as_str().expect("a session"), hello["cursor"].as_str().expect("a cursor"));
        let (mut expected, mut got, mut all, mut is_in) = (Vec::new(), Vec::new(), Vec::new(), false);
        for n in 0..40 {
            if n == 10 || n == 25 {
                redis.kill();
                redis.restart().await;
                eventually("the log", async || {
                    (node.try_publish("channel=other", "1").await.status == 200).then_some(())
                })
                .await;
            }
            match random.u8(..4) {
                0 => {
                    is_in = !is_in;
                    change(&node, &json!({"session": session, (if is_in { "join" } else { "leave" }): ["x"]})).await;
                }
                1 | 2 => {
                    let channel = if random.bool() { "x" } else { "a" };
                    publish(&node, channel, &n.to_string()).await;
                    if channel == "a" || is_in {
                        expected.push(json!(n));
                    }
                    if channel == "a" {
                        all.push(json!(n));
                    }
                }
                _ => {
                    let (data, next) = poll(&node, &format!("channel=a&session={session}&cursor={cursor}")).await;
                    if random.bool() {
                        got.extend(data);
                        cursor = next;
                    }
                }
            }
        }
        // After an outage the node may still be reading what Redis has acknowledged.
        let all_got = async || {
            let rest = poll(&node, &format!("channel=a&session={session}&cursor={cursor}")).await.0;
            let got = [&got[..], &rest].concat();
            (got.len() >= expected.len()).then_some(got)
        };
        assert_eq!(eventually("all messages", all_got).await, expected, "seed {seed}");
        // A stream from a position of the first epoch.
        drop(socket);
        let mut socket = RawWebSocket::open(&node, &format!("/ws?channel=a&session={streams}&cursor={start}")).await;
        let mut got = Vec::new();
        while got.len() < all.len() {
            let object = socket.frame().await.expect("an object").json();
            assert!(matches!(object["type"].as_str(), None | Some("message" | "hello")), "{object}");
            got.extend(object.get("channel").map(|_| object["data"].clone()));
        }
        assert_eq!(got, all, "seed {seed}");
    }
}

#[tokio::test]
async fn an_idle_poll_does_not_write_the_bookmark_again() {
    let world = start(Log::Redis, &[]).await;
    let (node, redis) = (&world.node, world.redis.as_ref().expect("Redis"));
    let (session, cursor) = begin(node, "channel=v").await;
    let join: Vec<String> = (0..100).map(|i| format!("j{i}")).collect();
    change(node, &json!({"session": session, "join": join})).await;
    let path = format!("channel=v&session={session}&cursor={cursor}");
    poll(node, &path).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let commands = async |name: &str| {
        let stats = redis.text(&["INFO", "commandstats"]).await;
        let line =
            stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls="))).map(str::to_owned);
        line.map_or(0, |line| line.split(',').next().and_then(|calls| calls.parse::<u64>().ok()).expect("a number"))
    };
    let before = (commands("zrem").await, commands("zadd").await, commands("evalsha").await);
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        seen.insert(poll(node, &path).await.1);
    }
    let spent =
        (commands("zrem").await - before.0, commands("zadd").await - before.1, commands("evalsha").await - before.2);
    println!("50 idle polls: {} ZREM, {} ZADD, {} EVALSHA", spent.0, spent.1, spent.2);
    assert_eq!(seen.len(), 1);
    assert!(spent.0 <= 5 && spent.1 <= 70 && spent.2 <= 75, "{spent:?}");
}
