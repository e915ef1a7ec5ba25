//! The connections of this node's users, which stays open and close.

use crate::log::presence::node::{NodePresence, Outcome, Place};
use crate::message::{Channel, ClientId, User};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The connections of this node's users.
pub struct Connections {
    node: Mutex<NodePresence>,
    /// Wakes the task that tells the store of new connections.
    changed: Notify,
    /// The limit on a user's info.
    pub(super) info_bytes: usize,
}

impl Connections {
    pub(super) fn new(info_bytes: usize, away: Duration) -> Arc<Connections> {
        let node = NodePresence::new(&uuid::Uuid::new_v4().simple().to_string(), away);
        Arc::new(Connections { node: Mutex::new(node), changed: Notify::new(), info_bytes })
    }

    pub(super) fn node(&self) -> MutexGuard<'_, NodePresence> {
        self.node.lock()
    }

    /// Tells the store of new connections soon.
    pub(super) fn notify(&self) {
        self.changed.notify_one();
    }

    /// Waits until there is something to tell. Cancel safe.
    pub(super) async fn notified(&self) {
        self.changed.notified().await;
    }

    /// Notes a request of a polling client. Returns its places, each with the outcome if the client has to join there.
    pub(super) fn polled(
        &self,
        channels: &[Channel],
        user: &Arc<User>,
        client: Option<&ClientId>,
    ) -> Vec<(Place, Option<Outcome>)> {
        let (now, mut node) = (Instant::now(), self.node());
        channels.iter().filter_map(|channel| node.polled(channel, user, client, now)).collect()
    }
}
