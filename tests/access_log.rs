//! The access log has a line for each request, written when the request ends. No log contains a credential.

use crate::support;

use std::path::PathBuf;
use std::time::Duration;
use support::http::raw;
use support::redis::fresh_dir;
use support::server::run_to_end;
use support::websocket::handshake;
use support::{Kind, Log, Metrics, Node, Reader, Request, Response, Subscription, World, each_transport, eventually};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

struct Lines {
    dir: PathBuf,
}

impl Lines {
    fn new() -> Lines {
        Lines { dir: fresh_dir("access-log") }
    }

    fn path(&self) -> String {
        self.dir.join("access.log").display().to_string()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap_or_default()
    }

    /// The first line that contains `wanted`.
    async fn with(&self, wanted: &str) -> String {
        eventually(&format!("a line with {wanted}"), async || {
            self.text().lines().find(|line| line.contains(wanted)).map(str::to_owned)
        })
        .await
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

#[tokio::test]
async fn each_request_is_a_line() {
    let lines = Lines::new();
    let World { node, .. } = World::start(Log::Memory, &["--access-log", &lines.path()]).await;
    node.publish("todo", "1").await;
    let line = lines.with("\"POST /publish?channel=todo\"").await;
    let words: Vec<&str> = line.rsplit(' ').collect();
    let bytes: u64 = words[2].parse().expect("bytes");
    assert_eq!((words[0], words[3], bytes > 40), ("-", "200", true), "{line}");
    assert!(line.starts_with("20") && line.contains("Z 127.0.0.1 \"POST"), "{line}");
    node.get("/nothing").await;
    assert!(lines.with("\"GET /nothing\"").await.contains("\" 404 "), "{}", lines.text());

    each_transport(
        &node,
        |transport| transport.is_stream(),
        async |transport| {
            let name = transport.name.clone();
            let channel = format!("of-{name}");
            let subscription = Subscription::to(&[&channel]).from(&node.latest(&channel).await);
            let mut reader = Reader::open(&node, &transport, subscription).await;
            reader.next_of(Kind::Hello).await;
            let published = node.publish_numbers(&channel, 20).await;
            reader.expect(&published).await;
            assert!(!lines.text().contains(&format!(" {name}\n")), "{name}: a stream is written at its end");
            drop(reader);
            let line = lines.with(&format!(" {name}")).await;
            let status = match transport.lifecycle.as_str() {
                "socket" => "-",
                "duplex" => "101",
                _ => "200",
            };
            let words: Vec<&str> = line.rsplit(' ').collect();
            let bytes: u64 = words[2].parse().expect("bytes");
            assert!(words[3] == status && bytes > 1000, "{line}");
        },
    )
    .await;
}

/// A repeated head is recognised without being parsed. Such requests are in the log like all others, as are those that
/// hyper reads.
#[tokio::test]
async fn requests_of_the_fast_path_are_lines() {
    for plain in ["true", "false"] {
        let lines = Lines::new();
        let args = ["--access-log", &lines.path(), "--plain-requests", plain];
        let World { node, .. } = World::start(Log::Memory, &args).await;
        let mut poller = TcpStream::connect(node.http).await.expect("connect");
        let mut publisher = TcpStream::connect(node.http).await.expect("connect");
        let mut cursor = "latest".to_owned();
        for n in 0..4 {
            let poll =
                format!("GET /long-poll?channel=a&cursor={cursor}&token=SECRET HTTP/1.1\r\nHost: localhost\r\n\r\n");
            poller.write_all(poll.as_bytes()).await.expect("write");
            eventually("the poll to wait", async || {
                (node.get("/channels/a").await.json()["readers"]["total"] == 1).then_some(())
            })
            .await;
            let publish = format!(
                "POST /publish?channel=a&key=SECRET{n} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n{n}"
            );
            publisher.write_all(publish.as_bytes()).await.expect("write");
            publisher = answered(publisher).await.0;
            let (stream, batch) = answered(poller).await;
            poller = stream;
            cursor = batch["cursor"].as_str().expect("a cursor").to_owned();
        }
        // The line of a poll that the hub has answered is written when its client asks again or disconnects. The time
        // in between does not count.
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop((poller, publisher));
        let count = |text: &str| lines.text().lines().filter(|line| line.contains(text)).count();
        eventually("all lines", async || (count(" long-poll") == 4).then_some(())).await;
        assert_eq!(count("\"POST /publish?channel=a&key=[removed]\" 200 "), 4, "{}", lines.text());
        assert_eq!(count("\"GET /long-poll?channel=a&cursor="), 4, "{}", lines.text());
        for line in lines.text().lines().filter(|line| line.contains("/long-poll")) {
            let words: Vec<&str> = line.rsplit(' ').collect();
            let (bytes, seconds): (u64, f64) = (words[2].parse().expect("bytes"), words[1].parse().expect("seconds"));
            assert!(words[3] == "200" && bytes > 60 && line.contains("token=[removed]"), "{line}");
            assert!(seconds < 5.0, "{line}");
        }
        assert!(!lines.text().contains("SECRET"), "{}", lines.text());
    }
}

/// Reads an answer, and gives the connection back.
async fn answered(stream: TcpStream) -> (TcpStream, serde_json::Value) {
    let mut answer = Response::new(stream, false);
    answer.read_head().await.expect("an answer");
    answer.finish().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let batch = answer.json();
    (answer.into_stream().0.into_plain(), batch)
}

/// The log does not delay requests, and lost lines are counted and reported.
#[tokio::test]
async fn a_log_that_cannot_be_written_holds_up_nobody() {
    let World { mut node, .. } = World::start(Log::Memory, &["--access-log", "/dev/full"]).await;
    for n in 0..50 {
        assert_eq!(node.get(&format!("/n{n}")).await.status, 404);
    }
    eventually("lost lines to be counted", async || {
        (node.metric("longtail_access_log_dropped_lines_total").await >= 50.0).then_some(())
    })
    .await;
    assert_eq!(node.log().matches("the access log cannot be written").count(), 1, "{}", node.log());
    node.signal("TERM");
    assert_eq!(node.exit_code().await, 0);
}

/// A file that is moved away is created again, as logrotate expects; the shutdown does not lose a line.
#[tokio::test]
async fn the_file_may_be_moved_away() {
    let lines = Lines::new();
    let World { mut node, .. } = World::start(Log::Memory, &["--access-log", &lines.path()]).await;
    node.get("/first").await;
    lines.with("/first").await;
    let moved = lines.dir.join("access.log.1");
    std::fs::rename(lines.path(), &moved).expect("moved");
    eventually("a new file", async || {
        node.get("/second").await;
        lines.text().contains("/second").then_some(())
    })
    .await;
    let old = std::fs::read_to_string(&moved).expect("the old file");
    assert!(old.contains("/first"), "/first in the old file: {old}");
    for n in 0..200 {
        node.get(&format!("/n{n}")).await;
    }
    node.signal("TERM");
    assert_eq!(node.exit_code().await, 0);
    let text = lines.text();
    assert!((0..200).all(|n| text.contains(&format!("\"GET /n{n}\" 404"))), "{}", text.lines().count());
}

/// logrotate, with the settings that the package installs. After SIGHUP, the old file gets no more lines.
#[tokio::test]
async fn logrotate_and_sighup() {
    let lines = Lines::new();
    let World { node, .. } = World::start(Log::Memory, &["--access-log", &lines.path()]).await;
    node.get("/first").await;
    lines.with("/first").await;
    let settings = include_str!("../packaging/logrotate");
    let hup = format!("kill -HUP {}", node.pid());
    for part in ["/var/log/longtail/access.log {", "systemctl reload longtail.service", "create 0640 longtail longtail"]
    {
        assert!(settings.contains(part), "packaging/logrotate has no {part:?}");
    }
    let settings = settings.replace("/var/log/longtail/access.log {", &format!("{} {{", lines.path()));
    let settings = settings.replace("systemctl reload longtail.service", &hup);
    let settings = settings.replace("create 0640 longtail longtail", "create 0640");
    let config = lines.dir.join("logrotate.conf");
    std::fs::write(&config, settings).expect("written");
    let mut rotate = std::process::Command::new("logrotate");
    rotate.args(["--force", "--state"]).arg(lines.dir.join("state")).arg(&config);
    let done = rotate.output().expect("logrotate is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    node.logged("the access log was opened again").await;
    node.get("/second").await;
    assert!(lines.with("/second").await.contains("GET /second"));
    let old = std::fs::read_to_string(lines.dir.join("access.log.1")).expect("the old file");
    assert!(old.contains("/first") && !old.contains("/second") && !lines.text().contains("/first"), "{old}");

    // A path that cannot be opened leaves the old file in use.
    std::fs::rename(lines.path(), lines.dir.join("moved")).expect("moved");
    std::fs::create_dir(lines.path()).expect("a folder in its place");
    node.signal("HUP");
    node.logged("lines go to the old file").await;
    assert_eq!(node.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_a_bad_configuration() {
    let (code, said) = run_to_end(&["--listen", "127.0.0.1:0", "--access-log", "/nowhere/access.log"]).await;
    assert!(
        code == 64 && said.contains("--access-log") && said.lines().last().is_some_and(|line| line.len() > 20),
        "{said}"
    );
}

const SECRET: &str = "S3cr3tOfMine";

async fn send_secrets(node: &Node) {
    for name in ["token", "key", "access_token", "Token", "t%6Fken", "password", "unknown", SECRET] {
        for path in ["/poll", "/sse", "/publish", "/jsonp", "/info", "/nothing", "/channels/a", "/metrics"] {
            let target = format!("{path}?channel=a&last=x&callback=cb&{name}={SECRET}");
            for request in [Request::get(&target), Request::post(&target, SECRET.as_bytes())] {
                let request = request
                    .header("Authorization", &format!("Bearer {SECRET}"))
                    .header("Cookie", &format!("longtail_token={SECRET}; PHPSESSID={SECRET}"))
                    .header("X-Api-Key", SECRET);
                request.try_send(node.http).await;
            }
        }
    }
    handshake(&format!("/ws?channel=a&token={SECRET}")).header("Authorization", SECRET).open(node.http).await;
    let form = format!("channel=a&cursor=nonsense&token={SECRET}");
    Request::form("/poll", &form).send(node.http).await;
    for request in [
        format!("GET http://user:{SECRET}@localhost/poll?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("{SECRET} /poll HTTP/1.1\r\nHost: {SECRET}\r\n\r\n"),
        format!("GET /poll?channel=a HTTP/9.9{SECRET}\r\n\r\n"),
        format!("GET /poll?channel=a HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer {SECRET}\r\n\r\n"),
    ] {
        raw(node.http, request.as_bytes()).await;
    }
    let mut client = support::LineClient::connect(node.tcp).await;
    for command in [
        format!(r#"{{"type":"subscribe","channels":["a"],"cursor":"x","token":"{SECRET}"}}"#),
        format!(r#"{{"type":"{SECRET}","token":"{SECRET}"}}"#),
        format!(r#"{{"token":"{SECRET}"#),
    ] {
        client.send(&command).await;
        client.line().await;
    }
}

/// There is no credential in the access log, in the log at its most verbose level, or in the metrics.
#[tokio::test]
async fn no_credential_is_written_down() {
    let lines = Lines::new();
    let args = ["--access-log", &lines.path(), "--log", "trace"];
    let World { node, redis: _redis } = World::start(Log::Redis, &args).await;
    send_secrets(&node).await;
    node.get("/the-last").await;
    lines.with("/the-last").await;
    let (access, log) = (lines.text(), node.log());
    assert!(access.contains("?channel=a&last=x&callback=cb&token=[removed]"), "{access}");
    assert!(log.contains("DEBUG"), "the log at its most talkative: {log}");
    // The method of one request is the secret. It is not a credential, and shows that the search works.
    let found: Vec<&str> = access.lines().filter(|line| line.contains(SECRET)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(&format!("\"{SECRET} /poll\" ")), "{found:?}");
    let found: Vec<&str> = log.lines().filter(|line| line.contains(SECRET)).collect();
    assert!(found.is_empty(), "{found:?}");
    let metrics = Metrics::of(&node).await.text;
    assert!(!metrics.contains(SECRET), "the secret in {metrics}");
    assert_eq!(node.get("/healthz").await.status, 200, "it lives");
}
