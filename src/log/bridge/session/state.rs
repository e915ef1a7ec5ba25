//! The state of a session, and the reasons why it ends.

use crate::log::bridge::config::{BridgeConfig, QUEUE_BYTES};
use crate::log::bridge::member::{JITTER, Member, Moved, PATIENCE, Request};
use crate::log::bridge::queue::Bounds;
use crate::log::bridge::script::Server;
use crate::log::redis::{Connection, RedisLog, ScriptError};
use redis::Value;
use sha1::{Digest, Sha1};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long Redis may take to answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The reason why a session ended.
#[derive(Debug, thiserror::Error)]
pub(in crate::log::bridge) enum Ended {
    /// The subscription did not begin, or was lost.
    #[error("{0}")]
    Unsubscribed(ScriptError),
    /// The log has moved to another server (a failover). The new server delivers PUBLISHes in another order.
    #[error("the log has moved to another server")]
    Moved,
    /// In a Cluster: the other nodes listen to a server that this node cannot reach.
    #[error("this node cannot reach the server to which the other nodes listen: {0}")]
    Unreachable(ScriptError),
    /// The session was away for so long that Redis has forgotten its numbers.
    #[error("the bridge's numbers in Redis differ from the numbers that this node knew")]
    LostTrack,
}

impl From<Moved> for Ended {
    fn from(_: Moved) -> Ended {
        Ended::Moved
    }
}

/// Set in a Cluster if members listen to a server that this node cannot reach. The parts are the server, the last sign
/// of life from these members, and the time of this sign.
pub(in crate::log::bridge) type UnreachableServer = Option<(String, String, Instant)>;

pub(in crate::log::bridge) struct Session {
    pub(super) log: Arc<RedisLog>,
    pub(super) member: Member,
    /// The channel of markers.
    pub(super) markers: String,
    /// The keys of the bridge's state.
    pub(super) keys: [String; 2],
    /// The connection to the server that holds the log. Without a Cluster the subscription is at the same server.
    pub(super) control: Option<Connection>,
    pub(super) server: Server,
    /// How many messages this session has added to the gauge of waiting messages.
    pub(super) waiting: i64,
    pub(super) is_finishing: bool,
    /// The time before which the script does not run again after a request without a usable answer.
    pub(super) rests_until: Instant,
}

/// The answer of the script, with the connection and the request.
pub(super) type ScriptAnswer = (Option<Connection>, Request, Result<Value, ScriptError>);

impl Session {
    pub(in crate::log::bridge) fn new(log: Arc<RedisLog>, config: &BridgeConfig) -> Session {
        let id = uuid::Uuid::new_v4().to_string();
        let names = log.keys();
        // Members with other patterns receive PUBLISHes in another order and cannot count together with this one.
        let group: String = Sha1::digest(config.group()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let markers = names.beside(&format!("bridge:{group}"));
        let keys = [markers.clone(), names.beside(&format!("bridge:{group}:taken"))];
        let bounds = Bounds { messages: config.queue, bytes: QUEUE_BYTES };
        let now = Instant::now();
        let member = Member::new(id, bounds, PATIENCE + JITTER.mul_f64(fastrand::f64()), now);
        let (control, server) = (None, Server::default());
        Session { log, member, markers, keys, control, server, waiting: 0, is_finishing: false, rests_until: now }
    }

    pub(in crate::log::bridge) fn has_joined(&self) -> bool {
        self.member.has_joined()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.log.metrics().waiting.dec_by(self.waiting);
        // If the member has ended, it no longer holds the lease.
        if self.member.holds() && !self.is_finishing {
            self.log.metrics().holds_lease.set(0);
        }
    }
}

/// The subscription did not begin, or gave no sign of life, in time.
pub(super) fn timed_out() -> Ended {
    let silence = std::io::Error::from(std::io::ErrorKind::TimedOut);
    Ended::Unsubscribed(ScriptError::Unanswered(silence.into()))
}
