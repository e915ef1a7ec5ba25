//! Speaks the toy protocol with a server, over real sockets.

use crate::config::{AddressOrOff, Config};
use crate::server::Server;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The timeout for a step that should complete at once.
const SOON: Duration = Duration::from_secs(60);

async fn start() -> SocketAddr {
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let config = Config { listen, tcp_listen: AddressOrOff(None), ..Config::default() };
    let server = Server::bind(&config).await.expect("bound");
    let address = server.local_addrs()[0];
    tokio::spawn(server.run(std::future::pending()));
    address
}

/// Sends a request and returns the whole response. The connection closes after the response.
async fn ask(server: SocketAddr, request: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(server).await.expect("connect");
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all(format!("{head}{body}").as_bytes()).await.expect("write");
    let mut response = String::new();
    tokio::time::timeout(SOON, socket.read_to_string(&mut response)).await.expect("in time").expect("UTF-8");
    response
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").expect("a head").1
}

/// A WebSocket of the toy. The response to its handshake is already read.
async fn connect(server: SocketAddr, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server).await.expect("connect");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("write");
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        response.push(tokio::time::timeout(SOON, socket.read_u8()).await.expect("in time").expect("a byte"));
    }
    assert!(response.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&response));
    socket
}

/// Sends a text of less than 126 bytes, with a mask of zeros.
async fn send(socket: &mut TcpStream, text: &str) {
    let head = [0x81, 0x80 | u8::try_from(text.len()).expect("short"), 0, 0, 0, 0];
    socket.write_all(&[&head, text.as_bytes()].concat()).await.expect("write");
}

/// The text of the next frame.
async fn text(socket: &mut TcpStream) -> String {
    let mut head = [0; 2];
    tokio::time::timeout(SOON, socket.read_exact(&mut head)).await.expect("in time").expect("a frame");
    assert_eq!(head[0], 0x81, "a text frame");
    let mut text = vec![0; usize::from(head[1])];
    socket.read_exact(&mut text).await.expect("its payload");
    String::from_utf8(text).expect("UTF-8")
}

#[tokio::test]
async fn commands_are_in_the_words_of_the_dialect() {
    let server = start().await;
    let mut socket = connect(server, "/toy/ws/a").await;
    assert_eq!(text(&mut socket).await, "hello toy-ws");
    for (command, answer) in [
        ("1 ?", "pong 1"),
        ("2 +b c", "ok 2"),
        ("3 -c", "ok 3"),
        ("4 *", "no 4 unknown_command"),
        ("5 +d,e", "no 5 bad_channel"),
        ("6", "no - bad_request"),
    ] {
        send(&mut socket, command).await;
        assert_eq!(text(&mut socket).await, answer, "{command}");
    }
    send(&mut socket, "7 !b hi").await;
    let mut seen = [text(&mut socket).await, text(&mut socket).await];
    seen.sort_unstable();
    assert_eq!(seen, [r#"b="hi""#, "ok 7"]);
    // These messages are published natively. The socket reads `a` and no longer reads `c`.
    ask(server, "POST /publish?channel=c", "1").await;
    ask(server, "POST /publish?channel=a", "2").await;
    assert_eq!(text(&mut socket).await, "a=2");
}

#[tokio::test]
async fn batches_and_paths_are_those_of_the_protocol() {
    let server = start().await;
    for payload in ["1", "[2]"] {
        ask(server, "POST /publish?channel=board/1", payload).await;
    }
    let all = ask(server, "GET /toy/poll/board/1?from=earliest", "").await;
    assert!(all.contains("\r\ncontent-type: text/x-toy\r\n"), "{all}");
    let (head, lines) = body(&all).split_once('\n').expect("lines");
    let cursor = head.strip_prefix("2 ").expect("a count");
    assert_eq!(lines, "board/1=1\nboard/1=[2]\n");
    let rest = ask(server, &format!("GET /toy/poll/board/1?from={cursor}"), "").await;
    assert_eq!(body(&rest), format!("0 {cursor}\n"));

    let refused = ask(server, "GET /toy/poll/a,b", "").await;
    assert_eq!((&refused[..12], body(&refused)), ("HTTP/1.1 200", "no bad_channel"));
    let wrong = ask(server, "POST /toy/poll/a", "").await;
    assert!(wrong.starts_with("HTTP/1.1 405 ") && wrong.contains("\r\nallow: GET, OPTIONS\r\n"), "{wrong}");
    for path in ["/toy", "/toy/", "/toy/poll", "/toy/sse/a", "/Toy/poll/a"] {
        let unknown = ask(server, &format!("GET {path}"), "").await;
        assert!(unknown.starts_with("HTTP/1.1 404 "), "{path}: {unknown}");
    }
    let metrics = ask(server, "GET /metrics", "").await;
    assert!(metrics.contains(r#"transport="toy-poll""#), "{metrics}");
}
