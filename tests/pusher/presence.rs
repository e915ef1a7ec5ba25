//! Presence channels: members are users, on all nodes.

use crate::support::pusher::{APP, PusherClient, app_with, get, sign, trigger};
use crate::support::world::start_on;
use crate::support::{Node, RedisServer, eventually};
use serde_json::{Value, json};

fn user(id: &str) -> Value {
    json!({ "user_id": id, "user_info": { "name": id } })
}

async fn users(node: &Node) -> Vec<String> {
    let response = get(node, "/apps/1/channels/presence-a/users", &[]).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let mut users: Vec<String> = response.json()["users"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|user| user["id"].as_str().expect("a text").to_owned())
        .collect();
    users.sort_unstable();
    users
}

#[tokio::test]
async fn members_are_users_and_changes_fit_the_list() {
    let node = Node::start(&["--pusher-app", APP]).await;
    let mut one = PusherClient::open(&node).await;
    let list = one.join("presence-a", &user("1")).await;
    assert_eq!(list, json!({ "count": 1, "ids": ["1"], "hash": { "1": { "name": "1" } } }));
    one.expect_nothing().await;
    let mut two = PusherClient::open(&node).await;
    // The id of a user may be a number.
    let list = two.join("presence-a", &json!({ "user_id": 2 })).await;
    assert_eq!((&list["count"], &list["hash"]["2"]), (&json!(2), &json!({})));
    assert_eq!(one.expect("pusher_internal:member_added").await, json!({ "user_id": "2", "user_info": {} }));
    // A second tab is the same member.
    let mut tab = PusherClient::open(&node).await;
    assert_eq!(tab.join("presence-a", &json!({ "user_id": 2 })).await["count"], 2);
    one.expect_nothing().await;
    two.expect_nothing().await;
    assert_eq!(users(&node).await, ["1", "2"]);
    drop(two);
    trigger(&node, "presence-a", "x", "1").await;
    one.expect("x").await;
    // The other tab is still there, so nobody leaves.
    tab.expect("x").await;
    // The connection of a tab may change its user.
    assert_eq!(tab.join("presence-a", &user("3")).await["hash"]["3"], json!({ "name": "3" }));
    assert_eq!(one.expect("pusher_internal:member_added").await["user_id"], "3");
    drop(tab);
    for user in ["2", "3"] {
        assert_eq!(one.expect("pusher_internal:member_removed").await, json!({ "user_id": user }));
    }
    assert_eq!(users(&node).await, ["1"]);
    let count = get(&node, "/apps/1/channels/presence-a", &[("info", "user_count,subscription_count")]).await;
    assert_eq!(count.json(), json!({ "occupied": true, "user_count": 1, "subscription_count": 1 }));
}

#[tokio::test]
async fn a_channel_has_a_bounded_number_of_members() {
    let node = Node::start(&["--pusher-app", APP, "--presence-members", "1", "--presence-info-bytes", "100"]).await;
    let (mut one, mut two) = (PusherClient::open(&node).await, PusherClient::open(&node).await);
    one.join("presence-a", &user("1")).await;
    two.ask_to_join("presence-a", &user("2")).await;
    let error = two.expect("pusher:subscription_error").await;
    assert_eq!((&error["type"], &error["status"]), (&json!("LimitReached"), &json!(4100)));
    two.ask_to_join("presence-b", &json!({ "user_id": "2", "user_info": "x".repeat(200) })).await;
    assert_eq!(two.expect("pusher:subscription_error").await["type"], "LimitReached");
    for data in ["", "{}", "[]"] {
        let auth = format!("app-key:{}", sign(&format!("{}:presence-a:{data}", two.id)));
        two.send("pusher:subscribe", json!({ "channel": "presence-a", "auth": auth, "channel_data": data })).await;
        assert_eq!(two.expect("pusher:subscription_error").await["type"], "AuthError", "{data}");
    }
}

#[tokio::test]
async fn members_of_a_node_that_died_are_gone_from_every_list() {
    let redis = RedisServer::start().await;
    let flags = ["--pusher-app", APP, "--presence-members", "200"];
    let (stays, dies) = (start_on(&redis, &flags).await, start_on(&redis, &flags).await);
    let mut watcher = PusherClient::open(&stays).await;
    watcher.join("presence-a", &user("watcher")).await;
    // A node that has just started makes a user a member at once, or lets it wait.
    assert_eq!(users(&stays).await, ["watcher"]);
    let count = if std::env::var_os("LONGTAIL_LONG").is_some() { 199 } else { 30 };
    let ids: Vec<String> = (0..count).map(|n| format!("{n:03}")).collect();
    let mut others = Vec::new();
    for id in &ids {
        let mut client = PusherClient::open(&dies).await;
        let list = client.join("presence-a", &user(id)).await;
        assert_eq!(list["count"], others.len() + 2, "the list of {id}");
        // The watcher is not told about itself.
        assert_eq!(watcher.expect("pusher_internal:member_added").await["user_id"], **id);
        others.push(client);
    }
    for (n, client) in others.iter_mut().enumerate() {
        for id in &ids[n + 1..] {
            assert_eq!(client.expect("pusher_internal:member_added").await["user_id"], **id);
        }
        client.expect_nothing().await;
    }
    trigger(&dies, "presence-a", "x", "1").await;
    assert_eq!(watcher.expect("x").await, 1);
    let began = std::time::Instant::now();
    dies.signal("KILL");
    let mut removed = Vec::new();
    for _ in &ids {
        let data = watcher.expect("pusher_internal:member_removed").await;
        removed.push(data["user_id"].as_str().expect("a text").to_owned());
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(11), "{:?}", began.elapsed());
    removed.sort_unstable();
    assert_eq!(removed, ids);
    assert_eq!(users(&stays).await, ["watcher"]);
    watcher.expect_nothing().await;
}

#[tokio::test]
async fn a_user_signs_in_and_the_application_ends_its_connections() {
    let redis = RedisServer::start().await;
    let (one, two) = (start_on(&redis, &["--pusher-app", APP]).await, start_on(&redis, &["--pusher-app", APP]).await);
    let (mut client, mut other) = (PusherClient::open(&one).await, PusherClient::open(&two).await);
    client.send("pusher:signin", json!({ "auth": "app-key:00", "user_data": "{\"id\":\"7\"}" })).await;
    assert_eq!(client.expect("pusher:error").await["code"], 4009);
    client.sign_in(&json!({ "id": "7", "user_info": { "name": "A" } })).await;
    other.sign_in(&json!({ "id": "8" })).await;
    client.subscribe("#server-to-user-7").await;
    // A connection belongs to one user.
    let data = json!({ "id": "8" }).to_string();
    let auth = format!("app-key:{}", sign(&format!("{}::user::{data}", client.id)));
    client.send("pusher:signin", json!({ "auth": auth, "user_data": data })).await;
    assert_eq!(client.expect("pusher:error").await["code"], 4009);
    client.send("pusher:subscribe", json!({ "channel": "#server-to-user-8" })).await;
    client.expect("pusher:subscription_error").await;
    trigger(&two, "#server-to-user-7", "note", "1").await;
    client.expect("note").await;
    // The sign-in is enough for a presence channel.
    let list = client.subscribe("presence-a").await;
    assert_eq!(list["presence"]["hash"], json!({ "7": { "name": "A" } }));
    let terminated = crate::support::pusher::post(&two, "/apps/1/users/7/terminate_connections", &json!({})).await;
    assert_eq!((terminated.status, terminated.text()), (200, "{}".to_owned()));
    assert_eq!(client.socket.close_code().await, 4009);
    other.expect_nothing().await;
    eventually("the member to be gone", async || users(&two).await.is_empty().then_some(())).await;
}

/// Events of clients tell which user has sent them.
#[tokio::test]
async fn an_event_of_a_member_has_the_user() {
    let node = Node::start(&[&app_with("members", json!({ "client_events": true }))]).await;
    let (mut one, mut two) = (PusherClient::open(&node).await, PusherClient::open(&node).await);
    one.join("presence-a", &user("1")).await;
    two.join("presence-a", &user("2")).await;
    one.expect("pusher_internal:member_added").await;
    one.send_to("presence-a", "client-typing", json!({ "on": true })).await;
    let frame = two.next().await;
    assert_eq!((&frame["event"], &frame["user_id"]), (&json!("client-typing"), &json!("1")), "{frame}");
    assert_eq!(frame["data"], "{\"on\":true}");
    one.send_to("presence-a", "client-typing", json!("text")).await;
    assert_eq!(two.next().await["data"], "text");
}
