//! A connection that polls, in one of its requests.

use super::entries::ConnectionEntry;
use super::record::{Parts, Place};
use super::shared::Shared;
use super::sockets::ENDED;
use crate::log::Unreachable;
use crate::log::connections::{Part, Swapped};
use crate::message::Draft;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::events::append::append;
use crate::serve::events::connect;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code};
use crate::wire::engineio::handshake::Refusal;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

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
    /// Up to when the request waits for a record that is away.
    pub until: Instant,
}

/// The pause before another attempt to reach a record that is away.
pub const PAUSE: Duration = Duration::from_millis(100);

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

/// How long a request waits for a record that is away, so that its client, which takes a silent connection for lost after
/// the time limit of pings, notes nothing of a short outage.
pub fn patience(shared: &Shared) -> Duration {
    shared.settings.ping_timeout * 3 / 4
}

impl<'a> Polling<'a> {
    /// A connection in a request that begins now.
    pub fn new(
        shared: &'a Arc<Shared>,
        state: &'a Arc<ServerState>,
        id: &'a SessionId,
        t: Option<&'a str>,
    ) -> Polling<'a> {
        Polling { shared, state, id, t, until: Instant::now() + patience(shared) }
    }

    /// Loads the record. Waits if it is away.
    pub async fn load(&self) -> Result<Parts, Refused> {
        loop {
            match self.shared.store.load(self.id.secret()).await {
                Ok(record) => return record.as_ref().and_then(Parts::read).ok_or(UNKNOWN),
                Err(_) if self.may_wait() => sleep(PAUSE).await,
                Err(away) => return Err(away.into()),
            }
        }
    }

    /// Whether there is time for another attempt after a pause.
    pub fn may_wait(&self) -> bool {
        Instant::now() + PAUSE < self.until
    }

    /// Writes a part of the record, if no other request has changed it. Waits if the record is away.
    pub async fn write(&self, parts: &mut Parts, part: Part, ends_in: Duration) -> Result<Swapped, Refused> {
        let mut is_uncertain = false;
        loop {
            match parts.write(&*self.shared.store, self.id.secret(), part, ends_in).await {
                // An attempt that seemed to fail may have changed it.
                Ok(Swapped::Stale) if is_uncertain => {
                    let known = self.load().await?;
                    return Ok(if parts.take_over(&known, part) { Swapped::Done } else { Swapped::Stale });
                }
                Ok(swapped) => return Ok(swapped),
                Err(_) if self.may_wait() => {
                    is_uncertain = true;
                    sleep(PAUSE).await;
                }
                Err(away) => return Err(away.into()),
            }
        }
    }

    /// Finds the session of a socket. Waits if the record is away.
    pub async fn find(&self, place: &Place, is_ack: bool) -> Result<SessionState, ApiError> {
        let state = self.state;
        loop {
            let found = match is_ack {
                // Another node may have sent the event that the client answers.
                true => connect::find_latest(state, &place.session).await,
                false => connect::find(state, &place.session, None, Duration::ZERO).await,
            };
            let is_away = matches!(&found, Err(error) if matches!(error.code, Code::LogUnavailable | Code::NotReady));
            if !is_away || !self.may_wait() {
                return found;
            }
            sleep(PAUSE).await;
        }
    }

    /// How long the connection lives after a request.
    pub fn lifetime(&self) -> Duration {
        self.shared.settings.ping_interval + self.shared.settings.ping_timeout
    }

    /// Appends entries for other requests of the connection.
    pub async fn append(&self, entries: &[ConnectionEntry]) -> Result<(), Refused> {
        self.append_all(entries.iter().filter_map(|entry| entry.draft(self.id)).collect()).await
    }

    /// Appends entries. Waits if the log is away. An entry that comes twice has no further effect.
    pub async fn append_all(&self, drafts: Vec<Draft>) -> Result<(), Refused> {
        loop {
            match append(self.state, drafts.clone()).await {
                Ok(()) => return Ok(()),
                Err(_) if self.may_wait() => sleep(PAUSE).await,
                Err(_) => return Err(Refused::Away),
            }
        }
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
