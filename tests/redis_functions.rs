//! `FCALL longtail_publish`: a publisher in any language, durable even while no node is up.

use crate::support;

use support::world::start_on;
use support::{Item, Kind, Node, Reader, RedisServer, Subscription, eventually};

async fn call(redis: &RedisServer, args: &[&str]) -> redis::RedisResult<String> {
    let mut words = vec!["FCALL", "longtail_publish", "1", "longtail:log"];
    words.extend(args);
    redis.try_command(&words).await.and_then(|answer| Ok(redis::from_redis_value(answer)?))
}

async fn loaded(redis: &RedisServer) {
    eventually("the library", async || {
        let list = redis.command(&["FUNCTION", "LIST", "LIBRARYNAME", "longtail"]).await;
        (list != redis::Value::Array(Vec::new())).then_some(())
    })
    .await;
}

async fn read(node: &Node, channel: &str) -> Vec<Item> {
    let answer = node.get(&format!("/poll?channel={channel}&cursor=earliest&limit=1000")).await;
    support::decode::batch(&answer.text()).into_iter().filter(|item| item.kind == Kind::Message).collect()
}

#[tokio::test]
async fn a_call_is_a_message() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    loaded(&redis).await;
    let sse = node.transport("sse").await;
    let mut live = Reader::open(&node, &sse, Subscription::to(&["todo"])).await;
    let cursor = call(&redis, &["todo", r#"{"b":1e400}"#, "event", "added"]).await.expect("published");
    let message = live.next_message().await;
    assert_eq!((message.data(), message.str("event").as_deref()), (r#"{"b":1e400}"#, Some("added")));
    assert_eq!(message.id(), Some(cursor), "the answer is the message's cursor");
    call(&redis, &["todo", "für alle 🦊", "exclude", "11111111-1111-4111-8111-111111111111"]).await.expect("published");
    let excluded = "/poll?channel=todo&cursor=earliest&client=11111111-1111-4111-8111-111111111111";
    assert_eq!(node.get(excluded).await.text().matches("\"id\"").count(), 1);
    assert_eq!(live.next_message().await.data(), r#""für alle 🦊""#);
    // An `exclude` that is not a client id does not exclude any client, and the node warns.
    for exclude in ["", "a b", &"x".repeat(101)] {
        call(&redis, &["todo", "7", "exclude", exclude]).await.expect("published");
        assert_eq!(live.next_message().await.data(), "7");
    }
    assert!(node.metric("longtail_log_ignored_excludes_total").await >= 3.0);
    node.logged("is not a client id").await;
}

/// A call may name several channels, the readers that do not get the message, and several arguments.
#[tokio::test]
async fn a_call_has_several_channels_exceptions_and_arguments() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    loaded(&redis).await;
    let args = ["", "[1,\"x\"]", "channels", "a,b,a", "except", "me,c", "args", "1", "event", "added", "key", "k"];
    let first = eventually("a node to say that all read it", async || call(&redis, &args).await.ok()).await;
    assert_eq!(call(&redis, &args).await.expect("answered"), first, "the same key");
    call(&redis, &["b", "2", "except", "a b"]).await.expect("published");
    for (query, wanted) in [
        ("channel=b,a", vec![r#""channel":"a","event":"added","data":[1,"x"],"args":true}"#, r#""data":2}"#]),
        ("channel=b", vec![r#""channel":"b","event":"added","data":[1,"x"],"args":true}"#, r#""data":2}"#]),
        ("channel=b&client=me", vec![r#""data":2}"#]),
        ("channel=b,c", vec![r#""data":2}"#]),
    ] {
        eventually("the messages", async || {
            let answer = node.get(&format!("/poll?{query}&cursor=earliest")).await.text();
            let is_there = wanted.iter().all(|part| answer.contains(part));
            (is_there && answer.matches("\"id\"").count() == wanted.len()).then_some(())
        })
        .await;
    }
    assert_eq!(node.metric("longtail_log_ignored_excludes_total").await, 1.0);
}

/// `args` is an array by the grammar of JSON (RFC 8259), as the nodes read it: each call that is acknowledged is read.
#[tokio::test]
async fn arguments_are_json_as_the_nodes_read_it() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    loaded(&redis).await;
    let call = async |data: &str| call(&redis, &["todo", data, "args", "1"]).await;
    eventually("a node to say that all read it", async || call("[]").await.ok()).await;
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let good = [
        "[0]",
        "[-0]",
        "[10.50e+3,1E-2,-1e400]",
        "[12345678901234567890]",
        " \t\r\n[ 1 , 2 ] \n",
        "[true,false,null]",
        r#"["\"\\\/\b\f\n\r\t\u00e4\ud800"]"#,
        "[\"\u{7f}\u{85} ä 🦊\"]",
        r#"[{}]"#,
        r#"[{"a":{"":[]},"b":[[],[1]]}]"#,
        &deep,
    ];
    for data in good {
        call(data).await.unwrap_or_else(|error| panic!("{data:.60}: {error}"));
    }
    let bad = [
        "",
        "[",
        "[1",
        "[1]]",
        "[1] x",
        "[1,]",
        "[,1]",
        "[,]",
        "[1 2]",
        "{}",
        "1",
        "\"[]\"",
        "\u{b}[1]",
        "[1]\u{c}",
        "\u{feff}[1]",
        "[NaN]",
        "[nan]",
        "[-nan]",
        "[inf]",
        "[Infinity]",
        "[-Infinity]",
        "[0x10]",
        "[01]",
        "[-01]",
        "[+1]",
        "[1.]",
        "[.5]",
        "[1e]",
        "[1e+]",
        "[-]",
        "[1a]",
        "[True]",
        "[nul]",
        "[nullx]",
        "['a']",
        "[a]",
        "[\"a]",
        "[\"a\nb\"]",
        "[\"a\tb\"]",
        "[\"\u{0}\"]",
        "[\"\u{1f}\"]",
        r#"["\x"]"#,
        r#"["\u12g4"]"#,
        r#"["\u12"]"#,
        r#"[{"a"}]"#,
        r#"[{"a":}]"#,
        r#"[{"a":1,}]"#,
        r#"[{a:1}]"#,
        r#"[{1:1}]"#,
        r#"[{"a" 1}]"#,
        "[{]}",
        "[[}]",
        "[1}",
        "[1]\u{0}",
        "[\u{0}1]",
        "[/**/]",
    ];
    for data in bad {
        let error = call(data).await.err().unwrap_or_else(|| panic!("{data:?} is acknowledged")).to_string();
        assert!(error.contains("JSON array"), "{data:?}: {error}");
    }
    eventually("all of them", async || (read(&node, "todo").await.len() == good.len() + 1).then_some(())).await;
    assert_eq!(node.metric("longtail_log_skipped_entries_total").await, 0.0, "{}", node.log());
}

/// The same key within five minutes appends nothing, whichever way to publish it uses.
#[tokio::test]
async fn a_key_counts_once() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    loaded(&redis).await;
    let first = call(&redis, &["todo", "1", "key", "k"]).await.expect("published");
    assert_eq!(call(&redis, &["todo", "2", "key", "k"]).await.expect("answered"), first);
    assert_ne!(call(&redis, &["other", "3", "key", "k"]).await.expect("published"), first, "a key is its channel's");
    redis.command(&["PUBLISH", "push:todo", r#"{"data":4,"key":"k"}"#]).await;
    redis.command(&["PUBLISH", "push:todo", r#"{"data":5,"key":"l"}"#]).await;
    eventually("the one that is new", async || (read(&node, "todo").await.len() > 1).then_some(())).await;
    assert_ne!(call(&redis, &["todo", "6", "key", "l"]).await.expect("answered"), first);
    let data: Vec<_> = read(&node, "todo").await.iter().map(|item| item.data().to_owned()).collect();
    assert_eq!(data, ["1", "5"]);
}

/// Redis keeps the message of a call, and the call needs no node.
#[tokio::test]
async fn a_call_is_kept_while_no_node_is_up() {
    let mut redis = RedisServer::start_durable().await;
    drop(start_on(&redis, &[]).await);
    redis.kill();
    redis.restart().await;
    call(&redis, &["todo", "1"]).await.expect("published");
    let node = start_on(&redis, &[]).await;
    assert_eq!(read(&node, "todo").await.len(), 1);
    // It also works for a log that does not exist.
    redis.command(&["FLUSHALL"]).await;
    let cursor = eventually("the node to tell what it takes", async || call(&redis, &["todo", "2"]).await.ok()).await;
    eventually("the message and no other", async || {
        let ids: Vec<_> = read(&node, "todo").await.iter().map(Item::id).collect();
        (ids == [Some(cursor.clone())]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_in_a_word() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--max-message-bytes", "1000"]).await;
    loaded(&redis).await;
    let (long, too_long) = ("x".repeat(201), "x".repeat(1001));
    let many = vec!["a"; 101].join(",");
    let table: [(&[&str], &str); 23] = [
        (&["todo"], "use FCALL"),
        (&["todo", "1", "event"], "use FCALL"),
        (&["", "1"], "channel"),
        (&["a b", "1"], "channel"),
        (&["a,b", "1"], "channel"),
        (&[&long, "1"], "channel"),
        (&["todo", &too_long], "--max-message-bytes (1000)"),
        (&["todo", "1", "event", "hello"], "event"),
        (&["todo", "1", "event", "a\nb"], "event"),
        (&["todo", "1", "event", "a\u{85}b"], "event"),
        (&["todo", "1", "key", ""], "key"),
        (&["todo", "1", "key", &long], "key"),
        (&["todo", "1", "ttl", "5"], "options"),
        (&["~s/1", "1"], "names that begin with ~ are reserved"),
        (&["", "1", "channels", "a,~s/1"], "names that begin with ~ are reserved"),
        (&["todo", "1", "channels", "a,b"], "not both"),
        (&["", "1", "channels", ""], "channel"),
        (&["", "1", "channels", "a,"], "channel"),
        (&["", "1", "channels", &many], "at most 100 channels"),
        (&["todo", "1", "except", &many], "at most 100 items"),
        (&["todo", "1", "args", "1"], "array"),
        (&["todo", "[1", "args", "1"], "array"),
        (&["todo", "[1]", "args", "yes"], "args is 1"),
    ];
    for (args, reason) in table {
        let error = call(&redis, args).await.expect_err("refused").to_string();
        assert!(error.contains("longtail_publish") && error.contains(reason), "{args:?}: {error}");
    }
    for bad in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ab\xc3", b"\xe2\xc3\xa4\x82\xac"] {
        let mut connection = redis.connect().await.expect("Redis");
        let mut command = redis::cmd("FCALL");
        command.arg("longtail_publish").arg(1).arg("longtail:log").arg("todo").arg(bad);
        let answer: redis::RedisResult<String> = command.query_async(&mut connection).await;
        assert!(answer.expect_err("refused").to_string().contains("UTF-8"), "{bad:?}");
    }
    for good in ["", "\0", "ü", "€", "🦊", "\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}"] {
        call(&redis, &["good", good]).await.unwrap_or_else(|error| panic!("{good:?}: {error}"));
    }
    assert_eq!(redis.number(&["XLEN", "longtail:log"]).await, 6);
    eventually("all of them on the node", async || (read(&node, "good").await.len() == 6).then_some(())).await;
}

/// No node reads a log with a wrong prefix, so a call for it is refused: no message is lost silently.
#[tokio::test]
async fn a_log_that_no_node_has_had_is_refused() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    loaded(&redis).await;
    let wrong = ["FCALL", "longtail_publish", "1", "wrong:log", "todo", "1"];
    let error = redis.try_command(&wrong).await.expect_err("refused").to_string();
    assert!(error.contains("--redis-prefix"), "{error}");
    assert_eq!(redis.number(&["EXISTS", "wrong:log"]).await, 0);
    // A log that was emptied still belongs to the node, whether or not a node runs.
    redis.command(&["DEL", "longtail:log"]).await;
    call(&redis, &["todo", "1"]).await.expect("published");
    drop(node);
    redis.command(&["DEL", "longtail:log"]).await;
    call(&redis, &["todo", "2"]).await.expect("published");
    // With every key removed and no node running, the function cannot tell whether a node reads the log.
    let gone = eventually("the node to be gone", async || {
        redis.command(&["FLUSHALL"]).await;
        call(&redis, &["todo", "3"]).await.err()
    })
    .await;
    assert!(gone.to_string().contains("a node has to start first"), "{gone}");
    // Another prefix is valid as soon as its first node has started.
    drop(start_on(&redis, &["--redis-prefix", "wrong"]).await);
    redis.command(&wrong).await;
}

/// A publisher with the privileges that docs/redis.md names.
#[tokio::test]
async fn a_publisher_of_few_privileges() {
    let redis = RedisServer::start().await;
    let _node = start_on(&redis, &["--key-bytes", "8KiB"]).await;
    loaded(&redis).await;
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md");
    let document = std::fs::read_to_string(document).expect("docs/redis.md");
    let permissions = document.lines().find(|line| line.starts_with("+fcall ")).expect("the permissions");
    let line = format!("ACL SETUSER pub on >sesame resetkeys -@all {permissions}");
    redis.command(&line.split(' ').collect::<Vec<_>>()).await;
    let client = redis::Client::open(redis.url().replace("redis://", "redis://pub:sesame@")).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut publish = redis::cmd("FCALL");
    publish.arg("longtail_publish").arg(1).arg("longtail:log").arg("todo").arg("1");
    publish.query_async::<String>(&mut connection).await.expect("published");
    publish.arg("key").arg("k");
    let first = publish.query_async::<String>(&mut connection).await.expect("published");
    assert_eq!(publish.query_async::<String>(&mut connection).await.expect("answered"), first);
    // The bound on keys holds. The script goes on without it if a permission is missing.
    let mut taken = 0;
    let refused = loop {
        let mut publish = redis::cmd("FCALL");
        publish.arg(&["longtail_publish", "1", "longtail:log", "todo", "1", "key"]).arg(format!("flood-{taken}"));
        match publish.query_async::<String>(&mut connection).await {
            Ok(_) => taken += 1,
            Err(error) => break error.to_string(),
        }
        assert!(taken < 100, "100 keys are within 8 KiB");
    };
    assert!(refused.contains("--key-bytes"), "{refused}");
    let denied: Vec<redis::Value> = redis::from_redis_value(redis.command(&["ACL", "LOG"]).await).expect("the ACL log");
    assert!(denied.is_empty(), "{denied:#?}");
}

/// Settings that were removed with all keys are written again. Until then, no message is acknowledged that nodes would
/// skip.
#[tokio::test]
async fn after_flushall_no_call_is_taken_that_nodes_would_skip() {
    for (limit, bytes, is_taken) in [("1000", 2000, false), ("200000", 100_000, true)] {
        let redis = RedisServer::start().await;
        let node = start_on(&redis, &["--max-message-bytes", limit]).await;
        loaded(&redis).await;
        let payload = "x".repeat(bytes);
        assert_eq!(call(&redis, &["todo", &payload]).await.is_ok(), is_taken, "{bytes} of {limit} bytes at first");
        for _ in 0..3 {
            redis.command(&["FLUSHALL"]).await;
            let flushed = tokio::time::Instant::now();
            let answer = eventually("a word that is not about missing settings", async || {
                let answer = call(&redis, &["todo", &payload]).await;
                let is_early = answer.as_ref().is_err_and(|error| error.to_string().contains("try again"));
                (!is_early).then_some(answer)
            })
            .await;
            let took = flushed.elapsed();
            assert!(took < std::time::Duration::from_secs(5), "it took {took:?}");
            assert_eq!(answer.is_ok(), is_taken, "{bytes} of {limit} bytes after FLUSHALL: {answer:?}");
        }
        let wanted = usize::from(is_taken);
        eventually("what was acknowledged to be read", async || {
            (read(&node, "todo").await.len() == wanted).then_some(())
        })
        .await;
    }
}

/// If nodes have different limits, a call may be as long as all of them accept.
#[tokio::test]
async fn a_call_is_as_long_as_every_node_takes() {
    let redis = RedisServer::start().await;
    let _large = start_on(&redis, &["--max-message-bytes", "5000"]).await;
    loaded(&redis).await;
    let payload = "x".repeat(2000);
    call(&redis, &["todo", &payload]).await.expect("published");
    let mut small = start_on(&redis, &["--max-message-bytes", "1000"]).await;
    for _ in 0..20 {
        let error = call(&redis, &["todo", &payload]).await.expect_err("refused").to_string();
        assert!(error.contains("--max-message-bytes (1000)"), "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    small.signal("TERM");
    small.exit_code().await;
    eventually("the call to be taken", async || call(&redis, &["todo", &payload]).await.ok()).await;
}

/// Another application's deployment deletes all functions. Our functions come back by themselves, also on an idle node.
#[tokio::test]
async fn the_library_comes_back() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    loaded(&redis).await;
    for round in 1..=3 {
        redis.command(&["FUNCTION", "FLUSH"]).await;
        let flushed = tokio::time::Instant::now();
        eventually("the library", async || call(&redis, &["todo", "1"]).await.ok()).await;
        let took = flushed.elapsed();
        assert!(took < std::time::Duration::from_secs(5), "round {round}: it took {took:?}");
    }
    // The check of the library is only a short question: the library is not sent again and again.
    redis.command(&["CONFIG", "RESETSTAT"]).await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let stats = redis.text(&["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_function|list"), "it is looked after: {stats}");
    assert!(!stats.contains("cmdstat_function|load"), "it is loaded no more: {stats}");
    assert!(!node.log().contains("longtail_publish is not available"), "{}", node.log());
}

/// A newer library stays, and so does another program's library of the same name.
#[tokio::test]
async fn another_library_is_left_alone() {
    let redis = RedisServer::start().await;
    let foreign = "#!lua name=longtail\nredis.register_function('other', function() return 1 end)";
    redis.command(&["FUNCTION", "LOAD", foreign]).await;
    let node = start_on(&redis, &[]).await;
    node.logged("another function library").await;
    assert_eq!(redis.number(&["FCALL", "other", "0"]).await, 1);
    node.publish("todo", "1").await;

    let newer = "#!lua name=longtail\n-- version 999\nredis.register_function('newer', function() return 2 end)";
    redis.command(&["FUNCTION", "LOAD", "REPLACE", newer]).await;
    let _second = start_on(&redis, &[]).await;
    assert_eq!(redis.number(&["FCALL", "newer", "0"]).await, 2);

    let older = "#!lua name=longtail\n-- version 0\nredis.register_function('older', function() return 3 end)";
    redis.command(&["FUNCTION", "LOAD", "REPLACE", older]).await;
    let _third = start_on(&redis, &[]).await;
    eventually("the newer one", async || call(&redis, &["todo", "1"]).await.ok()).await;
}
