//! Log lines on standard error: they never stop or end the server, and no client can cause an unlimited number of them.

use crate::support;

use std::fs::File;
use std::io::{PipeReader, Read, Write, pipe};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::frames::{ACK, PING, Raw, frame};
use support::ports::free_port;
use support::redis::{fresh_dir, signal};
use support::server::run_to_end;
use support::world::start_on;
use support::{Certificate, Node, RedisServer, Request, SOON, eventually, within};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// A standard error that does not accept lines.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stderr {
    /// The disk is full.
    Full,
    /// A pipe whose reader has closed it.
    Closed,
    /// A pipe that is full and is never read.
    Stuck,
}

const ALL: [Stderr; 3] = [Stderr::Full, Stderr::Closed, Stderr::Stuck];

/// The capacity of a pipe (pipe(7)).
const PIPE: usize = 64 << 10;

impl Stderr {
    /// Opens it. The reader keeps the pipe open.
    fn open(self) -> (Stdio, Option<PipeReader>) {
        if self == Stderr::Full {
            return (File::options().write(true).open("/dev/full").expect("/dev/full").into(), None);
        }
        let (reader, mut writer) = pipe().expect("a pipe");
        if self == Stderr::Stuck {
            writer.write_all(&[b'x'; PIPE]).expect("room");
            return (writer.into(), Some(reader));
        }
        (writer.into(), None)
    }
}

/// A server whose addresses are not read.
struct Mute {
    child: Child,
    http: SocketAddr,
    /// The pipes are held open, and not read.
    _readers: [Option<PipeReader>; 2],
}

impl Mute {
    fn start(stderr: impl Into<Stdio>, reader: Option<PipeReader>, args: &[&str]) -> Mute {
        Mute::start_with([stderr.into(), Stdio::null()], [reader, None], args)
    }

    /// Starts a server with these files as standard error and standard output.
    fn start_with([stderr, stdout]: [Stdio; 2], readers: [Option<PipeReader>; 2], args: &[&str]) -> Mute {
        let http = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_longtail"));
        // A command comes before its flags.
        let (name, args) = args.split_at(args.iter().take(1).filter(|arg| !arg.starts_with('-')).count());
        command.args(name).args(["--listen", &http, "--tcp-listen", "off"]).args(args);
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().expect("the server");
        Mute { child, http: http.parse().expect("an address"), _readers: readers }
    }

    async fn ready(&self) {
        eventually("/readyz to answer 200", async || {
            let answer = Request::get("/readyz").try_send(self.http).await?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    async fn publish(&self, channel: &str) -> u16 {
        let request = Request::post(&format!("/publish?channel={channel}"), b"1");
        request.try_send(self.http).await.map_or(0, |answer| answer.status)
    }

    async fn metric(&self, name: &str) -> f64 {
        let text = Request::get("/metrics").send(self.http).await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(-1.0)
    }

    async fn exit_code(&mut self) -> i32 {
        eventually("the server to exit", async || {
            // The server's own handle is polled below; this process only waits.
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z')).then_some(())
        })
        .await;
        self.child.wait().expect("wait").code().unwrap_or(-1)
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn foreign_pages(http: SocketAddr, count: usize) {
    for n in 0..count {
        let origin = format!("http://evil-{n}.example");
        let answer = Request::get("/poll?channel=a").header("Origin", &origin).send(http).await;
        assert_eq!(answer.status, 403);
    }
}

/// Reads a stream until its `bye`.
async fn stream(http: SocketAddr) -> support::Response {
    let mut stream = Request::get("/ndjson?channel=todo").open(http).await;
    stream.read_some().await.expect("a hello");
    stream
}

#[tokio::test]
async fn a_server_that_cannot_log_serves_and_drains() {
    for stderr in ALL {
        let (stdio, reader) = stderr.open();
        let mut node = Mute::start(stdio, reader, &[]);
        node.ready().await;
        let mut reader = stream(node.http).await;
        foreign_pages(node.http, 30).await;
        let began = Instant::now();
        assert_eq!(Request::get("/healthz").send(node.http).await.status, 200, "{stderr:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{stderr:?}: /healthz took {:?}", began.elapsed());
        assert_eq!(node.publish("todo").await, 200, "{stderr:?}");
        let dropped = node.metric("longtail_logging_dropped_lines_total").await;
        // Lines that wait for a reader may still be written.
        assert_eq!(dropped >= 10.0, stderr != Stderr::Stuck, "{stderr:?}: {dropped} lines are counted");
        signal(node.child.id(), "TERM");
        within(SOON, "a farewell", async {
            while !reader.text().contains("4001") {
                reader.read_some().await.expect("a farewell before the end");
            }
        })
        .await;
        assert_eq!(node.exit_code().await, 0, "{stderr:?}");
    }
}

/// Standard output holds the access log, and a line of the demo.
#[tokio::test]
async fn standard_output_that_takes_nothing_stops_nothing() {
    for kind in ALL {
        for (args, is_logged) in [(&["--access-log", "-"][..], true), (&["demo"], false)] {
            #[cfg(not(feature = "demo"))]
            if !is_logged {
                continue;
            }
            let ((stderr, reader), (stdout, other)) = (kind.open(), kind.open());
            let mut node = Mute::start_with([stderr, stdout], [reader, other], args);
            node.ready().await;
            let mut reader = stream(node.http).await;
            foreign_pages(node.http, 30).await;
            if is_logged && kind != Stderr::Stuck {
                eventually("lost lines to be counted", async || {
                    let dropped = node.metric("longtail_access_log_dropped_lines_total").await;
                    (dropped >= 30.0).then_some(())
                })
                .await;
            }
            signal(node.child.id(), "TERM");
            within(SOON, "a farewell", async {
                while !reader.text().contains("4001") {
                    reader.read_some().await.expect("a farewell before the end");
                }
            })
            .await;
            assert_eq!(node.exit_code().await, 0, "{kind:?} {args:?}");
        }
    }
}

/// A script may take `listening on` as the sign that the server has started.
#[tokio::test]
async fn the_addresses_are_told_when_everything_else_is_good() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    for bad in [
        ["--redis", "redis://127.0.0.1:1/"],
        ["--redis-tls-ca", "/nowhere/ca.pem"],
        ["--access-log", "/nowhere/access.log"],
        ["--token-secret-file", "/nowhere/secret"],
        ["--token-public-key", "/nowhere/key.pem"],
        ["--admin-listen", &taken],
    ] {
        let start = ["--listen", "127.0.0.1:0", "--tcp-listen", "off"];
        let redis = ["--redis", "rediss://127.0.0.1:1/"];
        let redis = if bad[0] == "--redis-tls-ca" { &redis[..] } else { &[] };
        let (code, said) = run_to_end(&[&start[..], redis, &bad].concat()).await;
        assert!((64..=71).contains(&code), "{bad:?}: {code} {said}");
        assert!(!said.contains("listening"), "{bad:?}: {said}");
    }
}

/// The tail, the appender and the bridge log what happens to Redis.
#[tokio::test]
async fn a_server_that_cannot_log_outlives_its_redis() {
    for stderr in ALL {
        let mut redis = RedisServer::start_durable().await;
        let (stdio, reader) = stderr.open();
        let mut node = Mute::start(stdio, reader, &["--redis", &redis.url(), "--log", "trace"]);
        node.ready().await;
        let mut reader = stream(node.http).await;
        for round in 0..2 {
            redis.kill();
            eventually("the node to notice", async || {
                (Request::get("/readyz").send(node.http).await.status == 503).then_some(())
            })
            .await;
            redis.restart().await;
            node.ready().await;
            eventually("a publish", async || {
                (node.publish(&format!("todo&event=e{round}")).await == 200).then_some(())
            })
            .await;
            within(SOON, "the message", async {
                while !reader.text().contains(&format!("\"e{round}\"")) {
                    reader.read_some().await.expect("the stream goes on");
                }
            })
            .await;
            redis.listened(1).await;
            redis.command(&["PUBLISH", "push:todo", &format!("{{\"event\":\"p{round}\",\"data\":1}}")]).await;
            within(SOON, "what was PUBLISHed", async {
                while !reader.text().contains(&format!("\"p{round}\"")) {
                    reader.read_some().await.expect("the stream goes on");
                }
            })
            .await;
        }
        signal(node.child.id(), "TERM");
        assert_eq!(node.exit_code().await, 0, "{stderr:?}");
    }
}

#[tokio::test]
async fn a_bad_start_keeps_its_exit_code() {
    for stderr in ALL {
        for (args, code) in [
            (&["--log", "nonsense"][..], 64),
            (&["--nonsense"], 64),
            (&["--tls-cert", "/nowhere/a.pem", "--tls-key", "/nowhere/b.pem"], 64),
            (&["--redis", "redis://127.0.0.1:1/"], 69),
        ] {
            // A mistake in the command line is reported before there is a thread that could wait for a reader.
            if stderr == Stderr::Stuck && args.len() == 1 {
                continue;
            }
            let (stdio, reader) = stderr.open();
            let mut node = Mute::start(stdio, reader, args);
            assert_eq!(node.exit_code().await, code, "{stderr:?} {args:?}");
        }
    }
}

/// The log reports lost lines as soon as it can be written again.
#[tokio::test]
async fn lost_lines_are_told_when_there_is_a_reader_again() {
    let path = fresh_dir("stderr").join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    let read = || File::options().read(true).write(true).open(&path).expect("the pipe");
    // The server's writing end does not keep the pipe open: a process that only writes gets an error.
    let holder = read();
    let stderr = File::options().write(true).open(&path).expect("the pipe");
    drop(holder);
    let node = Mute::start(stderr, None, &[]);
    node.ready().await;
    foreign_pages(node.http, 20).await;
    let dropped = node.metric("longtail_logging_dropped_lines_total").await;
    assert!(dropped >= 10.0, "{dropped} lines are counted");

    let text = Arc::new(Mutex::new(String::new()));
    let (mut reader, seen) = (read(), text.clone());
    std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(read) = reader.read(&mut part) {
            seen.lock().expect("text").push_str(&String::from_utf8_lossy(&part[..read]));
        }
    });
    signal(node.child.id(), "HUP");
    eventually("a word about lost lines", async || {
        let text = text.lock().expect("text").clone();
        let line = text.lines().find(|line| line.contains("log lines were lost"))?;
        assert!(text.contains("nothing to reload"), "the line that could be written: {text}");
        let (_, count) = line.split_once("dropped=")?;
        let count: f64 = count.split(' ').next()?.parse().ok()?;
        (count >= dropped).then_some(())
    })
    .await;
}

/// The lines at `info` and above that a client, a publisher or Redis can cause, and the way in which each is caused.
#[derive(Clone, Copy, Debug)]
enum Flood {
    ForeignOrigin,
    PingAcks,
    AppendRefused,
    ForeignEntry,
    InvalidPublish,
    AuthorizeUrl,
}

const FLOODS: [(Flood, &str); 6] = [
    (Flood::ForeignOrigin, "refused a page of a foreign origin"),
    (Flood::PingAcks, "recv PING ack that we never sent"),
    (Flood::AppendRefused, "an append failed"),
    (Flood::ForeignEntry, "skipped an entry of the log that is not a message"),
    (Flood::InvalidPublish, "a PUBLISH is not a message"),
    (Flood::AuthorizeUrl, "the application at --authorize-url did not decide"),
];

/// How many times the test causes each line.
const TIMES: usize = 300;

impl Flood {
    async fn cause(self, node: &Node, guarded: &Node, redis: &RedisServer) {
        match self {
            Flood::ForeignOrigin => foreign_pages(node.http, TIMES).await,
            Flood::PingAcks => {
                let mut client = Raw::open(node, b"").await;
                for _ in 0..TIMES {
                    client.send(&frame(PING, ACK, 0, b"unwanted")).await;
                }
            }
            Flood::AppendRefused => {
                redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
                for _ in 0..TIMES {
                    let status = node.try_publish("channel=a", "1").await.status;
                    assert_eq!(status, 503, "Redis is full");
                }
                redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
            }
            Flood::ForeignEntry => {
                for _ in 0..TIMES {
                    redis.command(&["XADD", "longtail:log", "*", "nonsense", "1"]).await;
                }
            }
            Flood::InvalidPublish => {
                for _ in 0..TIMES {
                    redis.command(&["PUBLISH", "push:a b", "1"]).await;
                }
            }
            Flood::AuthorizeUrl => {
                for n in 0..TIMES {
                    let status = guarded.get(&format!("/poll?channel=a{n}")).await.status;
                    assert!(status >= 400, "{status}");
                }
            }
        }
    }
}

/// Each line that a client can cause has a rate, and the lines that are left out are counted.
#[tokio::test]
async fn no_client_can_cause_lines_without_bound() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--log", "info,h2=warn"]).await;
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let guarded = Node::start_unready(&["--authorize-url", &nobody]).await;
    redis.listened(1).await;
    for (flood, text) in FLOODS {
        let (log, began) = (|| format!("{}\n{}", node.log(), guarded.log()), Instant::now());
        flood.cause(&node, &guarded, &redis).await;
        eventually(text, async || log().contains(text).then_some(())).await;
        let lines = || log().lines().filter(|line| line.contains(text) && !line.contains("left out")).count();
        // The rate is ten lines in ten seconds.
        let most = 10 * (began.elapsed().as_secs() as usize / 10 + 2);
        assert!(lines() <= most, "{flood:?}: {} lines for {TIMES}, and {most} are allowed", lines());
    }
    // Some lines contain a number that grows, or are rarer than the rate, so none of them are left out.
    for (flood, text) in FLOODS.into_iter().take(3) {
        let told = format!("more lines were left out: {text}");
        let line = eventually(&told, async || node.log().lines().find(|line| line.contains(&told)).map(str::to_owned));
        let line = line.await;
        let (_, count) = line.split_once("suppressed=").expect("a count");
        let count: usize = count.trim().parse().expect("a number");
        assert!((1..=TIMES).contains(&count), "{flood:?}: {line}");
    }
}

/// By default the log has no lines of h2 about clients.
#[tokio::test]
async fn ping_acknowledgements_are_no_news() {
    let node = Node::start(&[]).await;
    let mut client = Raw::open(&node, b"").await;
    for _ in 0..TIMES {
        client.send(&frame(PING, ACK, 0, b"unwanted")).await;
    }
    client.send(&frame(PING, 0, 0, b"the last")).await;
    client.wait("the last answer", |frame| frame.kind == PING && frame.flags == ACK).await;
    assert!(!node.log().contains("PING"), "{}", node.log());
}

/// At `debug` a developer sees more lines, but still not all.
#[tokio::test]
async fn lines_of_developers_have_a_rate() {
    let flags = [&["--log", "debug"][..], &Certificate::common().flags()].concat();
    let node = Node::start(&flags).await;
    let text = "a TLS handshake failed";
    for _ in 0..1300 {
        let mut client = TcpStream::connect(node.http).await.expect("connect");
        client.write_all(b"\x16\x03\x01\x00\x02\x01\x00").await.expect("write");
        drop(client);
    }
    let told = format!("more lines were left out: {text}");
    node.logged(&told).await;
    let lines = node.log().lines().filter(|line| line.contains(text) && !line.contains("left out")).count();
    assert!((900..=1000).contains(&lines), "{lines} lines");
}
