//! Presence: the members of a channel, as changes and as a list.

use crate::support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::guarded::{KEY, bearer, get, knock};
use support::token::{SECRET, token};
use support::world::{each_transport, start_on};
use support::{
    Kind, Log, Node, RawWebSocket, Reader, RedisServer, Request, Subscription, Transport, World, eventually, within,
};

const FLAGS: [&str; 8] =
    ["--token-secret", SECRET, "--publish-key", KEY, "--presence", "room:*", "--away-seconds", "2"];

/// Longer than any wait here takes.
const WAIT: Duration = Duration::from_secs(30);

on_both_logs! {
    members_come_and_go_on_every_transport
    a_user_is_one_member_with_the_info_that_came_last
    a_stay_lasts_as_long_as_its_subscription
    a_channel_has_so_many_members
    the_list_has_the_rules_of_subscribing
    who_does_not_ask_is_not_told
    a_user_does_not_end_the_stay_of_another
    a_check_is_not_a_stay
    a_socket_that_lingers_does_not_keep_its_user
}

/// A node with presence. Over Redis it writes entries of members only when all nodes are known to read them.
async fn start(log: Log, args: &[&str]) -> World {
    let world = World::start(log, &[&FLAGS, args].concat()).await;
    if log == Log::Redis {
        settled(&world.node).await;
    }
    world
}

async fn settled(node: &Node) {
    let what = "the node to write entries about members";
    eventually(what, async || (metric(node, "longtail_log_format").await >= 2.0).then_some(())).await;
}

async fn metric(node: &Node, name: &str) -> f64 {
    let page = Request::get("/metrics").header("Authorization", &bearer(KEY)).send(node.http).await.text();
    let line = page.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

fn user(id: &str, info: Value) -> String {
    token(&json!({"sub": id, "info": info, "subscribe": ["room:*", "plain"], "exp": support::token::seconds(600)}))
}

/// A witness: a separate reader without a user, which gets the entries about members that join or leave.
async fn witness(node: &Node, channel: &str) -> Reader {
    let ws = node.transport("ws").await;
    let subscription = Subscription::to(&[channel]).with("presence", "1").with("token", &anybody());
    Reader::open(node, &ws, subscription).await
}

/// A token without a user.
fn anybody() -> String {
    token(&json!({"subscribe": ["room:*", "plain"], "exp": support::token::seconds(600)}))
}

/// The next change that the witness is told of: whether the user was added, and its id.
async fn change(witness: &mut Reader) -> (bool, String) {
    let item = within(WAIT, "a change of the members", witness.next_of(Kind::Member)).await;
    let data: Value = serde_json::from_str(item.data()).expect("JSON");
    (item.str("type").as_deref() == Some("member_added"), data["id"].as_str().expect("an id").to_owned())
}

fn added(id: &str) -> (bool, String) {
    (true, id.to_owned())
}

fn removed(id: &str) -> (bool, String) {
    (false, id.to_owned())
}

async fn list(node: &Node, channel: &str) -> Value {
    let path = format!("/channels/{}/members", support::quote(channel));
    let answer = get(node, &path, &[("Authorization", &bearer(KEY))]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn ids(node: &Node, channel: &str) -> Vec<String> {
    let list = list(node, channel).await;
    let members = list["members"].as_array().expect("members").iter();
    members.map(|member| member["id"].as_str().expect("an id").to_owned()).collect()
}

/// A subscription from now on.
async fn from_now(node: &Node, channel: &str, token: &str) -> Subscription {
    let list = match channel {
        "plain" => return Subscription::to(&[channel]).with("token", token),
        _ => list(node, channel).await,
    };
    Subscription::to(&[channel]).with("token", token).from(list["cursor"].as_str().expect("a cursor"))
}

async fn open(node: &Node, transport: &Transport, channel: &str, token: &str) -> Reader {
    if !transport.is_poll() {
        return Reader::open(node, transport, Subscription::to(&[channel]).with("token", token)).await;
    }
    let client = format!("client-{}-{}", transport.name, fastrand::u32(..));
    let subscription = from_now(node, channel, token).await.with("client", &client);
    let reader = Reader::open(node, transport, subscription).await;
    poll_once(node, &reader).await;
    reader
}

/// One request of a polling reader.
async fn poll_once(node: &Node, reader: &Reader) {
    let mut query = format!("{}&timeout=1", reader.subscription.query());
    if reader.transport.name == "jsonp" {
        query.push_str("&callback=f");
    }
    let answer = node.get(&reader.transport.url(&query)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn members_come_and_go_on_every_transport(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    each_transport(
        node,
        |_| true,
        async |transport| {
            let channel = format!("room:{}", transport.name);
            let mut witness = witness(node, &channel).await;
            let token = user("ann", json!({"name": "Ann"}));
            let reader = open(node, &transport, &channel, &token).await;
            assert_eq!(change(&mut witness).await, added("ann"));
            let known = list(node, &channel).await;
            assert_eq!(known["members"], json!([{"id": "ann", "info": {"name": "Ann"}}]));
            assert!(known["cursor"].is_string());
            let gone = Instant::now();
            drop(reader);
            assert_eq!(change(&mut witness).await, removed("ann"));
            // A poll took up to a second before it was answered, and then its client is not away for two.
            let (least, most) = if transport.is_poll() { (5, 20) } else { (4, 18) };
            let took = gone.elapsed();
            assert!(
                took > Duration::from_secs(least) && took < Duration::from_secs(most),
                "{}: {took:?}",
                transport.name
            );
            assert_eq!(ids(node, &channel).await, Vec::<String>::new());
        },
    )
    .await;
}

async fn a_user_is_one_member_with_the_info_that_came_last(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    let (sse, ws) = (node.transport("sse").await, node.transport("ws").await);
    let mut witness = witness(node, "room:1").await;
    let first = open(node, &sse, "room:1", &user("ann", json!(1))).await;
    let second = open(node, &ws, "room:1", &user("ann", json!(1))).await;
    assert_eq!(change(&mut witness).await, added("ann"));
    // The same user with other info.
    let third = open(node, &sse, "room:1", &user("ann", json!(2))).await;
    assert_eq!([change(&mut witness).await, change(&mut witness).await], [removed("ann"), added("ann")]);
    assert_eq!(list(node, "room:1").await["members"], json!([{"id": "ann", "info": 2}]));
    // The end of one of several connections is not an event, and neither is a reconnect within the grace.
    drop((first, second));
    drop(third);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let again = open(node, &sse, "room:1", &user("ann", json!(2))).await;
    let bob = open(node, &ws, "room:1", &user("bob", json!(null))).await;
    assert_eq!(change(&mut witness).await, added("bob"));
    drop((again, bob));
    let gone: BTreeSet<_> = [change(&mut witness).await, change(&mut witness).await].into();
    assert_eq!(gone, [removed("ann"), removed("bob")].into());
    // A reader without a user is not a member, and neither is a user of another channel.
    let nobody = open(node, &sse, "room:1", &anybody()).await;
    let elsewhere = open(node, &sse, "plain", &user("ann", json!(1))).await;
    assert_eq!(ids(node, "room:1").await, Vec::<String>::new());
    drop((nobody, elsewhere));
}

async fn a_stay_lasts_as_long_as_its_subscription(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    let mut witness = witness(node, "room:2").await;
    let mut socket = RawWebSocket::open(node, &format!("/ws?token={}", user("ann", json!("x")))).await;
    socket.text(&json!({"type": "subscribe", "channels": ["room:1", "room:2"], "ref": 1}).to_string()).await;
    socket.next_of("ack").await;
    assert_eq!(change(&mut witness).await, added("ann"));
    assert_eq!(ids(node, "room:1").await, ["ann"]);
    socket.text(&json!({"type": "unsubscribe", "channels": ["room:2"], "ref": 2}).to_string()).await;
    let began = Instant::now();
    assert_eq!(change(&mut witness).await, removed("ann"));
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(ids(node, "room:1").await, ["ann"], "the other subscription goes on");
    // A newer token brings newer info, in all channels.
    let newer = user("ann", json!("y"));
    socket.text(&json!({"type": "subscribe", "channels": ["room:2"], "token": newer, "presence": 1}).to_string()).await;
    assert_eq!(change(&mut witness).await, added("ann"));
    let other = async || (list(node, "room:1").await["members"][0]["info"] == "y").then_some(());
    eventually("the newer info in the other channel", other).await;
    // A user that is known only by a later token becomes a member of a channel that is read already.
    let mut nameless = RawWebSocket::open(node, &format!("/ws?channel=room:2&token={}", anybody())).await;
    nameless.next_of("hello").await;
    let token = user("eve", json!(null));
    nameless.text(&json!({"type": "subscribe", "channels": ["room:2"], "token": token}).to_string()).await;
    assert_eq!(change(&mut witness).await, added("eve"));
    // From now on the socket itself gets the changes.
    let bob = open(node, &node.transport("sse").await, "room:2", &user("bob", json!(null))).await;
    while socket.next_of("member_added").await["data"]["id"] != "bob" {}
    drop(bob);
}

async fn a_channel_has_so_many_members(log: Log) {
    let world = start(log, &["--presence-members", "2", "--presence-info-bytes", "10"]).await;
    let node = &world.node;
    let sse = node.transport("sse").await;
    let ann = open(node, &sse, "room:1", &user("ann", json!(1))).await;
    let _bob = open(node, &sse, "room:1", &user("bob", json!(1))).await;
    each_transport(node, Transport::is_http, async |transport| {
        let refused = async |who: &str, info: Value, channel: &str| {
            let query = format!("channel={channel}&token={}&callback=f&timeout=1", user(who, info));
            knock(node, &transport, &query, &[]).await
        };
        assert_eq!(refused("carl", json!(1), "room:1").await.as_deref(), Some("too_many_members"));
        assert_eq!(refused("ann", json!(1), "room:1").await, None, "who is a member may come again");
        assert_eq!(refused("carl", json!("123456789"), "room:3").await.as_deref(), Some("forbidden"));
        assert_eq!(refused("carl", json!("12345678"), "room:3").await, None, "ten bytes");
        assert_eq!(refused("carl", json!("123456789"), "plain").await, None, "there is no presence");
    })
    .await;
    // A poll that is refused in one channel does not make its user a member of another one, and its user does not come
    // later.
    for client in ["", "&client=carl"] {
        let query = format!("/poll?channel=room:1,room:4&token={}{client}", user("carl", json!(1)));
        let answer = node.get(&query).await;
        assert_eq!((answer.status, answer.error_code()), (403, "too_many_members".to_owned()), "{}", answer.text());
    }
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(ids(node, "room:4").await, Vec::<String>::new());
    let mut socket = RawWebSocket::open(node, &format!("/ws?token={}", user("carl", json!(1)))).await;
    socket.text(&json!({"type": "subscribe", "channels": ["room:1"], "ref": 1}).to_string()).await;
    let refusal = socket.next_of("error").await;
    assert_eq!((&refusal["code"], &refusal["ref"]), (&json!("too_many_members"), &json!(1)), "{refusal}");
    // There is room again when a member has gone.
    drop(ann);
    let query = format!("/poll?channel=room:1&token={}", user("carl", json!(1)));
    eventually("room for another member", async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        (node.get(&query).await.status == 200).then_some(())
    })
    .await;
    assert!(metric(node, "longtail_presence_joins_total{outcome=\"full\"}").await >= 1.0);
}

async fn the_list_has_the_rules_of_subscribing(log: Log) {
    let world = start(log, &["--public", "room:public"]).await;
    let node = &world.node;
    let (ann, other) = (user("ann", json!(1)), token(&json!({"sub": "x", "subscribe": ["elsewhere"]})));
    for (path, credentials, status, code) in [
        ("/channels/room:1/members", None, 401, "unauthorized"),
        ("/channels/room:1/members", Some(&other), 403, "forbidden"),
        ("/channels/room:1/members", Some(&ann), 200, ""),
        ("/channels/room%3A1/members", Some(&ann), 200, ""),
        ("/channels/room:public/members", None, 200, ""),
        ("/channels/plain/members", Some(&ann), 404, "not_found"),
        ("/channels/room:1%20/members", Some(&ann), 400, "bad_channel"),
        ("/channels//members", Some(&ann), 400, "bad_channel"),
    ] {
        for in_header in [true, false] {
            let mut request = Request::get(path);
            if let Some(token) = credentials {
                request = match in_header {
                    true => request.header("Authorization", &bearer(token)),
                    false => Request::get(&format!("{path}?token={token}")),
                };
            }
            let answer = request.send(node.http).await;
            assert_eq!(answer.status, status, "{path} {}", answer.text());
            match code {
                "" => assert!(answer.json()["members"].is_array()),
                code => assert_eq!(answer.error_code(), code, "{path}"),
            }
        }
    }
    assert_eq!(Request::post("/channels/room:1/members", b"").send(node.http).await.status, 405);
    // The user of a public channel is known by its token.
    let _reader = open(node, &node.transport("sse").await, "room:public", &ann).await;
    assert_eq!(ids(node, "room:public").await, ["ann"]);
    let info = node.get("/info").await.json();
    assert_eq!(info["presence"], json!({"members": 100, "info_bytes": 2048}));
}

async fn who_does_not_ask_is_not_told(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    each_transport(
        node,
        |_| true,
        async |transport| {
            let channel = format!("room:q{}", transport.name);
            let anybody = anybody();
            let from_now = from_now(node, &channel, &anybody).await;
            let mut told = Reader::open(node, &transport, from_now.clone().with("presence", "1")).await;
            let mut quiet = Reader::open(node, &transport, from_now).await;
            let _ann = open(node, &node.transport("sse").await, &channel, &user("ann", json!(null))).await;
            let item = told.next_of(Kind::Member).await;
            let object: Value = serde_json::from_str(&item.text).expect("JSON");
            assert_eq!(
                object,
                json!({
                    "type": "member_added", "id": object["id"], "channel": channel, "data": {"id": "ann", "info": null}
                })
            );
            let sent = support::guarded::publish_by_key(node, &channel).await;
            for reader in [&mut told, &mut quiet] {
                let next = loop {
                    let item = reader.next().await.expect("an item");
                    if matches!(item.kind, Kind::Message | Kind::Member | Kind::Gap) {
                        break item;
                    }
                };
                assert_eq!((next.kind, next.id()), (Kind::Message, Some(sent.clone())), "{}", next.text);
            }
            // Entries about members do not count as messages to begin with.
            let last = Subscription::to(&[&channel]).with("token", &anybody).with("last", "1").from("latest");
            let _bob = open(node, &node.transport("sse").await, &channel, &user("bob", json!(null))).await;
            let mut newcomer = Reader::open(node, &transport, last).await;
            assert_eq!(newcomer.next_message().await.id(), Some(sent));
        },
    )
    .await;
}

/// Three nodes of one log.
async fn three(redis: &RedisServer, args: &[&str]) -> Vec<Node> {
    let args = [&FLAGS, args].concat();
    let nodes = vec![start_on(redis, &args).await, start_on(redis, &args).await, start_on(redis, &args).await];
    for node in &nodes {
        settled(node).await;
    }
    nodes
}

async fn until_ids(node: &Node, channel: &str, expected: &BTreeSet<String>, limit: Duration) {
    let what = format!("{} members on the list of {}", expected.len(), node.http);
    within(limit, &what, async {
        while ids(node, channel).await.into_iter().collect::<BTreeSet<_>>() != *expected {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

/// A user that polls, each time at the next node. A node that does not answer is left out.
async fn poll_in_turn(
    nodes: Vec<SocketAddr>,
    first: usize,
    transport: Transport,
    client: String,
    token: String,
    from: String,
) {
    let mut cursor = from;
    for turn in first.. {
        let query = format!("channel=room:all&client={client}&token={token}&timeout=2&cursor={cursor}");
        let answer = Request::get(&transport.url(&query)).try_send(nodes[turn % nodes.len()]).await;
        let Some(answer) = answer.filter(|answer| answer.status == 200) else { continue };
        let text = answer.text();
        let batch = text.trim_start_matches("/**/cb(").trim_end_matches(';').trim_end_matches(')');
        let batch: Value = serde_json::from_str(batch).unwrap_or_else(|error| panic!("{text}: {error}"));
        cursor = batch["cursor"].as_str().expect("a cursor").to_owned();
        if !transport.waits() {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
}

/// Many members over three nodes on all transports, and the death of one node. The users of its streams and sockets are
/// removed; those that poll do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_members_of_a_dead_node_are_removed_once() {
    let is_long = std::env::var_os("LONGTAIL_LONG").is_some();
    let count = if is_long { 1000 } else { 150 };
    let redis = RedisServer::start().await;
    let mut flags = FLAGS;
    flags[7] = "20";
    let flags = [&flags[..], &["--presence-members", "1000"]].concat();
    let mut nodes =
        vec![start_on(&redis, &flags).await, start_on(&redis, &flags).await, start_on(&redis, &flags).await];
    for node in &nodes {
        settled(node).await;
    }
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.http).collect();
    let mut told = witness(&nodes[1], "room:all").await;
    let transports = nodes[0].transports().await;
    let cursor = nodes[0].get(&format!("/poll?channel=room:all&token={}", anybody())).await.json()["cursor"].clone();
    let cursor = cursor.as_str().expect("a cursor");
    let (mut readers, mut polling) = (Vec::new(), tokio::task::JoinSet::new());
    let (mut all, mut left) = (BTreeSet::new(), BTreeSet::new());
    for index in 0..count {
        let (node, transport) = (index % 3, &transports[index / 3 % transports.len()]);
        let name = format!("user-{index:04}");
        let token = user(&name, json!({"n": index}));
        if transport.is_poll() {
            let client = format!("client-{index}");
            polling.spawn(poll_in_turn(addresses.clone(), node, transport.clone(), client, token, cursor.to_owned()));
        } else {
            let subscription = Subscription::to(&["room:all"]).with("token", &token);
            readers.push(Reader::open(&nodes[node], transport, subscription).await);
        }
        if transport.is_poll() || node != 0 {
            left.insert(name.clone());
        }
        all.insert(name);
    }
    for node in &nodes {
        until_ids(node, "room:all", &all, WAIT).await;
    }
    let mut counts: BTreeMap<(bool, String), usize> = BTreeMap::new();
    for _ in 0..count {
        *counts.entry(change(&mut told).await).or_default() += 1;
    }
    assert!(counts.iter().all(|((is_added, _), count)| *is_added && *count == 1), "{counts:?}");
    let dead = nodes.remove(0);
    support::redis::signal(dead.pid(), "KILL");
    let killed = Instant::now();
    for node in &nodes {
        until_ids(node, "room:all", &left, WAIT).await;
    }
    let took = killed.elapsed();
    counts.clear();
    for _ in 0..count - left.len() {
        *counts.entry(change(&mut told).await).or_default() += 1;
    }
    println!(
        "{count} members, of which {} poll: the lists of all nodes were right {took:?} after the kill, and {} members were \
         removed",
        polling.len(),
        counts.values().sum::<usize>()
    );
    let expected: BTreeMap<_, _> = all.difference(&left).map(|id| (removed(id), 1)).collect();
    assert_eq!(counts, expected);
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(10), "{took:?}");
    // Nothing else comes: the next change is that of a newcomer.
    let sse = nodes[0].transport("sse").await;
    let _newcomer = open(&nodes[0], &sse, "room:all", &user("newcomer", json!(1))).await;
    assert_eq!(change(&mut told).await, added("newcomer"));
    assert!(polling.try_join_next().is_none(), "the users who poll still do");
}

#[tokio::test]
async fn a_node_that_drains_leaves_its_members_in_grace() {
    let redis = RedisServer::start().await;
    let mut nodes = three(&redis, &[]).await;
    let mut told = witness(&nodes[1], "room:1").await;
    let sse = nodes[0].transport("sse").await;
    let reader = open(&nodes[0], &sse, "room:1", &user("ann", json!(1))).await;
    let other = open(&nodes[0], &sse, "room:1", &user("bob", json!(1))).await;
    let came: BTreeSet<_> = [change(&mut told).await, change(&mut told).await].into();
    assert_eq!(came, [added("ann"), added("bob")].into());
    let mut draining = nodes.remove(0);
    draining.signal("TERM");
    drop((reader, other));
    assert_eq!(draining.exit_code().await, 0);
    // Ann comes back elsewhere, and Bob does not.
    let _again = open(&nodes[1], &sse, "room:1", &user("ann", json!(1))).await;
    assert_eq!(change(&mut told).await, removed("bob"));
    assert_eq!(ids(&nodes[0], "room:1").await, ["ann"]);
}

/// While Redis is away, no member is removed, and the list cannot be read. A log that is not stored is lost with Redis:
/// then readers are told of all members again.
#[tokio::test]
async fn an_outage_of_redis_stops_the_clocks() {
    let mut redis = RedisServer::start_durable().await;
    let nodes = three(&redis, &[]).await;
    let mut told = witness(&nodes[1], "room:1").await;
    let sse = nodes[0].transport("sse").await;
    let _ann = open(&nodes[0], &sse, "room:1", &user("ann", json!(1))).await;
    let _bob = open(&nodes[2], &sse, "room:1", &user("bob", json!(1))).await;
    let carl = open(&nodes[2], &sse, "room:1", &user("carl", json!(1))).await;
    for _ in 0..3 {
        assert!(change(&mut told).await.0);
    }
    redis.end().await;
    drop(carl);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answer = get(&nodes[1], "/channels/room:1/members", &[("Authorization", &bearer(KEY))]).await;
    assert_eq!((answer.status, answer.error_code()), (503, "log_unavailable".to_owned()), "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    // A reader may come while Redis is away. Its user is a member when Redis is back.
    let _dora = open(&nodes[1], &sse, "room:1", &user("dora", json!(1))).await;
    tokio::time::sleep(Duration::from_secs(13)).await;
    redis.restart().await;
    let came: BTreeSet<_> = [change(&mut told).await, change(&mut told).await].into();
    assert_eq!(came, [added("dora"), removed("carl")].into(), "Ann and Bob were not removed");
    for node in &nodes {
        until_ids(node, "room:1", &["ann", "bob", "dora"].map(str::to_owned).into(), WAIT).await;
    }
}

/// However polls of one client overlap or change the node, its user stays a member while one of them is parked.
#[tokio::test]
async fn a_parked_poll_keeps_its_user() {
    let redis = RedisServer::start().await;
    let nodes = three(&redis, &[]).await;
    let mut told = witness(&nodes[2], "room:1").await;
    // The nodes to which polls go, and the seconds for which each waits. The last one is parked for longer than
    // --away-seconds, the grace and a sweep.
    for (user_id, polls) in [("overlapping", [(0, 14), (0, 1)]), ("moving", [(0, 1), (1, 14)])] {
        let token = user(user_id, json!(null));
        let cursor = list(&nodes[0], "room:1").await["cursor"].as_str().expect("a cursor").to_owned();
        let long_poll = |(node, seconds): (usize, u64)| {
            let path = "/long-poll?channel=room:1";
            let query = format!("{path}&client=c-{user_id}&token={token}&cursor={cursor}&timeout={seconds}");
            let address = nodes[node].http;
            async move { Request::get(&query).send(address).await }
        };
        let began = Instant::now();
        let mut parked = Vec::new();
        for (poll, next) in [(polls[0], Some(polls[1])), (polls[1], None)] {
            if next.is_some_and(|next| next.1 > poll.1) {
                assert_eq!(long_poll(poll).await.status, 200);
            } else {
                parked.push(tokio::spawn(long_poll(poll)));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        assert_eq!(change(&mut told).await, added(user_id));
        for poll in parked {
            assert_eq!(poll.await.expect("an answer").status, 200);
        }
        assert!(began.elapsed() > Duration::from_secs(14), "{:?}", began.elapsed());
        assert_eq!(ids(&nodes[2], "room:1").await, [user_id], "{user_id}");
        // Then the client is away.
        assert_eq!(change(&mut told).await, removed(user_id));
        assert!(began.elapsed() > Duration::from_secs(14 + 2 + 4), "{user_id}: {:?}", began.elapsed());
    }
}

/// A user whose name and client id, put together, look like those of another one.
async fn a_user_does_not_end_the_stay_of_another(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    for (name, client) in [("b:c", "v"), ("c", "v:b")] {
        let query = format!("/poll?channel=room:1&client={client}&token={}", user(name, json!(null)));
        assert_eq!(node.get(&query).await.status, 200);
    }
    assert_eq!(ids(node, "room:1").await, ["b:c", "c"]);
}

/// A request that only checks the path of a stream does not make its user stay longer than the stream.
async fn a_check_is_not_a_stay(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    let token = user("ann", json!(null));
    for path in ["/poll?", "/poll?client=c&", "/jsonp?mode=poll&callback=f&"] {
        let answer = node.get(&format!("{path}channel=room:1&probe=1&token={token}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(ids(node, "room:1").await, Vec::<String>::new(), "{path}");
    }
    let counts = get(node, "/channels/room:1", &[("Authorization", &bearer(KEY))]).await.json();
    assert_eq!(counts["readers"]["total"], 0, "{counts}");
    let answer = node.get(&format!("/poll?channel=room:1&token={token}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(ids(node, "room:1").await, ["ann"]);
}

/// The list that Redis gives is bounded: a value that no node writes does not fill the memory of a node.
#[tokio::test]
async fn a_forged_member_is_not_read() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &FLAGS).await;
    settled(&node).await;
    let _ann = open(&node, &node.transport("sse").await, "room:1", &user("ann", json!(1))).await;
    until_ids(&node, "room:1", &["ann".to_owned()].into(), WAIT).await;
    let mut keys: Vec<String> =
        ::redis::from_redis_value(redis.command(&["KEYS", "*presence:of:room:1"]).await).expect("keys");
    let key = keys.remove(0);
    for forged in ["z".repeat(2_000_000), format!("1 {}", "z".repeat(2_000_000)), "no count".to_owned()] {
        redis.command(&["HSET", &key, "zz", &forged]).await;
        assert_eq!(ids(&node, "room:1").await, ["ann"], "{} bytes", forged.len());
    }
    // Many values, each of which may be a member's.
    for index in 0..400 {
        let forged = format!("1 {{\"id\":\"{index}\",\"info\":\"{}\"}}", "z".repeat(100_000));
        redis.command(&["HSET", &key, &index.to_string(), &forged]).await;
    }
    let answer = get(&node, "/channels/room:1/members", &[("Authorization", &bearer(KEY))]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.len() < 5_000_000, "{} bytes", answer.body.len());
}

/// A socket that the server has told to close does not keep its user while its client takes its time to close it.
async fn a_socket_that_lingers_does_not_keep_its_user(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    let mut told = witness(node, "room:1").await;
    let end = support::token::seconds(3);
    let token = |id: &str| token(&json!({"sub": id, "subscribe": ["room:*"], "exp": end}));
    let mut sockets = Vec::new();
    for id in ["closes", "lingers"] {
        let mut socket = RawWebSocket::open(node, &format!("/ws?channel=room:1&token={}", token(id))).await;
        socket.next_of("hello").await;
        assert_eq!(change(&mut told).await, added(id));
        sockets.push(socket);
    }
    for socket in &mut sockets {
        while socket.frame().await.is_some_and(|frame| frame.opcode() != 8) {}
    }
    drop(sockets.remove(0));
    let mut times = Vec::new();
    for _ in 0..2 {
        let item = within(WAIT, "a change of the members", told.next_of(Kind::Member)).await;
        let id = item.id().expect("an id");
        times.push(id.split('-').next().and_then(|ms| ms.parse::<u64>().ok()).expect("a time"));
    }
    assert!(times[1] - times[0] < 1500, "{times:?}");
}
