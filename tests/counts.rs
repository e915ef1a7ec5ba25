//! Counts of readers: on this node, on all nodes, by connection and by client id.

use crate::support;

use serde_json::{Value, json};
use std::time::Duration;
use support::world::start_on;
use support::{Log, Node, Reader, RedisServer, Request, Subscription, World, eventually};

async fn channel(node: &Node, name: &str) -> Value {
    node.get(&format!("/channels/{name}")).await.json()
}

/// The count of one transport, on all nodes and on this node.
fn by(counts: &Value, transport: &str) -> (u64, u64) {
    let all = &counts["readers"]["by_transport"][transport];
    let here = &counts["readers"]["here"]["by_transport"][transport];
    (all.as_u64().unwrap_or(0), here.as_u64().unwrap_or(0))
}

async fn until(node: &Node, name: &str, what: &str, is: impl Fn(&Value) -> bool) {
    let what = format!("{what} on {name}");
    eventually(&what, async || is(&channel(node, name).await).then_some(())).await;
}

on_both_logs! {
    one_node_counts_at_once
    a_polling_client_counts_by_its_id
    channels_are_listed_in_pages
    a_publish_may_ask_for_counts
    what_is_asked_badly
}

async fn one_node_counts_at_once(log: Log) {
    let world = World::start(log, &[]).await;
    let node = &world.node;
    let id = node.publish("todo", "1").await;
    let mut readers = Vec::new();
    for transport in node.transports().await.into_iter().filter(support::Transport::is_stream) {
        let reader = Reader::open(node, &transport, Subscription::to(&["todo"])).await;
        let counts = channel(node, "todo").await;
        assert_eq!(by(&counts, &transport.name), (1, 1), "{counts}");
        readers.push(reader);
        assert_eq!(counts["readers"]["total"], readers.len());
    }
    let counts = channel(node, "todo").await;
    assert_eq!((&counts["channel"], &counts["retained"], &counts["last"]), (&"todo".into(), &1.into(), &id.into()));
    assert_eq!((&counts["nodes"], &counts["complete"]), (&1.into(), &true.into()));
    assert!(counts["cursor"].is_string(), "{counts}");
    drop(readers);
    until(node, "todo", "nobody", |counts| counts["readers"]["total"] == 0).await;
}

async fn a_polling_client_counts_by_its_id(log: Log) {
    let world = World::start(log, &["--away-seconds", "2"]).await;
    let node = &world.node;
    for path in
        ["/poll?channel=a&client=ann", "/poll?channel=a&client=ann", "/poll?channel=a&client=bob", "/poll?channel=a"]
    {
        assert_eq!(node.get(path).await.status, 200);
    }
    assert_eq!(by(&channel(node, "a").await, "poll"), (2, 2), "one without an id is not known when it is away");
    // The client counts where it polls now, and it does not count twice while it waits.
    let waiting = node.get("/long-poll?channel=a&client=ann&timeout=1");
    let looking = async {
        until(node, "a", "a long poll", |counts| by(counts, "long-poll") == (1, 1)).await;
        assert_eq!(by(&channel(node, "a").await, "poll"), (1, 1));
    };
    tokio::join!(waiting, looking);
    assert_eq!(by(&channel(node, "a").await, "long-poll"), (1, 1), "it may come back");
    // A client that has changed to a stream no longer polls.
    let sse = node.transport("sse").await;
    let _reader = Reader::open(node, &sse, Subscription::to(&["a"]).with("client", "ann")).await;
    until(node, "a", "the stream alone", |counts| by(counts, "long-poll") == (0, 0) && by(counts, "sse") == (1, 1))
        .await;
    // A client that does not come back for a while is no longer counted.
    until(node, "a", "nobody who polls", |counts| counts["readers"]["total"] == 1).await;
    // A client without an id counts while it waits.
    let waiting = node.get("/long-poll?channel=b&timeout=1");
    let looking = until(node, "b", "a long poll", |counts| by(counts, "long-poll") == (1, 1));
    tokio::join!(waiting, looking);
    until(node, "b", "nobody", |counts| counts["readers"]["total"] == 0).await;
}

async fn page(node: &Node, query: &str) -> (Vec<String>, Option<String>) {
    let answer = node.get(&format!("/channels?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let names = answer["channels"].as_array().expect("channels").iter();
    let names = names.map(|entry| entry["channel"].as_str().expect("a name").to_owned()).collect();
    (names, answer["next"].as_str().map(str::to_owned))
}

async fn channels_are_listed_in_pages(log: Log) {
    // Polling clients are counted for a long time, because paging takes a while on a busy machine.
    let world = World::start(log, &["--away-seconds", "300"]).await;
    let node = &world.node;
    // Some names are a prefix of other names.
    let mut all: Vec<String> = ["a", "a-b", "a.b", "a:b", "ab", "aB", "a~", "b", "a/", "a="].map(str::to_owned).into();
    all.extend((0..30).map(|n| format!("list-{n:02}")));
    let list: Vec<(String, String)> = all.iter().map(|name| (name.clone(), "1".to_owned())).collect();
    node.publish_list(&list).await;
    node.get("/poll?channel=polled&client=ann").await;
    let mut sorted = all.clone();
    sorted.push("polled".into());
    sorted.sort();
    assert_eq!(page(node, "").await, (sorted.clone(), None));
    for limit in [1, 3, 7, 100] {
        let (mut seen, mut query) = (Vec::new(), format!("limit={limit}"));
        loop {
            let (names, next) = page(node, &query).await;
            assert!(names.len() <= limit, "{limit} at most: {names:?}");
            seen.extend(names);
            let Some(next) = next else { break };
            query = format!("limit={limit}&after={}", support::quote(&next));
        }
        assert_eq!(seen, sorted, "in pages of {limit}");
    }
    let (names, next) = page(node, "prefix=list-1&limit=4").await;
    assert_eq!((names, next.as_deref()), ((10..14).map(|n| format!("list-{n}")).collect(), Some("list-13")));
    assert_eq!(page(node, "prefix=a~").await.0, ["a~"]);
    assert_eq!(page(node, "prefix=nothing").await, (Vec::new(), None));
    let entry = node.get("/channels?prefix=a~").await.json()["channels"][0].clone();
    assert_eq!((&entry["retained"], &entry["readers"]["total"]), (&1.into(), &0.into()));
    assert!(entry["last"].is_string(), "{entry}");
}

async fn a_publish_may_ask_for_counts(log: Log) {
    let world = World::start(log, &[]).await;
    let node = &world.node;
    let sse = node.transport("sse").await;
    let _reader = Reader::open(node, &sse, Subscription::to(&["a"])).await;
    let answer = node.try_publish("channel=a&counts=1", "1").await.json();
    let entry = &answer["messages"][0];
    assert_eq!(
        (&entry["channel"], &entry["readers"]["total"], &answer["complete"]),
        (&"a".into(), &1.into(), &true.into())
    );
    assert_eq!(entry["readers"]["by_transport"]["sse"], 1);
    assert!(entry["id"].is_string(), "{entry}");
    let body = r#"[{"channel":"b","data":1},{"channel":"a","data":1},{"channel":"b","data":1,"volatile":true},{"channel":"a","data":1}]"#;
    let request = Request::post("/publish?counts=1", body.as_bytes()).header("Content-Type", "application/json");
    let answer = request.send(node.http).await.json();
    let totals: Vec<_> =
        answer["messages"].as_array().expect("messages").iter().map(|m| &m["readers"]["total"]).collect();
    assert_eq!(totals, [0, 1, 0, 1], "each channel is counted once, and told with each message");
    assert!(node.try_publish("channel=a", "1").await.json()["messages"][0]["readers"].is_null(), "only when asked");
    let refused = node.try_publish("channel=c&counts=maybe", "1").await;
    assert_eq!((refused.status, refused.error_code().as_str()), (400, "bad_request"));
    assert_eq!(channel(node, "c").await["retained"], 0, "nothing was published");
}

/// A script keeps Redis busy until it ends, so it does not count more than a thousand channels.
#[tokio::test]
async fn many_channels_are_counted_in_several_steps() {
    let redis = RedisServer::start().await;
    let (one, two) = (start_on(&redis, &[]).await, start_on(&redis, &[]).await);
    let _reader = Reader::open(&two, &two.transport("sse").await, Subscription::to(&["c2499"])).await;
    until(&one, "c2499", "a reader on the other node", |counts| counts["readers"]["total"] == 1).await;
    redis.command(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).await;
    redis.command(&["CONFIG", "SET", "slowlog-max-len", "100000"]).await;
    let list = |from: usize| (from..from + 100).map(|n| format!("c{n}")).collect::<Vec<_>>();
    let messages: Vec<Value> = (0..25).map(|n| json!({"channels": list(n * 100), "data": 1})).collect();
    let body = Value::from(messages).to_string();
    // On a busy machine, the counts of all nodes may come too late for one answer.
    let answer = eventually("an answer with the counts of all nodes", async || {
        let request = Request::post("/publish?counts=1", body.as_bytes()).header("Content-Type", "application/json");
        let answer = request.send(one.http).await.json();
        (answer["complete"] == true).then_some(answer)
    })
    .await;
    assert_eq!(answer["messages"][24]["readers"]["c2499"]["total"], 1, "{}", answer["messages"][24]);
    assert_eq!(answer["messages"][0]["readers"]["c0"]["total"], 0, "{}", answer["messages"][0]);
    // The slow log names the first arguments of a command, and the number of the others.
    let log = format!("{:?}", redis.command(&["SLOWLOG", "GET", "-1"]).await);
    let more = |text: &str| text.split("... (").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    let asked: Vec<usize> = log.split("counts").skip(1).filter_map(|text| more(text.split("counts").next()?)).collect();
    assert!(asked.len() >= 3 && asked.iter().all(|count| *count <= 1000), "{asked:?}");
}

async fn what_is_asked_badly(log: Log) {
    let world = World::start(log, &[]).await;
    let node = &world.node;
    for (path, code) in [
        ("/channels?limit=x", "bad_request"),
        ("/channels?limit=-1", "bad_request"),
        ("/channels?prefix=a%20b", "bad_channel"),
        ("/channels?after=%5B", "bad_channel"),
        ("/channels?prefix=%FF", "bad_channel"),
        ("/channels/", "bad_channel"),
        ("/channels/a%20b", "bad_channel"),
    ] {
        let answer = node.get(path).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, code), "{path}");
    }
    for path in ["/channels?limit=0", "/channels?limit=99999999999999999999", "/channels?other=1"] {
        assert_eq!(node.get(path).await.status, 200, "{path}");
    }
}

/// Three nodes on one Redis: streams are added up, and a polling client counts once, whichever nodes it uses.
#[tokio::test]
async fn all_nodes_are_counted() {
    let redis = RedisServer::start().await;
    let args = ["--away-seconds", "3"];
    let mut nodes = vec![start_on(&redis, &args).await, start_on(&redis, &args).await, start_on(&redis, &args).await];
    let mut readers = Vec::new();
    for node in &nodes {
        for name in ["sse", "websocket", "tcp"] {
            let transports = node.transports().await;
            let transport = transports.iter().find(|t| t.name == name || (name == "websocket" && t.name == "ws"));
            let transport = transport.unwrap_or_else(|| panic!("no {name}"));
            readers.push(Reader::open(node, transport, Subscription::to(&["a"])).await);
        }
        // The same client on each node, and a different client on each node.
        node.get("/poll?channel=a&client=ann").await;
        node.get(&format!("/poll?channel=a&client=own-{}", node.http.port())).await;
    }
    for node in &nodes {
        until(node, "a", "9 streams and 4 polling clients", |counts| {
            by(counts, "sse") == (3, 1) && by(counts, "poll") == (4, 2) && counts["readers"]["total"] == 13
        })
        .await;
        let counts = channel(node, "a").await;
        assert_eq!((&counts["nodes"], &counts["complete"]), (&3.into(), &true.into()), "{counts}");
    }
    // A channel that is read on one node only is listed by the others.
    let sse = nodes[2].transport("sse").await;
    readers.push(Reader::open(&nodes[2], &sse, Subscription::to(&["a-b"])).await);
    eventually("the channel in the list", async || (page(&nodes[0], "").await.0 == ["a", "a-b"]).then_some(())).await;
    assert_eq!(page(&nodes[0], "prefix=a&after=a&limit=1").await, (vec!["a-b".to_owned()], None));
    assert_eq!(by(&channel(&nodes[0], "a-b").await, "sse"), (1, 0));
    until(&nodes[0], "a", "those who polled to be gone", |counts| by(counts, "poll") == (0, 0)).await;

    // A node that shuts down normally disappears at once; a node that is killed disappears after a while.
    let mut gone = nodes.pop().expect("a node");
    gone.signal("TERM");
    drop(readers.split_off(6));
    gone.exit_code().await;
    let counts = channel(&nodes[0], "a").await;
    assert_eq!((&counts["nodes"], &counts["readers"]["total"]), (&2.into(), &6.into()), "{counts}");
    let killed = nodes.pop().expect("a node");
    killed.signal("KILL");
    until(&nodes[0], "a", "three readers on one node", |counts| {
        counts["nodes"] == 1 && counts["readers"]["total"] == 3
    })
    .await;
}

/// While Redis is not reachable, the answer describes this node only, and says so. A Redis that was emptied gets all
/// counts again.
#[tokio::test]
async fn redis_is_away_and_forgets() {
    let mut redis = RedisServer::start_durable().await;
    let nodes = [start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    let mut readers = Vec::new();
    for node in &nodes {
        let sse = node.transport("sse").await;
        readers.push(Reader::open(node, &sse, Subscription::to(&["a"])).await);
    }
    let both = |counts: &Value| by(counts, "sse") == (2, 1) && counts["complete"] == true;
    until(&nodes[0], "a", "both", both).await;
    redis.command(&["FLUSHALL"]).await;
    until(&nodes[0], "a", "both again", both).await;
    until(&nodes[1], "a", "both again", both).await;
    redis.kill();
    let counts = channel(&nodes[0], "a").await;
    assert_eq!((by(&counts, "sse"), &counts["complete"]), ((1, 1), &false.into()), "{counts}");
    redis.restart().await;
    until(&nodes[0], "a", "both after the restart", both).await;
    redis.freeze();
    let began = std::time::Instant::now();
    let counts = channel(&nodes[0], "a").await;
    // A node waits two seconds for Redis.
    assert!(began.elapsed() < Duration::from_secs(15), "answered after {:?}", began.elapsed());
    assert_eq!(counts["complete"], false);
    redis.thaw();
    until(&nodes[0], "a", "both after the stall", both).await;
}

/// If a reader goes while Redis is not reachable, the other nodes learn of it when Redis is back.
#[tokio::test]
async fn who_goes_while_redis_is_away() {
    let redis = RedisServer::start().await;
    let nodes = [start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    let sse = nodes[0].transport("sse").await;
    let ghost = Reader::open(&nodes[0], &sse, Subscription::to(&["ghost"])).await;
    // More changes than are reported at a time.
    let mut readers = Vec::new();
    for list in 0..24 {
        let names: Vec<String> = (0..50).map(|n| format!("stays-{list}-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        readers.push(Reader::open(&nodes[0], &sse, Subscription::to(&names)).await);
    }
    let stay = async || {
        for list in 0..24 {
            eventually("all that are read", async || {
                (page(&nodes[1], &format!("prefix=stays-{list}-&limit=100")).await.0.len() == 50).then_some(())
            })
            .await;
        }
    };
    stay().await;
    until(&nodes[1], "ghost", "its reader", |counts| by(counts, "sse") == (1, 0)).await;
    redis.freeze();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    drop(ghost);
    // By then all reports since have failed: a node reports every two seconds, and waits for two seconds.
    tokio::time::sleep(Duration::from_millis(4500)).await;
    redis.thaw();
    until(&nodes[1], "ghost", "nobody", |counts| {
        counts["complete"] == true && counts["nodes"] == 2 && counts["readers"]["total"] == 0
    })
    .await;
    assert_eq!(page(&nodes[1], "prefix=ghost").await.0, [""; 0]);
    stay().await;
}

/// A node that was stopped for longer than the others keep its record is known by name only: it reports all its counts.
#[tokio::test]
async fn a_node_that_was_taken_for_dead() {
    let redis = RedisServer::start().await;
    let nodes = [start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    let sse = nodes[0].transport("sse").await;
    let _reader = Reader::open(&nodes[0], &sse, Subscription::to(&["a"])).await;
    until(&nodes[1], "a", "its reader", |counts| by(counts, "sse") == (1, 0)).await;
    nodes[0].signal("STOP");
    until(&nodes[1], "a", "one node", |counts| counts["nodes"] == 1).await;
    nodes[0].signal("CONT");
    until(&nodes[1], "a", "its reader again", |counts| by(counts, "sse") == (1, 0)).await;
}
