//! SockJS, with raw bytes: what each path and each transport answers, the rules of sessions, and several nodes. The
//! published clients are in tests/browser/sockjs.mjs.

mod application;
mod messages;
mod nodes;
mod pages;
mod rules;
mod transports;

use crate::support::{Node, RawWebSocket, Request, Response, SOON, within};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

const ECHO: &str = "/echo=echo on-message=echo origins=* response-limit=4096";
const CLOSE: &str = "/close=close origins=* on-open=close:3000:Go away!";
const NO_SOCKET: &str = "/no_socket=none on-message=echo origins=* websocket=off";
const COOKIE: &str = "/cookie=cookie on-message=echo origins=* cookie=on";

/// A node with the prefixes that the tests of the protocol want.
async fn node() -> Node {
    with(&[ECHO, CLOSE, NO_SOCKET, COOKIE], &[]).await
}

async fn with(prefixes: &[&str], flags: &[&str]) -> Node {
    let prefixes = prefixes.iter().flat_map(|prefix| ["--sockjs", prefix]);
    Node::start(&prefixes.chain(flags.iter().copied()).collect::<Vec<_>>()).await
}

/// A session over HTTP, whose requests may go to any address.
struct Session {
    url: String,
}

impl Session {
    fn new(prefix: &str) -> Session {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Session { url: format!("{prefix}/000/s{number}-{}", std::process::id()) }
    }

    /// A session that is open.
    async fn open(prefix: &str, address: SocketAddr) -> Session {
        let session = Session::new(prefix);
        assert_eq!(session.xhr(address).await, "o\n");
        session
    }

    fn path(&self, transport: &str) -> String {
        format!("{}/{transport}", self.url)
    }

    async fn xhr(&self, address: SocketAddr) -> String {
        let answer = Request::post(&self.path("xhr"), b"").send(address).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    async fn send(&self, address: SocketAddr, body: &str) {
        let answer = Request::post(&self.path("xhr_send"), body.as_bytes()).send(address).await;
        assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    }

    /// Opens a stream and reads its prelude.
    async fn stream(&self, address: SocketAddr) -> Streamed {
        let answer = Request::post(&self.path("xhr_streaming"), b"").open(address).await;
        let mut stream = Streamed(answer);
        stream.expect(&format!("{}\n", "h".repeat(2048))).await;
        stream
    }

    /// The next frame of polls that is not a heartbeat.
    async fn next(&self, address: SocketAddr) -> String {
        loop {
            let frame = self.xhr(address).await;
            if frame != "h\n" {
                return frame;
            }
        }
    }
}

/// A stream whose chunks are read one by one.
struct Streamed(Response);

impl Streamed {
    async fn chunk(&mut self) -> String {
        let chunk = within(SOON, "a chunk", self.0.read_some()).await.expect("a chunk");
        String::from_utf8(chunk.to_vec()).expect("UTF-8")
    }

    async fn expect(&mut self, chunk: &str) {
        assert_eq!(self.chunk().await, chunk);
    }

    async fn ends(&mut self) {
        assert_eq!(within(SOON, "the end of the stream", self.0.read_some()).await, None);
    }
}

/// A WebSocket that is open.
async fn web_socket(address: SocketAddr, target: &str) -> RawWebSocket {
    let mut socket = RawWebSocket::open_at(address, target).await;
    expect(&mut socket, "o").await;
    socket
}

async fn expect(socket: &mut RawWebSocket, text: &str) {
    let frame = socket.frame().await.expect("a frame");
    assert_eq!((frame.first, String::from_utf8_lossy(&frame.payload).as_ref()), (0x81, text));
}

fn not_cached(answer: &Response) {
    let rule = "no-store, no-cache, no-transform, must-revalidate, max-age=0";
    assert_eq!(answer.header("cache-control"), Some(rule));
    assert_eq!((answer.header("expires"), answer.header("last-modified")), (None, None));
}

fn for_page(answer: &Response, origin: Option<&str>) {
    let allows = (answer.header("access-control-allow-origin"), answer.header("access-control-allow-credentials"));
    assert_eq!(allows, origin.map_or((Some("*"), None), |origin| (Some(origin), Some("true"))));
}
