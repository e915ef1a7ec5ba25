//! The paths of `--raw-websocket`.

use super::page::{Page, RawWebSocketPage};
use super::transport::RawSocket;
use crate::serve::client_sessions::protocol::{Bookmarks, SessionProtocol};
use crate::serve::http::headers::last_field;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::protocols::path_pattern;
use crate::serve::routes::closed_socket;
use crate::serve::routes::protocol::Protocol;
use crate::serve::routes::response::{self, Response};
use crate::serve::routes::route::Route;
use crate::serve::routes::subscribe::{self, Subscribe};
use crate::serve::state::ServerState;
use crate::transport::page::{OnMessage, PageCommands};
use crate::transport::{ApiError, Code, Params, Transport, WantedSession};
use crate::wire::websocket;
use futures_util::future::BoxFuture;
use hyper::header::{self, HeaderValue};
use std::sync::Arc;

/// The transports of plain WebSocket pages.
pub static TRANSPORTS: [&dyn Transport; 1] = [&RawSocket];

/// The sessions of pages whose texts the application gets. A page that connects again has a new one.
const PROTOCOL: SessionProtocol =
    SessionProtocol { name: "websocket", bookmarks: Bookmarks::Record, outlives_stream: false };

/// Plain WebSocket, at the paths of the flags.
pub struct RawWebSocket {
    pages: Vec<Page>,
}

impl RawWebSocket {
    /// Makes the protocol for these paths.
    pub fn new(pages: impl IntoIterator<Item = RawWebSocketPage>) -> RawWebSocket {
        RawWebSocket { pages: pages.into_iter().map(Page::from).collect() }
    }

    /// The page of a path, and the name of a channel in the path.
    fn page<'a>(&self, path: &'a str) -> Option<(&Page, &'a str)> {
        self.pages.iter().find_map(|page| Some((page, page.path.name(path)?)))
    }

    async fn open(&self, state: &Arc<ServerState>, peer: &Peer, request: Request) -> Result<Response, ApiError> {
        let path = request.uri().path().to_owned();
        let not_found = || ApiError::new(Code::NotFound, "there is no such path; see /info for the paths");
        let (page, name) = self.page(&path).ok_or_else(not_found)?;
        if let Some((code, reason)) = &page.closes {
            return closed_socket::answer(state, peer, request, TRANSPORTS[0], websocket::close_frame(*code, reason));
        }
        let channels = path_pattern::channels(&page.channels, name)?;
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let params = Params {
            channels: channels.iter().cloned().collect(),
            last: Some(page.last).filter(|last| *last > 0),
            // The application can change the session of each page whose texts it gets.
            session: (page.on_message == OnMessage::Hook).then_some(WantedSession::New),
            ..Params::default()
        };
        let wanted = Subscribe {
            token: last_field(query, None, "token"),
            dialect: Some(Box::new(PageCommands::new(page.on_message, channels))),
            origins: page.origins,
            endpoint: path.clone().into(),
            ..Subscribe::new(TRANSPORTS[0], params, PROTOCOL)
        };
        subscribe::answer(state, peer, request, wanted).await
    }
}

impl Protocol for RawWebSocket {
    fn route(&self, path: &str) -> Option<Route> {
        let (page, _) = self.page(path)?;
        let transport = Some(TRANSPORTS[0]);
        Some(Route { methods: "GET, OPTIONS", transport, origins: page.origins, ..Route::PAGE })
    }

    fn answer<'a>(&'a self, state: &'a Arc<ServerState>, peer: &'a Peer, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            self.open(state, peer, request).await.unwrap_or_else(|refusal| {
                let mut response = response::refused(&refusal);
                response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                response
            })
        })
    }

    fn info(&self) -> (&'static str, serde_json::Value) {
        let paths: Vec<&str> = self.pages.iter().map(|page| &*page.text).collect();
        ("raw_websocket", serde_json::json!({ "paths": paths }))
    }
}
