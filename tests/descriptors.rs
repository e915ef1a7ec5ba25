//! File descriptors: clients cannot use up those that Redis, the application and operators need, and a limit that is
//! lower than `--max-connections` is logged.

use crate::support;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use support::door;
use support::frames::{self, HEADERS, Raw};
use support::redis::free_port;
use support::server::run_to_end;
use support::{Certificate, Item, Kind, LineClient, Node, RedisServer, Request, Response, SOON, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The limit that a node has logged, and whether it was a warning.
fn said_of_limit(node: &Node) -> Option<(bool, u64)> {
    let log = node.log();
    let line = log.lines().find(|line| line.contains("file descriptors allows"))?;
    let places = line.split("or set --max-connections ").nth(1).expect("the mend").trim();
    Some((line.contains("WARN"), places.parse().expect("a number")))
}

#[tokio::test]
async fn a_limit_below_max_connections_is_said_in_one_line() {
    for (limit, flags, is_said, is_warning) in [
        ("ULIMIT_N=200", &["--max-connections", "5000"][..], true, true),
        ("ULIMIT_N=200", &["LONGTAIL_MAX_CONNECTIONS=180"], true, true),
        // The operator has not asked for the default of 100,000.
        ("ULIMIT_N=200", &[], true, false),
        ("ULIMIT_N=200", &["--max-connections", "50"], false, false),
    ] {
        let node = Node::start(&[&[limit], flags].concat()).await;
        let said = said_of_limit(&node);
        let what = format!("{limit} {flags:?}: {said:?}");
        assert_eq!(said.is_some(), is_said, "whether it is said with {what}");
        let most = node.metric("longtail_sockets_limit").await as u64;
        match said {
            None => assert_eq!(most, 50, "the flag's own limit with {what}"),
            Some((warns, places)) => {
                assert_eq!(warns, is_warning, "whether it is a warning with {what}");
                assert!((100..190).contains(&places), "most of 200 are for clients with {what}");
                assert_eq!(most, places, "what is said is what holds with {what}");
                assert_eq!(node.log().matches("file descriptors").count(), 1, "one line with {what}");
            }
        }
    }
}

#[tokio::test]
async fn a_limit_that_leaves_nothing_is_an_error() {
    let (code, said) = run_to_end(&["ULIMIT_N=20", "--listen", "127.0.0.1:0", "--tcp-listen", "off"]).await;
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(code, 71, "the exit code with 20 descriptors: {said}");
    assert!(last.contains("limit of 20 file descriptors leaves none") && last.contains("ulimit -n"), "{said}");
}

/// Connections that send no request: as many as are allowed, and then more and more.
struct Crowd(JoinHandle<()>);

impl Crowd {
    fn press(address: SocketAddr) -> Crowd {
        Crowd(tokio::spawn(async move {
            let mut held = Vec::new();
            while held.len() < 5000 {
                if let Ok(stream) = TcpStream::connect(address).await {
                    held.push(stream);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            std::future::pending().await
        }))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An application that lets every client read `a`, with one question on each connection.
async fn application() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let asked = stream.read(&mut [0; 8192]).await.expect("a question");
                assert!(asked > 0, "a question, not the end");
                let body = r#"{"channels":["a"],"ttl":1}"#;
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.expect("write");
            });
        }
    });
    url
}

/// Sends a request on a connection that stays open. Returns status, text, and the connection.
async fn read(mut stream: door::Stream, target: &str) -> (u16, String, door::Stream) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Response::new(stream, false);
    within(SOON, target, answer.read_head()).await.unwrap_or_else(|| panic!("{target}: an answer, not the end"));
    answer.finish().await;
    (answer.status, answer.text(), answer.into_stream().0)
}

async fn ask(stream: door::Stream, target: &str) -> (u16, door::Stream) {
    let (status, _, stream) = read(stream, target).await;
    (status, stream)
}

/// The node gets its connection to Redis back, asks its application, and answers operators, however many clients try to
/// connect.
#[tokio::test]
async fn clients_cannot_take_what_others_need() {
    let mut redis = RedisServer::start_durable().await;
    let (url, application, port) = (redis.url(), application().await, free_port());
    let admin = SocketAddr::from(([127, 0, 0, 1], port));
    let at = admin.to_string();
    let args = ["ULIMIT_N=256", "--redis", &url, "--authorize-url", &application, "--admin-listen", &at];
    let node = Node::start(&args).await;
    // Clients that connected in time. The application's answer holds for a second, so the node asks again for each.
    let early = TcpStream::connect(node.http).await.expect("connect");
    let (status, early) = ask(early.into(), "/poll?channel=a").await;
    assert_eq!(status, 200, "before the crowd");
    let _crowd = [Crowd::press(node.http), Crowd::press(node.tcp)];
    let operator = async |path: &str| Request::get(path).try_send(admin).await.map(|answer| answer.status);
    eventually("the node to be full", async || {
        let newcomer = Request::get("/poll?channel=a").try_send(node.http);
        let answered = tokio::time::timeout(Duration::from_millis(500), newcomer).await;
        let is_served = matches!(answered, Ok(Some(answer)) if answer.status == 200);
        (!is_served).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    redis.kill();
    eventually("Redis to be missed", async || (operator("/readyz").await == Some(503)).then_some(())).await;
    // Long enough for every descriptor that is free to be taken.
    tokio::time::sleep(Duration::from_secs(1)).await;
    redis.restart().await;
    eventually("the node to have Redis back", async || (operator("/readyz").await == Some(200)).then_some(())).await;
    for path in ["/healthz", "/metrics", "/channels"] {
        assert_eq!(operator(path).await, Some(200), "{path} at --admin-listen while the node is full");
    }
    let (status, _early) = ask(early, "/poll?channel=a").await;
    assert_eq!(status, 200, "the application is asked while the node is full");
    assert!(!node.log().contains("cannot accept"), "no error, since places end before descriptors do: {}", node.log());
}

/// A connection beyond the limit gets an error while there is a descriptor for it, over HTTP/1, HTTP/2, TLS and raw
/// TCP. Operators get answers without a listener of their own.
#[tokio::test]
async fn one_past_the_limit_is_told_so() {
    let certificate = Certificate::common();
    for flags in [&[][..], &certificate.flags()] {
        let node = Node::start(&[&["ULIMIT_N=100"], flags].concat()).await;
        let mut idle = Vec::new();
        for _ in 0..200 {
            idle.push(TcpStream::connect(node.http).await.expect("connect"));
        }
        // Connections that send no request are closed soon if they are not served, so connections that send one get
        // their places.
        for path in ["/poll?channel=a", "/healthz", "/readyz", "/metrics"] {
            let expected = if path.starts_with("/poll") { 503 } else { 200 };
            let answered = async || {
                let mut stream: door::Stream = match flags {
                    [] => TcpStream::connect(node.http).await.ok()?.into(),
                    _ => door::secure(node.http, certificate, &["http/1.1"]).await?,
                };
                let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                stream.write_all(request.as_bytes()).await.ok()?;
                let mut answer = Response::new(stream, false);
                answer.read_head().await?;
                assert_eq!(answer.status, expected, "{path} with {flags:?}");
                assert_eq!(answer.header("connection"), Some("close"), "{path} with {flags:?}");
                Some(())
            };
            eventually(path, answered).await;
        }
        if flags.is_empty() {
            let mut client = LineClient::connect(node.tcp).await;
            let bye = Item::parse(&client.line().await.expect("a bye"));
            assert_eq!((bye.kind, bye.number("code")), (Kind::Bye, Some(4004)), "raw TCP: {}", bye.text);
            let mut raw = Raw::open(&node, b"").await;
            raw.send(&frames::get(1, "/poll?channel=a")).await;
            let answer = raw.wait("a refusal", |frame| frame.kind == HEADERS).await;
            assert!(answer.has_status(503), "HTTP/2: {answer:?}");
        }
        assert!(!node.log().contains("cannot accept"), "{}", node.log());
        drop(idle);
        eventually("a place that is free again", async || {
            (Request::get("/poll?channel=a").try_send(node.http).await?.status == 200).then_some(())
        })
        .await;
    }
}

/// Descriptors may still run out, because the limit of a running process can be lowered. The node logs that, and the
/// log lines do not fill a disk.
#[tokio::test]
async fn errors_of_accept_are_counted_and_said_once_in_a_while() {
    let node = Node::start(&[]).await;
    let mut witness = Request::get("/ndjson?channel=a").open(node.http).await;
    witness.read_some().await.expect("a hello");
    let (status, early) = ask(TcpStream::connect(node.http).await.expect("connect").into(), "/healthz").await;
    assert_eq!(status, 200);
    let limit = |soft: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &node.pid().to_string(), &format!("--nofile={soft}:")]);
        assert!(command.status().expect("prlimit is installed (apt-get install util-linux)").success());
    };
    limit("4");
    let waiting = TcpStream::connect(node.http).await.expect("it waits in the backlog");
    node.logged("cannot accept a connection").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let lines = node.log().matches("cannot accept a connection").count();
    assert_eq!(lines, 10, "lines in 2 s of errors: {}", node.log());
    let told = "more lines were left out: cannot accept a connection suppressed=";
    node.logged(told).await;
    let (status, metrics, _early) = read(early, "/metrics").await;
    assert_eq!(status, 200, "an early connection is served");
    let line = "longtail_refused_total{reason=\"accept_failed\"} ";
    let count = metrics.lines().find_map(|text| text.strip_prefix(line)?.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count >= 10), "errors that are counted, at 20 a second: {count:?}");
    limit("1024");
    let (status, _) = ask(waiting.into(), "/healthz").await;
    assert_eq!(status, 200, "who has waited is served");
    let published = node.publish_numbers("a", 1).await;
    assert_eq!(published.len(), 1);
}
