//! `longtail check`, `publish` and `tail`, as people run them.

use crate::support;

use serde_json::Value;
use support::command::{Running, run};
use support::world::start_on;
use support::{Haproxy, Log, Nginx, Node, RedisServer, World};

fn url(node: &Node) -> String {
    format!("http://{}", node.http)
}

/// The line of a transport in the output of `check`.
fn line<'a>(out: &'a str, transport: &str) -> &'a str {
    let found = out.lines().find(|line| line.split_whitespace().nth(1) == Some(transport));
    found.unwrap_or_else(|| panic!("no line of {transport} in:\n{out}"))
}

#[tokio::test]
async fn check_tries_every_transport() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let done = run(&["check", &url(&node), "--idle", "1"], "").await;
    let transports = node.transports().await;
    for transport in &transports {
        let told = line(&done.out, &transport.name);
        assert!(told.starts_with('✓') && told.contains(" ms"), "{told}");
        assert_eq!(told.contains("after 1 s of idling"), transport.is_stream(), "{told}");
    }
    assert!(done.out.contains(&format!("{0} of {0} transports work", transports.len())), "{done}");
    assert!(transports.len() >= 10 && !done.out.contains('!'), "{done}");
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done}");
}

/// nginx as it is installed: HTTP/1.0 to the server, no `Upgrade`.
#[tokio::test]
async fn check_tells_what_a_proxy_does() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let nginx = Nginx::before(&node, "").await;
    let tcp = node.tcp.to_string();
    let done = run(&["check", &format!("http://{}", nginx.http), "--tcp", &tcp], "").await;
    assert_eq!(done.code, 1, "{done}");
    assert!(done.out.contains("speaks HTTP/1.0 to the server"), "{done}");
    assert!(line(&done.out, "ws").starts_with("✗ ws"), "{done}");
    assert!(line(&done.out, "ws").contains("`Upgrade` was lost"), "{done}");
    for passes in ["sse", "ndjson", "xhr-stream", "long-poll", "tcp"] {
        assert!(line(&done.out, passes).starts_with('✓'), "{done}");
    }
    assert!(done.out.contains("9 of 10 transports work"), "{done}");
}

/// The settings that docs/operations.md gives, and haproxy, pass all transports.
#[tokio::test]
async fn all_transports_pass_proxies_as_documented() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let documentation = include_str!("../docs/operations.md");
    let location = documentation.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next()).expect("nginx's");
    let is_setting = |line: &&str| line.starts_with("    proxy_") && !line.contains("proxy_pass");
    let settings: Vec<&str> = location.lines().filter(is_setting).collect();
    assert!(settings.len() >= 5, "{location}");
    let nginx = Nginx::before(&node, &settings.join("\n")).await;
    let haproxy = Haproxy::before(&[node.http], &[node.tcp]).await;
    for (http, tcp) in [(nginx.http, node.tcp), (haproxy.http, haproxy.tcp)] {
        let done = run(&["check", &format!("http://{http}"), "--tcp", &tcp.to_string(), "--idle", "1"], "").await;
        assert!(done.code == 0 && done.out.contains("10 of 10 transports work"), "{done}");
    }
}

/// The proxy times out before the silence ends.
#[tokio::test]
async fn check_finds_what_cuts_idle_connections() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let settings = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_read_timeout 2s; \
                    proxy_set_header Connection $connection_upgrade;";
    let nginx = Nginx::before(&node, settings).await;
    let tcp = node.tcp.to_string();
    let done = run(&["check", &format!("http://{}", nginx.http), "--tcp", &tcp, "--idle", "6"], "").await;
    for cut in ["sse", "ws", "ndjson"] {
        let told = line(&done.out, cut);
        assert!(told.starts_with('✗') && told.contains("cut while it was idle"), "{told}");
    }
    assert!(line(&done.out, "tcp").starts_with('✓') && done.code == 1, "{done}");
}

/// The proxy buffers responses even if the server tells it not to.
#[tokio::test]
async fn check_finds_a_path_that_holds_streams_back() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let nginx = Nginx::before(&node, "proxy_ignore_headers X-Accel-Buffering;").await;
    let base = format!("http://{}", nginx.http);
    let done = run(&["check", &base, "--tcp", &node.tcp.to_string()], "").await;
    for held in ["sse", "ndjson", "xhr-stream", "multipart", "forever-frame"] {
        let told = line(&done.out, held);
        assert!(told.starts_with('✗') && told.contains("holds the answer back"), "{told}");
    }
    for passes in ["poll", "long-poll", "jsonp", "tcp"] {
        assert!(line(&done.out, passes).starts_with('✓'), "{done}");
    }
    assert_eq!(done.code, 1, "{done}");
    // Polls pass, so `tail` still works.
    node.publish("todo", "1").await;
    let done = run(&["tail", "todo", "--url", &base, "--cursor", "earliest", "--count", "1"], "").await;
    assert!(done.code == 0 && done.out.ends_with(" todo message 1\n"), "{done}");
    assert!(done.err.contains("holds streams back; polling"), "{done}");
}

#[tokio::test]
async fn publish_says_the_id() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let url = url(&node);
    let publish = async |args: &[&str], input: &str| {
        let all: Vec<&str> = ["publish", "todo", "--url", &url].iter().chain(args).copied().collect();
        let done = run(&all, input).await;
        assert_eq!(done.code, 0, "{args:?}: {done}");
        done.out.trim_end().to_owned()
    };
    let first = publish(&["{\"title\":\"milk\"}", "--event", "itemAdded", "--exclude", "me"], "").await;
    publish(&[], "from standard input\n").await;
    publish(&["-"], "two\nlines\n").await;
    publish(&["17", "--text"], "").await;
    let once = publish(&["\"once\"", "--key", "order-1"], "").await;
    assert_eq!(publish(&["\"once\"", "--key", "order-1"], "").await, once);
    assert_eq!(publish(&["now", "--volatile"], "").await, "volatile");
    let ids = publish(&["--lines"], "1\n2\n3\n").await;
    assert_eq!(ids.lines().count(), 3);

    let batch = node.get("/poll?channel=todo&cursor=earliest").await.json();
    let messages = batch["messages"].as_array().expect("messages");
    assert_eq!((messages[0]["id"].as_str(), messages[0]["event"].as_str()), (Some(&*first), Some("itemAdded")));
    let data: Vec<String> = messages.iter().map(|message| message["data"].to_string()).collect();
    let wanted =
        ["{\"title\":\"milk\"}", "\"from standard input\"", "\"two\\nlines\"", "\"17\"", "\"once\"", "1", "2", "3"];
    assert_eq!(data, wanted);
    let excluded = node.get("/poll?channel=todo&cursor=earliest&client=me").await.json();
    assert_eq!(excluded["messages"].as_array().map(Vec::len), Some(7));
}

#[tokio::test]
async fn failures_have_their_exit_codes() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let url = url(&node);
    for (args, code, says) in [
        (vec!["publish", "a b", "1", "--url", &url], 1, "400 bad_channel"),
        (vec!["publish", "a", "1", "--event", "hello", "--url", &url], 1, "400 bad_event"),
        (vec!["tail", "a", "--cursor", "nonsense", "--url", &url], 1, "400 bad_cursor"),
        (vec!["publish", "a", "1", "--url", "ftp://x"], 64, "use a URL such as"),
        (vec!["publish", "a", "1", "--url", "http://127.0.0.1:1"], 69, "cannot reach http://127.0.0.1:1"),
        (vec!["tail", "a", "--url", "http://127.0.0.1:1"], 69, "refused"),
        (vec!["check", "http://127.0.0.1:1"], 69, "cannot reach"),
        (vec!["--open", "check"], 64, "the subcommand 'check' cannot be used with '--open'"),
        (vec!["publish", "a", "1", "--token-file", "/nowhere"], 64, "--token-file /nowhere"),
        (
            vec!["publish", "a", "1", "--token", "s3cr3t\u{7f}", "--url", &url],
            64,
            "characters that a token cannot have",
        ),
    ] {
        let done = run(&args, "").await;
        assert_eq!(done.code, code, "{args:?}: {done}");
        let is_by_clap = done.err.starts_with("error: ");
        assert!(done.err.contains(says) && (is_by_clap || done.err.lines().count() == 1), "{args:?}: {done}");
        assert!(!done.err.contains("s3cr3t"), "{done}");
    }
}

#[tokio::test]
async fn tail_prints_messages_as_they_come() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let url = url(&node);
    node.publish_numbers("todo", 5).await;
    let mut tail = Running::start(&["tail", "todo", "other", "--last", "2", "--url", &url]);
    for n in [3, 4] {
        let line = tail.line_ends(&format!(" todo message {n}")).await;
        assert!(line.starts_with("20") && line.as_bytes()[23] == b'Z', "{line}");
    }
    // A character that would move a terminal's cursor is shown as a sign; numbers and keys stay as they were written.
    node.publish_with("channel=other&event=%F0%9F%A5%9B", "{\"z\":1e999,\"a\":\"\u{9b}2J\"}").await;
    tail.line_ends(" other 🥛 {\"z\":1e999,\"a\":\"\u{fffd}2J\"}").await;
    let (code, said) = tail.interrupt().await;
    assert_eq!(code, 0, "{said}");
    let cursor = said.trim().strip_prefix("-- cursor ").expect("the cursor").to_owned();

    let id = node.publish("todo", "\"next\"").await;
    let done = run(&["tail", "todo", "--cursor", &cursor, "--json", "--count", "1", "--url", &url], "").await;
    let object: Value = serde_json::from_str(&done.out).expect("one JSON object");
    assert_eq!((object["id"].as_str(), object["data"].as_str(), done.code), (Some(&*id), Some("next"), 0));
    // The user may end the command before the last message.
    let mut tail = Running::start(&["tail", "todo", "--cursor", "earliest", "--count", "3", "--url", &url]);
    tail.line_ends(" 0").await;
    assert_eq!(tail.end().await.0, 0);
}

/// The server stops and comes back. Its log has then lost the messages that were not read.
#[tokio::test]
async fn tail_comes_back_and_tells_of_gaps() {
    let redis = RedisServer::start().await;
    let mut node = start_on(&redis, &[]).await;
    let (http, tcp) = (node.http.to_string(), node.tcp.to_string());
    let again = ["--listen", &http, "--tcp-listen", &tcp];
    let mut tail = Running::start(&["tail", "todo", "--cursor", "earliest", "--url", &format!("http://{http}")]);
    node.publish("todo", "1").await;
    tail.line_ends(" 1").await;
    node.signal("KILL");
    node.exit_code().await;
    node = start_on(&redis, &again).await;
    node.publish("todo", "2").await;
    tail.line_ends(" 2").await;

    node.signal("TERM");
    assert_eq!(node.exit_code().await, 0);
    redis.command(&["DEL", "longtail:log"]).await;
    node = start_on(&redis, &again).await;
    node.publish("todo", "3").await;
    let line = tail.line().await.expect("a line");
    assert!(line.starts_with("-- gap: messages after "), "{line}");
    tail.line_ends(" 3").await;
    let (code, said) = tail.interrupt().await;
    assert!(code == 0 && said.contains("-- drain; reconnecting"), "{said}");
}
