//! A POST of a connection that polls: the packets of its client.
//!
//! The answer waits for the application, so the client's next POST comes after it, at whichever node. A repeated POST is
//! carried out once: see [`Claim`]. If the node has died while it carried it out, another request goes on, and the
//! application gets the same calls, with the same ids, once more.

use super::actions::{self, Source, Work};
use super::claim::{Claim, Claimed, RENEW_EVERY};
use super::encodings::ack_id;
use super::entries::ConnectionEntry;
use super::framing::Words;
use super::input09::{self, Input09};
use super::opening;
use super::packets::{self, Answer, Packet};
use super::payload::{self, Content, Received};
use super::poll::{Polling, Refused};
use super::record::{Half, Info, Place, Writer};
use super::sockets::{Client, MAX_PENDING};
use crate::message::Draft;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::events::late_end::LateEnd;
use crate::transport::{ApiError, Code};
use crate::wire::engineio::PacketType as EngineType;
use crate::wire::engineio::handshake::Refusal;
use crate::wire::socketio::assembler::{Assembler, Complete};
use crate::wire::socketio::packet::{PacketType, Version};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The most packets of a POST, and the most pings that it answers.
const MAX_PACKETS: usize = 10_000;
const MAX_PINGS: usize = 10;

/// The body of a POST.
pub struct PostBody<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Whether the content type is that of binary payloads.
    pub is_octets: bool,
    /// Whether it is a form of JSONP.
    pub is_form: bool,
}

/// Why a POST is not carried out to its end.
pub(super) enum Stop {
    /// The client has broken a rule of the protocol, so the connection ends.
    Broken,
    /// The client gets no `ok`.
    Refused(Refused),
}

use Stop::Broken;

/// The answer of the application to an event of a namespace: its number, the arguments, and the end of the session.
type Called = (String, Option<u64>, Answer, Option<Box<LateEnd>>);

/// A POST that is carried out.
pub(super) struct Posting<'a> {
    pub(super) polling: &'a Polling<'a>,
    pub(super) client: &'a Client,
    pub(super) claim: Arc<Mutex<Claim>>,
    /// Whether another request has carried out a part of the POST.
    pub(super) is_repeated: bool,
    pub(super) writer: Writer,
    pub(super) version: Version,
    /// The states of the sockets, as far as they were needed.
    pub(super) sessions: HashMap<String, Arc<SessionState>>,
    calls: FuturesUnordered<BoxFuture<'static, Called>>,
    /// The number of the packet.
    pub(super) index: usize,
    is_closed: bool,
    /// Whether the parts of the packet were not kept.
    is_cut: bool,
}

/// Carries out a POST.
///
/// # Errors
///
/// The reason why the client does not get an `ok`.
pub async fn post(polling: &Polling<'_>, client: &Client, body: &PostBody<'_>) -> Result<(), Refused> {
    let broken = Refused::Engine(Refusal::BadRequest);
    if let Some(connection) = polling.sealed
        && is_sign_of_life(&connection.info, body)
    {
        return Ok(());
    }
    let (claim, parts) = match Claim::take(polling).await? {
        Claimed::Done => return Ok(()),
        Claimed::Other(parts) => (None, parts),
        Claimed::Mine(claim) => {
            let parts = claim.parts().clone();
            (Some(claim), parts)
        }
    };
    let is_binary = body.is_octets && client.framing.version() == Version::V5;
    let packets = payload::packets(&parts.info, body.bytes, body.is_octets, body.is_form);
    let packets = packets.ok().filter(|packets| packets.len() <= MAX_PACKETS);
    let (Some(claim), false, Some(packets)) = (claim, is_binary, packets) else {
        let _ = polling.close("transport error").await;
        return Err(broken);
    };
    let mut posting = Posting {
        polling,
        client,
        is_repeated: claim.is_repeated,
        claim: Arc::new(Mutex::new(claim)),
        writer: parts.writer,
        version: client.framing.version(),
        sessions: HashMap::new(),
        calls: FuturesUnordered::new(),
        index: 0,
        is_closed: false,
        is_cut: false,
    };
    let claim = posting.claim.clone();
    let done = {
        let mut work = pin!(posting.carry_out(packets));
        loop {
            match timeout(RENEW_EVERY, &mut work).await {
                Ok(done) => break done,
                // While the work notes its progress, it moves the deadline on, too.
                Err(_) => {
                    if let Ok(mut claim) = claim.try_lock() {
                        let mut renewal = pin!(claim.renew(polling));
                        let (renewed, done) = tokio::select! {
                            renewed = &mut renewal => (renewed, None),
                            done = &mut work => (renewal.await, Some(done)),
                        };
                        renewed?;
                        if let Some(done) = done {
                            break done;
                        }
                    }
                }
            }
        }
    };
    match done {
        Ok(()) => {}
        Err(Stop::Broken) => {
            let _ = polling.close("transport error").await;
            return Err(broken);
        }
        Err(Stop::Refused(refused)) => return Err(refused),
    }
    if posting.is_closed {
        return polling.close("transport close").await;
    }
    let writer = posting.writer;
    claim.lock().await.finish(polling, writer).await
}

/// Whether a POST only answers a ping. A sealed id says by itself how long it is good.
fn is_sign_of_life(info: &Info, body: &PostBody<'_>) -> bool {
    let packets = payload::packets(info, body.bytes, body.is_octets, body.is_form);
    packets.is_ok_and(|packets| packets.len() == 1 && packets[0].kind == EngineType::Pong)
}

impl Posting<'_> {
    async fn carry_out(&mut self, packets: Vec<Received>) -> Result<(), Stop> {
        let mut assembler = Assembler::new(self.version, self.polling.shared.settings.max_payload);
        if let Some(half) = self.writer.half.take() {
            self.is_cut = half.is_cut;
            assembler.resume(half.incomplete()).map_err(|_| Broken)?;
        }
        let mut pings = 0;
        for Received { kind, data } in packets {
            self.index += 1;
            match (kind, data) {
                (EngineType::Message, Content::Text(text)) if self.client.framing.words() == Words::V1 => {
                    match input09::read(&text).ok_or(Broken)? {
                        Input09::Packet(packet, receipt) => {
                            if let Some(text) = receipt {
                                let packet = Packet { text, parts: Vec::new() };
                                self.append(ConnectionEntry::of_packet(packet)).await?;
                            }
                            self.packet(&packet).await?;
                        }
                        Input09::End => self.is_closed = true,
                        Input09::Nothing => {}
                    }
                }
                (EngineType::Message, Content::Text(text)) => {
                    if let Some(packet) = assembler.text(&text).map_err(|_| Broken)? {
                        self.packet(&packet).await?;
                    }
                }
                (EngineType::Message, Content::Binary(bytes)) => {
                    if let Some(packet) = assembler.binary(bytes.into()).map_err(|_| Broken)? {
                        self.packet(&packet).await?;
                        self.is_cut = false;
                    }
                }
                (EngineType::Ping, Content::Text(data)) if self.version == Version::V4 => {
                    // Each answer is an entry of the log.
                    pings += 1;
                    if pings <= MAX_PINGS {
                        self.append(ConnectionEntry::Pong { data }).await?;
                    }
                }
                (EngineType::Ping, _) => return Err(Broken),
                (EngineType::Close, _) => self.is_closed = true,
                _ => {}
            }
            if self.calls.len() >= MAX_PENDING {
                self.answer_next().await?;
            }
        }
        while !self.calls.is_empty() {
            self.answer_next().await?;
        }
        // A client that has no namespace does not get memory.
        let is_connected = |namespace: &str| self.writer.sockets.iter().any(|socket| socket.namespace == namespace);
        if assembler.namespace().is_some_and(|namespace| !is_connected(namespace)) {
            return Err(Broken);
        }
        let max = self.polling.state.settings.max_message;
        let half = assembler.take().map(|half| Half::new(half, max, self.is_cut).ok_or(Broken));
        self.writer.half = half.transpose()?;
        Ok(())
    }

    /// Leaves an entry for other requests. Without it, the client has to begin anew.
    pub(super) async fn append(&mut self, entry: ConnectionEntry) -> Result<(), Stop> {
        self.polling.append(&[entry]).await.map_err(Stop::Refused)
    }

    async fn answer_next(&mut self) -> Result<(), Stop> {
        match self.calls.next().await {
            Some((namespace, id, answer, end)) => self.answered(&namespace, id, &answer, end).await,
            None => Ok(()),
        }
    }

    /// Tells the client the answer to its event. The end of the session comes after it.
    async fn answered(
        &mut self,
        namespace: &str,
        id: Option<u64>,
        answer: &Answer,
        end: Option<Box<LateEnd>>,
    ) -> Result<(), Stop> {
        let framing = self.client.framing;
        let entry_of =
            |answer: &Answer| packets::answered(framing, namespace, id, answer).map(ConnectionEntry::of_packet);
        let mut entry = entry_of(answer);
        let mut error = answer.as_ref().err().map(|error| error.code);
        if entry.as_ref().is_some_and(|entry| !entry.fits()) {
            let refusal = ApiError::new(Code::TooLarge, "the answer is too large for a client that polls");
            (entry, error) = (entry_of(&Err(refusal)), Some(Code::TooLarge));
        }
        if let Some(code) = error {
            self.polling.shared.metrics.refused_events.inc();
            self.polling.state.rejections.count(code);
        }
        let drafts: Vec<Draft> = entry.and_then(|entry| entry.draft(self.polling.id)).into_iter().collect();
        let drafts = drafts.into_iter().chain(end.and_then(|mut end| end.take())).collect();
        self.polling.append_all(drafts).await.map_err(Stop::Refused)
    }

    /// What distinguishes the packet from others of the connection; `None` if a repeated POST cannot be known.
    pub(super) fn key(&self) -> Option<String> {
        self.polling.t.map(|t| format!("{t}:{}", self.index))
    }

    /// Whether a namespace is connected by a later packet of this POST, so that an earlier request has carried out this
    /// packet.
    fn is_before(&self, place: &Place) -> bool {
        place.by.as_ref().is_some_and(|(t, index)| Some(&**t) == self.polling.t && *index > self.index)
    }

    async fn packet(&mut self, packet: &Complete<'_>) -> Result<(), Stop> {
        let (kind, namespace) = (packet.packet.kind, packet.packet.namespace.to_string());
        let place = self.writer.sockets.iter().position(|socket| socket.namespace == namespace);
        let is_lenient = self.version == Version::V4 || self.is_repeated;
        match (kind, place) {
            (_, Some(index)) if self.is_before(&self.writer.sockets[index]) => Ok(()),
            (PacketType::Connect, None) => self.connect(packet, namespace).await,
            (PacketType::Connect, Some(index)) => self.connect_again(index, packet, namespace).await,
            (_, None) | (PacketType::ConnectError, _) if is_lenient => Ok(()),
            (_, None) | (PacketType::ConnectError, _) => Err(Broken),
            (PacketType::Disconnect, Some(index)) => {
                let socket = self.writer.sockets.remove(index);
                self.append(ConnectionEntry::Left { namespace }).await?;
                if let Some(id) = SessionId::parse(&socket.session) {
                    self.polling.state.sessions.end_soon(&id, "client namespace disconnect");
                }
                Ok(())
            }
            (_, Some(index)) => {
                let place = self.writer.sockets[index].clone();
                self.event(packet, place).await
            }
        }
    }

    /// Begins what an event, or an answer to an event of the application, does.
    async fn event(&mut self, packet: &Complete<'_>, place: Place) -> Result<(), Stop> {
        let (state, shared, namespace) = (self.polling.state, self.polling.shared, place.namespace.clone());
        let is_ack = matches!(packet.packet.kind, PacketType::Ack | PacketType::BinaryAck);
        let id = packet.packet.ack;
        if self.is_cut {
            let error = ApiError::new(Code::TooLarge, "the binary parts of the event are too long");
            return self.answered(&namespace, id.filter(|_| !is_ack), &Err(error), None).await;
        }
        let known = self.sessions.get(&namespace).filter(|_| !is_ack).cloned();
        let found = match known {
            Some(session) => Ok(session),
            None => self.polling.find(&place, is_ack).await.map(Arc::new),
        };
        let session = match found {
            Ok(session) => session,
            // The application has ended the socket, and the client does not know it yet.
            Err(error) if error.code == Code::NoSession => return Ok(()),
            Err(error) => return self.answered(&namespace, id.filter(|_| !is_ack), &Err(error), None).await,
        };
        self.sessions.insert(namespace.clone(), session.clone());
        let credentials = &self.client.credentials;
        let publisher = opening::with_token(credentials, place.token.as_deref());
        let source = Source { session: &session, credentials, publisher: &publisher };
        if is_ack {
            let awaited = session.awaited.iter().find(|awaited| Some(ack_id(awaited.at)) == id);
            let Some(awaited) = awaited else {
                state.sessions.metrics.unknown_acks.inc();
                return Ok(());
            };
            if let Ok(answer) = actions::acknowledge(state, &source, packet, awaited.name.clone()) {
                self.calls.push(Box::pin(async move { (namespace, None, answer.await, None) }));
            }
            return Ok(());
        }
        let limited = state.rates.request(credentials.ip);
        match limited.and_then(|()| actions::begin(state, shared, &source, packet, self.key())) {
            Ok(Some(Work::Call(answer))) => self.calls.push(Box::pin(async move {
                match answer.await {
                    Ok(answer) => (namespace, id, Ok(answer.ack), answer.end),
                    Err(error) => (namespace, id, Err(error), None),
                }
            })),
            Ok(Some(Work::Rule(answer))) => {
                let answer = answer.await;
                // The rule may have changed it.
                self.sessions.remove(&namespace);
                self.answered(&namespace, id, &answer, None).await?;
            }
            Ok(None) => {
                shared.metrics.ignored_events.inc();
            }
            Err(error) => self.answered(&namespace, id, &Err(error), None).await?,
        }
        Ok(())
    }
}
