//! Sessions of the toy, whose clients bring sealed bookmarks, over real sockets and with a real Redis.

use crate::config::{AddressOrOff, Config};
use crate::log::redis::histories::Server as RedisServer;
use crate::server::Server;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::UnixStream;

/// The timeout for a step that should complete at once.
const SOON: Duration = Duration::from_secs(60);

async fn start(configure: impl FnOnce(&mut Config)) -> SocketAddr {
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let mut config = Config { listen, tcp_listen: AddressOrOff(None), ..Config::default() };
    configure(&mut config);
    let server = Server::bind(&config).await.expect("bound");
    let address = server.local_addrs()[0];
    tokio::spawn(server.run(std::future::pending()));
    address
}

/// A node of the log with this prefix in a Redis.
async fn node(redis: &RedisServer, prefix: &str) -> SocketAddr {
    start(|config| {
        config.message_log.redis = Some(redis.url());
        config.message_log.redis_prefix = prefix.to_owned();
    })
    .await
}

/// A connection that stays open.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(server: SocketAddr) -> Client {
        Client(BufReader::new(TcpStream::connect(server).await.expect("connect")))
    }

    /// Sends a request, and returns the body of the answer.
    async fn ask(&mut self, request: &str, body: &str) -> String {
        let kind = if body.starts_with('{') { "application/json" } else { "text/plain" };
        let head = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(format!("{head}{body}").as_bytes()).await.expect("write");
        let answer = async {
            let mut length = 0;
            loop {
                let mut line = String::new();
                self.0.read_line(&mut line).await.expect("a line");
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.expect("a body");
            String::from_utf8(body).expect("UTF-8")
        };
        tokio::time::timeout(SOON, answer).await.expect("in time")
    }

    /// Polls `a`. Returns the position, what the client brings next, and the messages.
    async fn poll(&mut self, session: &str, from: &str) -> (String, String, Vec<String>) {
        let answer = self.ask(&format!("GET /toy/poll/a?session={session}&from={from}"), "").await;
        let mut lines = answer.lines();
        let words: Vec<&str> = lines.next().expect("a line").split(' ').collect();
        let [_, cursor, next] = words[..] else { panic!("{answer}") };
        (cursor.to_owned(), next.to_owned(), lines.map(str::to_owned).collect())
    }

    async fn publish(&mut self, channel: &str, payload: &str) {
        let answer = self.ask(&format!("POST /publish?channel={channel}"), payload).await;
        assert!(answer.contains("\"id\""), "{answer}");
    }

    /// Makes the sessions that read a channel do something. Returns the position of the change.
    async fn change(&mut self, action: &str) -> String {
        let answer = self.ask("POST /sessions", &format!("{{\"channel\":\"a\",{action}}}")).await;
        assert!(answer.starts_with("{\"cursor\":"), "{answer}");
        answer[11..answer.len() - 2].to_owned()
    }
}

/// Waits until a node has read up to a position.
async fn reached(client: &mut Client, cursor: &str) {
    let answer = client.ask(&format!("GET /toy/poll/nobody?from={cursor}"), "").await;
    assert!(answer.starts_with("0 "), "{answer}");
}

#[tokio::test]
async fn a_sealed_session_goes_on_at_any_node() {
    let redis = RedisServer::start().await;
    let nodes = [node(&redis, "one").await, node(&redis, "one").await];
    let mut clients = [Client::connect(nodes[0]).await, Client::connect(nodes[1]).await];
    let (cursor, first, messages) = clients[0].poll("1", "latest").await;
    assert!(first.len() > 27 && first.len() < 200 && messages.is_empty(), "{first}");
    clients[0].publish("a", "1").await;
    clients[0].publish("b", "2").await;
    let at = clients[0].change("\"join\":[\"b\"]").await;
    clients[0].publish("b", "3").await;
    reached(&mut clients[1], &at).await;
    let mut token = (cursor.clone(), first.clone());
    let mut read = Vec::new();
    for turn in 0..6 {
        let (cursor, next, messages) = clients[(turn + 1) % 2].poll(&token.1, &token.0).await;
        assert_ne!(next, token.1, "each answer has another token");
        token = (cursor, next);
        read.extend(messages);
        if turn == 2 {
            clients[0].publish("b", "4").await;
        }
        if read.len() == 3 && turn > 2 {
            break;
        }
    }
    assert_eq!(read, ["a=1", "b=3", "b=4"]);
    // A repeated request has the same answer.
    let (_, _, again) = clients[1].poll(&first, &cursor).await;
    assert_eq!(again[..2], ["a=1", "b=3"]);
    // It is not in the record.
    assert_eq!(clients[0].ask("GET /sessions?channel=a", "").await, "{\"sessions\":[]}");
    // After its end, no token of it is honoured, at no node.
    let at = clients[0].change("\"disconnect\":true").await;
    reached(&mut clients[1], &at).await;
    for client in &mut clients {
        for (cursor, token) in [(&cursor, &first), (&token.0, &token.1)] {
            for from in [cursor.as_str(), "latest", "earliest"] {
                let refused = client.ask(&format!("GET /toy/poll/a?session={token}&from={from}"), "").await;
                assert_eq!(refused, "no no_session", "{from}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_opens_only_the_sessions_of_its_log_and_protocol() {
    let redis = RedisServer::start().await;
    let (own, foreign) = (node(&redis, "one").await, node(&redis, "other").await);
    let (mut own, mut foreign) = (Client::connect(own).await, Client::connect(foreign).await);
    let (cursor, token, _) = own.poll("1", "latest").await;
    let changed = format!("{}{}", &token[..token.len() - 2], if token.ends_with("AA") { "BB" } else { "AA" });
    let long = "A".repeat(5000);
    for bad in [changed.as_str(), "AAAA", "x", "%00", &token[1..], long.as_str()] {
        let refused = own.ask(&format!("GET /toy/poll/a?session={bad}&from={cursor}"), "").await;
        assert_eq!(refused, "no no_session", "{bad}");
    }
    foreign.poll("1", "latest").await;
    let refused = foreign.ask(&format!("GET /toy/poll/a?session={token}"), "").await;
    assert_eq!(refused, "no no_session");
    let native = own.ask(&format!("GET /poll?channel=a&session={token}"), "").await;
    assert!(native.contains("no_session"), "{native}");
    let metrics = foreign.ask("GET /metrics", "").await;
    assert!(metrics.contains("longtail_sealed_tokens_refused_total{reason=\"unknown_key\"} 1"), "{metrics}");
    let metrics = own.ask("GET /metrics", "").await;
    assert!(metrics.contains("longtail_sealed_tokens_refused_total{reason=\"malformed\"}"), "{metrics}");
    own.poll(&token, &cursor).await;
}

#[tokio::test]
async fn a_session_with_presence_is_in_the_record() {
    let server = start(|config| config.presence.presence = vec!["b".to_owned()]).await;
    let mut client = Client::connect(server).await;
    let (cursor, token, _) = client.poll("1", "latest").await;
    client.change("\"join\":[\"b\"]").await;
    let (_, id, _) = client.poll(&token, &cursor).await;
    assert_eq!(id.len(), 27, "an id of the record");
    let (_, same, _) = client.poll(&id, "latest").await;
    assert_eq!(same, id);
    assert!(client.ask("GET /sessions?channel=b", "").await.contains("\"client\""));
    let metrics = client.ask("GET /metrics", "").await;
    assert!(metrics.contains("longtail_sealed_sessions_moved_total{reason=\"presence\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_session_with_a_stream_is_in_the_record() {
    let server = start(|_| {}).await;
    let mut client = Client::connect(server).await;
    let (_, token, _) = client.poll("1", "latest").await;
    assert_eq!(client.ask("GET /sessions?channel=a", "").await, "{\"sessions\":[]}");
    let mut socket = TcpStream::connect(server).await.expect("connect");
    let head = format!(
        "GET /toy/ws/a?session={token} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("write");
    let mut response = [0; 13];
    tokio::time::timeout(SOON, socket.read_exact(&mut response)).await.expect("in time").expect("a response");
    assert_eq!(&response, b"HTTP/1.1 101 ");
    assert!(client.ask("GET /sessions?channel=a", "").await.contains("\"client\""));
}

#[tokio::test]
async fn the_number_of_sealed_sessions_has_a_limit() {
    let server = start(|config| config.max_sessions = 3).await;
    let mut client = Client::connect(server).await;
    for _ in 0..3 {
        client.poll("1", "latest").await;
    }
    assert_eq!(client.ask("GET /toy/poll/a?session=1", "").await, "no too_many_connections");
}

/// How often Redis has run a script.
async fn scripts(redis: &RedisServer) -> usize {
    let path = redis.url().replace("redis+unix://", "");
    let mut redis = UnixStream::connect(path).await.expect("connect");
    redis.write_all(b"INFO commandstats\r\nQUIT\r\n").await.expect("write");
    let mut answer = String::new();
    redis.read_to_string(&mut answer).await.expect("an answer");
    let calls = |name: &str| {
        let rest = answer.split_once(&format!("cmdstat_{name}:calls="))?.1;
        rest[..rest.find(',')?].parse::<usize>().ok()
    };
    calls("evalsha").expect("the scripts of the log") + calls("eval").unwrap_or(0) + calls("fcall").unwrap_or(0)
}

#[tokio::test]
async fn polls_of_a_sealed_session_do_not_call_redis() {
    let redis = RedisServer::start().await;
    let mut client = Client::connect(node(&redis, "one").await).await;
    let (mut cursor, mut token, _) = client.poll("1", "latest").await;
    let before = scripts(&redis).await;
    for n in 0..1000 {
        let from = if n % 2 == 0 { cursor.clone() } else { "latest".to_owned() };
        (cursor, token, _) = client.poll(&token, &from).await;
    }
    let polls = scripts(&redis).await - before;
    // The lease of the node and the counts of readers go on.
    assert!(polls < 200, "{polls} scripts during 1,000 polls");
}
