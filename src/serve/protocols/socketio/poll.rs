//! A connection that polls, in one of its requests.

use super::entries::ConnectionEntry;
use super::record::Parts;
use super::shared::Shared;
use super::sockets::ENDED;
use crate::log::Unreachable;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::events::service;
use crate::serve::state::ServerState;
use crate::wire::engineio::handshake::Refusal;
use std::sync::Arc;
use std::time::Duration;

/// A connection that polls, in one request.
pub struct Polling<'a> {
    /// What all connections share.
    pub shared: &'a Arc<Shared>,
    /// The state of the server.
    pub state: &'a Arc<ServerState>,
    /// The id of the connection.
    pub id: &'a SessionId,
    /// The time stamp of the request.
    pub t: Option<&'a str>,
}

/// Why a request is not answered as usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// In the words of Engine.IO.
    Engine(Refusal),
    /// The record cannot be reached.
    Away,
}

impl From<Unreachable> for Refused {
    fn from(_: Unreachable) -> Refused {
        Refused::Away
    }
}

/// There is no such connection any more.
pub const UNKNOWN: Refused = Refused::Engine(Refusal::UnknownSession);

impl Polling<'_> {
    /// Loads the record.
    pub async fn load(&self) -> Result<Parts, Refused> {
        let record = self.shared.store.load(self.id.secret()).await?.ok_or(UNKNOWN)?;
        Parts::read(&record).ok_or(UNKNOWN)
    }

    /// How long the connection lives after a request.
    pub fn lifetime(&self) -> Duration {
        self.shared.settings.ping_interval + self.shared.settings.ping_timeout
    }

    /// Appends entries for other requests of the connection.
    pub async fn append(&self, entries: &[ConnectionEntry]) -> Result<(), Refused> {
        let drafts = entries.iter().filter_map(|entry| entry.draft(self.id)).collect();
        service::append(self.state, drafts).await.map_err(|_| Refused::Away)
    }

    /// Ends the connection and its sockets.
    pub async fn close(&self, reason: &'static str) -> Result<(), Refused> {
        let Some(record) = self.shared.store.end(self.id.secret()).await? else { return Ok(()) };
        // Without an end, the client may recover its sockets.
        let is_for_good = !self.shared.settings.recovery || reason == ENDED;
        if let Some(parts) = Parts::read(&record).filter(|_| is_for_good) {
            for socket in parts.writer.sockets {
                SessionId::parse(&socket.session).iter().for_each(|id| self.state.sessions.end_soon(id, reason));
            }
        }
        self.append(&[ConnectionEntry::Closed]).await
    }
}
