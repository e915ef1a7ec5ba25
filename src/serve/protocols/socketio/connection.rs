//! A WebSocket of a Socket.IO client: its frames, its heartbeats and its end.
//!
//! Each namespace has a pump. If there is only one, the hub writes to the socket directly, as for a native stream. If
//! there are several, this task writes for all of them.

use super::heartbeat::{Due, Heartbeat};
use super::input::{Input, Inputs};
use super::record::{Half, Parts};
use super::request::{EngineVersion, handshake};
use super::shared::Shared;
use super::sockets::{BROKEN, Client, Closed, ENDED, Socket, Sockets};
use crate::hub::Remainder;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::http::access_log::Entry;
use crate::serve::http::peer::{Counted, Peer};
use crate::serve::limits::connections::AddressPermit;
use crate::serve::limits::memory::{BufferId, Reservation};
use crate::serve::net::stream::{ClientStream, Unread};
use crate::serve::net::timers::Timer;
use crate::serve::session::session::ProtocolSession;
use crate::serve::session::task::spawn_parked;
use crate::serve::state::ServerState;
use crate::wire::engineio::PacketType;
use crate::wire::websocket;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

/// Bytes of credentials and of incomplete input that do not count against the memory budget.
const UNCOUNTED: usize = 512;

/// A WebSocket whose head is about to be written.
pub struct WebSocketSession {
    /// What all connections share.
    pub shared: Arc<Shared>,
    /// What is known about the client.
    pub client: Client,
    /// The version that it speaks.
    pub version: EngineVersion,
    /// The id of the connection.
    pub sid: String,
    /// The entry of the access log.
    pub entry: Option<Entry>,
    /// The permit of the client's address.
    pub permit: Option<Arc<AddressPermit>>,
}

impl ProtocolSession for WebSocketSession {
    fn log(&mut self, mut entry: Entry) {
        entry.transport = self.client.transport;
        self.entry = Some(entry);
    }

    fn spawn(self: Box<Self>, state: Arc<ServerState>, io: ClientStream, peer: Peer) {
        let counted = peer.counted;
        let connection = Connection::begin(state, io, *self);
        spawn_parked(connection.run_to_end(counted));
    }
}

/// A running connection.
pub struct Connection {
    state: Arc<ServerState>,
    io: ClientStream,
    unread: Unread,
    inputs: Inputs,
    sockets: Sockets,
    version: EngineVersion,
    heartbeat: Heartbeat,
    /// The time up to which the client has to connect a namespace.
    connect_by: Option<Instant>,
    timer: Timer,
    /// Ends a connection without a namespace when the server shuts down. The hub wakes the others.
    draining: Option<BoxFuture<'static, ()>>,
    reservation: Reservation,
    permits: Permits,
}

/// What a connection holds until it ends.
pub struct Permits {
    /// The entry of the access log.
    pub entry: Option<Entry>,
    /// The permit of the client's address.
    pub _permit: Option<Arc<AddressPermit>>,
}

/// The next event on a connection.
enum Event {
    Remainder(Remainder),
    Write(Bytes, Option<usize>),
    /// The pump of a socket has ended.
    Ended(usize),
    Due(Due),
    /// No namespace was connected in time.
    Unused,
    Drain,
    Work,
    Read(io::Result<usize>),
    Gap,
}

impl Connection {
    /// A connection that begins as a WebSocket.
    fn begin(state: Arc<ServerState>, io: ClientStream, session: WebSocketSession) -> Connection {
        let WebSocketSession { shared, client, version, sid, entry, permit } = session;
        let handshake = handshake(&shared.settings, version, &sid, false).json();
        let framing = client.framing;
        let mut connection = Connection::new(state, shared, io, client, version, Permits { entry, _permit: permit });
        framing.packet(PacketType::Open, &handshake, &mut connection.sockets.out);
        if version != EngineVersion::V4 {
            // Clients of these versions are in the main namespace at once. The first of a connection is never refused.
            let _ = connection.sockets.connect("/", None, None);
        }
        connection
    }

    /// A connection whose client has polled before; `None` if it cannot go on.
    #[expect(clippy::too_many_arguments, reason = "each of them is a part of the connection")]
    pub async fn resume(
        state: Arc<ServerState>,
        shared: Arc<Shared>,
        io: ClientStream,
        unread: Unread,
        client: Client,
        id: &SessionId,
        parts: Parts,
        permits: Permits,
    ) -> Option<Connection> {
        let interval = shared.settings.ping_interval;
        let mut connection = Connection::new(state, shared, io, client, parts.info.engine(), permits);
        connection.unread = unread;
        let now_ms = connection.state.hub.log().now_ms();
        let ago = Duration::from_millis(now_ms.saturating_sub(parts.reader.pinged_ms)).min(interval);
        connection.heartbeat = connection.heartbeat.after_ping(ago);
        connection.timer.reset(connection.heartbeat.next(), Instant::now());
        // A WebSocket has no way to refuse a packet of which a part is lost.
        let is_whole = parts.writer.half.as_ref().is_none_or(|half| !half.is_cut);
        let half = parts.writer.half.map(Half::incomplete);
        if is_whole && connection.sockets.resume(id, &parts.reader).await && connection.inputs.resume(half) {
            return Some(connection);
        }
        connection.sockets.end(BROKEN);
        let _ = connection.io.write_all(&websocket::empty_close_frame()).await;
        None
    }

    fn new(
        state: Arc<ServerState>,
        shared: Arc<Shared>,
        io: ClientStream,
        client: Client,
        version: EngineVersion,
        permits: Permits,
    ) -> Connection {
        let (settings, now) = (&shared.settings, Instant::now());
        let server_asks = matches!(version, EngineVersion::V4 | EngineVersion::V1);
        let heartbeat = Heartbeat::new(settings, server_asks, now);
        let connect_by = now + settings.connect_timeout;
        Connection {
            io,
            unread: Unread::default(),
            inputs: Inputs::new(version, settings.max_payload),
            timer: state.timers.at(heartbeat.next().min(connect_by), now),
            sockets: Sockets::new(state.clone(), shared.clone(), client),
            version,
            heartbeat,
            connect_by: Some(connect_by),
            draining: None,
            reservation: state.budget.reservation(),
            permits,
            state,
        }
    }

    /// Runs the connection to its end, and ends its sockets.
    pub async fn run_to_end(mut self, counted: Counted) {
        let ended = self.run().await;
        self.sockets.end(*ended.as_ref().unwrap_or(&Closed("transport close")));
        match ended {
            Ok(_) => self.io.spawn_linger(counted),
            Err(error) => self.state.rejections.write_failed(&error),
        }
    }

    /// Runs the connection to its end, and returns the reason.
    ///
    /// # Errors
    ///
    /// The client has disconnected, or does not read.
    async fn run(&mut self) -> io::Result<Closed> {
        loop {
            let event = self.next().await;
            // The future is boxed, so that a parked connection does not keep space for it.
            if let Some(closed) = Box::pin(self.handle(event)).await? {
                return Ok(closed);
            }
        }
    }

    async fn next(&mut self) -> Event {
        if !self.sockets.are_none() {
            (self.draining, self.connect_by) = (None, None);
        } else if self.draining.is_none() {
            let drain = self.state.drain.clone();
            self.draining = Some(async move { drain.begun().await }.boxed());
        }
        poll_fn(|cx| {
            for socket in &mut self.sockets.connected {
                let rest = socket.pump.unpark();
                if !rest.is_empty() {
                    return Poll::Ready(Event::Remainder(rest));
                }
            }
            if !self.sockets.out.is_empty() {
                return Poll::Ready(Event::Write(std::mem::take(&mut self.sockets.out).into(), None));
            }
            if let Some(event) = self.poll_time(cx) {
                return Poll::Ready(event);
            }
            for (index, socket) in self.sockets.connected.iter_mut().enumerate() {
                match socket.pump.poll_next(cx) {
                    Poll::Ready(Some(bytes)) => return Poll::Ready(Event::Write(bytes, Some(index))),
                    Poll::Ready(None) => return Poll::Ready(Event::Ended(index)),
                    Poll::Pending if socket.has_gap() => return Poll::Ready(Event::Gap),
                    Poll::Pending => {}
                }
            }
            if self.sockets.poll_work(cx).is_ready() {
                return Poll::Ready(Event::Work);
            }
            if let Some(draining) = &mut self.draining
                && draining.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Event::Drain);
            }
            let read = if self.may_read() {
                self.io.poll_input(cx, &mut self.unread)
            } else {
                self.io.poll_reset(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()))
            };
            if let Poll::Ready(read) = read {
                return Poll::Ready(Event::Read(read));
            }
            // From here on the hub may write to the socket. When this task wakes, it first stops the hub's writes.
            if let [socket] = &mut *self.sockets.connected {
                socket.pump.park();
            }
            Poll::Pending
        })
        .await
    }

    fn poll_time(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        while self.timer.poll(cx).is_ready() {
            let now = Instant::now();
            if self.connect_by.is_some_and(|time| now >= time) {
                return Some(Event::Unused);
            }
            let due = self.heartbeat.due(now);
            let next = self.connect_by.map_or(self.heartbeat.next(), |time| time.min(self.heartbeat.next()));
            self.timer.reset(next, now);
            if let Some(due) = due {
                return Some(Event::Due(due));
            }
        }
        None
    }

    fn may_read(&self) -> bool {
        self.sockets.may_read() && !self.state.budget.is_short()
    }

    async fn handle(&mut self, event: Event) -> io::Result<Option<Closed>> {
        match event {
            Event::Remainder(rest) => self.write(rest.whole(), rest.bytes(), None).await?,
            Event::Write(bytes, socket) => self.write(&bytes, &bytes, socket).await?,
            Event::Ended(index) => {
                let end = |socket: &mut Socket| {
                    let (session, _) = socket.pump.session()?;
                    session.has_ended().then(|| session.state().closes)
                };
                // The application has ended one namespace, or all of them. In all other cases the connection ends.
                let Some(closes) = self.sockets.connected.get_mut(index).and_then(end) else {
                    return Ok(Some(Closed("transport close")));
                };
                self.sockets.remove(index, ENDED);
                if closes {
                    self.sockets.disconnect_all();
                    self.io.write_all(&std::mem::take(&mut self.sockets.out)).await?;
                    return self.close(ENDED).await;
                }
            }
            Event::Due(Due::Ping) => {
                self.sockets.framing().packet(PacketType::Ping, "", &mut self.sockets.out);
            }
            Event::Due(Due::Silence) => return self.close("ping timeout").await,
            Event::Unused | Event::Drain | Event::Gap => return self.close("transport close").await,
            Event::Work => return self.read_on().await,
            Event::Read(read) => {
                if read? == 0 {
                    return Ok(Some(Closed("transport close")));
                }
                return self.read_on().await;
            }
        }
        Ok(None)
    }

    /// Closes the WebSocket. The client connects again.
    async fn close(&mut self, reason: &'static str) -> io::Result<Option<Closed>> {
        self.io.write_all(&websocket::empty_close_frame()).await?;
        Ok(Some(Closed(reason)))
    }

    /// Carries out the input that has come, while it may be read.
    async fn read_on(&mut self) -> io::Result<Option<Closed>> {
        while self.may_read() {
            let input = match self.inputs.next(self.unread.buffer()) {
                Ok(Some(input)) => input,
                Ok(None) => break,
                Err(farewell) => {
                    self.io.write_all(&farewell).await?;
                    return Ok(Some(BROKEN));
                }
            };
            // The clients of version 4 have to answer pings.
            if self.version != EngineVersion::V4 {
                self.heartbeat.heard(Instant::now());
            }
            match input {
                Input::Nothing => {}
                Input::Reply(bytes) => self.io.write_all(&bytes).await?,
                Input::End(bytes) => {
                    self.io.write_all(&bytes).await?;
                    return Ok(Some(Closed("transport close")));
                }
                Input::Ping(data) if self.version != EngineVersion::V4 => {
                    self.sockets.framing().packet(PacketType::Pong, &data, &mut self.sockets.out);
                }
                Input::Ping(_) => return self.close(BROKEN.0).await,
                Input::Pong => self.heartbeat.heard(Instant::now()),
                Input::Packet(packet, receipt) => {
                    if let Some(receipt) = receipt {
                        self.sockets.framing().message(&receipt, &[], &mut self.sockets.out);
                    }
                    if self.sockets.packet(&packet, None).is_err() {
                        return self.close(BROKEN.0).await;
                    }
                }
            }
        }
        let kept = self.unread.len() + self.inputs.held();
        if self.reservation.resize(if kept > UNCOUNTED { kept } else { 0 }).is_err() {
            return Ok(Some(BROKEN));
        }
        self.unread.settle();
        Ok(None)
    }

    /// Writes bytes. The unwritten bytes are the whole buffer or a part of it.
    async fn write(&mut self, whole: &Bytes, bytes: &[u8], socket: Option<usize>) -> io::Result<()> {
        if let Some(entry) = &mut self.permits.entry {
            entry.bytes += bytes.len() as u64;
        }
        let outcome = self.state.budget.write(BufferId::of(whole), self.io.write_all(bytes)).await?;
        if let Some(socket) = socket.and_then(|index| self.sockets.connected.get_mut(index)) {
            socket.pump.wrote(outcome);
        }
        Ok(())
    }
}
