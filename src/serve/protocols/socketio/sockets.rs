//! The sockets of one connection: what its packets do, without I/O.

use super::actions::{self, Source, Work};
use super::encodings::ack_id;
use super::entries::ConnectionEntry;
use super::envelope::NamespaceEnvelope;
use super::framing::Framing;
use super::opening::{self, Wanted, public_id};
use super::packets::{self, Answer, Packet};
use super::recovery;
use super::shared::Shared;
use crate::cursor::{Cursor, Start};
use crate::hub::{LIMIT, Subscription};
use crate::message::ClientId;
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::live::LiveSession;
use crate::serve::client_sessions::protocol::Bookmarks;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::hook::call::Connect;
use crate::serve::session::commands::live_session;
use crate::serve::session::pump::Pump;
use crate::serve::session::record::SessionRecord;
use crate::serve::session::stream_settings::StreamSettings;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code};
use crate::wire::socketio::assembler::Complete;
use crate::wire::socketio::packet::{PacketType, Version};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The most namespaces of a connection.
pub const MAX_SOCKETS: usize = 64;

/// The most events and namespaces of a connection that wait for an answer. Beyond it, the connection is not read.
pub const MAX_PENDING: usize = 100;

/// Why a connection ends, in the words of Socket.IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed(pub &'static str);

/// The client has broken a rule of the protocol.
pub const BROKEN: Closed = Closed("transport error");

/// The application has ended a namespace.
pub const ENDED: &str = "server namespace disconnect";

/// A connected namespace.
pub struct Socket {
    pub(super) namespace: Arc<str>,
    envelope: Arc<NamespaceEnvelope>,
    publisher: Arc<Credentials>,
    /// Its messages.
    pub pump: Pump,
}

impl Socket {
    /// Whether messages may be missing.
    pub fn has_gap(&self) -> bool {
        self.envelope.has_gap()
    }

    pub(super) fn session(&mut self) -> Option<&SessionState> {
        self.pump.session().map(|(session, _)| session.state())
    }
}

/// What the server knows about the client of a connection.
#[derive(Clone)]
pub struct Client {
    /// The form of packets.
    pub framing: Framing,
    /// The id of all its sockets in version 4 of the packets, where it is the id of the connection.
    pub id: Option<ClientId>,
    /// Its credentials.
    pub credentials: Arc<Credentials>,
    /// What the application is told about its request.
    pub connect: Connect,
    /// The name of its transport, for metrics.
    pub transport: &'static str,
}

/// The sockets of a connection.
pub struct Sockets {
    pub(super) state: Arc<ServerState>,
    shared: Arc<Shared>,
    pub(super) client: Client,
    /// The connected namespaces.
    pub connected: Vec<Socket>,
    /// Namespaces whose sessions are about to begin.
    pub(super) connecting: Vec<Arc<str>>,
    /// Namespaces that wait for the main one, with their queries.
    waiting: Vec<(Arc<str>, Option<String>)>,
    pub(super) tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    rule: Option<BoxFuture<'static, Done>>,
    /// Frames for the client.
    pub out: Vec<u8>,
    /// What requests of the time of polling have left for the client.
    pub(super) left: Option<Subscription>,
}

/// The outcome of work.
pub(super) enum Done {
    /// A namespace: its credentials, the position from which its socket begins if that is not the present one of its session,
    /// and the session.
    Opened(Arc<str>, Arc<Credentials>, Option<Cursor>, Box<Result<SessionState, ApiError>>),
    Answered(Arc<str>, Option<u64>, Answer),
}

impl Sockets {
    /// No sockets yet.
    pub fn new(state: Arc<ServerState>, shared: Arc<Shared>, client: Client) -> Sockets {
        Sockets {
            state,
            shared,
            client,
            connected: Vec::new(),
            connecting: Vec::new(),
            waiting: Vec::new(),
            tasks: FuturesUnordered::new(),
            rule: None,
            out: Vec::new(),
            left: None,
        }
    }

    /// The form of packets.
    pub fn framing(&self) -> Framing {
        self.client.framing
    }

    /// Whether the client neither has nor wants a namespace.
    pub fn are_none(&self) -> bool {
        self.connected.is_empty() && self.connecting.is_empty()
    }

    /// Whether the next packet may be read.
    pub fn may_read(&self) -> bool {
        self.rule.is_none() && self.tasks.len() < MAX_PENDING
    }

    /// Carries out a packet.
    ///
    /// # Errors
    ///
    /// The connection has to end.
    pub fn packet(&mut self, packet: &Complete<'_>, key: Option<String>) -> Result<(), Closed> {
        let (kind, namespace) = (packet.packet.kind, &*packet.packet.namespace);
        let index = self.connected.iter().position(|socket| &*socket.namespace == namespace);
        let is_lenient = self.client.framing.version() == Version::V4;
        match (kind, index) {
            (PacketType::Connect, _) => {
                let query = packet.packet.query.as_deref();
                self.connect(namespace, packet.packet.json.as_deref(), query)
            }
            (PacketType::ConnectError, _) if !is_lenient => Err(BROKEN),
            (PacketType::ConnectError, _) => Ok(()),
            (_, None) if is_lenient => Ok(()),
            (_, None) => Err(BROKEN),
            (PacketType::Disconnect, Some(index)) => {
                self.remove(index, "client namespace disconnect");
                Ok(())
            }
            (PacketType::Event | PacketType::BinaryEvent, Some(index)) => {
                self.event(index, packet, key);
                Ok(())
            }
            (PacketType::Ack | PacketType::BinaryAck, Some(index)) => {
                self.ack(index, packet);
                Ok(())
            }
        }
    }

    /// Begins a namespace that the client asks for. In version 4 of the packets, the main one is asked for by the
    /// handshake, and the others wait for it.
    ///
    /// # Errors
    ///
    /// The client asks for it twice.
    pub fn connect(&mut self, namespace: &str, auth: Option<&str>, query: Option<&str>) -> Result<(), Closed> {
        let is_lenient = self.client.framing.version() == Version::V4;
        let is_known = self.connected.iter().any(|socket| &*socket.namespace == namespace)
            || self.connecting.iter().any(|known| &**known == namespace);
        if is_known {
            return if is_lenient { Ok(()) } else { Err(BROKEN) };
        }
        let namespace: Arc<str> = namespace.into();
        if self.connected.len() + self.connecting.len() + self.waiting.len() >= MAX_SOCKETS {
            let error = ApiError::new(Code::TooManyConnections, "the connection has too many namespaces");
            self.refuse(&namespace, &error);
            return Ok(());
        }
        if is_lenient && self.connecting.iter().any(|known| &**known == "/") {
            self.waiting.push((namespace, query.map(str::to_owned)));
            return Ok(());
        }
        self.open(namespace, auth, query);
        Ok(())
    }

    fn open(&mut self, namespace: Arc<str>, auth: Option<&str>, query: Option<&str>) {
        let Some(id) = self.client.id.clone().or_else(public_id) else {
            return self.refuse(&namespace, &ApiError::new(Code::NotReady, "there are no random numbers"));
        };
        let mut connect = self.client.connect.clone();
        let recovered = auth.filter(|_| self.shared.settings.recovery).and_then(recovery::take);
        let (remembered, rest) = recovered.unzip();
        connect.auth = rest.or_else(|| auth.and_then(|auth| serde_json::from_str(auth).ok()));
        opening::add_query(&mut connect, query);
        let token = match opening::token(auth, query) {
            Ok(token) => token,
            Err(error) => return self.refuse(&namespace, &error),
        };
        let publisher = opening::with_token(&self.client.credentials, token.as_deref());
        let wanted = Wanted {
            namespace: namespace.clone(),
            session: None,
            client: id,
            credentials: publisher.clone(),
            connect,
            bookmarks: Bookmarks::Record,
        };
        let (state, shared) = (self.state.clone(), self.shared.clone());
        self.connecting.push(namespace.clone());
        self.tasks.push(Box::pin(async move {
            let (at, opened) = recovery::recover_or_open(state, shared, remembered, wanted).await;
            Done::Opened(namespace, publisher, at, Box::new(opened))
        }));
    }

    fn event(&mut self, index: usize, packet: &Complete<'_>, key: Option<String>) {
        let (state, shared) = (self.state.clone(), self.shared.clone());
        let (credentials, id) = (self.client.credentials.clone(), packet.packet.ack);
        let socket = &mut self.connected[index];
        let (namespace, publisher) = (socket.namespace.clone(), socket.publisher.clone());
        let Some(session) = socket.session() else { return };
        let source = Source { session, credentials: &credentials, publisher: &publisher };
        // A client over its rate costs no more than that.
        let limited = state.rates.request(credentials.ip);
        match limited.and_then(|()| actions::begin(&state, &shared, &source, packet, key)) {
            Ok(Some(Work::Call(answer))) => {
                // The end of the session comes after the answer: see `LateEnd`.
                let answer = async move { Done::Answered(namespace, id, answer.await.map(|answer| answer.ack)) };
                self.tasks.push(Box::pin(answer));
            }
            Ok(Some(Work::Rule(answer))) => {
                self.rule = Some(Box::pin(async move { Done::Answered(namespace, id, answer.await) }));
            }
            Ok(None) => {
                shared.metrics.ignored_events.inc();
            }
            Err(error) => self.answered(&namespace, id, Err(error)),
        }
    }

    fn ack(&mut self, index: usize, packet: &Complete<'_>) {
        let (state, credentials) = (self.state.clone(), self.client.credentials.clone());
        let socket = &mut self.connected[index];
        let (namespace, publisher) = (socket.namespace.clone(), socket.publisher.clone());
        let Some(session) = socket.session() else { return };
        let Some(id) = packet.packet.ack else { return };
        let Some(awaited) = session.awaited.iter().find(|awaited| ack_id(awaited.at) == id) else {
            state.sessions.metrics.unknown_acks.inc();
            return;
        };
        let source = Source { session, credentials: &credentials, publisher: &publisher };
        if let Ok(answer) = actions::acknowledge(&state, &source, packet, awaited.name.clone()) {
            self.tasks.push(Box::pin(async move { Done::Answered(namespace, None, answer.await) }));
        }
    }

    /// Ready when some work was done.
    pub fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut batch = Vec::new();
        if let Some(left) = &mut self.left {
            let _ = left.poll_step(cx, LIMIT, &mut batch);
        }
        if !batch.is_empty() {
            batch.iter().filter_map(|message| ConnectionEntry::read(message)).for_each(|entry| self.entry(entry));
            return Poll::Ready(());
        }
        if let Some(rule) = &mut self.rule
            && let Poll::Ready(done) = rule.as_mut().poll(cx)
        {
            self.rule = None;
            self.done(done);
            return Poll::Ready(());
        }
        match self.tasks.poll_next_unpin(cx) {
            Poll::Ready(Some(done)) => {
                self.done(done);
                Poll::Ready(())
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Answered(namespace, id, answer) => self.answered(&namespace, id, answer),
            Done::Opened(namespace, publisher, at, opened) => {
                self.connecting.retain(|known| *known != namespace);
                match *opened {
                    Ok(session) => {
                        let at = at.unwrap_or(session.cursor);
                        self.opened(&namespace, publisher, session, at, false);
                    }
                    Err(error) => self.refuse(&namespace, &error),
                }
                if &*namespace == "/" {
                    for (namespace, query) in std::mem::take(&mut self.waiting) {
                        self.open(namespace, None, query.as_deref());
                    }
                }
            }
        }
    }

    /// The session of a socket. A client that may recover may be away as long as one that polls.
    fn live(&self, session: SessionState) -> LiveSession {
        if !self.shared.settings.recovery {
            return live_session(&self.state, session);
        }
        let mut live = LiveSession::of_poll(&self.state.sessions, &self.state.hub, session);
        live.set_presence(self.state.presence.clone());
        live
    }

    /// Adds a socket. `at`: the position up to which the client has read. `is_known`: whether it knows that the namespace
    /// is connected.
    pub fn opened(
        &mut self,
        namespace: &Arc<str>,
        publisher: Arc<Credentials>,
        session: SessionState,
        at: Cursor,
        is_known: bool,
    ) {
        let envelope = NamespaceEnvelope::new(&self.shared.encodings, self.client.framing, namespace);
        let pid = self.shared.settings.recovery.then(|| session.id.secret().clone());
        let envelope = envelope.with_pid(pid);
        let (state, envelope) = (&self.state, Arc::new(if is_known { envelope.known() } else { envelope }));
        let (name, start) = (self.client.transport, Start::After(at));
        let subscription = state.hub.subscribe(Some(name), &[], start, None, Some(session.client.clone()));
        // The connection has its own signs of life.
        let settings = StreamSettings { heartbeat_ms: u32::MAX, probe: false, rollover: None };
        let record = SessionRecord::new(state.delivery.open(name));
        let drain = state.drain.clone();
        let mut pump = Pump::new(subscription, envelope.clone(), settings, record, drain, &state.timers);
        pump.set_session(self.live(session));
        pump.hello();
        self.connected.push(Socket { namespace: namespace.clone(), envelope, publisher, pump });
    }

    fn refuse(&mut self, namespace: &str, error: &ApiError) {
        self.state.rejections.count(error.code);
        let framing = self.client.framing;
        let Packet { text, parts } = packets::refused(framing, namespace, error);
        framing.message(&text, &parts, &mut self.out);
    }

    fn answered(&mut self, namespace: &str, id: Option<u64>, answer: Answer) {
        if let Err(error) = &answer {
            self.shared.metrics.refused_events.inc();
            self.state.rejections.count(error.code);
        }
        let (framing, is_connected) =
            (self.client.framing, self.connected.iter().any(|it| &*it.namespace == namespace));
        let packet = packets::answered(framing, namespace, id, &answer).filter(|_| is_connected);
        if let Some(Packet { text, parts }) = packet {
            framing.message(&text, &parts, &mut self.out);
        }
    }

    /// Removes a socket whose client or application has ended it.
    pub fn remove(&mut self, index: usize, reason: &'static str) {
        let mut socket = self.connected.remove(index);
        if let Some(session) = socket.session().filter(|session| !session.has_ended) {
            self.state.sessions.end_soon(&session.id, reason);
        }
    }

    /// Ends all sockets, because the application wants that, and tells the client.
    pub fn disconnect_all(&mut self) {
        while let Some(socket) = self.connected.last() {
            packets::disconnected(self.client.framing, &socket.namespace, &mut self.out);
            self.remove(self.connected.len() - 1, ENDED);
        }
    }

    /// Ends all sockets, because the connection ends.
    pub fn end(&mut self, Closed(reason): Closed) {
        // Without an end, the client may recover its sockets.
        if self.shared.settings.recovery {
            return self.connected.clear();
        }
        while !self.connected.is_empty() {
            self.remove(self.connected.len() - 1, reason);
        }
    }
}
