//! A connection that polls, in one of its requests.

use super::entries::ConnectionEntry;
use super::record::{Parts, Place, Reader, Writer};
use super::sealed::SealedConnection;
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
    /// What the client has brought in a sealed id.
    pub sealed: Option<&'a SealedConnection>,
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
        Polling { shared, state, id, t, sealed: None, until: Instant::now() + patience(shared) }
    }

    /// The same, with what the client has brought.
    pub fn with(self, sealed: Option<&'a SealedConnection>) -> Polling<'a> {
        Polling { sealed, ..self }
    }

    /// Loads the record. Waits if it is away.
    pub async fn load(&self) -> Result<Parts, Refused> {
        loop {
            match self.shared.store.load(self.id.secret()).await {
                Ok(Some(record)) => return Parts::read(&record).ok_or(UNKNOWN),
                Ok(None) => self.renew(self.sealed.ok_or(UNKNOWN)?).await?,
                Err(_) if self.may_wait() => sleep(PAUSE).await,
                Err(away) => return Err(away.into()),
            }
        }
    }

    /// Adds a record for the POSTs of a connection with a sealed id. There was none for some time.
    async fn renew(&self, connection: &SealedConnection) -> Result<(), Refused> {
        let SealedConnection { info, reader, .. } = connection;
        let sockets = reader.sockets.iter().map(|place| Place { at: None, is_new: false, ..place.clone() }).collect();
        let writer = Writer { sockets, was_used: true, ..Writer::default() };
        let record = Parts::record(info, &Reader { was_offered: true, ..reader.clone() }, &writer);
        let most = self.shared.settings.max_connections;
        let is_added = self.shared.store.create(self.id.secret(), &record, self.lifetime(), most).await?;
        // A POST at another node may have added it meanwhile.
        let is_there = is_added || self.shared.store.load(self.id.secret()).await?.is_some();
        if is_there { Ok(()) } else { Err(Refused::Away) }
    }

    /// How long the bookmark of a session is good. The id of the connection, which it is in, ends before it.
    pub fn session_life(&self) -> Duration {
        2 * self.lifetime()
    }

    /// What finds the bookmark of a socket's session.
    fn brought<'b>(&'b self, place: &'b Place) -> &'b str {
        let Some(connection) = self.sealed else { return &place.session };
        let is_it = |known: &&Place| known.session == place.session;
        // What the client has brought is younger than what a POST has noted.
        connection.reader.sockets.iter().find(is_it).unwrap_or(place).brought()
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
        let (state, brought) = (self.state, self.brought(place));
        loop {
            let found = match is_ack {
                // Another node may have sent the event that the client answers.
                true => connect::find_latest(state, brought).await,
                false => connect::find(state, brought, None, Duration::ZERO).await,
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
        let record = self.shared.store.end(self.id.secret()).await?;
        let parts = record.as_ref().and_then(Parts::read);
        if parts.is_none() && self.sealed.is_none() {
            return Ok(());
        }
        // Without an end, the client may recover its sockets.
        let is_for_good = !self.shared.settings.recovery || reason == ENDED;
        let brought = self.sealed.map(|connection| connection.reader.sockets.as_slice()).unwrap_or_default();
        let sockets = parts.iter().flat_map(|parts| &parts.writer.sockets).chain(brought);
        // A session with a sealed bookmark is over when its connection is.
        for socket in sockets.filter(|socket| is_for_good && socket.sealed.is_none()) {
            SessionId::parse(&socket.session).iter().for_each(|id| self.state.sessions.end_soon(id, reason));
        }
        let is_of_client = reason == "transport close";
        self.append(&[if is_of_client { ConnectionEntry::Gone } else { ConnectionEntry::Closed }]).await
    }
}
