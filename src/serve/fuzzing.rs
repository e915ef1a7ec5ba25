//! Opens parsers and command handling to the fuzzer only.

use crate::log::seal_keys::SealKey;
use crate::message::Draft;
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::{compact, token};
use crate::serve::conn::http1::parse::{self, Parsed};
use crate::serve::conn::http1::publish_template::PublishHead;
use crate::serve::http::headers::last_field;
use crate::serve::http::request::Request;
use crate::serve::publishing::parse::{drafts as parse_drafts, parse_query};
use crate::serve::session::commands::{CommandHandler, Outcome};
use crate::serve::session::open::open_pump;
use crate::serve::session::poll_template::PollTemplate;
use crate::serve::session::pump::Pump;
use crate::serve::state::ServerState;
use crate::transport::json_commands::JsonCommands;
use crate::transport::params::fields;
use crate::transport::{self, Code, Params, RequestHead};
use bytes::BytesMut;
use hyper::header::CONTENT_LENGTH;
use std::sync::Arc;

pub use crate::serve::access::query::Action;
pub use crate::serve::http::request::normalize_host;
pub use crate::serve::net::proxy_protocol::read as read_proxy_header;
pub use crate::serve::protocols::socketio::connection_again;

/// The state of a session that these bytes are, written again.
pub fn state_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    compact::write(&compact::read(bytes)?, &mut out)?;
    Some(out)
}

/// Whether a text is a token that opens with this key.
pub fn opens(key: &SealKey, text: &str) -> bool {
    token::key_id(token::TokenKind::Session, text)
        .is_ok_and(|id| token::open(&SealKey { id, ..key.clone() }, text, 0).is_ok())
}

/// The drafts of a publish.
///
/// # Errors
///
/// The code of the error.
pub fn drafts(query: &str, kind: &str, body: &str, max: usize) -> Result<Vec<Draft>, Code> {
    let drafts = parse_query(query).and_then(|query| parse_drafts(&query, kind, body, max));
    drafts.map(|(drafts, _)| drafts).map_err(|refusal| refusal.code)
}

/// A plain request, and the template of its head.
pub struct Plain {
    request: Box<Request>,
    size: usize,
    publish: Option<PublishHead>,
    poll: Option<PollTemplate>,
}

impl Plain {
    /// Parses the plain request at the beginning of these bytes. `Err(true)` if the request is
    /// incomplete, `Err(false)` if the bytes are not a plain request.
    pub fn read(bytes: &[u8]) -> Result<Plain, bool> {
        let mut rest = BytesMut::from(bytes);
        let (request, publish, poll) = match parse::parse(&mut rest) {
            Parsed::Publish(request, head) => (request, head, None),
            Parsed::Request(request, head) => (request, None, PollTemplate::of(&head)),
            Parsed::Incomplete => return Err(true),
            Parsed::Other => return Err(false),
        };
        assert!(bytes.ends_with(&rest), "the rest is as it was");
        Ok(Plain { request, size: bytes.len() - rest.len(), publish, poll })
    }

    /// The length of the request with its body.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether the next bytes match the template of this request. Panics if the template and the full parser disagree.
    pub fn is_again(&self, bytes: &[u8]) -> bool {
        if let Some(found) = self.publish.as_ref().and_then(|template| template.find(bytes)) {
            if bytes.len() < found.head + found.body {
                return false;
            }
            // A request that is too large to be plain is too large for both.
            let Ok(next) = Plain::read(bytes) else { return false };
            assert_eq!(next.size, found.head + found.body);
            assert_eq!(next.request.uri().query().unwrap_or_default(), found.query);
            let others = |plain: &Plain| {
                let mut headers = plain.request.headers().clone();
                headers.remove(CONTENT_LENGTH);
                headers
            };
            assert_eq!(others(&next), others(self));
            return true;
        }
        if let Some((start, size)) = self.poll.as_ref().and_then(|template| template.find(bytes)) {
            let Ok(next) = Plain::read(bytes) else { panic!("the full parser does not accept it") };
            assert_eq!((next.size, next.request.headers()), (size, self.request.headers()));
            let query = next.request.uri().query().unwrap_or_default();
            assert_eq!(last_field(query.as_bytes(), None, "cursor").map(|text| text.parse()), Some(Ok(start)));
            let of = |plain: &Plain| {
                let query = plain.request.uri().query().unwrap_or_default();
                fields(query.as_bytes(), None)
                    .filter(|(name, _)| name != "cursor")
                    .map(|(n, v)| (n.into_owned(), v.into_owned()))
                    .collect::<Vec<_>>()
            };
            assert_eq!((next.request.uri().path(), of(&next)), (self.request.uri().path(), of(self)));
            return true;
        }
        false
    }
}

/// A raw TCP connection without a socket.
pub struct Conversation {
    state: Arc<ServerState>,
    pump: Pump,
    commands: CommandHandler,
}

impl Conversation {
    /// A conversation with a server that has read its log.
    pub fn new(state: &Arc<ServerState>) -> Conversation {
        let transport = transport::socket().expect("there is one");
        let params = Params::default();
        let opening =
            transport.open(&params, &RequestHead::default()).unwrap_or_else(|_| unreachable!("nothing is asked for"));
        let pump = open_pump(state, transport, &params, opening, None);
        let credentials = Arc::new(Credentials::anonymous([127, 0, 0, 1].into(), transport.name()));
        Conversation { state: state.clone(), pump, commands: CommandHandler::new(credentials) }
    }

    /// Handles a command, and returns the lines of its answer.
    pub async fn command(&mut self, text: &[u8]) -> String {
        let outcome = self.commands.handle(&self.state, &mut self.pump, &mut JsonCommands, text).await;
        let mut lines = Vec::new();
        while let Some(bytes) = self.pump.next_control() {
            lines.extend_from_slice(&bytes);
        }
        match outcome {
            // The answer to a publish follows when the log has the message, and the answer to an event when the application
            // has answered. Here, each has the same answer.
            Outcome::Publish(..) | Outcome::Event(_) => lines.extend_from_slice(b"{\"type\":\"ack\"}\n"),
            Outcome::Done | Outcome::Close => {}
        }
        String::from_utf8(lines).expect("responses are UTF-8")
    }
}
