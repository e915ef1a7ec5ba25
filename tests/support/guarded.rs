//! A node that admits clients by tokens and a server key, and the outcome of requests to it.

use super::http::Response;
use super::token::{SECRET, token};
use super::websocket::handshake;
use super::{Node, Request, SOON, Transport, within};
use serde_json::json;

pub const KEY: &str = "server-key-0123456789abcdef";

pub async fn guarded(args: &[&str]) -> Node {
    let all = ["--token-secret", SECRET, "--publish-key", KEY, "--allow-origin", "https://app.example"];
    Node::start(&[&all, args].concat()).await
}

pub fn may(subscribe: &[&str], publish: &[&str]) -> String {
    token(&json!({"subscribe": subscribe, "publish": publish}))
}

pub async fn get(node: &Node, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut answer = request.open(node.http).await;
    // An accepted stream has no end, so only other responses are read to their end.
    if answer.status != 200 || answer.header("content-type").is_some_and(|kind| kind.contains("json;")) {
        answer.finish().await;
    }
    answer
}

pub async fn publish(node: &Node, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::post(path, b"1");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send(node.http).await
}

pub async fn publish_by_key(node: &Node, channel: &str) -> String {
    let answer = publish(node, &format!("/publish?channel={channel}"), &[("Authorization", &bearer(KEY))]).await;
    answer.json()["messages"][0]["id"].as_str().expect("an id").to_owned()
}

pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The code with which a request is refused, in any form; `None` if it was admitted.
pub async fn refused(mut answer: Response) -> Option<String> {
    if answer.status == 101 {
        return None;
    }
    if answer.status != 200 {
        return Some(answer.error_code());
    }
    let script = answer.header("content-type").is_some_and(|kind| kind.contains("html") || kind.contains("javascript"));
    if !script {
        return None;
    }
    let mut text = String::new();
    loop {
        let part = within(SOON, "a call", answer.read_some()).await?;
        text.push_str(&String::from_utf8_lossy(&part));
        if let Some((_, rest)) = text.split_once("\"error\":{\"code\":\"") {
            return rest.split('"').next().map(str::to_owned);
        }
        if text.contains("hello") || text.contains("\"messages\":") {
            return None;
        }
    }
}

pub async fn knock(node: &Node, transport: &Transport, query: &str, headers: &[(&str, &str)]) -> Option<String> {
    let url = transport.url(query);
    let mut request = if transport.lifecycle == "duplex" { handshake(&url) } else { Request::get(&url) };
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut answer = request.open(node.http).await;
    if answer.status != 200 && answer.status != 101 {
        answer.finish().await;
    }
    refused(answer).await
}
