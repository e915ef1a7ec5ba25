//! A POST of a connection that polls: the packets of its client.
//!
//! The answer waits for the application, so the client's next POST comes after it, at whichever node. A repeated POST is
//! carried out once. If the node has died while it carried it out, the application gets the same calls, with the same
//! ids, once more.

use super::actions::{self, Source, Work};
use super::encodings::ack_id;
use super::entries::ConnectionEntry;
use super::framing::Words;
use super::input09::{self, Input09};
use super::opening::{self, Wanted, public_id};
use super::packets::{self, Answer, Packet};
use super::payload::{self, Content, Received};
use super::poll::{Polling, Refused, UNKNOWN};
use super::record::{Parts, Place, Stamp};
use super::recovery::{self, Remembered};
use super::sockets::{Client, MAX_PENDING, MAX_SOCKETS};
use crate::log::connections::{Part, Swapped};
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::events::connect;
use crate::transport::params::fields;
use crate::transport::{ApiError, Code};
use crate::wire::engineio::PacketType as EngineType;
use crate::wire::engineio::handshake::Refusal;
use crate::wire::socketio::assembler::{Assembler, Complete, Incomplete};
use crate::wire::socketio::packet::{PacketType, Version};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

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

/// The client has broken a rule of the protocol, so the connection ends.
struct Broken;

/// A POST that is carried out.
struct Posting<'a> {
    polling: &'a Polling<'a>,
    client: &'a Client,
    parts: Parts,
    version: Version,
    /// The states of the sockets, as far as they were needed.
    sessions: HashMap<String, Arc<SessionState>>,
    calls: FuturesUnordered<BoxFuture<'static, (String, Option<u64>, Answer)>>,
    /// The number of the packet.
    index: usize,
    is_closed: bool,
}

/// Carries out a POST.
///
/// # Errors
///
/// The reason why the client does not get an `ok`.
pub async fn post(polling: &Polling<'_>, client: &Client, body: &PostBody<'_>) -> Result<(), Refused> {
    let mut parts = polling.load().await?;
    if polling.t.is_some_and(|t| parts.writer.done.iter().any(|done| done == t)) {
        return Ok(());
    }
    let broken = Refused::Engine(Refusal::BadRequest);
    let is_other = parts.writer.doing.as_ref().is_some_and(|doing| !doing.is_of(polling.t));
    let is_binary = body.is_octets && client.framing.version() == Version::V5;
    let packets = payload::packets(&parts.info, body.bytes, body.is_octets, body.is_form);
    let packets = packets.ok().filter(|packets| packets.len() <= MAX_PACKETS);
    let (false, false, Some(packets)) = (is_other, is_binary, packets) else {
        let _ = polling.close("transport error").await;
        return Err(broken);
    };
    parts.writer.doing = Some(Stamp { t: polling.t.map(str::to_owned) });
    write(polling, &mut parts).await?;
    let version = client.framing.version();
    let (sessions, calls) = (HashMap::new(), FuturesUnordered::new());
    let mut posting = Posting { polling, client, parts, version, sessions, calls, index: 0, is_closed: false };
    if posting.carry_out(packets).await.is_err() {
        let _ = polling.close("transport error").await;
        return Err(broken);
    }
    if posting.is_closed {
        return polling.close("transport close").await;
    }
    let mut parts = posting.parts;
    parts.writer.finish(polling.t);
    match write(polling, &mut parts).await {
        // The client has changed to a WebSocket in between, which has taken over.
        Err(refused) if refused == UNKNOWN => Ok(()),
        other => other,
    }
}

async fn write(polling: &Polling<'_>, parts: &mut Parts) -> Result<(), Refused> {
    match parts.write(&*polling.shared.store, polling.id.secret(), Part::Writer, polling.lifetime()).await? {
        Swapped::Done => Ok(()),
        Swapped::Stale => Err(Refused::Engine(Refusal::BadRequest)),
        Swapped::Gone => Err(UNKNOWN),
    }
}

impl Posting<'_> {
    async fn carry_out(&mut self, packets: Vec<Received>) -> Result<(), Broken> {
        let mut assembler = Assembler::new(self.version, self.polling.shared.settings.max_payload);
        if let Some((text, parts)) = self.parts.writer.half.take() {
            let attachments = parts.into_iter().map(Into::into).collect();
            assembler.resume(Incomplete { text, attachments }).map_err(|_| Broken)?;
        }
        let mut pings = 0;
        for Received { kind, data } in packets {
            self.index += 1;
            match (kind, data) {
                (EngineType::Message, Content::Text(text)) if self.client.framing.words() == Words::V1 => {
                    match input09::read(&text).ok_or(Broken)? {
                        Input09::Packet(packet, receipt) => {
                            if let Some(text) = receipt {
                                self.append(entry_of(Packet { text, parts: Vec::new() })).await;
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
                    }
                }
                (EngineType::Ping, Content::Text(data)) if self.version == Version::V4 => {
                    // Each answer is an entry of the log.
                    pings += 1;
                    if pings <= MAX_PINGS {
                        self.append(ConnectionEntry::Pong { data }).await;
                    }
                }
                (EngineType::Ping, _) => return Err(Broken),
                (EngineType::Close, _) => self.is_closed = true,
                _ => {}
            }
            if self.calls.len() >= MAX_PENDING {
                self.answer_next().await;
            }
        }
        while !self.calls.is_empty() {
            self.answer_next().await;
        }
        self.parts.writer.half = assembler
            .take()
            .map(|Incomplete { text, attachments }| (text, attachments.iter().map(|part| part.to_vec()).collect()));
        Ok(())
    }

    async fn append(&mut self, entry: ConnectionEntry) {
        // If the log is away, the client hears nothing and has its own time limit.
        let _ = self.polling.append(&[entry]).await;
    }

    async fn answer_next(&mut self) {
        if let Some((namespace, id, answer)) = self.calls.next().await {
            self.answered(&namespace, id, &answer).await;
        }
    }

    async fn answered(&mut self, namespace: &str, id: Option<u64>, answer: &Answer) {
        if let Err(error) = answer {
            self.polling.shared.metrics.refused_events.inc();
            self.polling.state.rejections.count(error.code);
        }
        if let Some(packet) = packets::answered(self.client.framing, namespace, id, answer) {
            self.append(entry_of(packet)).await;
        }
    }

    async fn packet(&mut self, packet: &Complete<'_>) -> Result<(), Broken> {
        let (kind, namespace) = (packet.packet.kind, packet.packet.namespace.to_string());
        let place = self.parts.writer.sockets.iter().position(|socket| socket.namespace == namespace);
        let is_lenient = self.version == Version::V4;
        match (kind, place) {
            (PacketType::Connect, None) => self.connect(packet, namespace).await,
            (PacketType::Connect, Some(_)) if is_lenient => {}
            (PacketType::ConnectError, _) if is_lenient => {}
            (PacketType::Connect | PacketType::ConnectError, _) => return Err(Broken),
            (_, None) if is_lenient => {}
            (_, None) => return Err(Broken),
            (PacketType::Disconnect, Some(index)) => {
                let socket = self.parts.writer.sockets.remove(index);
                self.append(ConnectionEntry::Left { namespace }).await;
                if let Some(id) = SessionId::parse(&socket.session) {
                    self.polling.state.sessions.end_soon(&id, "client namespace disconnect");
                }
            }
            (_, Some(index)) => {
                let session = self.parts.writer.sockets[index].session.clone();
                self.event(packet, namespace, &session).await;
            }
        }
        Ok(())
    }

    async fn connect(&mut self, packet: &Complete<'_>, namespace: String) {
        let (state, shared) = (self.polling.state.clone(), self.polling.shared.clone());
        let (at, opened) = match self.wanted(packet, &namespace) {
            Ok((remembered, wanted)) => recovery::recover_or_open(state, shared, remembered, wanted).await,
            Err(error) => (None, Err(error)),
        };
        match opened {
            Ok(session) => {
                let id = session.id.secret().to_string();
                let at = at.unwrap_or(session.cursor).to_string();
                let place = Place { namespace: namespace.clone(), session: id.clone(), at: None, is_new: false };
                self.parts.writer.sockets.push(place);
                self.append(ConnectionEntry::Socket { namespace, session: id, at }).await;
            }
            Err(error) => {
                self.polling.state.rejections.count(error.code);
                self.append(entry_of(packets::refused(self.client.framing, &namespace, &error))).await;
            }
        }
    }

    fn wanted(&self, packet: &Complete<'_>, namespace: &str) -> Result<(Option<Remembered>, Wanted), ApiError> {
        if self.parts.writer.sockets.len() >= MAX_SOCKETS {
            return Err(ApiError::new(Code::TooManyConnections, "the connection has too many namespaces"));
        }
        let id = self.client.id.clone().or_else(public_id);
        let id = id.ok_or_else(|| ApiError::new(Code::NotReady, "there are no random numbers"))?;
        let auth = packet.packet.json.as_deref();
        let mut connect = self.client.connect.clone();
        let recovered = auth.filter(|_| self.polling.shared.settings.recovery).and_then(recovery::take);
        let (remembered, rest) = recovered.unzip();
        connect.auth = rest.or_else(|| auth.and_then(|auth| serde_json::from_str(auth).ok()));
        for (name, value) in fields(packet.packet.query.as_deref().unwrap_or_default().as_bytes(), None) {
            connect.query.insert(name.into_owned(), value.into_owned());
        }
        let credentials = self.publisher(auth);
        Ok((remembered, Wanted { namespace: namespace.into(), client: id, credentials, connect }))
    }

    fn publisher(&self, auth: Option<&str>) -> Arc<Credentials> {
        match auth.and_then(opening::token) {
            Some(token) => Arc::new(Credentials::clone(&self.client.credentials).with_token(Some(&token))),
            None => self.client.credentials.clone(),
        }
    }

    /// Begins what an event, or an answer to an event of the application, does.
    async fn event(&mut self, packet: &Complete<'_>, namespace: String, session: &str) {
        let (state, shared) = (self.polling.state, self.polling.shared);
        let is_ack = matches!(packet.packet.kind, PacketType::Ack | PacketType::BinaryAck);
        let known = self.sessions.get(&namespace).filter(|_| !is_ack).cloned();
        let found = match known {
            Some(session) => Ok(session),
            // Another node may have sent the event that the client answers.
            None if is_ack => connect::find_latest(state, session).await.map(Arc::new),
            None => connect::find(state, session, None, Duration::ZERO).await.map(Arc::new),
        };
        let session = match found {
            Ok(session) => session,
            // The application has ended the socket, and the client does not know it yet.
            Err(error) if error.code == Code::NoSession => return,
            Err(error) => return self.answered(&namespace, packet.packet.ack.filter(|_| !is_ack), &Err(error)).await,
        };
        self.sessions.insert(namespace.clone(), session.clone());
        let id = packet.packet.ack;
        let source =
            Source { session: &session, credentials: &self.client.credentials, publisher: &self.client.credentials };
        if is_ack {
            let awaited = session.awaited.iter().find(|awaited| Some(ack_id(awaited.at)) == id);
            let Some(awaited) = awaited else {
                state.sessions.metrics.unknown_acks.inc();
                return;
            };
            if let Ok(answer) = actions::acknowledge(state, &source, packet, awaited.name.clone()) {
                self.calls.push(Box::pin(async move { (namespace, None, answer.await) }));
            }
            return;
        }
        let key = self.polling.t.map(|t| format!("{t}:{}", self.index));
        let limited = state.rates.request(self.client.credentials.ip);
        match limited.and_then(|()| actions::begin(state, shared, &source, packet, key)) {
            Ok(Some(Work::Call(answer))) => self.calls.push(Box::pin(async move { (namespace, id, answer.await) })),
            Ok(Some(Work::Rule(answer))) => self.answered(&namespace, id, &answer.await).await,
            Ok(None) => {
                shared.metrics.ignored_events.inc();
            }
            Err(error) => self.answered(&namespace, id, &Err(error)).await,
        }
    }
}

fn entry_of(packet: Packet) -> ConnectionEntry {
    ConnectionEntry::Packet {
        text: String::from_utf8(packet.text).unwrap_or_default(),
        parts: packet.parts.iter().map(|part| part.to_vec()).collect(),
    }
}
