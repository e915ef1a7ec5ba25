//! Users that join or leave a channel.

use super::*;

on_both_logs! {
    members_are_told_as_they_come_and_go
    the_messages_of_an_answer_are_published
}

async fn start(log: Log, application: &Application) -> World {
    let world = World::start(log, &[&flags(application, "member_added,member_removed")[..], &PRESENCE].concat()).await;
    if log == Log::Redis {
        settled(&world.node).await;
    }
    world
}

async fn members_are_told_as_they_come_and_go(log: Log) {
    let application = accepting().await;
    let world = start(log, &application).await;
    let node = &world.node;
    let mut witness = RawWebSocket::open(
        node,
        &format!(
            "/ws?channel=room:1&presence=1&token={}",
            token(&json!({"subscribe": ["*"], "exp": support::token::seconds(600)}))
        ),
    )
    .await;
    witness.next_of("hello").await;
    let ann = join(node, "room:1", "ann", json!({"name": "Ann"})).await;
    let entry = witness.next_of("member_added").await;
    until(&application, "room:1", &["member_added"]).await;
    let call = application.all()[0].clone();
    assert_eq!(call["user"], json!({"id": "ann", "info": {"name": "Ann"}}));
    assert_eq!((&call["cursor"], &call["session"]), (&entry["id"], &Value::Null));
    // Another tab is no news, and other information is.
    let second = join(node, "room:1", "ann", json!({"name": "Ann"})).await;
    let third = join(node, "room:1", "ann", json!({"name": "Anna"})).await;
    until(&application, "room:1", &["member_added", "member_removed", "member_added"]).await;
    let infos: Vec<Value> = application.all().iter().map(|call| call["user"]["info"]["name"].clone()).collect();
    assert_eq!(infos, ["Ann", "Ann", "Anna"]);
    let _bob = join(node, "room:2", "bob", Value::Null).await;
    until(&application, "room:2", &["member_added"]).await;
    drop((ann, second, third));
    until(&application, "room:1", &["member_added", "member_removed", "member_added", "member_removed"]).await;
    assert_eq!(application.all().len(), 5);
}

async fn the_messages_of_an_answer_are_published(log: Log) {
    let application = Application::start(|call| {
        (200, json!({"publish": [{"channel": "log", "data": [call["type"], call["user"]["id"]]}], "join": ["x"]}))
    })
    .await;
    let refusing = Application::start(|_| (200, json!({"publish": [{"channel": "log", "data": "hello"}]}))).await;
    let world = start(log, &refusing).await;
    let cursor = list_cursor(&world.node).await;
    let _ann = join(&world.node, "room:1", "ann", Value::Null).await;
    until(&refusing, "room:1", &["member_added"]).await;
    published(&world.node, &cursor, &json!("hello")).await;
    // An answer that needs a session has no effect, and the call counts as told.
    let world = start(log, &application).await;
    let _bob = join(&world.node, "room:1", "bob", Value::Null).await;
    until(&application, "room:1", &["member_added"]).await;
    eventually("nothing that waits", async || {
        (metric(&world.node, "longtail_transitions_waiting").await == 0.0).then_some(())
    })
    .await;
}

async fn list_cursor(node: &Node) -> String {
    let answer = Request::get("/poll?channel=log").header("Authorization", &bearer(KEY)).send(node.http).await;
    answer.json()["cursor"].as_str().expect("a cursor").to_owned()
}

async fn published(node: &Node, cursor: &str, data: &Value) {
    eventually("the message of the answer", async || {
        let path = format!("/poll?channel=log&cursor={cursor}");
        let batch = Request::get(&path).header("Authorization", &bearer(KEY)).send(node.http).await.json();
        (batch["messages"][0]["data"] == *data).then_some(())
    })
    .await;
}
