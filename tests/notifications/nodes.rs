//! Several nodes: one of them tells everything, and another one goes on when it dies.

use super::*;

async fn three(redis: &RedisServer, flags: &[&str]) -> Vec<Node> {
    let nodes = vec![start_on(redis, flags).await, start_on(redis, flags).await, start_on(redis, flags).await];
    for node in &nodes {
        settled(node).await;
    }
    nodes
}

/// The sender dies: its channels are vacated within ten seconds, and nothing of the others is told again.
#[tokio::test]
async fn another_node_goes_on_when_the_sender_is_killed() {
    let application = accepting().await;
    let redis = RedisServer::start().await;
    let types = "occupied,vacated,member_added,member_removed";
    let flags = [&flags(&application, types)[..], &PRESENCE].concat();
    let mut nodes = three(&redis, &flags).await;
    let dead = sender(&nodes).await;
    let (mut kept, mut gone) = (Vec::new(), Vec::new());
    for (index, node) in nodes.iter().enumerate() {
        for n in 0..20 {
            let room = format!("room:{index}-{n}");
            let socket = join(node, &room, &format!("user-{index}"), Value::Null).await;
            if index == dead { gone.push((room, socket)) } else { kept.push((room, socket)) }
        }
    }
    application.wait("occupied", 60).await;
    application.wait("member_added", 60).await;
    let node = nodes.remove(dead);
    support::redis::signal(node.pid(), "KILL");
    let killed = Instant::now();
    application.wait("vacated", 20).await;
    let took = killed.elapsed();
    println!("20 channels of the dead node were vacated {took:?} after the kill");
    assert!(took < Duration::from_secs(10), "{took:?}");
    application.wait("member_removed", 20).await;
    let newcomer = join(&nodes[0], "room:new", "newcomer", Value::Null).await;
    within(WAIT, "the newcomer", async {
        while calls_of(&application, "room:new").len() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    for (room, _) in &gone {
        let mut calls = calls_of(&application, room);
        calls.sort_unstable();
        // The sender may have died before it noted an answer. Then the next one calls again.
        calls.dedup();
        assert_eq!(calls, ["member_added", "member_removed", "occupied", "vacated"], "{room}");
    }
    for (room, _) in &kept {
        let mut calls = calls_of(&application, room);
        calls.sort_unstable();
        // The sender may have died before it noted an answer. Then the next one calls again.
        calls.dedup();
        assert_eq!(calls, ["member_added", "occupied"], "{room}");
    }
    sender(&nodes).await;
    drop(newcomer);
}

/// A sender that was stopped for longer than its lease finds that another node is the sender, and tells nothing.
#[tokio::test]
async fn a_sender_that_was_stalled_steps_down() {
    let application = accepting().await;
    let redis = RedisServer::start().await;
    let nodes = three(&redis, &flags(&application, "occupied,vacated")).await;
    let stalled = sender(&nodes).await;
    let other = &nodes[(stalled + 1) % 3];
    let before = read(other, "before").await;
    until(&application, "before", &["occupied"]).await;
    nodes[stalled].signal("STOP");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let during = read(other, "during").await;
    until(&application, "during", &["occupied"]).await;
    nodes[stalled].signal("CONT");
    assert_ne!(sender(&nodes).await, stalled);
    let after = read(&nodes[stalled], "after").await;
    until(&application, "after", &["occupied"]).await;
    drop((before, during, after));
    for channel in ["before", "during", "after"] {
        until(&application, channel, &["occupied", "vacated"]).await;
    }
    assert_eq!(application.all().len(), 6);
}

/// A reader that moves to another node is no event, however often it moves.
#[tokio::test]
async fn a_reader_that_moves_is_no_event() {
    let application = accepting().await;
    let redis = RedisServer::start().await;
    let nodes = three(&redis, &flags(&application, "occupied,vacated")).await;
    let mut socket = read(&nodes[0], "a").await;
    until(&application, "a", &["occupied"]).await;
    for turn in 1..8 {
        drop(socket);
        socket = read(&nodes[turn % 3], "a").await;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    drop(socket);
    until(&application, "a", &["occupied", "vacated"]).await;
}
