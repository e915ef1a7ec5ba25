//! Answers subscriptions over HTTP, for every protocol, in steps: check the request, authorize it, wait until the node
//! is ready, and open the session that the transport's lifecycle needs.

use super::poll::{self, Wait};
use super::response::{self, Body, Response};
use super::route::Origins;
use super::session_poll;
use crate::message::{Channel, User};
use crate::serve::access::credentials::Credentials;
use crate::serve::access::query::{AccessRequest, Action, Validity};
use crate::serve::access::renewal::GrantRenewal;
use crate::serve::client_sessions::protocol::SessionProtocol;
use crate::serve::client_sessions::registry::CLOSED;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::events::connect::{self, SessionRequest};
use crate::serve::events::service as events;
use crate::serve::hook::Hook;
use crate::serve::hook::call::Connect;
use crate::serve::hook::call_type::CallType;
use crate::serve::http::chunked::Framing;
use crate::serve::http::headers::{has_token, list, text};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::{ClientShut, Request};
use crate::serve::http::upgrade::Upgrade;
use crate::serve::session::commands::{CommandHandler, live_session};
use crate::serve::session::duplex::DuplexSession;
use crate::serve::session::open::open_pump;
use crate::serve::session::pump::Pump;
use crate::serve::session::session::Session;
use crate::serve::session::stream::StreamSession;
use crate::serve::session::stream_settings::Rollover;
use crate::serve::state::ServerState;
use crate::transport::params::fields;
use crate::transport::{Accepted, ApiError, Code, Dialect, Lifecycle, Params, RequestHead, Transport};
use hyper::body::Body as _;
use hyper::header;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The default of the maximum wait of a long poll.
const LONG_POLL: Duration = Duration::from_secs(25);

/// The default limits at which a stream with rollover ends.
const ROLLOVER: Rollover = Rollover { bytes: 128 << 10, time: Duration::from_secs(300) };

/// The subscription that a request asks for, as the protocol has parsed it.
pub struct Subscribe {
    /// The transport that answers.
    pub transport: &'static dyn Transport,
    /// The parameters of the subscription.
    pub params: Params,
    /// The protocol of the client's session, if it has one.
    pub protocol: SessionProtocol,
    /// The token, if the protocol allows a token outside of the headers.
    pub token: Option<String>,
    /// The path that the client has connected to, as the application sees it.
    pub endpoint: Cow<'static, str>,
    /// The pages that may use the path.
    pub origins: Origins,
    /// The dialect of the connection, if each connection of the transport has one of its own.
    pub dialect: Option<Box<dyn Dialect>>,
}

impl Subscribe {
    /// A subscription without a token, under the rules that most paths have.
    pub fn new(transport: &'static dyn Transport, params: Params, protocol: SessionProtocol) -> Subscribe {
        let (endpoint, origins) = (Cow::Borrowed("/"), Origins::Known);
        Subscribe { transport, params, protocol, token: None, endpoint, origins, dialect: None }
    }
}

/// Answers a request that subscribes.
///
/// # Errors
///
/// The reason why the client may not or cannot subscribe.
pub async fn answer(
    state: &Arc<ServerState>,
    peer: &Peer,
    request: Request,
    wanted: Subscribe,
) -> Result<Response, ApiError> {
    // The body is kept until this function ends: hyper would otherwise begin to discard it before the response is
    // ready.
    let (head, body) = request.into_parts();
    let request = Head { head: &head, has_unread_body: !body.is_end_stream() };
    let mut subscribe = Checked::new(state, peer, request, wanted)?;
    let authorized = subscribe.authorize().await?;
    if request.head.method == Method::HEAD {
        let mut response = response::whole(StatusCode::OK, subscribe.opening.content_type, "");
        response::write_headers(&subscribe.opening, response.headers_mut());
        return Ok(response);
    }
    wait_until_ready(state).await?;
    subscribe.open(authorized).await
}

/// A request without its body, because a body cannot be shared between threads.
#[derive(Clone, Copy)]
struct Head<'a> {
    head: &'a Parts,
    has_unread_body: bool,
}

/// A checked request.
struct Checked<'a> {
    state: &'a Arc<ServerState>,
    peer: &'a Peer,
    transport: &'static dyn Transport,
    request: Head<'a>,
    params: Params,
    protocol: SessionProtocol,
    token: Option<String>,
    endpoint: Cow<'static, str>,
    origins: Origins,
    dialect: Option<Box<dyn Dialect>>,
    lifecycle: Lifecycle,
    opening: Accepted,
    upgrade: Option<Upgrade>,
    /// Whether the client has named its client id. The grant may bind the request to another one.
    names_client: bool,
}

/// The outcome of the authorization.
struct Authorized {
    credentials: Arc<Credentials>,
    validity: Validity,
    renewal: Option<GrantRenewal>,
    user: Option<Arc<User>>,
}

impl<'a> Checked<'a> {
    fn new(
        state: &'a Arc<ServerState>,
        peer: &'a Peer,
        request: Head<'a>,
        wanted: Subscribe,
    ) -> Result<Checked<'a>, ApiError> {
        let Subscribe { transport, mut params, protocol, token, endpoint, origins, dialect } = wanted;
        let lifecycle = transport.lifecycle(&params);
        let headers = &request.head.headers;
        let accept = list(headers, header::ACCEPT.as_str());
        let upgrade = (lifecycle == Lifecycle::Duplex).then(|| check_upgrade(state, peer, request.head)).transpose()?;
        let transport = match upgrade.as_ref().filter(|upgrade| upgrade.hixie_keys().is_some()) {
            Some(_) => transport.hixie().unwrap_or(transport),
            None => transport,
        };
        let opening = transport.open(&params, &RequestHead { host: peer.host(headers), accept: &accept })?;
        if params.channels.is_empty() && lifecycle != Lifecycle::Duplex {
            return Err(ApiError::new(Code::BadChannel, "name a channel: ?channel=a,b"));
        }
        if lifecycle == (Lifecycle::Stream { rollover: false }) {
            let last = text(headers, "last-event-id").filter(|id| !id.is_empty());
            if let Some(last) = last.or(params.last_event_id.as_deref()) {
                // This cursor is newer than the cursor of the query, which a browser repeats unchanged.
                params.cursor = Some(last.parse()?);
            }
        }
        let names_client = params.client.is_some();
        Ok(Checked {
            state,
            peer,
            transport,
            request,
            params,
            protocol,
            token,
            endpoint,
            origins,
            dialect,
            lifecycle,
            opening,
            upgrade,
            names_client,
        })
    }

    async fn authorize(&mut self) -> Result<Authorized, ApiError> {
        let (state, headers) = (self.state, &self.request.head.headers);
        // The application gets the headers of the handshake with each event, and with the calls for a session.
        let (has_session, is_duplex) = (self.params.session.is_some(), self.lifecycle == Lifecycle::Duplex);
        let calls = |hook: &Arc<Hook>| has_session || is_duplex && hook.takes(CallType::Event);
        let is_reported = state.hook.as_ref().is_some_and(calls);
        let (ip, name) = (self.peer.ip, self.transport.name());
        let credentials = Arc::new(if state.authorizer.is_open() && !is_reported {
            // An open server never checks credentials, and a parked socket should not keep headers.
            Credentials::anonymous(ip, name)
        } else if self.origins == Origins::Any {
            Credentials::anonymous(ip, name).with_token(self.token.as_deref())
        } else {
            Credentials::new(ip, name, headers, self.by_cookie()).with_token(self.token.as_deref())
        });
        let (mut validity, mut user) = (Validity::Unlimited, None);
        if !self.params.channels.is_empty() && !state.authorizer.is_open() {
            let grant = state.authorizer.ask(AccessRequest {
                action: Action::Subscribe,
                channels: self.params.channels.clone(),
                client: self.params.client.clone(),
                credentials: Credentials::clone(&credentials),
            });
            let grant = grant.await?;
            (validity, user) = (grant.validity, grant.user);
            // A client whose credentials are bound to a client id uses that id.
            self.params.client = self.params.client.take().or(grant.client);
        }
        let renewal = (validity != Validity::Unlimited).then(|| {
            let mut renewal = GrantRenewal::new(&state.authorizer, self.params.client.clone());
            renewal.add(&self.params.channels, validity, &credentials);
            renewal
        });
        Ok(Authorized { credentials, validity, renewal, user })
    }

    /// Whether cookies count. A browser sends cookies with a script tag of any page, and the response calls a function
    /// of that page. A frame on a sibling host has a similar problem. So both cases need tokens.
    fn by_cookie(&self) -> bool {
        let is_poll = matches!(self.lifecycle, Lifecycle::LongPoll | Lifecycle::Poll);
        let (headers, forwarded_host) = (&self.request.head.headers, self.peer.forwarded_host());
        let is_trusted = match self.origins {
            Origins::Known => self.state.origins.trusts_cookies(headers, forwarded_host),
            Origins::Listed(list) => self.state.origins.with_list(list).trusts_cookies(headers, forwarded_host),
            Origins::Any => false,
        };
        !(self.transport.calls_back() && is_poll) && self.params.domain.is_none() && is_trusted
    }

    /// Whether another request may follow on the connection.
    fn may_reuse(&self, framing: Framing) -> bool {
        // The server does not read the body of this request, so it would parse the body as the next request. But a
        // proxy in front of the server may treat these bytes as the body of this request (request smuggling).
        let wants_close = has_token(&self.request.head.headers, "connection", "close");
        framing == Framing::Chunked && !self.request.has_unread_body && !wants_close
    }

    /// Opens the session that the transport's lifecycle needs.
    async fn open(mut self, mut authorized: Authorized) -> Result<Response, ApiError> {
        let began = Instant::now();
        let session = self.open_session(&mut authorized).await?;
        if !matches!(self.lifecycle, Lifecycle::Poll | Lifecycle::LongPoll) {
            join(self.state, &self.params, &mut authorized).await?;
        }
        let framing = Framing::of(self.request.head.version);
        let may_reuse = self.may_reuse(framing);
        match self.lifecycle {
            Lifecycle::Poll | Lifecycle::LongPoll => {
                // Over HTTP/1.0 and HTTP/2, and if the client wants only one response, no next request can follow.
                let time = self.waiting_time(authorized.validity);
                if let Some(session) = session {
                    // The time in which the node has reached the session's position is a part of the poll.
                    let time = time.map(|time| time.saturating_sub(began.elapsed()));
                    return self.poll_session(session, authorized, time).await;
                }
                let is_check = time.is_none() && self.params.probe;
                let stay = match (&self.state.presence, &authorized.user) {
                    (Some(presence), Some(user)) if !is_check => {
                        let (channels, client) = (&self.params.channels, self.params.client.as_ref());
                        presence.poll(channels, user, client).await?
                    }
                    _ => None,
                };
                // A member that polls counts as away some time after the answer to its poll. So the handler itself has
                // to know the time of the answer.
                let as_session = may_reuse && !self.peer.is_over_limit && stay.is_none();
                let client_shut = self.request.head.extensions.get::<ClientShut>();
                let wait = Wait { time, is_check, as_session, client_shut };
                let Checked { state, peer, transport, request, params, opening, .. } = self;
                poll::answer(state, peer, transport, &params, opening, &request.head.headers, wait).await
            }
            Lifecycle::Stream { rollover } => {
                let bounds = Rollover {
                    bytes: self.params.max_bytes.unwrap_or(ROLLOVER.bytes),
                    time: self.params.max_time.unwrap_or(ROLLOVER.time),
                };
                let mut response = response::whole(StatusCode::OK, self.opening.content_type, "");
                response::write_headers(&self.opening, response.headers_mut());
                let pump = self.open_pump(authorized.renewal, rollover.then_some(bounds), session);
                let session = StreamSession { pump, framing, may_reuse, at_end: None };
                *response.body_mut() = Body::Session(Session::Stream(Box::new(session)));
                Ok(response)
            }
            Lifecycle::Duplex | Lifecycle::Socket => self.open_duplex(authorized, session),
        }
    }

    /// Opens the session that the request wants, if it wants one.
    async fn open_session(&mut self, authorized: &mut Authorized) -> Result<Option<SessionState>, ApiError> {
        let Some(wanted) = self.params.session.take() else { return Ok(None) };
        let mut user = authorized.user.clone();
        if user.is_none() {
            let (client, subject) =
                self.state.authorizer.identify(&authorized.credentials, self.params.client.clone())?;
            self.params.client = client;
            user = events::user_of(subject);
        }
        let request = SessionRequest {
            wanted: &wanted,
            protocol: self.protocol,
            endpoint: &self.endpoint,
            client: self.params.client.clone(),
            channels: &self.params.channels,
            start: self.params.cursor,
            credentials: &authorized.credentials,
            user,
            connect: self.connect(&authorized.credentials),
            time: match self.lifecycle {
                Lifecycle::Poll | Lifecycle::LongPoll => self.waiting_time(authorized.validity).unwrap_or_default(),
                // From then on, the node renews the deadline.
                _ => CLOSED,
            },
        };
        let mut session = connect::open(self.state, request).await?;
        if !matches!(self.lifecycle, Lifecycle::Poll | Lifecycle::LongPoll) {
            session = self.state.sealed.with_stream(session).await?;
        }
        self.params.client = Some(session.client.clone());
        self.names_client = true;
        // The user that the application has named may be a member of channels with presence.
        authorized.user = authorized.user.take().or_else(|| session.user.clone());
        // The command handler has to know that the connection has a session.
        self.params.session = Some(wanted);
        Ok(Some(session))
    }

    /// What the application is told about the request.
    fn connect(&self, credentials: &Credentials) -> Connect {
        let query = self.request.head.uri.query().unwrap_or_default();
        let is_secret = |name: &str| matches!(name, "token" | "session");
        let fields = fields(query.as_bytes(), None).filter(|(name, _)| !is_secret(name));
        Connect {
            ip: Some(self.peer.ip),
            origin: text(&self.request.head.headers, "origin").map(str::to_owned),
            transport: self.transport.name().to_owned(),
            query: fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            auth: credentials.token().and_then(Connect::token),
            number: 0,
        }
    }

    /// Answers a poll of a session.
    async fn poll_session(
        self,
        session: SessionState,
        authorized: Authorized,
        time: Option<Duration>,
    ) -> Result<Response, ApiError> {
        let is_check = time.is_none() && self.params.probe;
        let _stay = match (&self.state.presence, &authorized.user) {
            (Some(presence), Some(user)) if !is_check => {
                let channels: Vec<Channel> = session.channels.keys().cloned().collect();
                presence.poll(&channels, user, Some(&session.client)).await?
            }
            _ => None,
        };
        let client_shut = self.request.head.extensions.get::<ClientShut>();
        let wait = Wait { time, is_check, as_session: false, client_shut };
        session_poll::answer(self.state, self.transport, &self.params, self.opening, session, wait).await
    }

    fn open_duplex(mut self, authorized: Authorized, session: Option<SessionState>) -> Result<Response, ApiError> {
        let Some(upgrade) = self.upgrade.take() else {
            return Err(ApiError::new(Code::NotFound, "this transport has a port of its own"));
        };
        let commands = CommandHandler::after(authorized.credentials, &self.params, self.names_client);
        let (state, transport, dialect) = (self.state, self.transport, self.dialect.take());
        let mut response = response::whole(upgrade.status(), "", "");
        let keys = upgrade.hixie_keys();
        upgrade.write_headers(response.headers_mut());
        let pump = self.open_pump(authorized.renewal, None, session);
        let mut session = DuplexSession::new(state, transport, pump, commands)?.with_hixie(keys);
        if let Some(dialect) = dialect {
            session = session.with_decoder(transport.decoder_of(state.settings.max_command(), dialect));
        }
        *response.body_mut() = Body::Session(Session::Duplex(Box::new(session)));
        Ok(response)
    }

    fn open_pump(
        self,
        renewal: Option<GrantRenewal>,
        rollover: Option<Rollover>,
        session: Option<SessionState>,
    ) -> Pump {
        let mut pump = open_pump(self.state, self.transport, &self.params, self.opening, rollover);
        pump.set_grant(renewal);
        pump.hold(self.peer.address_permit.clone());
        if let Some(session) = session {
            let mut session = live_session(self.state, session);
            if !self.protocol.outlives_stream {
                session.end_with_stream();
            }
            pump.set_session(session);
        }
        pump.hello();
        pump
    }

    fn waiting_time(&self, validity: Validity) -> Option<Duration> {
        let time = (self.lifecycle != Lifecycle::Poll).then(|| self.params.timeout.unwrap_or(LONG_POLL))?;
        // A poll does not wait longer than its grant is valid. The next request asks for a new grant.
        Some(match validity {
            Validity::RenewAt(end) | Validity::EndsAt(end) => time.min(end.saturating_duration_since(Instant::now())),
            Validity::Unlimited => time,
        })
    }
}

/// Checks the handshake of a WebSocket.
fn check_upgrade(state: &ServerState, peer: &Peer, head: &Parts) -> Result<Upgrade, ApiError> {
    if !state.settings.websocket_hixie {
        return Upgrade::check(head);
    }
    Upgrade::check_with_hixie(head, state.tls.is_some() && !peer.must_use_tls)
}

/// Makes the user a member of the channels until the grant is dropped.
async fn join(state: &ServerState, params: &Params, authorized: &mut Authorized) -> Result<(), ApiError> {
    let (Some(presence), Some(user)) = (&state.presence, &authorized.user) else { return Ok(()) };
    if let Some(stay) = presence.join(&params.channels, user, params.client.as_ref()).await? {
        let renewal = || GrantRenewal::new(&state.authorizer, params.client.clone());
        authorized.renewal.get_or_insert_with(renewal).hold(stay);
    }
    Ok(())
}

/// Waits until the node has read its log.
///
/// # Errors
///
/// `not_ready`: the node shuts down, or has not read its log in time.
pub async fn wait_until_ready(state: &ServerState) -> Result<(), ApiError> {
    if state.drain.has_begun() {
        return Err(ApiError::new(Code::NotReady, "the server is shutting down; try again in a moment"));
    }
    if state.hub.head().is_none() && !state.is_ready().await {
        return Err(ApiError::new(Code::NotReady, "the server has not read its log yet; try again in a moment"));
    }
    Ok(())
}
