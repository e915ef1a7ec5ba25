//! A GET of a connection that polls.
//!
//! It reads on from where the last one ended, whichever node that was at. The new positions and the answer are in the
//! record before the answer leaves. So a repeated GET gets the same answer, and a GET that another one has overtaken gets
//! nothing.

use super::entries::ConnectionEntry;
use super::envelope::NamespaceEnvelope;
use super::framing::{Framing, Words};
use super::json_bytes::JsonBytes;
use super::packets;
use super::payload;
use super::record::{Parts, Place, Reader, Stamp};
use super::shared::Shared;
use super::transports::POLLING;
use crate::cursor::{Cursor, Id, Start};
use crate::hub::{LIMIT, Step, Subscription};
use crate::log::Unreachable;
use crate::log::connections::{Part, Swapped};
use crate::message::Message;
use crate::serve::client_sessions::address::own_channel;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::live::LiveSession;
use crate::serve::events::{connect, service};
use crate::serve::state::ServerState;
use crate::transport::{Code, Envelope as _};
use crate::wire::engineio::PacketType;
use crate::wire::engineio::handshake::Refusal;
use crate::wire::socketio::packet::Version;
use bytes::Bytes;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The time within which a GET is answered while the client tries a WebSocket.
const PROBING: Duration = Duration::from_millis(90);

/// The longest wait of a GET in 0.9. Old proxies end longer ones.
const LONGEST_09: Duration = Duration::from_secs(20);

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
        if let Some(parts) = Parts::read(&record).filter(|_| !self.shared.settings.recovery) {
            for socket in parts.writer.sockets {
                SessionId::parse(&socket.session).iter().for_each(|id| self.state.sessions.end_soon(id, reason));
            }
        }
        self.append(&[ConnectionEntry::Closed]).await
    }

    /// Ends the connection because the client has broken a rule.
    async fn break_off(&self) -> Refused {
        let _ = self.close("transport error").await;
        Refused::Engine(Refusal::BadRequest)
    }

    /// Answers a GET with a payload.
    ///
    /// # Errors
    ///
    /// The reason why there is no answer.
    pub async fn get(&self) -> Result<(Framing, Vec<u8>), Refused> {
        let asked = Instant::now();
        let reader_metrics = self.state.delivery.open(POLLING.name());
        let mut parts = self.load().await?;
        let framing = parts.info.payload();
        if parts.reader.parked.is_none()
            && let Some((stamp, body)) = &parts.reader.last
            && stamp.is_of(self.t)
        {
            return Ok((framing, body.0.clone()));
        }
        // The same GET again: the browser has lost the connection on which the first one waits.
        // In 0.9, a new GET takes the place of the old one.
        let is_09 = framing.words() == Words::V1;
        if !is_09 && parts.reader.parked.as_ref().is_some_and(|parked| !parked.is_of(self.t)) {
            return Err(self.break_off().await);
        }
        let stamp = Stamp { t: self.t.map(str::to_owned) };
        parts.reader.parked = Some(stamp.clone());
        self.write_reader(&mut parts).await?;
        let interval = self.shared.settings.ping_interval.min(if is_09 { LONGEST_09 } else { Duration::MAX });
        let probes = parts.mode.probing_until_ms > self.state.hub.log().now_ms();
        let now_ms = || self.state.hub.log().now_ms();
        let ping_at_ms = parts.reader.pinged_ms + self.shared.settings.ping_interval.as_millis() as u64;
        let time = match framing {
            _ if probes => PROBING,
            Framing::Payload4 => Duration::from_millis(ping_at_ms.saturating_sub(now_ms())),
            _ => interval,
        };
        let connect_by_ms = parts.info.began_ms + self.shared.settings.connect_timeout.as_millis() as u64;
        let to_connect = Duration::from_millis(connect_by_ms.saturating_sub(now_ms()));
        let is_brief = parts.is_unused() && to_connect < time;
        let time = if is_brief { to_connect } else { time.min(interval) };
        let mut reading = Reading::open(self, framing, &parts.reader).await.ok_or(UNKNOWN)?;
        tokio::select! {
            () = reading.fill(self, time) => {}
            () = self.state.drain.begun() => reading.is_woken = true,
        }
        if is_brief && now_ms() >= connect_by_ms {
            reading.is_closed |= self.load().await?.is_unused();
        }
        if reading.is_closed {
            let _ = self.close("transport close").await;
            let mut out = Vec::new();
            framing.packet(PacketType::Close, "", &mut out);
            return Ok((framing, payload::finish(framing, out)));
        }
        let is_cut = probes || is_brief || reading.is_woken;
        let mut pinged_ms = parts.reader.pinged_ms;
        if framing == Framing::Payload4 && (now_ms() >= ping_at_ms || reading.out.is_empty() && !is_cut) {
            framing.packet(PacketType::Ping, "", &mut reading.out);
            pinged_ms = now_ms();
        }
        if reading.out.is_empty() {
            // A client of version 3 that gets pongs does not ask by itself.
            let kind =
                if is_cut || framing.version() == Version::V5 || is_09 { PacketType::Noop } else { PacketType::Pong };
            framing.packet(kind, "", &mut reading.out);
        }
        let body = payload::finish(framing, std::mem::take(&mut reading.out));
        reader_metrics.answer(&reading.messages, false, asked);
        reader_metrics.bytes(body.len());
        let last = (!is_09).then(|| (stamp, JsonBytes(body.clone())));
        parts.reader = Reader { parked: None, last, pinged_ms, ..reading.positions() };
        self.write_reader(&mut parts).await?;
        Ok((framing, body))
    }

    async fn write_reader(&self, parts: &mut Parts) -> Result<(), Refused> {
        match parts.write(&*self.shared.store, self.id.secret(), Part::Reader, self.lifetime()).await? {
            Swapped::Done => Ok(()),
            // Another GET has taken over, or the connection is over.
            Swapped::Stale => Err(Refused::Engine(Refusal::BadRequest)),
            Swapped::Gone => Err(UNKNOWN),
        }
    }
}

/// A socket that a GET reads.
struct ReadSocket {
    namespace: Arc<str>,
    live: LiveSession,
    subscription: Subscription,
    envelope: NamespaceEnvelope,
    /// The token that the page has given for the namespace.
    token: Option<String>,
}

impl ReadSocket {
    fn place(&self) -> Place {
        Place {
            namespace: self.namespace.to_string(),
            session: self.live.id().secret().to_string(),
            at: Some(self.subscription.cursor().to_string()),
            token: self.token.clone(),
            ..Place::default()
        }
    }
}

/// What has come for the client.
enum Item {
    /// An entry of another request.
    Entry(Arc<Message>),
    /// An event.
    Frame(Bytes),
}

/// What a GET reads.
struct Reading {
    framing: Framing,
    own: Subscription,
    sockets: Vec<ReadSocket>,
    /// Namespaces that could not be read this time.
    unread: Vec<Place>,
    /// Namespaces whose sessions have to be found.
    to_open: Vec<Place>,
    /// Namespaces whose sessions have ended, with a position behind the end. When the own channel is read up to there, it
    /// is known whether the client has left the namespace itself.
    ended: Vec<(Place, Cursor)>,
    out: Vec<u8>,
    is_woken: bool,
    is_closed: bool,
    /// The messages that the answer has, for metrics.
    messages: Vec<Arc<Message>>,
}

impl Reading {
    async fn open(polling: &Polling<'_>, framing: Framing, reader: &Reader) -> Option<Reading> {
        let at: Cursor = reader.at.parse().ok()?;
        let own = polling.state.hub.subscribe(None, &[own_channel(polling.id)?], Start::After(at), None, None);
        let (sockets, unread, to_open, ended, out) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (is_woken, is_closed) = (false, false);
        let mut reading =
            Reading { framing, own, sockets, unread, to_open, ended, out, is_woken, is_closed, messages: Vec::new() };
        for place in &reader.sockets {
            reading.find(polling, place.clone()).await;
        }
        Some(reading)
    }

    /// Finds the session of a socket.
    async fn find(&mut self, polling: &Polling<'_>, place: Place) {
        let Polling { shared, state, .. } = polling;
        let namespace: Arc<str> = place.namespace.as_str().into();
        let time = shared.settings.ping_interval;
        let envelope = NamespaceEnvelope::new(&shared.encodings, self.framing, &namespace);
        let Some(at) = place.at.as_ref().and_then(|at| at.parse::<Cursor>().ok()) else {
            self.is_closed = true;
            return;
        };
        match connect::find_at(state, &place.session, at, time).await {
            Ok(session) => {
                let client = session.client.clone();
                let pid = shared.settings.recovery.then(|| session.id.secret().clone());
                let envelope = envelope.with_pid(pid);
                if place.is_new {
                    envelope.connected(&client, &mut self.out);
                }
                let mut subscription = state.hub.subscribe(None, &[], Start::After(at), None, Some(client));
                let mut live = LiveSession::of_poll(&state.sessions, &state.hub, session);
                live.begin(&mut subscription);
                let channels: Vec<_> = live.state().channels.keys().cloned().collect();
                state.hub.polled(POLLING.name(), channels.iter(), &live.state().client, time);
                self.sockets.push(ReadSocket { namespace, live, subscription, envelope, token: place.token });
            }
            Err(error) if error.code == Code::NoSession => match connect::reach_end(state).await {
                Ok(end) => self.ended.push((place, end)),
                Err(_) => self.skip(place),
            },
            Err(_) => self.skip(place),
        }
    }

    /// Leaves a socket for the next GET, because this node is behind, or the log is away.
    fn skip(&mut self, place: Place) {
        self.unread.push(place);
        self.is_woken = true;
    }

    /// Reads until there is something to answer.
    async fn fill(&mut self, polling: &Polling<'_>, time: Duration) {
        let until = Instant::now() + time;
        loop {
            for place in std::mem::take(&mut self.to_open) {
                self.find(polling, place).await;
            }
            if self.is_closed || self.is_woken || !self.out.is_empty() {
                return;
            }
            let read = poll_fn(|cx| self.poll(cx));
            if timeout_at(until, read).await.is_err() {
                return;
            }
        }
    }

    /// Ready when there is something to do.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut batch = Vec::new();
        let step = self.own.poll_step(cx, LIMIT, &mut batch);
        self.is_closed |= matches!(step, Poll::Ready(Step::Gap(_)));
        let mut is_ready = !batch.is_empty();
        // A client that has left a namespace must not get its events: it may have connected the namespace again.
        for message in &batch {
            if let Some(ConnectionEntry::Left { namespace }) = ConnectionEntry::read(message) {
                self.sockets.retain(|socket| *socket.namespace != *namespace);
            }
        }
        let mut items: Vec<_> = batch.into_iter().map(|message| (id_of(&message), Item::Entry(message))).collect();
        for socket in &mut self.sockets {
            let mut batch = Vec::new();
            let step = socket.subscription.poll_step(cx, LIMIT, &mut batch);
            // Engine.IO has no word for a gap.
            self.is_closed |= matches!(step, Poll::Ready(Step::Gap(_))) || socket.live.poll_lost(cx);
            is_ready |= !batch.is_empty() || matches!(step, Poll::Ready(Step::Messages));
            socket.live.take(&mut batch, &mut socket.subscription);
            let encoding = socket.envelope.encoding();
            self.messages.extend(batch.iter().cloned());
            items.extend(batch.iter().map(|message| (id_of(message), Item::Frame(encoding.frame(message)))));
        }
        // The answer to an event comes after the events that the application has sent before it.
        items.sort_by_key(|(id, _)| *id);
        for (_, item) in items {
            match item {
                Item::Entry(message) => self.entry(&message),
                Item::Frame(frame) => self.out.extend_from_slice(&frame),
            }
        }
        let ended = |socket: &mut ReadSocket| socket.live.has_ended();
        for socket in self.sockets.extract_if(.., ended) {
            self.ended.push((socket.place(), socket.subscription.cursor()));
            is_ready = true;
        }
        is_ready |= self.tell_ended();
        if is_ready || self.is_closed { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Tells the client about namespaces that the application has ended. Returns whether there was one.
    fn tell_ended(&mut self) -> bool {
        let at = self.own.cursor();
        let is_read = |until: Cursor| at.epoch != until.epoch || at.id >= until.id;
        let told: Vec<_> = self.ended.extract_if(.., |(_, until)| is_read(*until)).collect();
        for (place, _) in &told {
            packets::disconnected(self.framing, &place.namespace, &mut self.out);
        }
        !told.is_empty()
    }

    /// Forgets a namespace.
    fn forget(&mut self, namespace: &str) {
        self.sockets.retain(|socket| *socket.namespace != *namespace);
        self.to_open.retain(|place| place.namespace != namespace);
        self.unread.retain(|place| place.namespace != namespace);
        self.ended.retain(|(place, _)| place.namespace != namespace);
    }

    /// Whether there is a socket with this session. A repeated POST tells of a socket once more.
    fn knows(&self, session: &str) -> bool {
        let mut places = self.to_open.iter().chain(&self.unread).chain(self.ended.iter().map(|(place, _)| place));
        self.sockets.iter().any(|socket| &**socket.live.id().secret() == session)
            || places.any(|place| place.session == session)
    }

    fn entry(&mut self, message: &Message) {
        match ConnectionEntry::read(message) {
            Some(ConnectionEntry::Socket { namespace, session, at, token }) => {
                if !self.knows(&session) {
                    self.forget(&namespace);
                    self.to_open.push(Place { namespace, session, at: Some(at), is_new: true, token, by: None });
                }
            }
            Some(ConnectionEntry::Left { namespace }) => self.forget(&namespace),
            Some(ConnectionEntry::Packet { text, parts }) => {
                self.framing.message(text.as_bytes(), &ConnectionEntry::parts(parts), &mut self.out);
            }
            Some(ConnectionEntry::Pong { data }) => self.framing.packet(PacketType::Pong, &data, &mut self.out),
            Some(ConnectionEntry::Wake) => self.is_woken = true,
            Some(ConnectionEntry::Closed) => self.is_closed = true,
            None => {}
        }
    }

    /// The positions after this GET.
    fn positions(&self) -> Reader {
        let others = self.unread.iter().chain(self.ended.iter().map(|(place, _)| place)).cloned();
        let sockets = self.sockets.iter().map(ReadSocket::place).chain(others).collect();
        Reader { at: self.own.cursor().to_string(), sockets, pinged_ms: 0, parked: None, last: None }
    }
}

/// The position of a message. One that is not kept has none, and comes last.
fn id_of(message: &Message) -> Id {
    message.cursor().map_or(Id::MAX, |cursor| cursor.id)
}
