//! Socket.IO, with raw bytes: what the server answers to each packet. The published clients are in
//! tests/browser/socketio.mjs.

mod answers;
mod bounds;
mod emitters;
mod engine;
mod old;
mod packets;
mod polling;
mod recovery;
mod repeated;
mod rules;
mod sealed;

use crate::sessions::application::Application;
use crate::support;

use serde_json::{Value, json};
use support::websocket::{Frame, frame, handshake};
use support::{Node, RawWebSocket, Request, Response, eventually};

/// The application of the tests: it sends back what it gets.
async fn application() -> Application {
    Application::start(|call| match (call["type"].as_str(), call["event"].as_str()) {
        (Some("connect"), _) if matches!(call["endpoint"].as_str(), Some("/" | "/custom")) => {
            let delay_ms = if call["auth"]["slow"].is_null() { 0 } else { 1200 };
            let auth = if call["auth"].is_null() { json!({}) } else { call["auth"].clone() };
            (200, json!({ "delay_ms": delay_ms, "send": [{ "event": "auth", "args": [auth] }] }))
        }
        (Some("connect"), _) => (200, json!({ "refuse": { "message": "Invalid namespace" } })),
        (_, Some("message")) => (200, json!({ "send": [{ "event": "message-back", "args": call["args"] }] })),
        (_, Some("message-with-ack")) => (200, json!({ "ack": call["args"] })),
        (_, Some("ask")) => (200, json!({ "send": [{ "event": "question", "args": [1], "ack": "the-answer" }] })),
        (_, Some("no")) => (200, json!({ "refuse": { "message": "no", "data": { "why": 1 } } })),
        (_, Some("slow")) => (200, json!({ "delay_ms": 1200, "ack": [] })),
        (_, Some("text")) => (200, json!({ "ack": ["é".repeat(call["args"][0].as_u64().unwrap_or(0) as usize)] })),
        (_, Some("bytes")) => {
            let base64 = "AAAA".repeat(call["args"][0].as_u64().unwrap_or(0) as usize / 3);
            (200, json!({ "ack": [{ "$binary": base64 }] }))
        }
        (_, Some("both")) => {
            let event = |n: u8| json!({ "event": "sent", "args": [n] });
            (200, json!({ "send": [event(1), event(2)], "ack": ["done"] }))
        }
        (_, Some("close")) => (200, json!({ "disconnect": "transport" })),
        (_, Some("kick")) => (200, json!({ "disconnect": "namespace" })),
        _ => (204, Value::Null),
    })
    .await
}

/// A node with Socket.IO, with the application and these flags.
async fn with_application(flags: &[&str]) -> (Node, Application) {
    let application = application().await;
    let all = ["--socketio", "--hook-url", &application.url, "--hook-notify", "connect,event,ack,disconnect"];
    let node = Node::start(&[&all, flags].concat()).await;
    (node, application)
}

const V4: &str = "/socket.io/?EIO=4&transport=websocket";
const V3: &str = "/socket.io/?EIO=3&transport=websocket";

/// A WebSocket whose `open` packet is read.
struct Client {
    socket: RawWebSocket,
    open: Value,
}

impl Client {
    async fn open(node: &Node, target: &str) -> Client {
        let mut socket = RawWebSocket::open(node, target).await;
        let open = text(&socket.frame().await.expect("a packet"));
        let open = open.strip_prefix('0').unwrap_or_else(|| panic!("{open}"));
        Client { socket, open: serde_json::from_str(open).expect("JSON") }
    }

    /// A client of version 4 that has connected the main namespace, and its public id.
    async fn connected(node: &Node) -> (Client, String) {
        let mut client = Client::open(node, V4).await;
        client.send("40").await;
        let answer = client.next().await;
        let object: Value = serde_json::from_str(answer.strip_prefix("40").expect("a connect")).expect("JSON");
        (client, object["sid"].as_str().expect("an id").to_owned())
    }

    async fn send(&mut self, packet: &str) {
        self.socket.text(packet).await;
    }

    async fn binary(&mut self, bytes: &[u8]) {
        self.socket.send(&frame(0x82, bytes)).await;
    }

    /// The next packet that is not a ping. A binary one is in brackets.
    async fn next(&mut self) -> String {
        loop {
            let packet = text(&self.socket.frame().await.expect("a packet"));
            if packet != "2" {
                return packet;
            }
        }
    }

    async fn expect(&mut self, packets: &[&str]) {
        for packet in packets {
            assert_eq!(self.next().await, *packet);
        }
    }

    /// Reads to the close of the WebSocket.
    async fn closed(&mut self) {
        while let Some(frame) = self.socket.frame().await {
            if frame.opcode() == 8 {
                return;
            }
        }
    }
}

fn text(frame: &Frame) -> String {
    match frame.first {
        0x81 => String::from_utf8(frame.payload.clone()).expect("UTF-8"),
        0x82 => format!("{:?}", frame.payload),
        other => panic!("a frame {other:#x}"),
    }
}
