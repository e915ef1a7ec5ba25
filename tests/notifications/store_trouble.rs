//! Redis loses data, or is away.

use super::*;

const TYPES: &str = "occupied,vacated,member_added,member_removed";

/// Two nodes on a Redis, with a reader and a member on each.
struct Setting {
    application: Application,
    sockets: Vec<RawWebSocket>,
    nodes: Vec<Node>,
    redis: RedisServer,
}

impl Setting {
    async fn start() -> Setting {
        let (application, redis) = (accepting().await, RedisServer::start_durable().await);
        let flags = [&flags(&application, TYPES)[..], &PRESENCE].concat();
        let nodes = vec![start_on(&redis, &flags).await, start_on(&redis, &flags).await];
        let mut sockets = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            settled(node).await;
            let room = format!("room:{index}");
            sockets.push(join(node, &room, "ann", json!(index)).await);
        }
        let setting = Setting { application, sockets, nodes, redis };
        for room in ["room:0", "room:1"] {
            setting.until(room, &["member_added", "occupied"]).await;
        }
        setting
    }

    /// Waits until the calls about a room are these, in any order.
    async fn until(&self, room: &str, expected: &[&str]) {
        within(WAIT, &format!("{expected:?} of {room}"), async {
            loop {
                let mut calls = calls_of(&self.application, room);
                calls.sort_unstable();
                if calls == expected {
                    return;
                }
                support::came(|| format!("{calls:?}"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    /// Readers and members come and go, and each change is told once.
    async fn goes_on(mut self) {
        // Longer than anything that is told wrongly would take.
        tokio::time::sleep(Duration::from_secs(12)).await;
        for room in ["room:0", "room:1"] {
            self.until(room, &["member_added", "occupied"]).await;
        }
        self.sockets.remove(0);
        self.until("room:0", &["member_added", "member_removed", "occupied", "vacated"]).await;
        let _new = join(&self.nodes[1], "room:0", "bob", json!(1)).await;
        let twice = ["member_added", "member_added", "member_removed", "occupied", "occupied", "vacated"];
        self.until("room:0", &twice).await;
        self.until("room:1", &["member_added", "occupied"]).await;
    }
}

#[tokio::test]
async fn flushall_tells_nothing_twice_and_nothing_never() {
    let setting = Setting::start().await;
    setting.redis.command(&["FLUSHALL"]).await;
    setting.goes_on().await;
}

#[tokio::test]
async fn the_record_alone_is_deleted() {
    for key in ["{longtail:log}:transitions", "{longtail:log}:transitions:told"] {
        let setting = Setting::start().await;
        assert_eq!(setting.redis.number(&["DEL", key]).await, 1);
        setting.goes_on().await;
    }
}

#[tokio::test]
async fn the_stream_alone_is_deleted() {
    let setting = Setting::start().await;
    assert_eq!(setting.redis.number(&["DEL", "longtail:log"]).await, 1);
    setting.goes_on().await;
}

/// A member that leaves while its entry is lost is told, too.
#[tokio::test]
async fn members_that_leave_while_the_log_has_a_gap_are_told() {
    let mut setting = Setting::start().await;
    setting.sockets.clear();
    // Both leave after their grace. The entries are deleted as soon as they are there.
    let deadline = Instant::now() + Duration::from_secs(9);
    while Instant::now() < deadline {
        setting.redis.command(&["DEL", "longtail:log"]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for room in ["room:0", "room:1"] {
        setting.until(room, &["member_added", "member_removed", "occupied", "vacated"]).await;
    }
}

#[tokio::test]
async fn an_outage_of_redis_is_no_event() {
    let mut setting = Setting::start().await;
    setting.redis.end().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    setting.redis.restart().await;
    setting.goes_on().await;
}

/// Redis closes connections that are idle.
#[tokio::test]
async fn a_connection_that_was_closed_is_opened_again() {
    let setting = Setting::start().await;
    for _ in 0..5 {
        setting.redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    setting.goes_on().await;
}
