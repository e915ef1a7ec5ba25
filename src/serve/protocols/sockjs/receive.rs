//! Requests that read: they begin a session, or go on with one.

use super::admission::Admitted;
use super::envelope::{HttpEnvelope, close_frame, go_away};
use super::framing::Framing;
use super::receivers::{Claim, Claimed};
use super::record::Info;
use super::request::Asked;
use super::settings::Close;
use crate::cursor::{Cursor, Start};
use crate::log::Unreachable;
use crate::message::ClientId;
use crate::serve::client_sessions::address::own_channel;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::live::LiveSession;
use crate::serve::http::chunked::Framing as BodyFraming;
use crate::serve::http::headers::has_token;
use crate::serve::http::request::ClientShut;
use crate::serve::routes::response::{self, Body, Response};
use crate::serve::session::commands::live_session;
use crate::serve::session::pump::Pump;
use crate::serve::session::record::SessionRecord;
use crate::serve::session::session::Session;
use crate::serve::session::stream::{StreamEnd, StreamSession};
use crate::serve::session::stream_settings::{Rollover, StreamSettings};
use crate::transport::{ApiError, Code};
use crate::wire::sockjs::frame;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The longest silence. Clients give up a JSONP poll after 35 s.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// The longest time of a streaming response.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The frame for a request while another one reads.
const BUSY: (u16, &str) = (2010, "Another connection still open");

/// A request that reads.
pub struct Receiving<'a> {
    /// The request.
    pub asked: Asked<'a>,
    /// The session.
    pub id: SessionId,
    /// The transport.
    pub framing: Framing,
    /// Whether the request has a body that nobody reads.
    pub has_unread_body: bool,
}

/// What a request begins or goes on with.
struct Reading {
    admitted: Admitted,
    claim: Claim,
}

fn away(_: Unreachable) -> ApiError {
    ApiError::new(Code::LogUnavailable, "the record of sessions is not available at the moment")
}

impl Receiving<'_> {
    /// Answers the request.
    ///
    /// # Errors
    ///
    /// The reason why the client may not or cannot read.
    pub async fn answer(self) -> Result<Response, ApiError> {
        self.asked.ready().await?;
        let receivers = &self.asked.shared.receivers;
        // Of two first requests of a session, the second one finds what the first one has begun.
        for _ in 0..2 {
            match receivers.claim(self.asked.state, &self.id).await.map_err(away)? {
                Claimed::Closed(Close { code, reason }) => return Ok(self.only(&[&close_frame(code, &reason)])),
                Claimed::Busy => {
                    self.asked.shared.metrics.conflicts.inc();
                    return Ok(self.only(&[&close_frame(BUSY.0, BUSY.1)]));
                }
                Claimed::Mine(claim) => return self.go_on(claim).await,
                Claimed::Unknown => {}
            }
            if let Some(response) = self.begin().await? {
                return Ok(response);
            }
        }
        let text = "the server has as many sessions as --max-sessions allows";
        Err(ApiError::new(Code::TooManyConnections, text))
    }

    /// Begins a session; `None` if there is one by now, or no room for one.
    async fn begin(&self) -> Result<Option<Response>, ApiError> {
        let (asked, shared) = (&self.asked, self.asked.shared);
        let open = frame::OPEN.as_bytes();
        if let Some(close) = &asked.prefix.on_open {
            let at = asked.begins_at();
            let info = Info { client: ClientId::random().to_string(), session: None };
            if !shared.receivers.create(&self.id, &info, at, Some(close)).await.map_err(away)? {
                return Ok(None);
            }
            let last = close_frame(close.code, &close.reason);
            let frames = [open, &last];
            // The client of a poll learns of the end by its next one.
            return Ok(Some(self.only(if self.framing.is_stream() { &frames } else { &frames[..1] })));
        }
        let admitted = asked.admit(self.framing.transport()).await?;
        let at = admitted.session.as_ref().map_or_else(|| asked.begins_at(), |session| session.cursor);
        let session = admitted.session.as_ref().map(|session| session.id.clone());
        let secret = session.as_ref().map(|id| id.secret().to_string());
        let info = Info { client: admitted.client.to_string(), session: secret };
        if !self.framing.is_stream() {
            let created = shared.receivers.create(&self.id, &info, at, None).await;
            if !matches!(created, Ok(true)) {
                session.iter().for_each(|id| asked.state.sessions.end_soon(id, "gone"));
            }
            return Ok(created.map_err(away)?.then(|| self.only(&[open])));
        }
        match shared.receivers.begin(asked.state, &self.id, info, at).await {
            Ok(Some(claim)) => Ok(Some(self.stream(Reading { admitted, claim: self.watched(claim) }, true))),
            other => {
                session.iter().for_each(|id| asked.state.sessions.end_soon(id, "gone"));
                other.map(|_| None).map_err(away)
            }
        }
    }

    /// Goes on with a session.
    async fn go_on(&self, claim: Claim) -> Result<Response, ApiError> {
        let claim = self.watched(claim);
        let known = async {
            let malformed = |_| ApiError::new(Code::NoSession, "the session is not one of this version");
            let client = claim.info.client.parse().map_err(malformed)?;
            let session = claim.info.session.as_deref();
            self.asked.readmit(self.framing.transport(), client, session, claim.at).await
        };
        match known.await {
            Ok(admitted) if self.framing.is_stream() => Ok(self.stream(Reading { admitted, claim }, false)),
            Ok(admitted) => Ok(self.poll(Reading { admitted, claim }).await),
            // The application has ended the session, or the client may not read any more.
            Err(error) if matches!(error.code, Code::NoSession | Code::Forbidden | Code::Unauthorized) => {
                let (at, end) = (claim.at, go_away());
                claim.give_back(at, Some(&end)).await;
                Ok(self.only(&[&close_frame(end.code, &end.reason)]))
            }
            Err(error) => {
                let at = claim.at;
                claim.give_back(at, None).await;
                Err(error)
            }
        }
    }

    /// A claim that ends its client session if the client goes away.
    fn watched(&self, mut claim: Claim) -> Claim {
        let (state, shared) = (self.asked.state.clone(), self.asked.shared.clone());
        claim.on_interruption(move |info| {
            shared.metrics.interrupted.inc();
            let session = info.session.as_deref().and_then(SessionId::parse);
            session.iter().for_each(|id| state.sessions.end_soon(id, "transport close"));
        });
        claim
    }

    /// A pump that reads the session from a position.
    fn pump(&self, admitted: Admitted, at: Cursor, envelope: Arc<HttpEnvelope>) -> Pump {
        let Admitted { client, session, grant, .. } = admitted;
        let (state, channels, is_stream) = (self.asked.state, &self.asked.prefix.channels, self.framing.is_stream());
        let name = self.framing.transport().name();
        let heartbeat = if is_stream { state.settings.heartbeat.min(HEARTBEAT) } else { HEARTBEAT };
        // A client that polls counts as a reader between two polls, too.
        if is_stream {
            state.hub.left_polling(channels, &client);
        } else {
            state.hub.polled(name, channels.iter(), &client, heartbeat);
        }
        let counted = is_stream.then_some(name);
        let read: &[_] = if session.is_some() { &[] } else { channels };
        let subscription = state.hub.subscribe(counted, read, Start::After(at), None, Some(client));
        let mut prelude = Vec::new();
        self.framing.prelude(&mut prelude);
        // The prelude does not count.
        let bytes = self.asked.prefix.response_limit.saturating_add(prelude.len());
        let rollover = is_stream.then(|| Box::new(Rollover { bytes, time: LONGEST }));
        let heartbeat_ms = u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX);
        let settings = StreamSettings { heartbeat_ms, probe: false, rollover };
        let record = SessionRecord::new(state.delivery.open(name));
        let mut pump = Pump::new(subscription, envelope, settings, record, state.drain.clone(), &state.timers);
        pump.set_grant(grant);
        match (session, own_channel(&self.id)) {
            (Some(session), _) if is_stream => pump.set_session(live_session(state, session)),
            (Some(session), _) => {
                pump.set_session(LiveSession::of_poll(&state.sessions, &state.hub, session));
            }
            (None, Some(own)) => {
                // What requests at any node send to the client itself.
                pump.subscription().add(&own);
                pump.filter().pass_events(own);
            }
            (None, None) => {}
        }
        pump.hold(self.asked.peer.address_permit.clone());
        pump.hello();
        pump
    }

    /// Answers a poll with the next frame.
    async fn poll(&self, reading: Reading) -> Response {
        let Reading { admitted, claim } = reading;
        let envelope = Arc::new(HttpEnvelope::new(self.framing.clone()));
        let mut pump = self.pump(admitted, claim.at, envelope.clone());
        let shut = self.asked.head.extensions.get::<ClientShut>().cloned();
        let is_shut = async {
            match &shut {
                Some(shut) => poll_fn(|cx| shut.poll(cx)).await,
                None => pending().await,
            }
        };
        let bytes = tokio::select! {
            bytes = poll_fn(|cx| pump.poll_next(cx)) => bytes,
            // The claim is dropped, so the session ends.
            () = is_shut => return self.only(&[frame::HEARTBEAT.as_bytes()]),
        };
        let bytes = bytes.map(|bytes| self.with_next(&mut pump, bytes.into()));
        let at = pump.subscription().cursor();
        drop(pump);
        let closed = envelope.has_closed().then(go_away);
        claim.give_back(at, closed.as_ref()).await;
        let mut frame = Vec::new();
        match bytes.as_deref() {
            Some([items @ .., b',']) => frame::array(items, &mut frame),
            Some(control) => frame.extend_from_slice(control),
            // The node shuts down. The client's next request finds another one.
            None => frame.extend_from_slice(frame::HEARTBEAT.as_bytes()),
        }
        self.only(&[&frame])
    }

    /// Adds what is there besides the first items: entries for this session come one by one.
    fn with_next(&self, pump: &mut Pump, mut items: Vec<u8>) -> Vec<u8> {
        let mut cx = Context::from_waker(Waker::noop());
        while items.ends_with(b",") && items.len() < self.asked.prefix.response_limit {
            match pump.poll_next(&mut cx) {
                Poll::Ready(Some(bytes)) if bytes.ends_with(b",") => items.extend_from_slice(&bytes),
                // A frame of its own. Of a close, the client learns by its next request.
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        items
    }

    /// Answers with a stream.
    fn stream(&self, reading: Reading, is_new: bool) -> Response {
        let Reading { admitted, claim } = reading;
        let envelope = Arc::new(HttpEnvelope::new(self.framing.clone()));
        let mut pump = self.pump(admitted, claim.at, envelope.clone());
        if is_new {
            let mut open = Vec::new();
            self.framing.frame(frame::OPEN.as_bytes(), &mut open);
            pump.push_frame(open.into());
        }
        self.with_pump(pump, Some(Box::new(GiveBack { claim, envelope })))
    }

    /// An answer with these frames and no more.
    fn only(&self, frames: &[&[u8]]) -> Response {
        if !self.framing.is_stream() {
            let mut body = Vec::new();
            frames.iter().for_each(|frame| self.framing.frame(frame, &mut body));
            return response::whole(StatusCode::OK, self.framing.content_type(), body);
        }
        let state = self.asked.state;
        let name = self.framing.transport().name();
        let subscription = state.hub.subscribe(None, &[], Start::Latest, None, None);
        let settings = StreamSettings { heartbeat_ms: u32::MAX, probe: false, rollover: None };
        let envelope = Arc::new(HttpEnvelope::new(self.framing.clone()));
        let record = SessionRecord::new(state.delivery.open(name));
        let mut pump = Pump::new(subscription, envelope, settings, record, state.drain.clone(), &state.timers);
        pump.hello();
        for frame in frames {
            let mut out = Vec::new();
            self.framing.frame(frame, &mut out);
            pump.end(out.into());
        }
        self.with_pump(pump, None)
    }

    fn with_pump(&self, pump: Pump, at_end: Option<Box<dyn StreamEnd>>) -> Response {
        let head = self.asked.head;
        let framing = BodyFraming::of(head.version);
        let wants_close = has_token(&head.headers, "connection", "close");
        // The server does not read the body of this request, so it would take the body for the next request.
        let may_reuse = framing == BodyFraming::Chunked && !self.has_unread_body && !wants_close;
        let mut response = response::whole(StatusCode::OK, self.framing.content_type(), "");
        let session = StreamSession { pump, framing, may_reuse, at_end };
        *response.body_mut() = Body::Session(Session::Stream(Box::new(session)));
        response
    }
}

/// Gives the session of a stream back at the end of the response.
struct GiveBack {
    claim: Claim,
    envelope: Arc<HttpEnvelope>,
}

impl StreamEnd for GiveBack {
    fn end<'a>(self: Box<Self>, pump: &'a mut Pump) -> BoxFuture<'a, ()>
    where
        Self: 'a,
    {
        let GiveBack { claim, envelope } = *self;
        Box::pin(async move {
            let at = pump.subscription().cursor();
            let closed = envelope.has_closed().then(go_away);
            claim.give_back(at, closed.as_ref()).await;
        })
    }
}
