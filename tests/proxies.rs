//! Behind proxies: which address counts, and which proxies the server trusts.

use crate::support;

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use support::redis::{free_port, fresh_dir};
use support::token::{SECRET, token};
use support::websocket::handshake;
use support::{Item, Kind, LineClient, Node, Request, Response, SOON, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Opens a stream; `None` if the server refuses it.
async fn stream(at: SocketAddr, headers: &[(&str, &str)]) -> Option<Response> {
    let mut request = Request::get("/xhr-stream?channel=a");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut answer = request.open(at).await;
    if answer.status != 200 {
        answer.finish().await;
        assert_eq!((answer.status, answer.error_code().as_str()), (503, "too_many_connections"));
        return None;
    }
    Some(answer)
}

/// Each address has its own places, whichever connection carries its requests.
#[tokio::test]
async fn places_are_counted_by_the_address_behind_a_proxy() {
    let args = ["--max-connections-per-ip", "2", "--trusted-proxy", "127.0.0.1"];
    let node = Node::start(&args).await;
    let of = async |ip: &str| stream(node.http, &[("X-Forwarded-For", ip)]).await;
    let kept = [of("192.0.2.1").await, of("192.0.2.1").await];
    assert!(kept.iter().all(Option::is_some), "an address has two places");
    let is_refused = async |ip: &str| assert!(of(ip).await.is_none(), "a third stream of {ip} was let in");
    is_refused("192.0.2.1").await;
    // Text that the client wrote to the left of it does not change the address.
    is_refused("192.0.2.9, 192.0.2.1").await;
    let forwarded = [("Forwarded", "for=192.0.2.9, for=192.0.2.1")];
    assert!(stream(node.http, &forwarded).await.is_none(), "a third stream of {forwarded:?} was let in");
    let other = of("192.0.2.2").await;
    assert!(other.is_some(), "another address has places of its own");
    // IPv6 counts by the network of a subscriber.
    let six = [of("2001:db8:0:1::1").await, of("2001:db8:0:1::2").await];
    assert!(six.iter().all(Option::is_some), "a network of IPv6 has two places");
    is_refused("2001:db8:0:1:ffff::3").await;
    assert!(of("2001:db8:0:2::1").await.is_some(), "another network of IPv6 has places of its own");
    // A WebSocket takes a place, and a poll only while it is answered.
    let socket = handshake("/ws?channel=a").header("X-Forwarded-For", "192.0.2.2").open(node.http).await;
    assert_eq!(socket.status, 101);
    is_refused("192.0.2.2").await;
    for _ in 0..5 {
        let answer = Request::get("/poll?channel=a").header("X-Forwarded-For", "192.0.2.3").send(node.http).await;
        assert_eq!(answer.status, 200);
    }
    // A client that leaves makes room.
    drop((kept, socket));
    for ip in ["192.0.2.1", "192.0.2.2"] {
        eventually("room", async || of(ip).await.map(drop)).await;
    }
}

/// The server ignores these headers from any other sender.
#[tokio::test]
async fn who_is_not_trusted_is_not_believed() {
    let node = Node::start(&["--max-connections-per-ip", "2", "--trusted-proxy", "10.0.0.0/8"]).await;
    // The connection that asked whether the node is ready may still hold a place.
    let _first = eventually("a place", async || stream(node.http, &[("X-Forwarded-For", "192.0.2.1")]).await).await;
    let _second = eventually("another", async || stream(node.http, &[]).await).await;
    assert!(stream_over(node.http).await, "a third stream was let in, by what a header says");
}

async fn stream_over(at: SocketAddr) -> bool {
    stream(at, &[("X-Forwarded-For", "192.0.2.77"), ("Forwarded", "for=192.0.2.78")]).await.is_none()
}

/// The page's own origin is that of the host that the browser requested.
#[tokio::test]
async fn the_forwarded_host_is_the_pages_own() {
    for (trusted, status) in [("127.0.0.1", 200), ("10.0.0.0/8", 403)] {
        let node = Node::start(&["--token-secret", SECRET, "--trusted-proxy", trusted]).await;
        let token = token(&json!({"subscribe": ["a"]}));
        for (name, value) in [
            ("X-Forwarded-Host", "www.example.com"),
            ("X-Forwarded-Host", "evil.example, www.example.com"),
            ("Forwarded", "for=192.0.2.1;host=www.example.com;proto=https"),
        ] {
            let knock = async |origin: &str| {
                let request = Request::get(&format!("/poll?channel=a&token={token}")).header(name, value);
                request.header("Origin", origin).send(node.http).await.status
            };
            assert_eq!(knock("https://www.example.com").await, status, "{trusted} {name}");
            assert_eq!(knock("https://evil.example").await, 403, "{trusted} {name}");
        }
        // A frame's domain must also be a parent of that host.
        let path = format!("/forever-frame?channel=a&callback=f&domain=example.com&token={token}");
        let answer = Request::get(&path).header("X-Forwarded-Host", "www.example.com").open(node.http).await;
        let is_frame = answer.header("Origin-Agent-Cluster").is_some();
        assert_eq!(is_frame, status == 200, "{trusted}");
    }
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(source: [u8; 4]) -> Vec<u8> {
    let body = [&source[..], &[192, 0, 2, 254], &[0, 1, 0, 80]].concat();
    [V2, &[0x21, 0x11, 0, body.len() as u8], &body].concat()
}

/// Sends bytes in two pieces and reads until no more bytes arrive.
async fn exchange(at: SocketAddr, bytes: &[u8], cut: usize) -> String {
    let mut stream = TcpStream::connect(at).await.expect("connect");
    let cut = cut.min(bytes.len());
    stream.write_all(&bytes[..cut]).await.expect("write");
    stream.set_nodelay(true).expect("set");
    tokio::task::yield_now().await;
    stream.write_all(&bytes[cut..]).await.ok();
    stream.shutdown().await.ok();
    let mut answer = Vec::new();
    within(SOON, "the end", stream.read_to_end(&mut answer)).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_proxy_protocol() {
    let node = Node::start_unready(&["--proxy-protocol", "--trusted-proxy", "127.0.0.1", "--request-rate", "2"]).await;
    let get = b"GET /poll?channel=a HTTP/1.0\r\nHost: localhost\r\n\r\n";
    let line = |ip: &str| format!("PROXY TCP4 {ip} 192.0.2.254 1 80\r\n").into_bytes();
    // Two requests per second from one address: this shows which address was counted.
    for cut in [0, 3, 15, 20, 60] {
        let ip = format!("192.0.2.{cut}");
        let mut statuses = Vec::new();
        for head in [line(&ip), v2([192, 0, 2, cut as u8]), line(&ip)] {
            let answer = exchange(node.http, &[&head, &get[..]].concat(), cut).await;
            statuses.push(answer.get(9..12).unwrap_or_default().to_owned());
        }
        assert_eq!(statuses, ["200", "200", "429"], "cut at {cut}");
    }
    // The server ignores `X-Forwarded-For` of a client that is not a trusted proxy, even if it comes through a proxy.
    for _ in 0..2 {
        let spoofed = b"GET /poll?channel=a HTTP/1.0\r\nHost: localhost\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n";
        exchange(node.http, &[&line("192.0.2.100"), &spoofed[..]].concat(), 0).await;
    }
    let answer = exchange(node.http, &[&line("192.0.2.100"), &get[..]].concat(), 0).await;
    assert!(answer.contains(" 429 "), "{answer}");
    // A connection without a header, or with an invalid one, is closed without an answer.
    for bad in [
        get.to_vec(),
        [b"PROXY TCP4 999.0.2.1 192.0.2.254 1 80\r\n", &get[..]].concat(),
        [&line("192.0.2.1")[..20], b"\r\n", get].concat(),
        [V2, &[0x21, 0x11, 0xff, 0xff], &get[..]].concat(),
        [&b"PROXY "[..], &[b'x'; 300]].concat(),
        b"PROXY".to_vec(),
    ] {
        assert_eq!(exchange(node.http, &bad, 0).await, "", "{:?}", String::from_utf8_lossy(&bad));
    }
    // Raw TCP accepts the headers in the same way.
    let command = "{\"type\":\"subscribe\",\"channels\":[\"a\"],\"ref\":1}\n{\"type\":\"nonsense\",\"ref\":2}\n";
    let answer = exchange_lines(node.tcp, &[&v2([192, 0, 2, 200]), command.as_bytes()].concat()).await;
    assert_eq!(answer["type"], "hello");
    assert_eq!(exchange(node.tcp, command.as_bytes(), 0).await, "");
    // The proxy's own health check counts for the proxy's address.
    let check = [V2, &[0x20, 0, 0, 0], &get[..]].concat();
    let answer = exchange(node.http, &check, 0).await;
    assert!(answer.contains(" 200 "), "{answer}");
    let unknown = [&b"PROXY UNKNOWN\r\n"[..], get].concat();
    let answer = exchange(node.http, &unknown, 0).await;
    assert!(answer.contains(" 200 "), "{answer}");
}

async fn exchange_lines(at: SocketAddr, bytes: &[u8]) -> Value {
    let mut client = LineClient::connect(at).await;
    client.send_bytes(bytes).await;
    client.json().await
}

/// Without the flag, a PROXY header is refused, because it is neither HTTP nor a command.
#[tokio::test]
async fn without_the_flag_it_is_refused() {
    let node = Node::start(&["--trusted-proxy", "127.0.0.1"]).await;
    let bytes = b"PROXY TCP4 192.0.2.1 192.0.2.254 1 80\r\nGET /poll?channel=a HTTP/1.0\r\nHost: localhost\r\n\r\n";
    let answer = exchange(node.http, bytes, 0).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let mut client = LineClient::connect(node.tcp).await;
    client.send("PROXY TCP4 192.0.2.1 192.0.2.254 1 80\r").await;
    let item = Item::parse(&client.line().await.expect("an error"));
    assert_eq!(item.kind, Kind::Error);
}

struct Proxy(Child, std::path::PathBuf);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
        std::fs::remove_dir_all(&self.1).ok();
    }
}

/// A real haproxy, with both versions, on HTTP and raw TCP: the address that arrives is the client's.
#[tokio::test]
async fn a_real_haproxy_says_for_whom() {
    let dir = fresh_dir("proxy-protocol");
    for (option, mode) in [("send-proxy", "http"), ("send-proxy-v2", "http"), ("send-proxy-v2", "tcp")] {
        let node =
            Node::start_unready(&["--proxy-protocol", "--trusted-proxy", "127.0.0.1", "--max-connections-per-ip", "1"])
                .await;
        let (web, raw) = (free_port(), free_port());
        let config = format!(
            "global\n  maxconn 100\ndefaults\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n\
             listen web\n  mode {mode}\n  bind 127.0.0.1:{web}\n  server n {} {option}\n\
             listen raw\n  mode tcp\n  bind 127.0.0.1:{raw}\n  server n {} {option}\n",
            node.http, node.tcp
        );
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, config).expect("haproxy's file");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("haproxy is installed (apt-get install haproxy)");
        let _proxy = Proxy(child, fresh_dir("haproxy-run"));
        let (web, raw) = (SocketAddr::from(([127, 0, 0, 1], web)), SocketAddr::from(([127, 0, 0, 1], raw)));
        eventually("haproxy", async || TcpStream::connect(raw).await.ok().map(drop)).await;
        // 127.0.0.2 is not a trusted proxy, so it is counted by its address.
        let local = async |ip: [u8; 4], to: SocketAddr| {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind(SocketAddr::from((ip, 0))).expect("an address of our own");
            socket.connect(to).await.expect("connect")
        };
        let read = async |mut stream: TcpStream, bytes: &[u8]| {
            stream.write_all(bytes).await.expect("write");
            let mut text = String::new();
            within(SOON, "an answer", async {
                while !text.contains("\"type\":") && !text.contains("too_many_connections") {
                    let mut part = [0; 4096];
                    let n = stream.read(&mut part).await.expect("read");
                    assert!(n > 0, "the end: {text}");
                    text.push_str(&String::from_utf8_lossy(&part[..n]));
                }
            })
            .await;
            (stream, text)
        };
        let get = b"GET /ndjson?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let subscribe = b"{\"type\":\"subscribe\",\"channels\":[\"a\"]}\n";
        let (first, text) = read(local([127, 0, 0, 2], web).await, get).await;
        assert!(text.contains("hello"), "{option}: {text}");
        let (_second, text) = read(local([127, 0, 0, 2], web).await, get).await;
        assert!(text.contains("too_many_connections"), "{option}: {text}");
        let (_raw, text) = read(local([127, 0, 0, 2], raw).await, subscribe).await;
        assert!(text.contains("\"code\":4004"), "{option}: {text}");
        let (_other, text) = read(local([127, 0, 0, 3], raw).await, subscribe).await;
        assert!(text.contains("hello"), "{option}: {text}");
        drop(first);
    }
    std::fs::remove_dir_all(dir).ok();
}
