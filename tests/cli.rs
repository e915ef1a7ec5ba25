//! `longtail check`, `publish` and `tail`, as people run them.

use crate::support;

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::command::{Running, run, run_unread};
use support::token::{SECRET, seconds, token};
use support::world::start_on;
use support::{Caddy, Haproxy, Log, Nginx, Node, Reader, RedisServer, Subscription, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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
        assert_eq!(told.contains("waited for 1 s"), transport.is_poll() && transport.waits(), "{told}");
    }
    assert!(done.out.contains(&format!("{0} of {0} transports work", transports.len())), "{done}");
    assert!(transports.len() >= 10 && !done.out.contains('!'), "{done}");
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done}");
}

/// `check` prints whether the server has presence. `tail --presence` prints changes of members among the messages.
#[tokio::test]
async fn the_commands_know_presence() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    assert!(!run(&["check", &url(&node), "--idle", "0"], "").await.out.contains("presence"));
    let access = ["--token-secret", SECRET, "--public", "*", "--presence", "room"];
    let World { node, .. } = World::start(Log::Memory, &access).await;
    let url = url(&node);
    let done = run(&["check", &url, "--idle", "0"], "").await;
    assert!(done.out.contains("presence is on: the server knows the members of some channels, at most 100"), "{done}");
    let ann = token(&json!({"sub": "ann", "info": 7, "subscribe": ["room"], "exp": seconds(600)}));
    let subscription = Subscription::to(&["room"]).with("token", &ann);
    let reader = Reader::open(&node, &node.transport("sse").await, subscription).await;
    let tail = async |more: &[&str]| {
        let mut tail = Running::start(&[&["tail", "room", "--url", &url, "--cursor", "earliest"], more].concat());
        let line = tail.line().await.expect("a line");
        drop(tail.interrupt().await);
        line
    };
    let line = tail(&["--presence"]).await;
    assert!(line.ends_with(r#" room member_added {"id":"ann","info":7}"#), "{line}");
    let json: Value = serde_json::from_str(&tail(&["--presence", "--json"]).await).expect("JSON");
    assert_eq!((&json["type"], &json["data"]["id"]), (&json!("member_added"), &json!("ann")), "{json}");
    drop(reader);
}

/// nginx with its default configuration: HTTP/1.0 to the server, no `Upgrade`.
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

/// A read timeout that is shorter than any heartbeat is found without a flag.
#[tokio::test]
async fn check_finds_short_read_timeouts() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let settings = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_read_timeout 1s; \
                    proxy_set_header Connection $connection_upgrade;";
    let nginx = Nginx::before(&node, settings).await;
    let done = run(&["check", &format!("http://{}", nginx.http), "--tcp", &node.tcp.to_string()], "").await;
    for cut in ["sse", "ws", "ndjson", "xhr-stream", "multipart", "forever-frame", "long-poll", "jsonp"] {
        let told = line(&done.out, cut);
        assert!(told.starts_with('✗') && told.contains("read timeout"), "{told}");
    }
    assert!(done.code == 1 && done.out.contains("2 of 10 transports work"), "{done}");
}

/// A proxy that compresses for clients that ask for it, as browsers do, and holds back the compressed bytes.
#[tokio::test]
async fn check_finds_what_is_held_back_when_it_is_compressed() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let caddy = Caddy::before(&node, "encode gzip {\n minimum_length 1\n match header Content-Type *\n}").await;
    let done = run(&["check", &format!("http://{}", caddy.http), "--tcp", &node.tcp.to_string()], "").await;
    for held in ["sse", "ndjson"] {
        let told = line(&done.out, held);
        assert!(told.starts_with('✗') && told.contains("if it is not compressed"), "{done}");
    }
    for passes in ["poll", "long-poll", "jsonp"] {
        assert!(line(&done.out, passes).starts_with('✓'), "{done}");
    }
    assert_eq!(done.code, 1, "{done}");
}

/// A path that drops each connection after its first answer: when the next request comes, it resets the connection, or
/// closes it without a byte.
async fn forgetful(node: SocketAddr, forgotten: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let at = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(one_answer(client, node, forgotten.clone()));
        }
    });
    at
}

async fn one_answer(mut client: TcpStream, node: SocketAddr, forgotten: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(node).await?;
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    let mut has_answered = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read?;
                // This is a second request. A WebSocket has only one.
                if has_answered && [&b"GET "[..], b"POST"].iter().any(|method| up[..read].starts_with(method)) {
                    if forgotten.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                        client.set_zero_linger()?;
                    }
                    return Ok(());
                }
                if read == 0 {
                    return Ok(());
                }
                server.write_all(&up[..read]).await?;
            }
            read = server.read(&mut down) => {
                let read = read?;
                has_answered = true;
                if read == 0 {
                    return Ok(());
                }
                client.write_all(&down[..read]).await?;
            }
        }
    }
}

/// If a proxy has closed a kept connection, `check` does not report that as a fault of a transport.
#[tokio::test]
async fn check_repeats_what_met_a_connection_that_ended() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let forgotten = Arc::<AtomicUsize>::default();
    let path = forgetful(node.http, forgotten.clone()).await;
    let tcp = node.tcp.to_string();
    let done = run(&["check", &format!("http://{path}"), "--tcp", &tcp, "--idle", "0"], "").await;
    assert!(done.code == 0 && done.out.contains("10 of 10 transports work"), "{done}");
    let forgotten = forgotten.load(Ordering::SeqCst);
    assert!(forgotten >= 3, "only {forgotten} requests met a connection that ended");
}

/// The reader of the output may have gone, as in `longtail check | head -1`.
#[tokio::test]
async fn commands_end_quietly_if_nobody_reads() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let url = url(&node);
    node.publish_numbers("todo", 3).await;
    for (args, input, wanted) in [
        (vec!["check", &url, "--idle", "0"], "", 0),
        (vec!["check", "http://127.0.0.1:1"], "", 69),
        (vec!["tail", "todo", "--cursor", "earliest", "--url", &url], "", 0),
        (vec!["tail", "todo", "--cursor", "nonsense", "--url", &url], "", 1),
        (vec!["publish", "todo", "unread", "--url", &url], "", 0),
        (vec!["publish", "todo", "--lines", "--url", &url], "unread\nunread\n", 0),
        (vec!["publish", "a b", "1", "--url", &url], "", 1),
        (vec!["--help"], "", 0),
        (vec!["check", "--help"], "", 0),
        (vec!["--version"], "", 0),
        (vec!["--nonsense"], "", 64),
    ] {
        let (code, said) = run_unread(&args, input, true).await;
        assert_eq!(code, wanted, "{args:?}: {said}");
        assert!(!said.contains("panicked") && (code != 0 || said.is_empty()), "{args:?}: {said}");
        assert_eq!(run_unread(&args, input, false).await.0, wanted, "{args:?}: nobody reads the error either");
    }
    // A command publishes its message whether a program reads the id or not.
    let batch = node.get("/poll?channel=todo&cursor=earliest").await.text();
    assert_eq!(batch.matches("\"unread\"").count(), 6, "{batch}");
}

/// Another server, or a proxy whose server is down, answers with a page of its own.
#[tokio::test]
async fn pages_of_other_servers_are_not_printed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let at = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        // A client may open a connection and send nothing on it.
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if !stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    return;
                }
                let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body></html>";
                let answer = format!("HTTP/1.1 502 X\r\nContent-Length: {}\r\n\r\n{page}", page.len());
                stream.write_all(answer.as_bytes()).await.ok();
            });
        }
    });
    let url = format!("http://{at}");
    for args in [vec!["check", &url], vec!["publish", "a", "1", "--url", &url], vec!["tail", "a", "--url", &url]] {
        let (code, said) = if args[0] == "tail" {
            // The command continues until it is interrupted.
            let mut tail = Running::start(&args);
            let said = tail.remark().await;
            let (code, rest) = tail.interrupt().await;
            (code, said + &rest)
        } else {
            let done = run(&args, "").await;
            assert_eq!(done.out, "", "{done}");
            (done.code, done.err)
        };
        assert!(said.contains("502 an HTML page, not an answer of a Longtail server"), "{args:?}: {code} {said}");
        assert!(!said.contains('<') && !said.contains("title"), "{args:?}: {said}");
    }
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

/// A message may have several channels, arguments, and readers that do not get it.
#[tokio::test]
async fn publish_takes_all_fields_of_a_message() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let url = url(&node);
    for (args, input) in [
        (&["a", "1", "--channel", "b", "--except", "me", "--except", "c", "--event", "added"][..], ""),
        (&["b", "[2,\"x\"]", "--args", "--channel", "a", "--except", "me", "--exclude", "you", "--event", "moved"], ""),
        (&["a", "--args", "--lines"], "[3]\n[4, 1e400]\n[]\n"),
        (&["a", "[5]", "--args", "--key", "k"], ""),
        (&["a", "[5]", "--args", "--key", "k"], ""),
    ] {
        let done = run(&[&["publish", "--url", &url], args].concat(), input).await;
        assert_eq!(done.code, 0, "{args:?}: {done}");
    }
    let read = async |query: &str| {
        let batch = node.get(&format!("/poll?cursor=earliest&{query}")).await.text();
        let batch: serde_json::Value = serde_json::from_str(&batch.replace("1e400", "\"1e400\"")).expect("JSON");
        let messages = batch["messages"].as_array().expect("messages").clone();
        messages
            .iter()
            .map(|message| format!("{} {}", message["event"].as_str().unwrap_or(""), message["data"]))
            .collect::<Vec<_>>()
    };
    let (one, two) = ("added 1", "moved [2,\"x\"]");
    let rest = ["message [3]", "message [4,\"1e400\"]", "message []", "message [5]"];
    let all: Vec<&str> = [one, two].iter().chain(&rest).copied().collect();
    assert_eq!(read("channel=a").await, all);
    assert_eq!(read("channel=a,b").await, all, "once");
    assert_eq!(read("channel=b").await, [one, two]);
    assert_eq!(read("channel=a&client=me").await, rest);
    assert_eq!(read("channel=b,c").await, [two]);
    assert_eq!(read("channel=b&client=you").await, [one]);

    for (args, code, said) in [
        (&["a", "{}", "--args"][..], 64, "with --args, the payload is a JSON array"),
        (&["a", "1", "--channel", "a b"], 1, "400 bad_channel"),
        (&["a", "[1]", "--args", "--text"], 64, "--text"),
    ] {
        let done = run(&[&["publish", "--url", &url], args].concat(), "").await;
        assert!(done.code == code && done.err.contains(said), "{args:?}: {done}");
    }
    let done = run(&["publish", "a", "--args", "--lines", "--url", &url], "[1]\n{}\n[2]\n").await;
    assert!(done.code == 1 && done.err.starts_with("longtail publish: line 2: with --args"), "{done}");
    assert_eq!(done.out.lines().count(), 2, "{done}");
}

/// If the server refuses a line, the command still publishes the other lines.
#[tokio::test]
async fn publish_goes_on_after_a_bad_line() {
    let World { node, .. } = World::start(Log::Memory, &["--max-message-bytes", "64"]).await;
    let url = url(&node);
    let long = "x".repeat(65);
    let input = format!("1\n{long}\r\n\"three\"\r\n{long}\n5");
    let done = run(&["publish", "todo", "--lines", "--url", &url], &input).await;
    assert_eq!((done.code, done.out.lines().count()), (1, 3), "{done}");
    let said: Vec<&str> = done.err.lines().collect();
    assert_eq!(said.len(), 3, "{done}");
    assert!(said[0].starts_with("longtail publish: line 2: 413 too_large: "), "{done}");
    assert!(said[1].starts_with("longtail publish: line 4: 413 too_large: "), "{done}");
    assert_eq!(said[2], "longtail publish: 2 of 5 lines are not published", "{done}");
    let batch = node.get("/poll?channel=todo&cursor=earliest").await.json();
    let data: Vec<String> =
        batch["messages"].as_array().expect("messages").iter().map(|m| m["data"].to_string()).collect();
    assert_eq!(data, ["1", "\"three\"", "5"]);
    // A failure that would come for each line ends the command, and the error names the line.
    let done = run(&["publish", "a b", "--lines", "--url", "http://127.0.0.1:1"], "1\n2\n").await;
    assert!(done.code == 69 && done.err.starts_with("longtail publish: stopped at line 1\n"), "{done}");
}

/// The error names the number of a line that is not UTF-8.
#[tokio::test]
async fn publish_tells_of_lines_that_are_not_utf8() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let file = support::redis::fresh_dir("lines").join("lines");
    std::fs::write(&file, b"1\n\xff\xfe\n3\n").expect("a file");
    let script = format!("exec \"$0\" publish todo --lines --url {} < {}", url(&node), file.display());
    let mut shell = tokio::process::Command::new("sh");
    let output = shell.args(["-c", &script, env!("CARGO_BIN_EXE_longtail")]).output().await.expect("its output");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.iter().filter(|b| **b == b'\n').count()), (Some(1), 2), "{said}");
    assert!(said.starts_with("longtail publish: line 2: 400 not_utf8: "), "{said}");
    std::fs::remove_dir_all(file.parent().expect("a directory")).ok();
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
