//! A WebSocket to which a client that polls changes.
//!
//! The client asks whether the WebSocket works (`2probe`), and the server ends the GET that waits. When the client has
//! its answer, it changes (`5`). From then on the record is gone, and this node has the connection.

use super::connection::{Connection, Permits};
use super::entries::ConnectionEntry;
use super::poll::{Polling, Refused, UNKNOWN};
use super::record::{Mode, Parts};
use super::shared::Shared;
use super::sockets::Client;
use crate::log::connections::{Part, Swapped};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::http::access_log::Entry;
use crate::serve::http::peer::Peer;
use crate::serve::limits::connections::AddressPermit;
use crate::serve::net::stream::{ClientStream, Unread};
use crate::serve::session::session::ProtocolSession;
use crate::serve::session::task::spawn_parked;
use crate::serve::state::ServerState;
use crate::wire::socketio09::encode::UNKNOWN_SESSION;
use crate::wire::websocket::{self, Decoder, Frame};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

/// The time for a trial.
const TRIAL: Duration = Duration::from_secs(10);

/// The longest frame before the change.
const MAX_FRAME: usize = 100;

/// The frames of a trial.
const PROBE: &str = "2probe";
const PROBED: &str = "3probe";
const UPGRADE: &str = "5";

/// How a change begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The client first tries the WebSocket while it polls.
    Asked,
    /// The client does not poll before, as in 0.9.
    Skipped,
    /// There is no connection that may change: it has changed already, or tries another WebSocket. The WebSocket is closed
    /// after its handshake, as Socket.IO does.
    Refused,
}

/// A WebSocket whose head is about to be written.
pub struct UpgradeSession {
    /// What all connections share.
    pub shared: Arc<Shared>,
    /// What is known about the client.
    pub client: Client,
    /// The id of the connection.
    pub id: SessionId,
    /// How the change begins.
    pub trial: Trial,
    /// The entry of the access log.
    pub entry: Option<Entry>,
    /// The permit of the client's address.
    pub permit: Option<Arc<AddressPermit>>,
}

impl ProtocolSession for UpgradeSession {
    fn log(&mut self, mut entry: Entry) {
        entry.transport = self.client.transport;
        self.entry = Some(entry);
    }

    fn spawn(self: Box<Self>, state: Arc<ServerState>, io: ClientStream, peer: Peer) {
        let counted = peer.counted;
        spawn_parked(async move {
            let UpgradeSession { shared, client, id, trial, entry, permit } = *self;
            let mut probe = Probe {
                shared,
                state,
                io,
                unread: Unread::default(),
                frames: Decoder::new(MAX_FRAME),
                id,
                has_begun: false,
            };
            // The future is boxed, so that the connection does not keep space for it.
            match Box::pin(timeout(TRIAL, probe.run(trial))).await {
                Ok(Ok(parts)) => {
                    let Probe { shared, state, io, unread, id, .. } = probe;
                    let permits = Permits { entry, _permit: permit };
                    if let Some(connection) =
                        Box::pin(Connection::resume(state, shared, io, unread, client, &id, parts, permits)).await
                    {
                        connection.run_to_end(counted).await;
                    }
                }
                Ok(Err(_)) | Err(_) => {
                    if probe.has_begun {
                        probe.give_up().await;
                    } else if trial == Trial::Skipped {
                        let _ = probe.say(UNKNOWN_SESSION).await;
                    }
                    let _ = probe.io.write_all(&websocket::empty_close_frame()).await;
                    probe.io.spawn_linger(counted);
                }
            }
        });
    }
}

struct Probe {
    shared: Arc<Shared>,
    state: Arc<ServerState>,
    io: ClientStream,
    unread: Unread,
    frames: Decoder,
    id: SessionId,
    /// Whether this trial is the one that the record knows.
    has_begun: bool,
}

impl Probe {
    fn polling(&self) -> Polling<'_> {
        Polling::new(&self.shared, &self.state, &self.id, None)
    }

    /// Returns the record when the client has changed.
    async fn run(&mut self, trial: Trial) -> io::Result<Parts> {
        if trial == Trial::Refused {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if trial == Trial::Asked {
            self.expect(PROBE).await?;
            self.begin().await.map_err(|_| io::ErrorKind::NotConnected)?;
            self.say(PROBED).await?;
            self.expect(UPGRADE).await?;
        }
        let record = self.shared.store.end(self.id.secret()).await.map_err(|_| io::ErrorKind::NotConnected)?;
        // Only one WebSocket gets the record.
        let parts = record.as_ref().and_then(Parts::read).filter(|parts| !parts.reader.was_offered);
        parts.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        let mut out = Vec::new();
        websocket::text_header(text.len(), &mut out);
        out.extend_from_slice(text.as_bytes());
        self.io.write_all(&out).await
    }

    /// Tells the GETs of the connection to end at once.
    async fn begin(&mut self) -> Result<(), Refused> {
        let polling = self.polling();
        let now_ms = self.state.hub.log().now_ms();
        let mut parts = polling.load().await?;
        // The record does not know what a client with a sealed id has read.
        if parts.mode.probing_until_ms > now_ms || parts.reader.was_offered {
            return Err(UNKNOWN);
        }
        parts.mode = Mode { probing_until_ms: now_ms + TRIAL.as_millis() as u64 };
        match parts.write(&*self.shared.store, self.id.secret(), Part::Mode, Duration::ZERO).await? {
            Swapped::Done => {
                self.has_begun = true;
                self.polling().append(&[ConnectionEntry::Wake]).await
            }
            Swapped::Stale | Swapped::Gone => Err(UNKNOWN),
        }
    }

    /// Lets the client go on polling as before.
    async fn give_up(&mut self) {
        if let Ok(mut parts) = self.polling().load().await {
            parts.mode = Mode::default();
            let _ = parts.write(&*self.shared.store, self.id.secret(), Part::Mode, Duration::ZERO).await;
        }
    }

    /// Waits for a text. Any other frame but a ping ends the trial.
    async fn expect(&mut self, text: &str) -> io::Result<()> {
        let other = || io::Error::from(io::ErrorKind::InvalidData);
        loop {
            match self.frames.decode(self.unread.buffer()).map_err(|_| other())? {
                Some(Frame::Text(came)) if came == text => return Ok(()),
                Some(Frame::Ping(payload)) => self.io.write_all(&websocket::pong_frame(&payload)).await?,
                Some(Frame::Pong) => {}
                Some(_) => return Err(other()),
                None => {
                    let drain = self.state.drain.clone();
                    let read = tokio::select! {
                        read = poll_fn(|cx| self.io.poll_input(cx, &mut self.unread)) => read?,
                        () = drain.begun() => return Err(io::ErrorKind::ConnectionAborted.into()),
                    };
                    if read == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }
}
