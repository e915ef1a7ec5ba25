//! What a GET of a connection that polls reads: the entries of other requests, and the messages of all its sockets.

use super::entries::ConnectionEntry;
use super::envelope::NamespaceEnvelope;
use super::framing::Framing;
use super::packets;
use super::poll::Polling;
use super::record::{Place, Reader};
use super::resumed::read_up_to;
use super::transports::POLLING;
use crate::cursor::{Cursor, Id, Start};
use crate::hub::{LIMIT, Step, Subscription};
use crate::message::{Channel, Message};
use crate::serve::client_sessions::address::own_channel;
use crate::serve::client_sessions::bookmark_store::BookmarkStore as _;
use crate::serve::client_sessions::change::ControlEntry;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::live::LiveSession;
use crate::serve::client_sessions::protocol::Bookmarks;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::events::connect;
use crate::serve::presence::stay::PollingStay;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code, Envelope as _};
use crate::wire::engineio::PacketType;
use bytes::Bytes;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A socket that a GET reads.
struct ReadSocket {
    namespace: Arc<str>,
    live: LiveSession,
    subscription: Subscription,
    envelope: NamespaceEnvelope,
    /// The token that the page has given for the namespace.
    token: Option<String>,
    /// The stay of its user in channels with presence.
    _stay: Option<PollingStay>,
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

/// How many entries of other requests a GET holds until its sockets have read up to them.
const MAX_ENTRIES: usize = 1000;

/// What a GET reads.
pub struct Reading {
    framing: Framing,
    own: Subscription,
    /// Entries of other requests that are not carried out yet, and the position before them.
    entries: Vec<Arc<Message>>,
    entries_after: Cursor,
    sockets: Vec<ReadSocket>,
    /// Namespaces that could not be read this time.
    unread: Vec<Place>,
    /// Namespaces whose sessions have to be found.
    to_open: Vec<Place>,
    /// Namespaces whose sessions have ended, with a position behind the end. When the own channel is read up to there, it
    /// is known whether the client has left the namespace itself.
    ended: Vec<(Place, Cursor)>,
    /// Packets for the client.
    pub out: Vec<u8>,
    /// Whether the GET has to end.
    pub is_woken: bool,
    /// Whether the connection is over.
    pub is_closed: bool,
    /// Whether the client has ended it. The client does not have to be told.
    pub is_gone: bool,
    /// Whether the application has ended the connection.
    pub closes: bool,
    /// The messages that the answer has, for metrics.
    pub messages: Vec<Arc<Message>>,
}

impl Reading {
    /// Begins to read; `None` if the position is not one.
    pub async fn open(polling: &Polling<'_>, framing: Framing, reader: &Reader) -> Option<Reading> {
        let at: Cursor = reader.at.parse().ok()?;
        let own = polling.state.hub.subscribe(None, &[own_channel(polling.id)?], Start::After(at), None, None);
        let mut reading = Reading {
            framing,
            own,
            entries: Vec::new(),
            entries_after: at,
            sockets: Vec::new(),
            unread: Vec::new(),
            to_open: Vec::new(),
            ended: Vec::new(),
            out: Vec::new(),
            is_woken: false,
            is_closed: false,
            is_gone: false,
            closes: false,
            messages: Vec::new(),
        };
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
        match connect::find_at_or_missing(state, place.brought(), at, time).await {
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
                let channels: Vec<Channel> = live.state().channels.keys().cloned().collect();
                state.hub.polled(POLLING.name(), channels.iter(), &live.state().client, time);
                let stay = stay(state, live.state(), &channels).await;
                let token = place.token;
                self.sockets.push(ReadSocket { namespace, live, subscription, envelope, token, _stay: stay });
            }
            // The client connects again, which it does not do after the end of a namespace.
            Err(missing) if missing.is_lost => self.is_closed = true,
            Err(missing) if missing.error.code == Code::NoSession => match connect::reach_end(state).await {
                Ok(end) => {
                    self.closes |= missing.closes || has_closed(polling, &place.session, at, end).await;
                    self.ended.push((place, end));
                }
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
    pub async fn fill(&mut self, polling: &Polling<'_>, time: Duration) {
        let until = Instant::now() + time;
        loop {
            for place in std::mem::take(&mut self.to_open) {
                self.find(polling, place).await;
            }
            if self.is_closed || self.closes || self.is_woken || !self.out.is_empty() {
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
        // What the client has left has to be known first: it must not get the events of such a namespace any more.
        let Poll::Ready(mut is_ready) = self.poll_own(cx) else { return Poll::Pending };
        let mut frames = Vec::new();
        for socket in &mut self.sockets {
            let mut batch = Vec::new();
            let step = socket.subscription.poll_step(cx, LIMIT, &mut batch);
            // Engine.IO has no word for a gap.
            self.is_closed |= matches!(step, Poll::Ready(Step::Gap(_))) || socket.live.poll_lost(cx);
            is_ready |= !batch.is_empty() || matches!(step, Poll::Ready(Step::Messages));
            socket.live.take(&mut batch, &mut socket.subscription);
            let encoding = socket.envelope.encoding();
            self.messages.extend(batch.iter().cloned());
            frames.extend(batch.iter().map(|message| (id_of(message), encoding.frame(message))));
        }
        is_ready |= self.write(frames);
        let ended = |socket: &mut ReadSocket| socket.live.has_ended();
        for socket in self.sockets.extract_if(.., ended) {
            self.closes |= socket.live.state().closes;
            self.ended.push((socket.place(), socket.subscription.cursor()));
            is_ready = true;
        }
        is_ready |= self.tell_ended();
        if is_ready || self.is_closed { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reads the entries of other requests that have come, and returns whether there were some. Pending while the log is
    /// asked.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut has_come = false;
        while self.entries.len() < MAX_ENTRIES {
            let (before, mut batch) = (self.own.cursor(), Vec::new());
            let step = self.own.poll_step(cx, LIMIT, &mut batch);
            has_come |= self.take_own(before, batch);
            match step {
                Poll::Ready(Step::Messages) => {}
                Poll::Ready(Step::Idle | Step::Ahead) => break,
                Poll::Ready(Step::Gap(_)) => {
                    self.is_closed = true;
                    break;
                }
                Poll::Pending if has_come => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(has_come)
    }

    /// Takes entries of other requests. `before`: the position before them.
    fn take_own(&mut self, before: Cursor, mut batch: Vec<Arc<Message>>) -> bool {
        if batch.is_empty() {
            return false;
        }
        if self.entries.is_empty() {
            self.entries_after = before;
        }
        // A client that has left a namespace must not get its events: it may have connected the namespace again.
        for message in &batch {
            if let Some(ConnectionEntry::Left { namespace }) = ConnectionEntry::read(message) {
                self.sockets.retain(|socket| *socket.namespace != *namespace);
                self.unread.retain(|place| place.namespace != namespace);
            }
        }
        self.entries.append(&mut batch);
        true
    }

    /// Writes events, and carries out the entries of other requests at their places between them. Returns whether there
    /// were entries.
    fn write(&mut self, mut frames: Vec<(Id, Bytes)>) -> bool {
        frames.sort_by_key(|(id, _)| *id);
        let (mut frames, mut has_entries) = (frames.into_iter().peekable(), false);
        while let Some(id) = self.next_entry() {
            while let Some((_, frame)) = frames.next_if(|(at, _)| *at <= id) {
                self.out.extend_from_slice(&frame);
            }
            let message = self.entries.remove(0);
            self.entries_after = message.cursor().unwrap_or(self.entries_after);
            self.entry(&message);
            has_entries = true;
        }
        frames.for_each(|(_, frame)| self.out.extend_from_slice(&frame));
        has_entries
    }

    /// The position of the next entry, if all sockets have read up to it: the answer to an event comes after what the
    /// application has sent and published before it.
    fn next_entry(&self) -> Option<Id> {
        let id = id_of(self.entries.first()?);
        let are_read = self.to_open.is_empty() && self.unread.is_empty();
        (are_read && self.sockets.iter().all(|socket| socket.subscription.cursor().id >= id)).then_some(id)
    }

    /// The position up to which the entries of other requests are carried out.
    fn read_to(&self) -> Cursor {
        if self.entries.is_empty() { self.own.cursor() } else { self.entries_after }
    }

    /// Tells the client about namespaces that the application has ended. Returns whether there was one.
    fn tell_ended(&mut self) -> bool {
        let at = self.read_to();
        let is_read = |until: Cursor| at.epoch != until.epoch || at.id >= until.id;
        let told: Vec<_> = self.ended.extract_if(.., |(_, until)| is_read(*until)).collect();
        for (place, _) in &told {
            packets::disconnected(self.framing, &place.namespace, &mut self.out);
        }
        !told.is_empty()
    }

    /// Tells the client that all namespaces have ended, after all that it has got before.
    pub fn disconnect_all(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        for place in self.positions().sockets {
            packets::disconnected(self.framing, &place.namespace, &mut out);
        }
        out
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
            Some(ConnectionEntry::Socket { session, .. }) if self.knows(&session) => {}
            Some(ConnectionEntry::Socket { namespace, session, at, token, sealed }) => {
                self.forget(&namespace);
                let at = Some(at);
                self.to_open.push(Place { namespace, session, at, is_new: true, token, sealed, by: None });
            }
            Some(ConnectionEntry::Left { namespace }) => self.forget(&namespace),
            Some(ConnectionEntry::Packet { text, parts }) => {
                self.framing.message(text.as_bytes(), &ConnectionEntry::parts(parts), &mut self.out);
            }
            Some(ConnectionEntry::Pong { data }) => self.framing.packet(PacketType::Pong, &data, &mut self.out),
            Some(ConnectionEntry::Wake) => self.is_woken = true,
            Some(ConnectionEntry::Closed) => self.is_closed = true,
            Some(ConnectionEntry::Gone) => (self.is_closed, self.is_gone) = (true, true),
            None => {}
        }
    }

    /// The namespaces after this GET, with sealed bookmarks of the sessions that may have one. `None` if they do not fit
    /// into tokens.
    pub async fn sealed_places(&mut self, polling: &Polling<'_>) -> Option<Vec<Place>> {
        let (store, life) = (&polling.state.sealed, polling.session_life());
        let mut places = Vec::new();
        for socket in &mut self.sockets {
            let (mut place, session) = (socket.place(), socket.live.state().clone());
            match session.bookmarks {
                // The node of the record asks the application again.
                Bookmarks::Record if session.asks_again_ms.is_some() => {}
                Bookmarks::Sealed { .. } if session.asks_again_ms.is_some() => {
                    store.move_to_record(session, "ttl").await.ok()?;
                }
                Bookmarks::Record if polling.sealed.is_none() && store.takes(&session) => {
                    place.sealed = Some(store.token(&session, life).await?);
                }
                Bookmarks::Record => {}
                Bookmarks::Sealed { .. } => {
                    // The session may need the record from now on.
                    let kept = store.keep(&session).await.ok()?;
                    place.sealed = SessionId::parse(&kept).is_none().then(|| kept.to_string());
                }
            }
            places.push(place);
        }
        let others = self.unread.iter().chain(self.ended.iter().map(|(place, _)| place));
        Some(places.into_iter().chain(others.cloned()).collect())
    }

    /// The namespaces after this GET, all of whose sessions are in the record from now on.
    ///
    /// # Errors
    ///
    /// The record takes no more sessions, or cannot be reached.
    pub async fn recorded_places(&mut self, polling: &Polling<'_>) -> Result<Vec<Place>, ApiError> {
        for socket in &mut self.sockets {
            let session = socket.live.state().clone();
            if session.bookmarks != Bookmarks::Record {
                polling.state.sealed.move_to_record(session, "size").await?;
            }
        }
        Ok(self.positions().sockets)
    }

    /// The positions after this GET.
    pub fn positions(&self) -> Reader {
        let others = self.unread.iter().chain(self.ended.iter().map(|(place, _)| place)).cloned();
        let sockets = self.sockets.iter().map(ReadSocket::place).chain(others).collect();
        Reader { sockets, ..Reader::at(self.read_to().to_string()) }
    }
}

/// Makes the user of a socket a member of the channels with presence that it reads, as any client that polls. If a
/// channel is full, the socket reads it without being a member.
async fn stay(state: &ServerState, session: &SessionState, channels: &[Channel]) -> Option<PollingStay> {
    let (presence, user) = (state.presence.as_ref()?, session.user.as_ref()?);
    presence.poll(channels, user, Some(&session.client)).await.ok().flatten()
}

/// Whether the end of a session, which is over, has ended its connection.
async fn has_closed(polling: &Polling<'_>, session: &str, at: Cursor, end: Cursor) -> bool {
    let Some(own) = SessionId::parse(session).and_then(|id| own_channel(&id)) else { return false };
    let mut subscription = polling.state.hub.subscribe(None, &[own], Start::After(at), None, None);
    let closes = |message: &Arc<Message>| matches!(ControlEntry::read(message), Some(ControlEntry::Change(change)) if change.disconnect && change.closes);
    read_up_to(&mut subscription, end).await.is_some_and(|messages| messages.iter().any(closes))
}

/// The position of a message. One that is not kept has none, and comes last.
fn id_of(message: &Message) -> Id {
    message.cursor().map_or(Id::MAX, |cursor| cursor.id)
}
