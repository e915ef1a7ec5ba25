//! `--hook-stream`: workers read calls from a stream in Redis, and answer with `FCALL longtail_answer`.

use crate::support;

use futures_util::future::join_all;
use redis::Value as Reply;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::server::run_to_end;
use support::websocket::handshake;
use support::world::start_on;
use support::{LineClient, Metrics, Node, RawWebSocket, RedisServer, Request, Response, Sentinels, eventually};
use tokio::time::sleep;

const STREAM: &str = "{longtail:log}:hook:app";

/// A node that sends events to the stream `app`.
async fn start(redis: &RedisServer, args: &[&str]) -> Node {
    let node = start_on(redis, &[&["--hook-stream", "app"], args].concat()).await;
    eventually("the library", async || {
        let list = redis.command(&["FUNCTION", "LIST", "LIBRARYNAME", "longtail"]).await;
        format!("{list:?}").contains("longtail_answer").then_some(())
    })
    .await;
    node
}

/// A call as a worker got it.
#[derive(Clone, Debug)]
struct Call {
    /// The id of the entry.
    entry: String,
    fields: Vec<(String, String)>,
    body: Value,
}

impl Call {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn id(&self) -> &str {
        self.field("id").expect("an id")
    }
}

/// A worker with a group of consumers.
struct Worker {
    redis: RedisServer,
}

impl Worker {
    async fn start(redis: &RedisServer) -> Worker {
        let worker = Worker { redis: redis.handle() };
        worker.join().await;
        worker
    }

    /// Creates the consumer group if it does not exist.
    async fn join(&self) {
        let made = self.redis.try_command(&["XGROUP", "CREATE", STREAM, "workers", "0", "MKSTREAM"]).await;
        assert!(made.as_ref().err().is_none_or(|error| error.code() == Some("BUSYGROUP")), "{made:?}");
    }

    async fn next(&self) -> Call {
        let words = ["XREADGROUP", "GROUP", "workers", "w1", "COUNT", "1", "STREAMS", STREAM, ">"];
        eventually("a call", async || {
            let Reply::Array(streams) = self.redis.try_command(&words).await.ok()? else { return None };
            type Entries = Vec<(String, Vec<String>)>;
            let (_, entries): (String, Entries) = redis::from_redis_value(streams[0].clone()).expect("entries");
            let (entry, fields) = entries.into_iter().next().expect("an entry");
            let fields: Vec<(String, String)> =
                fields.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
            let json = fields.iter().find(|(name, _)| name == "call").map(|(_, json)| json.clone());
            let body: Value = serde_json::from_str(&json.expect("a call")).expect("JSON");
            Some(Call { entry, fields, body })
        })
        .await
    }

    async fn try_answer(&self, id: &str, answer: &str) -> redis::RedisResult<i64> {
        let words = ["FCALL", "longtail_answer", "1", "{longtail:log}", id, answer];
        self.redis.try_command(&words).await.and_then(|answer| Ok(redis::from_redis_value(answer)?))
    }

    async fn answer(&self, call: &Call, answer: &Value) -> i64 {
        let taken = self.try_answer(call.id(), &answer.to_string()).await.expect("answered");
        self.redis.command(&["XACK", STREAM, "workers", &call.entry]).await;
        taken
    }

    /// Answers calls with their arguments until it is dropped.
    async fn echo(&self) {
        loop {
            let call = self.next().await;
            // A call that Redis could not answer is delivered again by a real worker's XAUTOCLAIM.
            let answer = json!({"ack": call.body["args"]}).to_string();
            eventually("an answer to be taken", async || self.try_answer(call.id(), &answer).await.ok()).await;
        }
    }
}

async fn post(node: &Node, event: Value) -> Response {
    let body = event.to_string();
    Request::post("/event", body.as_bytes()).header("Content-Type", "application/json").send(node.http).await
}

async fn outcome(node: &Node, outcome: &str) -> f64 {
    Metrics::of(node).await.value(&format!("longtail_hook_calls_total{{type=\"event\",outcome=\"{outcome}\"}}"))
}

/// Clients of several transports get a worker's answer, and its messages come first.
#[tokio::test]
async fn a_worker_answers() {
    let redis = RedisServer::start().await;
    let node = start(&redis, &["--hook-timeout", "60"]).await;
    assert_eq!(node.get("/info").await.json()["events"], true);
    let worker = Worker::start(&redis).await;
    let work = async {
        let mut calls = Vec::new();
        for _ in 0..3 {
            let call = worker.next().await;
            let message = json!({"channel": "todo", "data": call.body["args"][0], "exclude": "self"});
            assert_eq!(
                worker.answer(&call, &json!({"ack": ["done", call.body["args"][0]], "publish": [message]})).await,
                1
            );
            calls.push(call);
        }
        calls
    };
    let clients = async {
        let opened =
            handshake("/ws?channel=todo&client=me").header("Cookie", "sid=7").header("Authorization", "Basic YTpi");
        let mut socket = RawWebSocket::open_by(node.http, opened).await;
        socket.next_of("hello").await;
        socket.text(r#"{"type":"event","event":"add","data":"milk","ref":7}"#).await;
        let answer = socket.next_of("ack").await;
        assert_eq!((&answer["ref"], &answer["data"]), (&json!(7), &json!(["done", "milk"])));
        let mut line = LineClient::connect(node.tcp).await;
        line.send(r#"{"type":"event","event":"add","data":"eggs","ref":8}"#).await;
        let answer = loop {
            let object = line.json().await;
            if object["type"] == "ack" {
                break object;
            }
        };
        assert_eq!((&answer["ref"], &answer["data"]), (&json!(8), &json!(["done", "eggs"])));
        let answer = post(&node, json!({"event": "add", "data": "bread", "client": "you", "key": "k"})).await;
        assert_eq!((answer.status, &answer.json()["ack"]), (200, &json!(["done", "bread"])));
        for data in ["eggs", "bread"] {
            let message = socket.frame().await.expect("a message").json();
            assert_eq!(message["data"], data, "its own message is left out");
        }
        let poll = node.get("/poll?channel=todo&cursor=earliest").await.json();
        let data: Vec<&Value> =
            poll["messages"].as_array().expect("messages").iter().map(|item| &item["data"]).collect();
        assert_eq!(data, ["milk", "eggs", "bread"]);
    };
    let (calls, ()) = tokio::join!(work, clients);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis();
    for (call, cookie) in calls.iter().zip([Some("sid=7"), None, None]) {
        assert_eq!(call.field("cookie"), cookie);
        assert_eq!(call.field("authorization").is_some(), cookie.is_some());
        assert_eq!(call.body["id"], call.id());
        assert_eq!(
            (&call.body["type"], &call.body["event"], &call.body["ack"]),
            (&json!("event"), &json!("add"), &json!(true))
        );
        let until: u128 = call.field("until").expect("an end").parse().expect("a number");
        assert!((now..now + 61_000).contains(&until), "{until} at {now}");
    }
    assert_eq!(outcome(&node, "answered").await, 3.0);
    let left = redis.number(&["PTTL", &format!("{{longtail:log}}:call:{}", calls[0].id())]).await;
    assert!(left == -2 || (0..=10_000).contains(&left), "the record of an answered call ends soon: {left}");
}

/// The answer reaches the node that waits, whichever it is.
#[tokio::test]
async fn an_answer_reaches_the_node_that_waits() {
    let redis = RedisServer::start().await;
    let nodes = join_all((0..3).map(|_| start(&redis, &["--hook-timeout", "60"]))).await;
    let worker = Worker::start(&redis).await;
    let asked = (0..60).map(|n| {
        let node = &nodes[n % 3];
        async move {
            let answer = post(node, json!({"event": "e", "data": n, "client": format!("c{n}")})).await;
            assert_eq!((answer.status, &answer.json()["ack"]), (200, &json!([n])));
        }
    });
    tokio::select! {
        () = worker.echo() => {}
        _ = join_all(asked) => {}
    }
    for node in &nodes {
        assert_eq!(outcome(node, "failed").await, 0.0, "{}", node.log());
    }
}

/// A client that has not heard of its event sends it again at another node. One answer is carried out once: where the
/// client waits. A further answer is for the first attempt, if it still waits.
#[tokio::test]
async fn one_answer_is_for_one_attempt() {
    let redis = RedisServer::start().await;
    let nodes = join_all((0..2).map(|_| start(&redis, &["--hook-timeout", "60"]))).await;
    let worker = Worker::start(&redis).await;
    let event = json!({"event": "e", "client": "c", "key": "same"});
    let answer = |n: u8| json!({"ack": [n], "publish": [{"channel": "todo", "data": n}]});
    let first = post(&nodes[0], event.clone());
    let second = async {
        let one = worker.next().await;
        let work = async {
            let other = worker.next().await;
            assert_eq!(one.id(), other.id());
            assert_eq!(worker.answer(&one, &answer(1)).await, 1);
            let messages = async || {
                let poll = nodes[1].get("/poll?channel=todo&cursor=earliest").await.json();
                let items = poll["messages"].as_array().expect("messages").clone();
                (!items.is_empty()).then(|| items.iter().map(|item| item["data"].clone()).collect::<Vec<_>>())
            };
            assert_eq!(eventually("the message", messages).await, [json!(1)]);
            sleep(Duration::from_millis(500)).await;
            assert_eq!(messages().await, Some(vec![json!(1)]), "carried out by one attempt");
            assert_eq!(worker.answer(&other, &answer(2)).await, 1);
            assert_eq!(worker.answer(&other, &answer(3)).await, 0, "no attempt waits");
        };
        tokio::join!(post(&nodes[1], event.clone()), work).0
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((&first.json()["ack"], &second.json()["ack"]), (&json!([2]), &json!([1])));
}

/// `FLUSHALL` does not end a connection. A call that waits comes again, and its client does not wait for the time-out.
#[tokio::test]
async fn an_emptied_redis_gets_its_calls_again() {
    let redis = RedisServer::start().await;
    let node = start(&redis, &["--hook-timeout", "60"]).await;
    let worker = Worker::start(&redis).await;
    for words in [&["FLUSHALL"][..], &["DEL", STREAM]] {
        let before = node.metric("longtail_hook_stream_resent_calls_total").await;
        let trouble = async {
            let lost = worker.next().await;
            redis.command(words).await;
            if words[0] == "FLUSHALL" {
                worker.join().await;
            } else {
                eventually("the stream", async || (redis.number(&["EXISTS", STREAM]).await == 1).then_some(())).await;
                worker.join().await;
            }
            let call = worker.next().await;
            assert_eq!((call.id(), &call.body), (lost.id(), &lost.body));
            // A node registers the log again first.
            let answer = json!({"ack": [words[0]]}).to_string();
            let taken = eventually("an answer", async || worker.try_answer(call.id(), &answer).await.ok()).await;
            assert_eq!(taken, 1);
        };
        let began = Instant::now();
        let (answer, ()) = tokio::join!(post(&node, json!({"event": "e"})), trouble);
        assert_eq!((answer.status, &answer.json()["ack"]), (200, &json!([words[0]])), "{}", node.log());
        assert!(began.elapsed() < Duration::from_secs(20), "{words:?}: {:?}", began.elapsed());
        assert_eq!(node.metric("longtail_hook_stream_resent_calls_total").await, before + 1.0, "{words:?}");
    }
    // A call that only takes long is sent once.
    let slow = async {
        let call = worker.next().await;
        sleep(Duration::from_millis(2500)).await;
        assert_eq!(worker.answer(&call, &json!({"ack": []})).await, 1);
    };
    tokio::join!(post(&node, json!({"event": "e"})), slow);
    assert_eq!(node.metric("longtail_hook_stream_resent_calls_total").await, 2.0);
}

/// A call whose time is over fails. An answer that is late, repeated or malformed is counted, and the worker is told of
/// it.
#[tokio::test]
async fn answers_that_do_not_count() {
    let redis = RedisServer::start().await;
    let node = start(&redis, &["--hook-timeout", "1"]).await;
    let worker = Worker::start(&redis).await;
    let began = Instant::now();
    let late = post(&node, json!({"event": "late"})).await;
    assert_eq!((late.status, late.error_code().as_str()), (502, "application_failed"), "{}", late.text());
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    node.logged("no answer of a worker within 1 s").await;
    let call = worker.next().await;
    assert_eq!(worker.answer(&call, &json!({"ack": [1]})).await, 0, "too late");
    assert_eq!(worker.try_answer("unknown", "{}").await.expect("answered"), 0);
    eventually("the count", async || (node.metric("longtail_hook_stream_late_answers").await == 2.0).then_some(()))
        .await;

    let slow = node_of(&redis, "60").await;
    let long = format!("{{\"ack\":[\"{}\"]}}", "x".repeat(1 << 20));
    let refused = [
        ("", "{}", "the field id"),
        ("a b", "{}", "the field id"),
        (&*"x".repeat(201), "{}", "the field id"),
        ("ID", "secret", "not a JSON object"),
        ("ID", "[1]", "not a JSON object"),
        ("ID", "{\"ack\":", "not a JSON object"),
        ("ID", "null", "not a JSON object"),
        ("ID", "5", "not a JSON object"),
        ("ID", r#"{"ack":[NaN]}"#, "not a JSON object"),
        ("ID", r#"{"ack":[Infinity]}"#, "not a JSON object"),
        ("ID", r#"{"ack":[-inf]}"#, "not a JSON object"),
        ("ID", r#"{"ack":[0x10]}"#, "not a JSON object"),
        ("ID", r#"{"ack":[01]}"#, "not a JSON object"),
        ("ID", r#"{"ack":[1]} {}"#, "not a JSON object"),
        ("ID", "[[]]", "not a JSON object"),
        ("ID", &*long, "at most 1 MiB"),
    ];
    let work = async {
        let call = worker.next().await;
        for (id, answer, why) in refused {
            let id = if id == "ID" { call.id() } else { id };
            let error = worker.try_answer(id, answer).await.expect_err("refused").to_string();
            assert!(error.contains("longtail_answer") && error.contains(why), "{answer:.20}: {error}");
        }
        let mut connection = redis.connect().await.expect("Redis");
        let mut command = redis::cmd("FCALL");
        command.arg("longtail_answer").arg(1).arg("{longtail:log}").arg(call.id()).arg(&b"{\"ack\":[\"\xff\"]}"[..]);
        let error = command.query_async::<i64>(&mut connection).await.expect_err("refused").to_string();
        assert!(error.contains("UTF-8"), "{error}");
        for words in
            [&["0"][..], &["1", "{longtail:log}"], &["1", "{longtail:log}", "a", "b", "c"], &["2", "a", "b", "c"]]
        {
            let error = redis.try_command(&[&["FCALL", "longtail_answer"], words].concat()).await.expect_err("refused");
            assert!(error.to_string().contains("use FCALL longtail_answer 1"), "{error}");
        }
        let wrong = redis.try_command(&["FCALL", "longtail_answer", "1", "{wrong:log}", call.id(), "{}"]).await;
        assert!(wrong.expect_err("refused").to_string().contains("--redis-prefix"));
        // The call still waits.
        assert_eq!(worker.answer(&call, &json!({"ack": ["é"]})).await, 1);
        assert_eq!(worker.answer(&call, &json!({"ack": [2]})).await, 0, "answered twice");
    };
    let (answer, ()) = tokio::join!(post(&slow, json!({"event": "e"})), work);
    assert_eq!(answer.json()["ack"], json!(["é"]));
    eventually("the counts", async || {
        let metrics = Metrics::of(&slow).await;
        let counts = ["late", "refused"].map(|kind| metrics.value(&format!("longtail_hook_stream_{kind}_answers")));
        (counts == [3.0, 17.0]).then_some(())
    })
    .await;
    assert_eq!((outcome(&node, "failed").await, outcome(&slow, "answered").await), (1.0, 1.0));
}

async fn node_of(redis: &RedisServer, timeout: &str) -> Node {
    start(redis, &["--hook-timeout", timeout]).await
}

/// An object that the node cannot carry out fails its event at once, and no other.
#[tokio::test]
async fn answers_that_cannot_be_carried_out() {
    let redis = RedisServer::start().await;
    let node = node_of(&redis, "60").await;
    let worker = Worker::start(&redis).await;
    for (answer, status, code) in [
        (r#"{"publish":"secret"}"#, 502, "application_failed"),
        (r#"{"publish":[{"channel":"a b","data":1}]}"#, 502, "application_failed"),
        (r#"{"ack":1e400,"refuse":5}"#, 502, "application_failed"),
        (r#"{"join":["a"]}"#, 409, "no_session"),
        (r#"{"refuse":{"message":"no milk"}}"#, 403, "forbidden"),
        ("", 200, ""),
        ("[]", 200, ""),
        (" {} ", 200, ""),
    ] {
        let work = async {
            let call = worker.next().await;
            assert_eq!(worker.try_answer(call.id(), answer).await.expect("taken"), 1, "{answer}");
        };
        let (said, ()) = tokio::join!(post(&node, json!({"event": "e"})), work);
        assert_eq!(said.status, status, "{answer}: {}", said.text());
        assert!(code.is_empty() || said.error_code() == code, "{answer}: {}", said.text());
    }
    node.logged("the application at --hook-stream").await;
    assert!(!node.log().contains("secret"), "{}", node.log());
}

/// Connections end again and again while calls wait: each call is answered once.
#[tokio::test]
async fn broken_connections_lose_nothing() {
    let redis = RedisServer::start().await;
    // The nodes have a Redis user of their own, so the test can find their connections.
    redis.command(&["ACL", "SETUSER", "node", "on", ">sesame", "~*", "&*", "+@all"]).await;
    let (mut as_node, worker) = (redis.handle(), Worker::start(&redis).await);
    as_node.set_login("node:sesame@");
    let nodes = [node_of(&as_node, "60").await, node_of(&as_node, "60").await];
    let asked = (0..20).map(|client| {
        let node = &nodes[client % 2];
        async move {
            for n in 0..15 {
                let event = json!({"event": "e", "data": [client, n], "client": format!("c{client}")});
                let answer = post(node, event).await;
                assert_eq!((answer.status, &answer.json()["ack"]), (200, &json!([[client, n]])), "{}", answer.text());
                sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let cut = async {
        loop {
            redis.command(&["CLIENT", "KILL", "USER", "node"]).await;
            sleep(Duration::from_millis(60)).await;
        }
    };
    tokio::select! {
        () = worker.echo() => {}
        () = cut => {}
        _ = join_all(asked) => {}
    }
    for node in &nodes {
        assert_eq!((outcome(node, "failed").await, outcome(node, "answered").await), (0.0, 150.0), "{}", node.log());
        assert!(Metrics::of(node).await.value("longtail_log_connections_lost_total{purpose=\"hook\"}") > 2.0);
    }
}

/// Redis ends while a call waits. A Redis that comes back with its data takes the answer; one that comes back empty
/// gets the call again.
#[tokio::test]
async fn a_restart_of_redis_loses_no_call() {
    for is_durable in [true, false] {
        let mut redis = if is_durable { RedisServer::start_durable().await } else { RedisServer::start().await };
        let node = node_of(&redis, "60").await;
        let worker = Worker::start(&redis).await;
        let trouble = async {
            let before = worker.next().await;
            redis.kill();
            sleep(Duration::from_millis(300)).await;
            redis.restart().await;
            let call = if is_durable {
                before.clone()
            } else {
                eventually("the group", async || {
                    let made = worker.redis.try_command(&["XGROUP", "CREATE", STREAM, "workers", "0"]).await;
                    made.is_ok().then_some(())
                })
                .await;
                worker.next().await
            };
            assert_eq!(call.id(), before.id());
            // The library is there when a node has opened the log.
            let answer = json!({"ack": [call.body["args"][0]]}).to_string();
            let taken = eventually("the function", async || worker.try_answer(call.id(), &answer).await.ok()).await;
            assert_eq!(taken, 1, "durable: {is_durable}");
        };
        let (answer, ()) = tokio::join!(post(&node, json!({"event": "e", "data": "milk"})), trouble);
        assert_eq!((answer.status, &answer.json()["ack"]), (200, &json!(["milk"])), "{}", node.log());
        let resent = node.metric("longtail_hook_stream_resent_calls_total").await;
        assert!(is_durable || resent == 1.0, "{resent}");
    }
}

/// While Redis is away, events fail in time, with an error that names the cause. When it is back, they work again.
#[tokio::test]
async fn without_redis_events_fail_in_time() {
    let mut redis = RedisServer::start_durable().await;
    let node = node_of(&redis, "1").await;
    let worker = Worker::start(&redis).await;
    redis.kill();
    for _ in 0..2 {
        let answer = post(&node, json!({"event": "e"})).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (502, "application_failed"));
    }
    node.logged("the call does not get into the stream").await;
    assert_eq!(node.get("/info").await.status, 200);
    redis.restart().await;
    worker.join().await;
    let asked = eventually_answered(&node);
    tokio::select! {
        () = worker.echo() => {}
        () = asked => {}
    }
    // A key of another type is an error at once: nothing would change it.
    redis.command(&["DEL", STREAM]).await;
    redis.command(&["SET", STREAM, "x"]).await;
    let began = Instant::now();
    assert_eq!(post(&node, json!({"event": "e"})).await.status, 502);
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    redis.command(&["DEL", STREAM]).await;
    worker.join().await;
    tokio::select! {
        () = worker.echo() => {}
        () = eventually_answered(&node) => {}
    }
}

async fn eventually_answered(node: &Node) {
    eventually("an answer", async || (post(node, json!({"event": "e"})).await.status == 200).then_some(())).await;
}

/// The stream has at most 100,000 entries and 128 MiB, whether or not a worker reads it.
#[tokio::test]
async fn the_stream_is_bounded() {
    let redis = RedisServer::start().await;
    let node = node_of(&redis, "1").await;
    let fill = |count: u32, bytes: u32| {
        format!("for _ = 1, {count} do redis.call('XADD', KEYS[1], '*', 'x', string.rep('x', {bytes})) end")
    };
    redis.command(&["EVAL", &fill(100_050, 1), "1", STREAM]).await;
    assert_eq!(post(&node, json!({"event": "e"})).await.status, 502);
    assert_eq!(redis.number(&["XLEN", STREAM]).await, 100_000);
    redis.command(&["DEL", STREAM]).await;
    redis.command(&["EVAL", &fill(150, 1 << 20), "1", STREAM]).await;
    assert_eq!(post(&node, json!({"event": "e"})).await.status, 502);
    let bytes = redis.number(&["MEMORY", "USAGE", STREAM]).await;
    assert!((100 << 20..128 << 20).contains(&bytes), "{bytes}");
    let left: Vec<Reply> =
        redis::from_redis_value(redis.command(&["XREVRANGE", STREAM, "+", "-", "COUNT", "1"]).await).expect("entries");
    assert!(format!("{left:?}").contains("until"), "the newest call stays");
}

/// A failover: the new primary gets the calls that it lacks, and the nodes get its answers.
#[tokio::test]
async fn a_failover_loses_no_call() {
    let mut sentinels = Sentinels::start(2).await;
    let url = sentinels.url();
    let node = Node::start(&["--redis", &url, "--hook-stream", "app", "--hook-timeout", "60"]).await;
    let trouble = async {
        let old = Worker::start(sentinels.primary().await).await;
        let before = old.next().await;
        sentinels.kill_primary().await;
        let redis = eventually("a new primary", async || {
            let primary = sentinels.primary().await;
            (primary.port() != old.redis.port()).then(|| primary.handle())
        })
        .await;
        let worker = Worker { redis };
        let answer = json!({"ack": ["from the new one"]}).to_string();
        let id = before.id().to_owned();
        eventually("the answer to be taken", async || (worker.try_answer(&id, &answer).await.ok()? == 1).then_some(()))
            .await;
    };
    let (answer, ()) = tokio::join!(post(&node, json!({"event": "e"})), trouble);
    assert_eq!((answer.status, &answer.json()["ack"]), (200, &json!(["from the new one"])), "{}", node.log());
}

/// A worker with the permissions that docs/redis.md names.
#[tokio::test]
async fn a_worker_of_few_privileges() {
    let redis = RedisServer::start().await;
    let node = node_of(&redis, "60").await;
    let page = include_str!("../docs/redis.md");
    let line = page.lines().find(|line| line.starts_with("+xgroup|create +xreadgroup")).expect("the permissions");
    let line = format!("ACL SETUSER worker on >sesame resetkeys -@all {}", line.replace("NAME", "app"));
    redis.command(&line.split(' ').collect::<Vec<_>>()).await;
    let mut as_worker = redis.handle();
    as_worker.set_login("worker:sesame@");
    let worker = Worker::start(&as_worker).await;
    let work = async {
        let call = worker.next().await;
        assert!(worker.try_answer(call.id(), "secret").await.is_err());
        assert_eq!(worker.answer(&call, &json!({"ack": [1]})).await, 1);
        assert_eq!(worker.try_answer(call.id(), "{}").await.expect("answered"), 0);
        as_worker.command(&["XAUTOCLAIM", STREAM, "workers", "w2", "0", "0"]).await;
    };
    let (answer, ()) = tokio::join!(post(&node, json!({"event": "e"})), work);
    assert_eq!(answer.json()["ack"], json!([1]));
    let denied: Vec<Reply> = redis::from_redis_value(redis.command(&["ACL", "LOG"]).await).expect("the ACL log");
    assert!(denied.is_empty(), "{denied:#?}");
    // It can neither publish nor read other keys.
    for words in [&["XADD", "longtail:log", "*", "channel", "a", "data", "1"][..], &["GET", "{longtail:log}:tip"]] {
        assert_eq!(as_worker.try_command(words).await.expect_err("refused").code(), Some("NOPERM"), "{words:?}");
    }
}

#[tokio::test]
async fn flags_that_contradict_are_refused() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    for (args, why) in [
        (&["--hook-stream", "app"][..], "in memory"),
        (&["--hook-stream", "app", "--redis", &url, "--hook-url", "http://127.0.0.1:1/"], "only one of them"),
        (&["--hook-stream", "app", "--redis", &url, "--hook-secret-file", "f"], "over HTTP"),
        (&["--hook-stream", "a b", "--redis", &url], "A-Z a-z"),
        (&["--hook-stream", "", "--redis", &url], "A-Z a-z"),
    ] {
        let (code, said) = run_to_end(args).await;
        assert!(code == 64 && said.contains(why), "{args:?}: {code} {said}");
    }
}

/// Calls about channels go to workers like other calls.
#[tokio::test]
async fn a_worker_hears_of_channels() {
    let redis = RedisServer::start().await;
    let worker = Worker::start(&redis).await;
    let node = start_on(&redis, &["--hook-stream", "app", "--hook-notify", "occupied"]).await;
    let mut socket = RawWebSocket::open(&node, "/ws?channel=a").await;
    socket.next_of("hello").await;
    let call = worker.next().await;
    assert_eq!((&call.body["type"], &call.body["channel"]), (&json!("occupied"), &json!("a")), "{}", call.body);
    assert!(call.field("cookie").is_none());
    assert_eq!(worker.answer(&call, &json!({})).await, 1);
    eventually("nothing that waits", async || (node.metric("longtail_transitions_waiting").await == 0.0).then_some(()))
        .await;
}
