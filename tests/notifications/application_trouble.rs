//! An application that fails, refuses or is slow.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

on_both_logs! {
    an_application_that_fails_is_told_later
    a_refusal_counts_as_told
    an_answer_that_cannot_be_used_counts_as_told
    a_slow_call_holds_up_its_channel_only
}

async fn an_application_that_fails_is_told_later(log: Log) {
    let left = Arc::new(AtomicUsize::new(30));
    let failing = left.clone();
    let application = Application::start(move |_| {
        let fails = failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        (if fails { 500 } else { 204 }, Value::Null)
    })
    .await;
    let world = World::start(log, &flags(&application, "occupied,vacated")).await;
    let mut sockets = Vec::new();
    for n in 0..5 {
        sockets.push(read(&world.node, &format!("c{n}")).await);
    }
    // Each attempt is two requests.
    eventually("attempts", async || (left.load(Ordering::SeqCst) < 10).then_some(())).await;
    assert!(metric(&world.node, "longtail_transitions_waiting").await >= 1.0);
    drop(sockets);
    // What each channel is told alternates, and a repetition has the same id.
    eventually("the end of the failures", async || (left.load(Ordering::SeqCst) == 0).then_some(())).await;
    for n in 0..5 {
        let channel = format!("c{n}");
        within(WAIT, &format!("the last call of {channel}"), async {
            while calls_of(&application, &channel).last().is_none_or(|last| last != "vacated") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        let calls = application.all().into_iter().filter(|call| call["channel"] == channel.as_str());
        let mut distinct: Vec<(String, String)> = Vec::new();
        for call in calls {
            let seen = (call["type"].to_string(), call["id"].to_string());
            if distinct.last() != Some(&seen) {
                distinct.push(seen);
            }
        }
        let types: Vec<&str> = distinct.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(types, ["\"occupied\"", "\"vacated\""], "{distinct:?}");
    }
    assert!(metric(&world.node, "longtail_transitions_repeats").await >= 5.0);
    let warnings = world.node.log().lines().filter(|line| line.contains("did not answer as expected")).count();
    assert!((1..=3).contains(&warnings), "{}", world.node.log());
}

async fn a_refusal_counts_as_told(log: Log) {
    let application =
        Application::start(|call| (if call["type"] == "occupied" { 404 } else { 204 }, Value::Null)).await;
    let world = World::start(log, &flags(&application, "occupied,vacated")).await;
    let socket = read(&world.node, "a").await;
    until(&application, "a", &["occupied"]).await;
    drop(socket);
    until(&application, "a", &["occupied", "vacated"]).await;
}

async fn an_answer_that_cannot_be_used_counts_as_told(log: Log) {
    for answer in [json!([1]), json!("ok"), json!({"publish": 5}), json!({"publish": [{"channel": "~s/x", "data": 1}]})]
    {
        let said = answer.to_string();
        let application = Application::start(move |call| match call["type"].as_str() {
            Some("occupied") => (200, answer.clone()),
            _ => (204, Value::Null),
        })
        .await;
        let world = World::start(log, &flags(&application, "occupied,vacated")).await;
        let socket = read(&world.node, "a").await;
        until(&application, "a", &["occupied"]).await;
        drop(socket);
        until(&application, "a", &["occupied", "vacated"]).await;
        assert_eq!(metric(&world.node, "longtail_transitions_repeats").await, 0.0, "{said}");
    }
}

async fn a_slow_call_holds_up_its_channel_only(log: Log) {
    let application = Application::start(|call| {
        let delay = if call["channel"] == "slow" { 3000 } else { 1 };
        (200, json!({ "delay_ms": delay }))
    })
    .await;
    let world = World::start(log, &flags(&application, "occupied,vacated")).await;
    let slow = read(&world.node, "slow").await;
    until(&application, "slow", &["occupied"]).await;
    let began = Instant::now();
    for n in 0..3 {
        let channel = format!("quick-{n}");
        let _quick = read(&world.node, &channel).await;
        until(&application, &channel, &["occupied"]).await;
    }
    assert!(began.elapsed() < Duration::from_millis(10_000), "{:?}", began.elapsed());
    drop(slow);
    until(&application, "slow", &["occupied", "vacated"]).await;
}

/// While the application is away, the backlog is bounded, and nothing is told twice when it is back.
#[tokio::test]
async fn an_application_that_is_away_is_told_what_is_true_then() {
    // A port that nothing listens on until the application starts.
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], support::ports::free_port()));
    let url = format!("http://{address}/hook.php");
    let node = Node::start(&["--hook-url", &url, "--hook-notify", "occupied,vacated", "--hook-timeout", "2"]).await;
    let stays = read(&node, "stays").await;
    let brief = read(&node, "brief").await;
    eventually("two that wait", async || (metric(&node, "longtail_transitions_waiting").await == 2.0).then_some(()))
        .await;
    drop(brief);
    eventually("three that wait", async || (metric(&node, "longtail_transitions_waiting").await == 3.0).then_some(()))
        .await;
    let application = Application::start_at(address, |_| (204, Value::Null)).await;
    until(&application, "brief", &["occupied", "vacated"]).await;
    until(&application, "stays", &["occupied"]).await;
    drop(stays);
    until(&application, "stays", &["occupied", "vacated"]).await;
}
