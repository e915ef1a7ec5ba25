//! A poll that is still parked at one node does not bring back what a stream at another node has ended.

use super::{Bench, World};
use crate::message::{Channel, User};
use std::sync::Arc;

impl<B: Bench> World<'_, B> {
    /// Lets seconds pass, in which all nodes tell the store what they have to tell. Returns the number of members.
    async fn seconds(&mut self, seconds: u64, channel: &Channel) -> usize {
        for _ in 0..seconds {
            self.now += 1000;
            self.bench.set_time(self.now).await;
            for node in 0..2 {
                self.tick(node).await;
            }
        }
        self.bench.members(channel).await.expect("a list").members.len()
    }
}

/// The client polls node 0, opens a stream at node 1 and closes it, while its poll is parked. Then it polls node 0 again.
pub(in crate::log) async fn leave_a_parked_poll<B: Bench>(bench: &B) {
    let (room, client) = ("room".parse().expect("a channel"), "c".parse().expect("an id"));
    let user = Arc::new(User::new("7", None).expect("a user"));
    let mut world = World::new(bench, 0, 10);
    bench.flush().await;
    bench.set_time(world.now).await;
    let now = world.instant();
    let (poll, _) = world.nodes[0].polled(&room, &user, Some(&client), now).expect("a place");
    assert!(world.nodes[0].park(&poll, now));
    assert_eq!(world.seconds(2, &room).await, 1, "it polls");
    let now = world.instant();
    let (stream, _) = world.nodes[1].open(&room, &user, Some(&client), now);
    assert_eq!(world.seconds(3, &room).await, 1, "it has a stream");
    world.nodes[1].close(&stream);
    assert_eq!(world.seconds(10, &room).await, 0, "the parked poll began before the stream");
    let now = world.instant();
    world.nodes[0].unpark(&poll, now);
    assert_eq!(world.seconds(1, &room).await, 0, "the end of the old poll changes nothing");
    let now = world.instant();
    let (poll, _) = world.nodes[0].polled(&room, &user, Some(&client), now).expect("a place");
    assert!(world.nodes[0].park(&poll, now));
    assert_eq!(world.seconds(10, &room).await, 1, "the next poll is newer than the stream");
}
