//! Batches: polling, long polling and JSONP.

use crate::support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::{Item, Log, Node, Request, Response, World, each_transport, eventually};

on_both_logs! {
    a_batch_has_its_cursor_as_etag
    an_unchanged_position_is_304
    a_batch_is_limited
    a_gap_stands_in_front
    a_long_poll_times_out_empty
    a_long_poll_is_answered_by_a_message
    polls_take_latest
}

fn ids(batch: &Value) -> Vec<String> {
    let messages = batch["messages"].as_array().expect("messages");
    messages.iter().map(|m| m["id"].as_str().expect("id").to_owned()).collect()
}

async fn poll(node: &Node, query: &str) -> Value {
    let answer = node.get(&format!("/poll?{query}")).await;
    assert_eq!(answer.status, 200, "/poll?{query}: {}", answer.text());
    answer.json()
}

async fn a_batch_has_its_cursor_as_etag(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let id = node.publish("todo", "1").await;
    for path in ["/poll", "/long-poll"] {
        let answer = node.get(&format!("{path}?channel=todo&cursor=earliest")).await;
        assert_eq!(answer.json()["cursor"], id.as_str());
        assert_eq!(answer.header("ETag"), Some(format!("\"{id}\"").as_str()), "{path}");
    }
    // An empty batch also has a cursor, and its status is 200: old browsers turn 204 into something else.
    let answer = node.get(&format!("/poll?channel=todo&cursor={id}")).await;
    assert_eq!((answer.status, answer.header("ETag")), (200, Some(format!("\"{id}\"").as_str())));
    assert_eq!(answer.json()["messages"], Value::Array(vec![]));
}

async fn conditional(node: &Node, url: &str, etag: &str) -> Response {
    Request::get(url).header("If-None-Match", etag).send(node.http).await
}

async fn an_unchanged_position_is_304(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let first = node.publish("todo", "1").await;
    let last = node.publish("todo", "2").await;
    for etag in [format!("\"{last}\""), format!("W/\"{last}\"")] {
        for url in ["/poll?channel=todo".to_owned(), format!("/poll?channel=todo&cursor={last}")] {
            let answer = conditional(&node, &url, &etag).await;
            assert_eq!(answer.status, 304, "{url} with {etag}");
            assert_eq!(answer.header("ETag"), Some(format!("\"{last}\"").as_str()), "on the 304");
            assert!(answer.body.is_empty(), "a 304 has no body: {}", answer.text());
            assert_eq!(answer.header("X-Accel-Buffering"), Some("no"));
            let cache = answer.header("Cache-Control").expect("Cache-Control");
            assert!(cache.contains("no-store"), "{cache}");
        }
    }
    // Without a cursor, the tag is the position.
    let answer = conditional(&node, "/poll?channel=todo", &format!("\"{first}\"")).await;
    assert_eq!((answer.status, ids(&answer.json())), (200, vec![last.clone()]));
    // With a cursor, the tag only decides between 200 and 304.
    let url = format!("/poll?channel=todo&cursor={first}");
    let answer = conditional(&node, &url, &format!("\"{last}\"")).await;
    assert_eq!(answer.status, 304, "the client has the batch that would be sent");
    let url = format!("/poll?channel=todo&cursor={last}");
    let answer = conditional(&node, &url, &format!("\"{first}\"")).await;
    assert_eq!((answer.status, ids(&answer.json())), (200, vec![]));

    // Messages of other channels are not news: the answer is still 304, and the position stays valid.
    node.publish("other", "3").await;
    let answer = conditional(&node, "/poll?channel=todo", &format!("\"{last}\"")).await;
    assert_eq!(answer.status, 304, "well inside what is retained");
    let new = node.publish("todo", "4").await;
    let answer = conditional(&node, "/poll?channel=todo", &format!("\"{last}\"")).await;
    assert_eq!((answer.status, ids(&answer.json())), (200, vec![new.clone()]));
    for bad in ["\"nonsense\"", "\"1-2-3.x\"", "\"-1\""] {
        let answer = conditional(&node, "/poll?channel=todo", bad).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_cursor"), "{bad}");
        // If there is a cursor, the tag may be anything, and a list may hold tags of others.
        let answer = conditional(&node, &format!("/poll?channel=todo&cursor={new}"), bad).await;
        assert_eq!((answer.status, ids(&answer.json())), (200, vec![]), "{bad}");
        let answer = conditional(&node, "/poll?channel=todo", &format!("{bad}, \"{new}\"")).await;
        assert_eq!(answer.status, 304, "{bad} and ours");
    }
}

/// A 304 must not keep a client at a cursor that is about to be dropped: long before that, the client gets a 200 with a
/// newer cursor.
#[tokio::test]
async fn a_quiet_poller_never_ages_out() {
    let World { node, .. } = World::start(Log::Memory, &["--retain-messages", "100"]).await;
    let mut etag = node.publish("quiet", "1").await;
    for round in 0..100 {
        node.publish_numbers("busy", 10).await;
        let answer = conditional(&node, "/poll?channel=quiet", &format!("\"{etag}\"")).await;
        match answer.status {
            304 => {}
            200 => {
                let batch = answer.json();
                assert!(batch["gap"].is_null(), "round {round}: {batch}");
                assert_eq!(ids(&batch), Vec::<String>::new());
                etag = batch["cursor"].as_str().expect("a cursor").to_owned();
            }
            other => panic!("{other}"),
        }
    }
}

async fn a_batch_is_limited(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let published = node.publish_numbers("todo", 1200).await;
    for (limit, wanted) in [
        ("", 100),
        ("&limit=1", 1),
        ("&limit=0", 1),
        ("&limit=999", 999),
        ("&limit=1000", 1000),
        ("&limit=5000", 1000),
        ("&limit=99999999999999999999999", 1000),
    ] {
        let batch = poll(&node, &format!("channel=todo&cursor=earliest{limit}")).await;
        let got = ids(&batch);
        assert_eq!(got.len(), wanted, "{limit}");
        assert_eq!(batch["cursor"], published[wanted - 1].id.as_str(), "up to what was given");
        assert_eq!(got.last(), Some(&published[wanted - 1].id));
    }
    for bad in ["x", "1.5", ""] {
        let answer = node.get(&format!("/poll?channel=todo&limit={bad}")).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_request"), "{bad}");
    }

    // A batch has about 1 MiB, but at least one message.
    let large: Vec<String> = (0..10).map(|n| format!("\"{n}{}\"", "x".repeat(60_000))).collect();
    node.publish_all("large", &large).await;
    node.publish_all("large", &large).await;
    node.publish_all("large", &large).await;
    let batch = poll(&node, "channel=large&cursor=earliest&limit=1000").await;
    assert!((10..=20).contains(&ids(&batch).len()), "{} of 60 KB", ids(&batch).len());
    let cursor = batch["cursor"].as_str().expect("a cursor");
    let rest = poll(&node, &format!("channel=large&cursor={cursor}&limit=1000")).await;
    assert_eq!(ids(&batch).len() + ids(&rest).len(), 30);
}

async fn a_gap_stands_in_front(log: Log) {
    let World { node, redis: _redis } = World::start(log, &["--retain-messages", "5"]).await;
    let old = node.publish("todo", "0").await;
    node.publish_numbers("todo", 300).await;
    eventually("the log to be trimmed", async || {
        (!poll(&node, &format!("channel=todo&cursor={old}")).await["gap"].is_null()).then_some(())
    })
    .await;
    let wanted = format!(r#"{{"gap":{{"from":"{old}"}},"cursor":""#);
    for url in [
        format!("/poll?channel=todo&cursor={old}"),
        format!("/long-poll?channel=todo&cursor={old}"),
        format!("/jsonp?callback=cb&channel=todo&cursor={old}"),
    ] {
        let text = node.get(&url).await.text();
        let json = text.trim_start_matches("/**/cb(");
        assert!(json.starts_with(&wanted), "{url}: {:.200}", json);
    }
    // If-None-Match as the position does not avoid the gap.
    let answer = conditional(&node, "/poll?channel=todo", &format!("\"{old}\"")).await;
    assert_eq!(answer.json()["gap"]["from"], old.as_str());
    // On a channel where nothing is left, the gap alone is the answer, also to a long poll.
    let begun = Instant::now();
    let batch = node.get(&format!("/long-poll?channel=none&cursor={old}&timeout=55")).await.json();
    assert_eq!(batch["gap"]["from"], old.as_str());
    assert!(begun.elapsed() < Duration::from_secs(40), "at once, not after {:?}", begun.elapsed());
    let cursor = batch["cursor"].as_str().expect("a cursor");
    let batch = poll(&node, &format!("channel=none&cursor={cursor}")).await;
    assert!(batch["gap"].is_null(), "{batch}");
    // `earliest` never has a gap.
    let batch = poll(&node, "channel=todo&cursor=earliest").await;
    assert!(batch["gap"].is_null(), "{batch}");
}

async fn a_long_poll_times_out_empty(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let id = node.publish("todo", "1").await;
    each_transport(
        &node,
        |t| t.is_poll() && t.waits(),
        async |transport| {
            for timeout in ["1", "0"] {
                let begun = Instant::now();
                let url = transport.url(&format!("channel=todo&cursor={id}&timeout={timeout}"));
                let answer = node.get(&url).await;
                let took = begun.elapsed();
                assert!((900..15_000).contains(&took.as_millis()), "{}: {took:?}", transport.name);
                let empty = format!(r#"{{"cursor":"{id}","messages":[]}}"#);
                assert_eq!(answer.status, 200, "{}", transport.name);
                assert!(answer.text().contains(&empty), "{}: {}", transport.name, answer.text());
            }
        },
    )
    .await;
}

async fn a_long_poll_is_answered_by_a_message(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    each_transport(
        &node,
        |t| t.is_poll() && t.waits(),
        async |transport| {
            // A message that is available is returned at once.
            let channel = format!("wait-{}", transport.name);
            let before = node.latest(&channel).await;
            let id = node.publish(&channel, "1").await;
            let url = |cursor: &str| transport.url(&format!("channel={channel}&cursor={cursor}&timeout=55"));
            assert!(node.get(&url(&before)).await.text().contains(&id), "{}", transport.name);
            // A message that arrives during the wait ends it; a message of another channel does not.
            let (url, address) = (url(&id), node.http);
            let parked = tokio::spawn(async move { Request::get(&url).send(address).await });
            node.publish("elsewhere", "0").await;
            let id = node.publish(&channel, "2").await;
            let answer = parked.await.expect("an answer").text();
            assert!(answer.contains(&id) && !answer.contains("elsewhere"), "{answer}");
        },
    )
    .await;
}

/// Without a cursor a poll returns the present position, and a long poll waits for the next message.
async fn polls_take_latest(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let last = node.publish("todo", "1").await;
    for url in ["/poll?channel=todo", "/poll?channel=todo&cursor=latest"] {
        let batch = node.get(url).await.json();
        assert_eq!(batch["cursor"], last.as_str(), "{url}");
        assert_eq!(ids(&batch), Vec::<String>::new(), "{url}");
    }
    let batch = poll(&node, "channel=todo&last=1").await;
    assert_eq!(ids(&batch), std::slice::from_ref(&last));

    let begun = Instant::now();
    let batch = node.get("/long-poll?channel=todo&timeout=1").await.json();
    assert!(begun.elapsed().as_millis() >= 900, "it waits for what comes, not only {:?}", begun.elapsed());
    assert_eq!(batch["cursor"], last.as_str());
    let batch = node.get("/long-poll?channel=todo&timeout=55&last=1").await.json();
    assert_eq!(ids(&batch), [last]);
}

/// Many polls on one connection: batches have a length, and there are no bytes between them.
#[tokio::test]
async fn a_connection_is_kept_alive() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let id = node.publish("todo", "1").await;
    let mut stream = tokio::net::TcpStream::connect(node.http).await.expect("connect");
    for target in ["/poll?channel=todo&cursor=earliest", "/poll?channel=a%20b", "/poll?channel=todo"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", node.http);
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("write");
        let mut answer = Response::new(stream, false);
        answer.read_head().await.expect("an answer");
        answer.finish().await;
        if answer.status == 200 {
            let cursor = answer.json()["cursor"].as_str().map(str::to_owned);
            assert_eq!(cursor, Some(id.clone()), "{target}");
        } else {
            assert_eq!(answer.error_code(), "bad_channel");
        }
        let rest;
        let (left, more) = answer.into_stream();
        (stream, rest) = (left.into_plain(), more);
        assert!(rest.is_empty(), "nothing behind the answer: {rest:?}");
    }
}

#[tokio::test]
async fn the_message_object() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let id = node.publish_with("channel=todo&event=itemAdded", r#"{"title":"milk"}"#).await;
    let answer = node.get("/poll?channel=todo&cursor=earliest").await;
    let message = &answer.json()["messages"][0];
    let keys: Vec<_> = message.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys.len(), 4, "{keys:?}");
    let item = Item::parse(&message.to_string());
    assert_eq!((item.id(), item.str("event")), (Some(id.clone()), Some("itemAdded".to_owned())));
    assert_eq!(message["data"]["title"], "milk");
    let (position, epoch) = id.split_once('.').expect("<ms>-<seq>.<epoch>");
    let (milliseconds, sequence) = position.split_once('-').expect("<ms>-<seq>");
    assert!(milliseconds.parse::<u64>().is_ok() && sequence.parse::<u64>().is_ok(), "{id}");
    assert!(!epoch.is_empty(), "no epoch in {id}");
}
