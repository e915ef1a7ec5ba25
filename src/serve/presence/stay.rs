//! The stay of a user in channels: for as long as a stream or a socket lasts, or until a polling client is away.

use super::connections::Connections;
use crate::log::presence::node::Place;
use crate::message::{Channel, User};
use std::sync::Arc;
use tokio::time::Instant;

/// The stay of the user of a stream or a socket. It ends when this is dropped.
pub struct Stay {
    connections: Arc<Connections>,
    places: Vec<Place>,
}

impl Stay {
    pub(super) fn new(connections: Arc<Connections>) -> Stay {
        Stay { connections, places: Vec::new() }
    }

    pub(super) fn add(&mut self, place: Place) {
        self.places.push(place);
    }

    /// Whether this is a stay in the channel.
    pub fn holds(&self, channel: &Channel) -> bool {
        self.places.iter().any(|place| place.0 == *channel)
    }

    /// Takes over the channels of another stay.
    pub fn merge(&mut self, mut other: Stay) {
        self.places.append(&mut other.places);
    }

    /// Ends the stay in a channel.
    pub fn leave(&mut self, channel: &Channel) {
        let connections = &self.connections;
        self.places.retain(|place| {
            let stays = place.0 != *channel;
            if !stays {
                connections.node().close(place);
            }
            stays
        });
    }

    /// Ends the stay in some channels at once, without the grace for a client that comes back: it may not read them any
    /// more.
    pub fn revoke(&mut self, is_revoked: impl Fn(&Channel) -> bool) {
        let mut node = self.connections.node();
        self.places.retain(|place| {
            let is_revoked = is_revoked(&place.0);
            if is_revoked {
                node.revoke(place);
            }
            !is_revoked
        });
    }

    /// Notes what the application now says about the user. Its info may be too long: then it stays as it was.
    pub fn set_user(&self, user: &Arc<User>) {
        if user.info_bytes() > self.connections.info_bytes {
            return;
        }
        let mut node = self.connections.node();
        self.places.iter().for_each(|place| node.set_user(place, user));
        drop(node);
        self.connections.notify();
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut node = self.connections.node();
        self.places.iter().for_each(|place| node.close(place));
    }
}

/// The stay of the user of a poll. When this is dropped, the poll is over, and the client is away some time later, unless
/// it polls again or has another poll open.
pub struct PollingStay {
    connections: Arc<Connections>,
    places: Vec<Place>,
}

impl PollingStay {
    /// Parks the poll at those of the places that are still known.
    pub(super) fn new(connections: Arc<Connections>, mut places: Vec<Place>) -> PollingStay {
        let now = Instant::now();
        let mut node = connections.node();
        places.retain(|place| node.park(place, now));
        drop(node);
        PollingStay { connections, places }
    }
}

impl Drop for PollingStay {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut node = self.connections.node();
        self.places.iter().for_each(|place| node.unpark(place, now));
    }
}
