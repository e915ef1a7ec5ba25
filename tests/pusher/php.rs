//! The example for PHP in the documentation.

use crate::support::Node;
use crate::support::php::run;
use crate::support::pusher::{APP, KEY, PusherClient, SECRET};
use serde_json::{Value, json};

#[tokio::test]
async fn the_example_triggers_and_authorizes() {
    let page = include_str!("../../docs/pusher.md");
    let (_, code) = page.split_once("```php\n<?php\n").expect("an example");
    let (functions, _) = code.split_once("```").expect("its end");
    let node = Node::start(&["--pusher-app", APP]).await;
    let mut client = PusherClient::open(&node).await;
    let script = format!(
        "{functions}
echo pusher_auth('{KEY}', '{SECRET}', '{}', 'private-a'), \"\\n\";
pusher_trigger('http://{}', '1', '{KEY}', '{SECRET}', 'a', 'added', ['title' => 'é']);
try {{
    pusher_trigger('http://{}', '1', '{KEY}', 'other', 'a', 'added', 1);
}} catch (RuntimeException $refused) {{
    echo $refused->getMessage();
}}",
        client.id, node.http, node.http
    );
    client.subscribe("a").await;
    let printed = run(&script, &[]).await;
    assert_eq!(client.expect("added").await, json!({ "title": "é" }));
    let (auth, refused) = printed.split_once('\n').expect("two lines");
    assert!(refused.starts_with("auth_signature is not the signature of this request"), "{refused}");
    let auth: Value = serde_json::from_str(auth).expect("JSON");
    client.send("pusher:subscribe", json!({ "channel": "private-a", "auth": auth["auth"] })).await;
    client.expect("pusher_internal:subscription_succeeded").await;
    client.expect_nothing().await;
}
