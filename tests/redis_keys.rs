//! An idempotency key is valid only while the log has its message, for every way to publish with a key.

use crate::support;

use support::world::start_on;
use support::{Node, RedisServer, eventually};

/// The ways to publish with a key. `PUBLISH` has no answer.
const WAYS: [&str; 3] = ["POST", "FCALL", "PUBLISH"];

/// Publishes with the key `k` to a channel with the name of the way.
async fn publish(redis: &RedisServer, node: &Node, way: &str, payload: &str) -> Option<String> {
    match way {
        "POST" => Some(node.publish_with(&format!("channel={way}&key=k"), payload).await),
        "FCALL" => Some(
            eventually("FCALL to be answered", async || {
                let words = ["FCALL", "longtail_publish", "1", "longtail:log", way, payload, "key", "k"];
                let answer = redis.try_command(&words).await.ok()?;
                redis::from_redis_value::<String>(answer).ok()
            })
            .await,
        ),
        _ => {
            publish_envelope(redis, node, way, payload).await;
            None
        }
    }
}

/// PUBLISHes with the key `k` and waits until the node has handled it.
async fn publish_envelope(redis: &RedisServer, node: &Node, channel: &str, payload: &str) {
    let envelope = format!(r#"{{"data":{payload},"key":"k"}}"#);
    let taken = "longtail_bridge_bridged_messages_total";
    let before = node.metric(taken).await;
    redis.command(&["PUBLISH", &format!("push:{channel}"), &envelope]).await;
    eventually("the PUBLISH to be taken", async || (node.metric(taken).await > before).then_some(())).await;
}

/// The log's entries: the id, and then fields and values.
async fn entries(redis: &RedisServer) -> Vec<(String, Vec<String>)> {
    redis::from_redis_value(redis.command(&["XRANGE", "longtail:log", "-", "+"]).await).expect("entries")
}

/// The messages of a channel in the log. A node may remember more.
async fn read(redis: &RedisServer, channel: &str) -> Vec<String> {
    let entries = entries(redis).await.into_iter();
    entries.filter(|(_, fields)| fields[1] == channel).map(|(_, fields)| fields[3].clone()).collect()
}

/// Waits until a channel holds these payloads.
async fn holds(redis: &RedisServer, channel: &str, wanted: &[&str], case: &str) {
    let mut seen = Vec::new();
    for _ in 0..200 {
        seen = read(redis, channel).await;
        if seen == wanted {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{case}: expected {channel} to hold {wanted:?}, it holds {seen:?}");
}

async fn epoch(redis: &RedisServer) -> String {
    let groups: Vec<std::collections::HashMap<String, redis::Value>> =
        redis::from_redis_value(redis.command(&["XINFO", "GROUPS", "longtail:log"]).await).expect("groups");
    let names = groups.iter().filter_map(|group| redis::from_redis_value::<String>(group["name"].clone()).ok());
    names.filter_map(|name| name.strip_prefix("epoch:").map(str::to_owned)).next().expect("an epoch")
}

/// Ends the present epoch at an id, as the loss of the log's end does.
async fn end_epoch(redis: &RedisServer, last: &str) {
    let present = epoch(redis).await;
    redis.command(&["XGROUP", "CREATE", "longtail:log", &format!("until:{present}"), last]).await;
    redis.command(&["XGROUP", "CREATE", "longtail:log", "epoch:b2", "0", "ENTRIESREAD", "0"]).await;
    redis.command(&["XGROUP", "DESTROY", "longtail:log", &format!("epoch:{present}")]).await;
}

/// (the fate of the message, whether a second publish with its key appends it again)
const FATES: [(&str, bool); 6] = [
    ("it is in the log", false),
    ("it was trimmed", false),
    ("the log is deleted", true),
    ("the entry is deleted", true),
    ("its epoch has ended behind it", false),
    ("its epoch has ended before it", true),
];

#[tokio::test]
async fn a_key_counts_while_the_log_answers_for_its_message() {
    for (fate, is_new) in FATES {
        for way in WAYS {
            let case = format!("{way}, {fate}");
            let redis = RedisServer::start().await;
            let node = start_on(&redis, &["--retain-messages", "4"]).await;
            redis.listened(1).await;
            node.publish("other", "0").await;
            let before = entries(&redis).await.pop().expect("an entry").0;
            let first = publish(&redis, &node, way, "1").await;
            holds(&redis, way, &["1"], &case).await;
            let found = entries(&redis).await.into_iter().find(|(_, fields)| fields[1] == way);
            let (id, _) = found.expect("the entry");
            match fate {
                "it was trimmed" => drop(node.publish_numbers("other", 5).await),
                "the log is deleted" => {
                    redis.command(&["DEL", "longtail:log"]).await;
                    // Others append in the meantime: the ids continue, and the epoch is a new one.
                    redis.command(&["XADD", "longtail:log", "*", "channel", "other", "data", "1"]).await;
                }
                "the entry is deleted" => drop(redis.command(&["XDEL", "longtail:log", &id]).await),
                "its epoch has ended behind it" => end_epoch(&redis, &id).await,
                "its epoch has ended before it" => {
                    end_epoch(&redis, &before).await;
                    redis.command(&["XDEL", "longtail:log", &id]).await;
                }
                _ => {}
            }
            let again = publish(&redis, &node, way, "2").await;
            assert_eq!(again != first, is_new && way != "PUBLISH", "{case}: first {first:?}, then {again:?}");
            let wanted: &[&str] = match (fate, is_new) {
                (_, true) => &["2"],
                ("it was trimmed", _) => &[],
                _ => &["1"],
            };
            holds(&redis, way, wanted, &case).await;
            // A message that was appended again can be found by its key again.
            assert_eq!(publish(&redis, &node, way, "3").await, again, "{case}: a third time");
            holds(&redis, way, wanted, &case).await;
        }
    }
}

/// Redis ends before any node has read the message and before the publisher hears of it. The publisher repeats it with
/// its key once Redis is back: the message is in the log once, and the answer is a cursor that the log knows.
#[tokio::test]
async fn a_repeat_finds_a_message_that_no_node_has_read() {
    let mut redis = RedisServer::start_durable().await;
    let node = start_on(&redis, &[]).await;
    node.publish("other", "0").await;
    node.signal("STOP");
    let first = publish(&redis, &node, "FCALL", "1").await.expect("a cursor");
    redis.end().await;
    redis.restart().await;
    let opener = start_on(&redis, &[]).await;
    let (id, ended) = first.split_once('.').expect("a cursor");
    let present = epoch(&redis).await;
    assert_ne!(present, ended, "a new epoch begins at a new server process");
    redis.listened(1).await;
    assert_eq!(publish(&redis, &opener, "FCALL", "1").await, Some(format!("{id}.{present}")));
    holds(&redis, "FCALL", &["1"], "repeated by FCALL").await;
    publish_envelope(&redis, &opener, "FCALL", "1").await;
    holds(&redis, "FCALL", &["1"], "repeated by PUBLISH").await;
    // The entry under the id is another message now: the first one is lost, and the retry is appended.
    redis.command(&["XGROUP", "SETID", "longtail:log", &format!("until:{ended}"), "0-1"]).await;
    let key = "{longtail:log}:key:5:5:redis:FCALL:k";
    redis.command(&["SET", key, &first]).await;
    publish(&redis, &opener, "FCALL", "2").await;
    holds(&redis, "FCALL", &["1", "2"], "another message under the id").await;
    node.signal("CONT");
}
