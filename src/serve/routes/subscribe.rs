//! Subscriptions over HTTP: parameters, the five lifecycles, and what `If-None-Match` decides.

use super::response::{self, Body, Reply};
use crate::cursor::{Cursor, Start};
use crate::serve::App;
use crate::serve::access::authorizer::{Action, Question, Term};
use crate::serve::access::credentials::Asker;
use crate::serve::access::renewal::Lease;
use crate::serve::http::peer::{Client, Taken};
use crate::serve::http::request::Request;
use crate::serve::session::batch;
use crate::serve::session::commands::Commands;
use crate::serve::session::duplex;
use crate::serve::session::long_poll::Waiting;
use crate::serve::session::pump::{Pace, Pump, Rollover};
use crate::serve::session::stream::Framing;
use crate::transport::params::{bad_callback, fields};
use crate::transport::{Accepted, ApiError, Batch, Code, Lifecycle, Params, RequestHead, Transport};
use hyper::body::Body as _;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a form that subscribes.
const FORM_BYTES: usize = 128 << 10;

const BATCH_MESSAGES: usize = 100;
const LONG_POLL: Duration = Duration::from_secs(25);
const ROLLOVER: Rollover = Rollover { bytes: 128 << 10, time: Duration::from_secs(300) };

/// Answers a request to a transport's path.
pub async fn answer(app: &Arc<App>, client: &Client, transport: &'static dyn Transport, request: Request) -> Reply {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default().as_bytes().to_vec();
    let mut form = None;
    let mut request = Request::from_parts(head, body);
    if request.method() == Method::POST {
        match super::router::read_body(app, &mut request, FORM_BYTES).await {
            Ok(bytes) => form = Some(bytes),
            Err(refusal) => return refuse(transport, &query, None, &refusal),
        }
    }
    match subscribe(app, client, transport, request, &query, form.as_deref()).await {
        Ok(reply) => reply,
        Err(refusal) => {
            let mut reply = refuse(transport, &query, form.as_deref(), &refusal);
            if transport.lifecycle(&Params::default()) == Lifecycle::Duplex {
                // What a client of another version is to come back with (RFC 6455 §4.4).
                reply.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            reply
        }
    }
}

/// Refuses in the way that the transport's clients can hear.
pub fn refuse(transport: &dyn Transport, query: &[u8], form: Option<&[u8]>, refusal: &ApiError) -> Reply {
    // An origin that is refused is refused in earnest.
    let aloud = refusal.code != Code::ForbiddenOrigin;
    let callback = Params::valid_callback(query, form);
    if transport.calls_back() && callback.is_none() {
        // Whatever else is wrong: there is nowhere to tell it.
        return response::refused(&bad_callback());
    }
    match transport.refuse(callback.as_deref(), refusal).filter(|_| aloud) {
        Some((content_type, body)) => {
            let mut reply = response::whole(StatusCode::OK, content_type, body);
            reply.extensions_mut().insert(refusal.code);
            reply
        }
        None => response::refused(refusal),
    }
}

async fn subscribe(
    app: &Arc<App>,
    client: &Client,
    transport: &'static dyn Transport,
    request: Request,
    query: &[u8],
    form: Option<&[u8]>,
) -> Result<Reply, ApiError> {
    let mut params = Params::parse(query, form, &app.settings.limits)?;
    let lifecycle = transport.lifecycle(&params);
    let headers = request.headers();
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let opening = transport.open(&params, &RequestHead { host: client.host(headers), accept })?;
    if params.channels.is_empty() && lifecycle != Lifecycle::Duplex {
        return Err(ApiError::new(Code::BadChannel, "name a channel: ?channel=a,b"));
    }
    if lifecycle == (Lifecycle::Stream { rollover: false })
        && let Some(last) = text(headers, "last-event-id").filter(|id| !id.is_empty())
    {
        // Newer than the query, which a browser repeats as it was.
        params.cursor = Some(last.parse()?);
    }
    let upgrade = (lifecycle == Lifecycle::Duplex).then(|| duplex::Upgrade::check(&request)).transpose()?;
    // A script tag sends cookies for any page: what it is answered by a call to a function of that page, as
    // what a frame on a sibling host is, goes by tokens.
    let by_cookie = !(transport.calls_back() && (lifecycle == Lifecycle::LongPoll || lifecycle == Lifecycle::Poll))
        && params.domain.is_none()
        && !app.access.is_by_star(headers, client.forwarded_host());
    let asker = Arc::new(if app.authorizer.is_open() {
        // Nobody will ask: a parked socket keeps no headers.
        Asker::unknown(client.ip, transport.name())
    } else {
        let asker = Asker::new(client.ip, transport.name(), headers, by_cookie);
        asker.with_token(last_field(query, form, "token").as_deref())
    });
    let named = params.client.clone();
    let mut term = Term::Endless;
    if !params.channels.is_empty() && !app.authorizer.is_open() {
        let (channels, client, asker) = (params.channels.clone(), named.clone(), Asker::clone(&asker));
        let grant = app.authorizer.ask(Question { action: Action::Subscribe, channels, client, asker }).await?;
        term = grant.term;
        // Whose credentials are bound to a client id is that client.
        params.client = params.client.or(grant.client);
    }
    let lease = (term != Term::Endless).then(|| {
        let mut lease = Lease::new(&app.authorizer, params.client.clone());
        lease.add(&params.channels, term, &asker);
        lease
    });
    if request.method() == Method::HEAD {
        return Ok(head_only(&opening));
    }
    if app.drain.has_begun() {
        return Err(ApiError::new(Code::NotReady, "the server is going; come back in a moment"));
    }
    if app.hub.head().is_none() && !app.is_ready().await {
        return Err(ApiError::new(Code::NotReady, "the server has not read its log yet; come back in a moment"));
    }
    let framing = Framing::of(request.version());
    // A body that nobody has read would be the next request: it is not read here, and whoever stands in front of us may
    // take it for this one's (request smuggling).
    let has_rest = !request.body().is_end_stream();
    let may_reuse = framing == Framing::Chunked && !has_rest && !duplex::has_token(headers, "connection", "close");
    match lifecycle {
        Lifecycle::Poll | Lifecycle::LongPoll => {
            // HTTP/1.0 and who asks for one answer only are left to hyper.
            let may_take_over = may_reuse && !client.is_over;
            let wait = Wait { time: waiting_time(lifecycle, &params, term), may_take_over };
            let mut reply = batch(app, transport, &params, opening, headers, wait).await?;
            if let Body::Waiting(waiting) = reply.body_mut() {
                waiting.hold(client.place.clone());
            }
            Ok(reply)
        }
        Lifecycle::Stream { rollover } => {
            let bounds = Rollover {
                bytes: params.max_bytes.unwrap_or(ROLLOVER.bytes),
                time: params.max_time.unwrap_or(ROLLOVER.time),
            };
            let mut reply = response::stream(opening.content_type, client.handover());
            extra_headers(&opening, reply.headers_mut());
            let mut pump = pump(app, transport, &params, opening, rollover.then_some(bounds));
            pump.lease(lease);
            pump.hold(client.place.clone());
            pump.hello();
            client.handover().leave(Taken::Stream(pump, framing, may_reuse));
            Ok(reply)
        }
        Lifecycle::Duplex | Lifecycle::Socket => {
            let Some(upgrade) = upgrade else {
                return Err(ApiError::new(Code::NotFound, "this transport has a port of its own"));
            };
            let mut pump = pump(app, transport, &params, opening, None);
            pump.lease(lease);
            pump.hold(client.place.clone());
            pump.hello();
            let commands = Commands::behind(asker, &params, named.is_some());
            Ok(upgrade.accept(client, transport, pump, commands))
        }
    }
}

/// A pump over what the parameters ask for.
pub fn pump(
    app: &App,
    transport: &'static dyn Transport,
    params: &Params,
    opening: Accepted,
    rollover: Option<Rollover>,
) -> Pump {
    let start = params.cursor.unwrap_or(Start::Latest);
    let (name, client) = (transport.name(), params.client.clone());
    if let Some(client) = &client {
        app.hub.left_polling(&params.channels, client);
    }
    // Of no channels it would be all that there is.
    let last = params.last.filter(|_| !(params.channels.is_empty() && params.begins_later()));
    let subscription = app.hub.subscribe(Some(name), &params.channels, start, last, client);
    let heartbeat_ms = u32::try_from(app.settings.heartbeat.as_millis()).unwrap_or(u32::MAX);
    let pace = Pace { heartbeat_ms, probe: params.probe, rollover: rollover.map(Box::new) };
    Pump::new(subscription, opening.envelope, pace, app.meters.open(name), app.drain.clone(), &app.timers)
}

/// How a batch is waited for.
struct Wait {
    /// `None`: not at all.
    time: Option<Duration>,
    /// Whether the connection may be taken from hyper meanwhile.
    may_take_over: bool,
}

fn waiting_time(lifecycle: Lifecycle, params: &Params, term: Term) -> Option<Duration> {
    let time = (lifecycle != Lifecycle::Poll).then(|| params.timeout.unwrap_or(LONG_POLL))?;
    // It waits no longer than it may read; the next request asks again.
    Some(match term {
        Term::Until(end) | Term::Ends(end) => time.min(end.saturating_duration_since(Instant::now())),
        Term::Endless => time,
    })
}

async fn batch(
    app: &App,
    transport: &'static dyn Transport,
    params: &Params,
    opening: Accepted,
    headers: &HeaderMap,
    wait: Wait,
) -> Result<Reply, ApiError> {
    // Beside a cursor it says only whether 304 may be answered, and one that is none of ours does not.
    let tag = if params.cursor.is_some() { etag(headers).unwrap_or_default() } else { etag(headers)? };
    let start = params.cursor.or(tag.map(Start::After)).unwrap_or(Start::Latest);
    let (mut meter, asked) = (app.meters.open(transport.name()), Instant::now());
    let (name, client) = (transport.name(), params.client.clone());
    if let Some(client) = &client {
        app.hub.polled(name, params.channels.iter(), client, wait.time.unwrap_or_default());
    }
    // Who is counted by client id is not counted by connection.
    let counted = client.is_none().then_some(name);
    let mut subscription = app.hub.subscribe(counted, &params.channels, start, params.last, client);
    let limit = params.limit.unwrap_or(BATCH_MESSAGES);
    let batch = match wait.time {
        None => batch::now(app, &mut subscription, limit).await,
        Some(timeout) => match batch::first(&mut subscription, limit).await {
            Some(batch) => batch,
            None if wait.may_take_over => {
                let mut reply = response::whole(StatusCode::OK, opening.content_type, "");
                extra_headers(&opening, reply.headers_mut());
                let waiting = Waiting::new(&app.timers, limit, subscription, timeout, opening.envelope, meter);
                *reply.body_mut() = Body::Waiting(Box::new(waiting));
                return Ok(reply);
            }
            None => batch::wait(app, &mut subscription, limit, timeout).await,
        },
    };
    if let (None, Some(tag)) = (wait.time, tag)
        && is_unmodified(app, &batch, start, tag)
    {
        let mut reply = response::whole(StatusCode::NOT_MODIFIED, "", "");
        *reply.body_mut() = Body::Whole(None);
        reply.headers_mut().insert(header::ETAG, quoted(tag));
        return Ok(reply);
    }
    let mut body = Vec::with_capacity(batch.size_hint());
    opening.envelope.batch(&batch, &mut body);
    meter.answer(&batch, asked, body.len());
    let mut reply = response::whole(StatusCode::OK, opening.content_type, body);
    extra_headers(&opening, reply.headers_mut());
    reply.headers_mut().insert(header::ETAG, quoted(batch.cursor));
    Ok(reply)
}

/// Whether the client has what the batch would tell: it names the batch's cursor, or an older one of
/// channels that have had nothing since. The latter only while that one is well inside what is
/// retained: a client that is told "not modified" keeps it, and must not grow too old with it.
fn is_unmodified(app: &App, batch: &Batch, start: Start, tag: Cursor) -> bool {
    if batch.gap.is_some() || !batch.is_complete && batch.cursor != tag {
        return false;
    }
    if batch.cursor == tag {
        return true;
    }
    // The batch begins at `start`; all that is new since the tag is in it if it begins no later.
    let covers = match start {
        Start::After(cursor) => cursor == tag || (cursor.epoch == tag.epoch && cursor.id <= tag.id),
        Start::Earliest => true,
        Start::Latest => false,
    };
    let is_news = |cursor: Option<Cursor>| cursor.is_some_and(|cursor| cursor.epoch != tag.epoch || cursor.id > tag.id);
    let news = batch.messages.iter().any(|message| is_news(message.cursor()));
    covers && !news && batch.cursor.epoch == tag.epoch && app.hub.is_well_retained(tag)
}

fn quoted(cursor: Cursor) -> HeaderValue {
    HeaderValue::try_from(format!("\"{cursor}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The cursor that `If-None-Match` names, the first of a list (RFC 9110 §13.1.2). `*` and tags that proxies have marked for
/// themselves (`"…-gzip"`) are understood.
fn etag(headers: &HeaderMap) -> Result<Option<Cursor>, ApiError> {
    let Some(tags) = text(headers, "if-none-match") else { return Ok(None) };
    let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty() && *tag != "*");
    let mut cursors = tags.map(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
        tag.split_once("-gzip").map_or(tag, |(tag, _)| tag).parse::<Cursor>()
    });
    let Some(first) = cursors.next() else { return Ok(None) };
    Ok(Some(first.or_else(|error| cursors.find_map(Result::ok).ok_or(error))?))
}

/// A field's value; of a field that comes twice the last counts.
pub fn last_field(query: &[u8], form: Option<&[u8]>, wanted: &str) -> Option<String> {
    fields(query, form).filter(|(name, _)| name == wanted).last().map(|(_, value)| value.into_owned())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn extra_headers(opening: &Accepted, headers: &mut HeaderMap) {
    for (name, value) in opening.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// The head of what a GET would be answered, for who only asks for that.
fn head_only(opening: &Accepted) -> Reply {
    let mut reply = response::whole(StatusCode::OK, opening.content_type, "");
    extra_headers(opening, reply.headers_mut());
    reply
}
