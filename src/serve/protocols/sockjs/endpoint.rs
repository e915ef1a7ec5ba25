//! The paths of SockJS.

use super::framing::Framing;
use super::headers::{TEXT, for_all_pages, not_cached, options, other_method, set_cookie};
use super::receive::Receiving;
use super::request::Asked;
use super::settings::SockJsSettings;
use super::shared::Shared;
use super::transports::{EVENT_SOURCE, HTML_FILE, JSONP, RAW_WEBSOCKET, WEBSOCKET, XHR, XHR_STREAMING};
use super::{pages, record, send, socket};
use crate::log::connections::ConnectionStore;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::http::upgrade::Upgrade;
use crate::serve::routes::protocol::Protocol;
use crate::serve::routes::response::{self, Response};
use crate::serve::routes::route::{OtherMethods, Route};
use crate::serve::state::ServerState;
use crate::transport::Transport;
use crate::wire::sockjs::path::{PathTransport, Target};
use futures_util::future::BoxFuture;
use hyper::body::Body as _;
use hyper::{Method, StatusCode};
use prometheus_client::registry::Registry;
use std::sync::Arc;

const GET: &str = "OPTIONS, GET";
const POST: &str = "OPTIONS, POST";

/// The protocol with its prefixes.
pub struct SockJs(Arc<Shared>);

impl SockJs {
    /// Makes the protocol, with metrics in this registry.
    pub fn new(settings: SockJsSettings, store: Arc<dyn ConnectionStore>, registry: &mut Registry) -> SockJs {
        SockJs(Arc::new(Shared::new(settings, store, registry)))
    }
}

/// The methods of a path, and its transport.
fn rules(target: Target<'_>) -> (&'static str, Option<&'static dyn Transport>) {
    match target {
        Target::Greeting | Target::Info | Target::Iframe => (GET, None),
        Target::RawWebSocket => (GET, Some(RAW_WEBSOCKET)),
        Target::Session { transport, .. } => match transport {
            PathTransport::Xhr | PathTransport::XhrSend => (POST, Some(XHR)),
            PathTransport::XhrStreaming => (POST, Some(XHR_STREAMING)),
            PathTransport::EventSource => (GET, Some(EVENT_SOURCE)),
            PathTransport::HtmlFile => (GET, Some(HTML_FILE)),
            PathTransport::Jsonp => (GET, Some(JSONP)),
            PathTransport::JsonpSend => (POST, Some(JSONP)),
            PathTransport::WebSocket => (GET, Some(WEBSOCKET)),
        },
    }
}

impl Protocol for SockJs {
    fn route(&self, path: &str) -> Option<Route> {
        let (prefix, target) = self.0.find(path)?;
        let (methods, transport) = rules(target);
        let origins = prefix.origins;
        // Clients send requests with credentials, and know only some answers to `OPTIONS` and to other methods.
        Some(Route {
            methods,
            transport,
            origins,
            other_methods: OtherMethods::Endpoint,
            echoes_origin: true,
            ..Route::PAGE
        })
    }

    fn answer<'a>(&'a self, state: &'a Arc<ServerState>, peer: &'a Peer, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(answer(&self.0, state, peer, request))
    }

    fn info(&self) -> (&'static str, serde_json::Value) {
        let prefixes = self.0.prefixes.iter().map(|prefix| &*prefix.path);
        ("sockjs", serde_json::json!({ "prefixes": prefixes.collect::<Vec<_>>() }))
    }
}

async fn answer(shared: &Arc<Shared>, state: &Arc<ServerState>, peer: &Peer, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Some((prefix, target)) = shared.find(head.uri.path()) else {
        return response::whole(StatusCode::NOT_FOUND, TEXT, "");
    };
    let asked = Asked { shared, state, peer, prefix, head: &head };
    let (methods, _) = rules(target);
    let mut answer = match &head.method {
        &Method::OPTIONS => options(&head.headers, methods),
        method if !methods.split(", ").any(|known| known == method.as_str()) => other_method(methods),
        _ => match target {
            Target::Greeting => pages::greeting(),
            Target::Info => pages::info(prefix),
            Target::Iframe => pages::iframe(&asked),
            Target::RawWebSocket => open(asked, true).await,
            Target::Session { session, transport } => {
                let id = record::id_of(&prefix.path, session);
                let request = Request::from_parts(head.clone(), body);
                let mut answer = transport_answer(asked, id, transport, request).await;
                if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                    not_cached(answer.headers_mut());
                }
                if prefix.cookie {
                    set_cookie(&head.headers, answer.headers_mut());
                }
                answer
            }
        },
    };
    for_all_pages(prefix, answer.headers_mut());
    answer
}

async fn transport_answer(asked: Asked<'_>, id: SessionId, transport: PathTransport, request: Request) -> Response {
    let refused = |error| response::refused(&error);
    match Framing::of(transport, asked.query()) {
        Err(bad) => response::whole(StatusCode::INTERNAL_SERVER_ERROR, TEXT, bad.words()),
        Ok(Some(framing)) => {
            let has_unread_body = !request.body().is_end_stream();
            let receiving = Receiving { asked, id, framing, has_unread_body };
            // The body is kept until the answer is ready: hyper would otherwise begin to discard it.
            let answer = receiving.answer().await.unwrap_or_else(refused);
            drop(request);
            answer
        }
        Ok(None) if transport == PathTransport::WebSocket => open(asked, false).await,
        Ok(None) => {
            send::answer(asked, id, transport == PathTransport::JsonpSend, request).await.unwrap_or_else(refused)
        }
    }
}

async fn open(asked: Asked<'_>, is_raw: bool) -> Response {
    if !asked.prefix.websocket {
        return response::whole(StatusCode::NOT_FOUND, TEXT, "WebSocket is off for this prefix");
    }
    let upgrade = match Upgrade::check(asked.head) {
        Ok(upgrade) => upgrade,
        Err(error) => {
            let text = format!("Can \"Upgrade\" only to \"WebSocket\": {}", error.message);
            return response::whole(StatusCode::BAD_REQUEST, TEXT, text);
        }
    };
    socket::open(asked, upgrade, is_raw).await.unwrap_or_else(|error| response::refused(&error))
}
