//! A Pusher client and a server SDK as bytes: frames on a WebSocket, and signed requests.

use super::http::{Request, Response};
use super::websocket::RawWebSocket;
use super::{Node, SOON, within};
use md5::{Digest, Md5};
use ring::hmac;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

pub const KEY: &str = "app-key";
pub const SECRET: &str = "app-secret";
pub const APP: &str = "1:app-key:app-secret";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The signature of a text by the application.
pub fn sign(text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hex(hmac::sign(&key, text.as_bytes()).as_ref())
}

/// The environment of a node with one app that has more fields. `name` is that of the file.
pub fn app_with(name: &str, fields: Value) -> String {
    let mut app = json!({ "id": "1", "key": KEY, "secret": SECRET });
    app.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    let path = std::env::temp_dir().join(format!("longtail-{}-{name}.json", std::process::id()));
    std::fs::write(&path, json!([app]).to_string()).expect("written");
    format!("LONGTAIL_PUSHER_APPS={}", path.display())
}

/// A client that is connected.
pub struct PusherClient {
    pub socket: RawWebSocket,
    pub id: String,
}

impl PusherClient {
    pub async fn open(node: &Node) -> PusherClient {
        let mut socket = RawWebSocket::open(node, &format!("/app/{KEY}?protocol=7&client=js&version=8.4.0")).await;
        let established = socket.frame().await.expect("a frame").json();
        assert_eq!(established["event"], "pusher:connection_established", "{established}");
        let data: Value = serde_json::from_str(established["data"].as_str().expect("a text")).expect("JSON");
        assert_eq!(data["activity_timeout"], 30);
        let id = data["socket_id"].as_str().expect("an id").to_owned();
        PusherClient { socket, id }
    }

    pub async fn send(&mut self, event: &str, data: Value) {
        self.socket.text(&json!({ "event": event, "data": data }).to_string()).await;
    }

    pub async fn send_to(&mut self, channel: &str, event: &str, data: Value) {
        self.socket.text(&json!({ "event": event, "channel": channel, "data": data }).to_string()).await;
    }

    /// The next frame that is not a ping of WebSocket.
    pub async fn next(&mut self) -> Value {
        within(SOON, "a frame", async {
            loop {
                let frame = self.socket.frame().await.expect("a frame, not the end");
                if frame.opcode() != 9 {
                    return frame.json();
                }
            }
        })
        .await
    }

    /// The next frame, which is this event; returns its data.
    pub async fn expect(&mut self, event: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["event"], event, "{frame}");
        match &frame["data"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| frame["data"].clone()),
            data => data.clone(),
        }
    }

    /// Whether nothing is on its way: the answer to a ping is the next frame.
    pub async fn expect_nothing(&mut self) {
        self.send("pusher:ping", json!({})).await;
        self.expect("pusher:pong").await;
    }

    pub async fn subscribe(&mut self, channel: &str) -> Value {
        let auth = format!("{KEY}:{}", sign(&format!("{}:{channel}", self.id)));
        self.send("pusher:subscribe", json!({ "channel": channel, "auth": auth })).await;
        self.expect("pusher_internal:subscription_succeeded").await
    }

    pub async fn ask_to_join(&mut self, channel: &str, user: &Value) {
        let data = user.to_string();
        let auth = format!("{KEY}:{}", sign(&format!("{}:{channel}:{data}", self.id)));
        self.send("pusher:subscribe", json!({ "channel": channel, "auth": auth, "channel_data": data })).await;
    }

    pub async fn join(&mut self, channel: &str, user: &Value) -> Value {
        self.ask_to_join(channel, user).await;
        self.expect("pusher_internal:subscription_succeeded").await["presence"].clone()
    }

    pub async fn sign_in(&mut self, user: &Value) {
        let data = user.to_string();
        let auth = format!("{KEY}:{}", sign(&format!("{}::user::{data}", self.id)));
        self.send("pusher:signin", json!({ "auth": auth, "user_data": data })).await;
        assert_eq!(self.expect("pusher:signin_success").await["user_data"], data);
    }
}

/// The query of a signed request. `fields` are sorted by their names.
pub fn signed(method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().to_string();
    let md5 = hex(&Md5::digest(body.as_bytes()));
    let mut all = vec![("auth_key", KEY), ("auth_timestamp", &*now), ("auth_version", "1.0")];
    if !body.is_empty() {
        all.push(("body_md5", &md5));
    }
    all.extend(fields);
    all.sort_unstable();
    let query = all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let signature = sign(&format!("{method}\n{path}\n{query}"));
    format!("{query}&auth_signature={signature}")
}

pub async fn get(node: &Node, path: &str, fields: &[(&str, &str)]) -> Response {
    Request::get(&format!("{path}?{}", signed("GET", path, fields, ""))).send(node.http).await
}

pub async fn post(node: &Node, path: &str, body: &Value) -> Response {
    let body = body.to_string();
    let target = format!("{path}?{}", signed("POST", path, &[], &body));
    Request::post(&target, body.as_bytes()).header("Content-Type", "application/json").send(node.http).await
}

/// Publishes an event, which has to succeed.
pub async fn trigger(node: &Node, channel: &str, event: &str, data: &str) {
    let response = post(node, "/apps/1/events", &json!({ "name": event, "channel": channel, "data": data })).await;
    assert_eq!((response.status, response.text()), (200, "{}".to_owned()));
}
