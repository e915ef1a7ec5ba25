//! The settings of Socket.IO.

use crate::message::Channel;
use std::time::Duration;

/// The settings of Socket.IO, from the flags `--socketio…`.
#[derive(Clone, Debug)]
pub struct SocketIoSettings {
    /// The channels that every socket of a namespace reads.
    pub joins: Vec<(String, Channel)>,
    /// What events of clients do. The application gets all others.
    pub rules: Vec<Rule>,
    /// The time between two pings.
    pub ping_interval: Duration,
    /// The time that a ping waits for its answer.
    pub ping_timeout: Duration,
    /// The time after which a connection without a namespace is closed.
    pub connect_timeout: Duration,
    /// The most bytes of a request or a frame.
    pub max_payload: usize,
    /// The most connections that poll, on all nodes.
    pub max_connections: usize,
}

/// What one event of a namespace does.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The namespace.
    pub namespace: String,
    /// The event's name.
    pub event: String,
    /// What it does.
    pub action: Action,
}

/// What an event of a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The socket reads the room that the first argument names.
    Join,
    /// The socket does not read that room any more.
    Leave,
    /// The whole namespace gets the event.
    Publish,
    /// All but the sender get the event.
    Broadcast,
}

impl SocketIoSettings {
    /// The channels that every socket of a namespace reads, besides the namespace's own channel.
    pub fn joins_of(&self, namespace: &str) -> impl Iterator<Item = &Channel> {
        self.joins.iter().filter(move |(known, _)| known == namespace).map(|(_, channel)| channel)
    }

    /// What an event does; `None` if no flag names it.
    pub fn action(&self, namespace: &str, event: &str) -> Option<Action> {
        let rule = self.rules.iter().find(|rule| rule.namespace == namespace && rule.event == event);
        rule.map(|rule| rule.action)
    }

    /// Whether a flag names the namespace.
    pub fn names(&self, namespace: &str) -> bool {
        let mut joins = self.joins.iter().map(|(known, _)| known);
        let mut rules = self.rules.iter().map(|rule| &rule.namespace);
        namespace == "/" || joins.any(|known| known == namespace) || rules.any(|known| known == namespace)
    }
}
