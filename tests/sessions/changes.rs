//! Changes apply at their place in the log, on every transport.

use super::*;
use support::each_transport;

on_both_logs! {
    a_change_applies_exactly_at_its_place_on_every_transport
    sessions_are_selected_by_client_user_channel_and_id
    a_disconnect_ends_the_stream_and_the_session
    a_session_goes_on_with_its_joins
    the_sessions_of_a_channel_are_listed_by_pages
}

async fn a_change_applies_exactly_at_its_place_on_every_transport(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    each_transport(
        node,
        |_| true,
        async |transport| {
            let (own, joined) = (format!("own-{}", transport.name), format!("joined-{}", transport.name));
            let mut reader = open(node, &transport, &own, &[]).await;
            let session = reader.subscription.session().to_owned();
            publish(node, &joined, "1").await;
            change(node, &json!({"session": session, "join": [joined], "send": [{"event": "hi", "args": [1, "b"]}]}))
                .await;
            publish(node, &joined, "2").await;
            publish(node, &own, "3").await;
            change(node, &json!({"session": session, "leave": [joined], "send": [{"event": "one", "data": {"a": 1}}]}))
                .await;
            publish(node, &joined, "4").await;
            change(node, &json!({"session": session, "rooms": [joined], "send": [{"event": "none"}]})).await;
            publish(node, &joined, "5").await;
            let expected = [
                event("hi", json!([1, "b"])),
                message(&joined, 2),
                message(&own, 3),
                event("one", json!({"a": 1})),
                event("none", json!([])),
                message(&joined, 5),
            ];
            for expected in expected {
                expect(&mut reader, &expected).await;
            }
        },
    )
    .await;
}

async fn sessions_are_selected_by_client_user_channel_and_id(log: Log) {
    let world = start(log, &[]).await;
    let (node, ws) = (&world.node, &world.node.transport("ws").await);
    let mut one = open(node, ws, "a", &[("client", "one")]).await;
    let mut two = open(node, ws, "b", &[("client", "two")]).await;
    let id = one.subscription.session().to_owned();
    for (selector, value, gets) in [
        ("session", id.as_str(), [true, false]),
        ("client", "two", [false, true]),
        ("channel", "a", [true, false]),
        ("channel", "b", [false, true]),
        ("channel", "c", [false, false]),
        ("user", "7", [false, false]),
        ("client", "nobody", [false, false]),
        ("session", "nobody", [false, false]),
    ] {
        let name = format!("{selector}-{value}");
        change(node, &json!({selector: value, "send": [{"event": name}]})).await;
        // Each of them gets this event, so nothing else is left before it.
        for (reader, gets) in [(&mut one, gets[0]), (&mut two, gets[1])] {
            let client = reader.subscription.session().to_owned();
            change(node, &json!({"session": client, "send": [{"event": "mark"}]})).await;
            if gets {
                expect(reader, &event(&name, json!([]))).await;
            }
            expect(reader, &event("mark", json!([]))).await;
        }
    }
    // By a channel that it has joined, up to the place at which it leaves it.
    change(node, &json!({"client": "one", "join": ["room"]})).await;
    change(node, &json!({"channel": "room", "leave": ["room"], "send": [{"event": "out"}]})).await;
    change(node, &json!({"channel": "room", "send": [{"event": "never"}]})).await;
    publish(node, "room", "1").await;
    publish(node, "a", "2").await;
    expect(&mut one, &event("out", json!([]))).await;
    expect(&mut one, &message("a", 2)).await;
}

async fn a_disconnect_ends_the_stream_and_the_session(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    each_transport(
        node,
        |_| true,
        async |transport| {
            let own = format!("own-{}", transport.name);
            let mut reader = open(node, &transport, &own, &[]).await;
            let session = reader.subscription.session().to_owned();
            publish(node, &own, "1").await;
            change(node, &json!({"session": session, "send": [{"event": "bye bye"}], "disconnect": true})).await;
            publish(node, &own, "2").await;
            expect(&mut reader, &message(&own, 1)).await;
            expect(&mut reader, &event("bye bye", json!([]))).await;
            // The last object says that the application has ended the session. A token that expires does not.
            if transport.is_poll() {
                within(SOON, "the end of the session", async {
                    while reader.next_of(Kind::Batch).await.raw("session") != Some("null") {}
                })
                .await;
            } else {
                let bye = reader.next_of(Kind::Bye).await;
                assert_eq!((bye.number("code"), bye.number("retry")), (Some(4003), None), "{}", transport.name);
                assert_eq!(bye.raw("session"), Some("null"), "{}", transport.name);
            }
            // On any transport, and from any position.
            let fields = format!("channel={own}&session={session}");
            for path in [format!("/poll?{fields}&cursor=earliest"), format!("/poll?{fields}")] {
                let refused = eventually("the end of the session", async || {
                    Some(node.get(&path).await).filter(|answer| answer.status != 200)
                })
                .await;
                assert_eq!((refused.status, refused.error_code().as_str()), (409, "no_session"), "{}", transport.name);
            }
        },
    )
    .await;
}

async fn a_session_goes_on_with_its_joins(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    let ws = node.transport("ws").await;
    let mut reader = open(node, &ws, "own", &[]).await;
    let session = reader.subscription.session().to_owned();
    publish(node, "room", "1").await;
    change(node, &json!({"session": session, "join": ["room"]})).await;
    publish(node, "room", "2").await;
    expect(&mut reader, &message("room", 2)).await;
    let cursor = reader.cursor();
    drop(reader);
    // While no stream is open.
    publish(node, "room", "3").await;
    change(node, &json!({"session": session, "send": [{"event": "hi"}], "join": ["late"]})).await;
    publish(node, "late", "4").await;
    let expected = [message("room", 3), event("hi", json!([])), message("late", 4)];
    for name in ["ws", "sse", "long-poll", "poll", "tcp", "xhr-stream"] {
        let transport = node.transport(name).await;
        // From the last position each time: what was read on another transport comes again.
        let subscription = Subscription::to(&["own"]).from(&cursor).with("session", &session).with("timeout", "5");
        let mut reader = Reader::open(node, &transport, subscription).await;
        for expected in &expected {
            expect(&mut reader, expected).await;
        }
    }
    // A cursor before the joins: the messages before them are not for the session.
    let subscription = Subscription::to(&["own"]).from("earliest").with("session", &session);
    let mut reader = Reader::open(node, &ws, subscription).await;
    expect(&mut reader, &message("room", 2)).await;
}

async fn the_sessions_of_a_channel_are_listed_by_pages(log: Log) {
    let world = start(log, &[]).await;
    let (node, ws) = (&world.node, &world.node.transport("ws").await);
    let mut readers = Vec::new();
    for n in 0..105 {
        readers.push(open(node, ws, "full", &[("client", &format!("client-{n}"))]).await);
    }
    let joiner = open(node, ws, "other", &[("client", "joiner")]).await;
    change(node, &json!({"client": "joiner", "join": ["full"]})).await;
    let clients = eventually("the list with the session that has joined", async || {
        let mut clients = Vec::new();
        let mut query = String::new();
        loop {
            let page = node.get(&format!("/sessions?channel=full{query}")).await;
            assert_eq!(page.status, 200, "{}", page.text());
            assert!(!page.text().contains(joiner.subscription.session()), "the ids are secrets");
            for session in page.json()["sessions"].as_array().expect("sessions") {
                assert_eq!((&session["endpoint"], &session["user"]), (&json!("/"), &Value::Null), "{session}");
                clients.push(session["client"].as_str().expect("a client").to_owned());
            }
            match page.json()["next"].as_str() {
                Some(next) => query = format!("&after={next}"),
                None => break,
            }
        }
        clients.contains(&"joiner".to_owned()).then_some(clients)
    })
    .await;
    let unique: std::collections::BTreeSet<_> = clients.iter().collect();
    assert_eq!((clients.len(), unique.len()), (106, 106));
    assert_eq!(node.get("/sessions?channel=empty").await.json(), json!({"sessions": []}));
}
