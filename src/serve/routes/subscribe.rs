//! Handles subscriptions over HTTP, in steps: parse the request, authorize it, wait until the node is ready, and open what
//! the transport's lifecycle asks for.

use super::poll::{self, Wait};
use super::response::{self, Body, Response};
use crate::serve::access::credentials::Credentials;
use crate::serve::access::query::{Action, Question, Validity};
use crate::serve::access::renewal::GrantRenewal;
use crate::serve::http::chunked::Framing;
use crate::serve::http::headers::{has_token, last_field, text};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::http::upgrade::Upgrade;
use crate::serve::session::commands::CommandHandler;
use crate::serve::session::duplex::DuplexSession;
use crate::serve::session::open::open_pump;
use crate::serve::session::pump::{Pump, Rollover};
use crate::serve::session::session::Session;
use crate::serve::session::stream::StreamSession;
use crate::serve::state::ServerState;
use crate::transport::params::bad_callback;
use crate::transport::{Accepted, ApiError, Code, Lifecycle, Params, RequestHead, Transport};
use hyper::body::Body as _;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The most bytes of a form that subscribes.
const FORM_BYTES: usize = 128 << 10;

/// The longest wait of a long poll by default.
const LONG_POLL: Duration = Duration::from_secs(25);

/// When a stream with rollover ends by default.
const ROLLOVER: Rollover = Rollover { bytes: 128 << 10, time: Duration::from_secs(300) };

/// Handles a request to a transport's path.
pub async fn answer(
    state: &Arc<ServerState>,
    peer: &Peer,
    transport: &'static dyn Transport,
    mut request: Request,
) -> Response {
    let query = request.uri().query().unwrap_or_default().as_bytes().to_vec();
    let mut form = None;
    if request.method() == Method::POST {
        match response::read_body(state, &mut request, FORM_BYTES).await {
            Ok(bytes) => form = Some(bytes),
            Err(refusal) => return refuse(transport, &query, None, &refusal),
        }
    }
    // The body is kept to the end: hyper would otherwise begin to discard it while the response is made.
    let (head, body) = request.into_parts();
    let request = Head { head: &head, has_unread_body: !body.is_end_stream() };
    match subscribe(state, peer, transport, request, &query, form.as_deref()).await {
        Ok(response) => response,
        Err(refusal) => {
            let mut response = refuse(transport, &query, form.as_deref(), &refusal);
            if transport.lifecycle(&Params::default()) == Lifecycle::Duplex {
                // The version that a client of another version may try again with (RFC 6455 §4.4).
                response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            response
        }
    }
}

/// Refuses a request in a form that the transport's clients can read.
pub fn refuse(transport: &dyn Transport, query: &[u8], form: Option<&[u8]>, refusal: &ApiError) -> Response {
    // A page of a foreign origin gets the status only, and must not read the error.
    let is_readable = refusal.code != Code::ForbiddenOrigin;
    let callback = Params::valid_callback(query, form);
    if transport.calls_back() && callback.is_none() {
        // Without a valid callback no other error can be reported.
        return response::refused(&bad_callback());
    }
    match transport.refuse(callback.as_deref(), refusal).filter(|_| is_readable) {
        Some((content_type, body)) => {
            let mut response = response::whole(StatusCode::OK, content_type, body);
            response.extensions_mut().insert(refusal.code);
            response
        }
        None => response::refused(refusal),
    }
}

async fn subscribe(
    state: &Arc<ServerState>,
    peer: &Peer,
    transport: &'static dyn Transport,
    request: Head<'_>,
    query: &[u8],
    form: Option<&[u8]>,
) -> Result<Response, ApiError> {
    let mut subscribe = Subscribe::parse(state, peer, transport, request, query, form)?;
    let authorized = subscribe.authorize(query, form).await?;
    if request.head.method == Method::HEAD {
        let mut response = response::whole(StatusCode::OK, subscribe.opening.content_type, "");
        response::write_headers(&subscribe.opening, response.headers_mut());
        return Ok(response);
    }
    wait_until_ready(state).await?;
    subscribe.open(authorized).await
}

/// A request without its body, which could not be shared between threads.
#[derive(Clone, Copy)]
struct Head<'a> {
    head: &'a Parts,
    has_unread_body: bool,
}

/// A parsed request.
struct Subscribe<'a> {
    state: &'a ServerState,
    peer: &'a Peer,
    transport: &'static dyn Transport,
    request: Head<'a>,
    params: Params,
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
}

impl<'a> Subscribe<'a> {
    fn parse(
        state: &'a ServerState,
        peer: &'a Peer,
        transport: &'static dyn Transport,
        request: Head<'a>,
        query: &[u8],
        form: Option<&[u8]>,
    ) -> Result<Subscribe<'a>, ApiError> {
        let mut params = Params::parse(query, form, &state.settings.limits)?;
        let lifecycle = transport.lifecycle(&params);
        let headers = &request.head.headers;
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let opening = transport.open(&params, &RequestHead { host: peer.host(headers), accept })?;
        if params.channels.is_empty() && lifecycle != Lifecycle::Duplex {
            return Err(ApiError::new(Code::BadChannel, "name a channel: ?channel=a,b"));
        }
        if lifecycle == (Lifecycle::Stream { rollover: false })
            && let Some(last) = text(headers, "last-event-id").filter(|id| !id.is_empty())
        {
            // This cursor is newer than the cursor of the query, which a browser repeats unchanged.
            params.cursor = Some(last.parse()?);
        }
        let upgrade = (lifecycle == Lifecycle::Duplex).then(|| Upgrade::check(request.head)).transpose()?;
        let names_client = params.client.is_some();
        Ok(Subscribe { state, peer, transport, request, params, lifecycle, opening, upgrade, names_client })
    }

    async fn authorize(&mut self, query: &[u8], form: Option<&[u8]>) -> Result<Authorized, ApiError> {
        let (state, headers) = (self.state, &self.request.head.headers);
        let credentials = Arc::new(if state.authorizer.is_open() {
            // An open server never checks credentials, and a parked socket should keep no headers.
            Credentials::anonymous(self.peer.ip, self.transport.name())
        } else {
            let credentials = Credentials::new(self.peer.ip, self.transport.name(), headers, self.by_cookie());
            credentials.with_token(last_field(query, form, "token").as_deref())
        });
        let mut validity = Validity::Unlimited;
        if !self.params.channels.is_empty() && !state.authorizer.is_open() {
            let grant = state.authorizer.ask(Question {
                action: Action::Subscribe,
                channels: self.params.channels.clone(),
                client: self.params.client.clone(),
                credentials: Credentials::clone(&credentials),
            });
            let grant = grant.await?;
            validity = grant.validity;
            // A client whose credentials are bound to a client id has that id.
            self.params.client = self.params.client.take().or(grant.client);
        }
        let renewal = (validity != Validity::Unlimited).then(|| {
            let mut renewal = GrantRenewal::new(&state.authorizer, self.params.client.clone());
            renewal.add(&self.params.channels, validity, &credentials);
            renewal
        });
        Ok(Authorized { credentials, validity, renewal })
    }

    /// Whether cookies count. The browser sends them with a script tag of any page, and the response calls a function of that
    /// page; a frame on a sibling host is similar. Both need tokens.
    fn by_cookie(&self) -> bool {
        let is_poll = matches!(self.lifecycle, Lifecycle::LongPoll | Lifecycle::Poll);
        !(self.transport.calls_back() && is_poll)
            && self.params.domain.is_none()
            && !self.state.origins.is_by_star(&self.request.head.headers, self.peer.forwarded_host())
    }

    /// Whether another request may follow on the connection.
    fn may_reuse(&self, framing: Framing) -> bool {
        // A body that was not read would be taken for the next request. It is not read here, and a proxy in front of us may
        // take it for the body of this request (request smuggling).
        let wants_close = has_token(&self.request.head.headers, "connection", "close");
        framing == Framing::Chunked && !self.request.has_unread_body && !wants_close
    }

    /// Opens what the transport's lifecycle asks for.
    async fn open(self, authorized: Authorized) -> Result<Response, ApiError> {
        let framing = Framing::of(self.request.head.version);
        let may_reuse = self.may_reuse(framing);
        match self.lifecycle {
            Lifecycle::Poll | Lifecycle::LongPoll => {
                // Over HTTP/1.0 and HTTP/2, and if the client wants only one response, there is no next request to wait for.
                let as_session = may_reuse && !self.peer.is_over_limit;
                let wait = Wait { time: self.waiting_time(authorized.validity), as_session };
                let Subscribe { state, peer, transport, request, params, opening, .. } = self;
                poll::answer(state, peer, transport, &params, opening, &request.head.headers, wait).await
            }
            Lifecycle::Stream { rollover } => {
                let bounds = Rollover {
                    bytes: self.params.max_bytes.unwrap_or(ROLLOVER.bytes),
                    time: self.params.max_time.unwrap_or(ROLLOVER.time),
                };
                let mut response = response::whole(StatusCode::OK, self.opening.content_type, "");
                response::write_headers(&self.opening, response.headers_mut());
                let pump = self.open_pump(authorized.renewal, rollover.then_some(bounds));
                let session = StreamSession { pump, framing, may_reuse };
                *response.body_mut() = Body::Session(Session::Stream(Box::new(session)));
                Ok(response)
            }
            Lifecycle::Duplex | Lifecycle::Socket => self.open_duplex(authorized),
        }
    }

    fn open_duplex(mut self, authorized: Authorized) -> Result<Response, ApiError> {
        let Some(upgrade) = self.upgrade.take() else {
            return Err(ApiError::new(Code::NotFound, "this transport has a port of its own"));
        };
        let commands = CommandHandler::after(authorized.credentials, &self.params, self.names_client);
        let transport = self.transport;
        let mut response = response::whole(upgrade.status(), "", "");
        upgrade.write_headers(response.headers_mut());
        let pump = self.open_pump(authorized.renewal, None);
        let session = DuplexSession { transport, pump, commands };
        *response.body_mut() = Body::Session(Session::Duplex(Box::new(session)));
        Ok(response)
    }

    fn open_pump(self, renewal: Option<GrantRenewal>, rollover: Option<Rollover>) -> Pump {
        let mut pump = open_pump(self.state, self.transport, &self.params, self.opening, rollover);
        pump.set_grant(renewal);
        pump.hold(self.peer.address_permit.clone());
        pump.hello();
        pump
    }

    fn waiting_time(&self, validity: Validity) -> Option<Duration> {
        let time = (self.lifecycle != Lifecycle::Poll).then(|| self.params.timeout.unwrap_or(LONG_POLL))?;
        // A poll waits no longer than its grant holds. The next request asks for a new one.
        Some(match validity {
            Validity::RenewAt(end) | Validity::EndsAt(end) => time.min(end.saturating_duration_since(Instant::now())),
            Validity::Unlimited => time,
        })
    }
}

/// Waits until the node has read its log.
async fn wait_until_ready(state: &ServerState) -> Result<(), ApiError> {
    if state.drain.has_begun() {
        return Err(ApiError::new(Code::NotReady, "the server is shutting down; come back in a moment"));
    }
    if state.hub.head().is_none() && !state.is_ready().await {
        return Err(ApiError::new(Code::NotReady, "the server has not read its log yet; come back in a moment"));
    }
    Ok(())
}
