//! Parsers of this room, opened for the fuzzer only.

use crate::message::Draft;
use crate::serve::App;
use crate::serve::access::credentials::Asker;
use crate::serve::conn::http1::fast::{self, Parsed};
use crate::serve::conn::http1::poll_template::Shape;
use crate::serve::conn::http1::publish_template::Outline;
use crate::serve::http::request::Request;
use crate::serve::publishing::parse;
use crate::serve::routes::subscribe;
use crate::serve::session::commands::{Commands, Outcome};
use crate::serve::session::pump::Pump;
use crate::transport::params::fields;
use crate::transport::{self, Code, Params, RequestHead};
use bytes::BytesMut;
use hyper::header::CONTENT_LENGTH;
use std::sync::Arc;

pub use crate::serve::access::authorizer::Action;
pub use crate::serve::http::request::settle_host;
pub use crate::serve::net::proxy_protocol::read as read_proxy_header;

/// What a request publishes; the code of its refusal.
///
/// # Errors
///
/// Why it was refused.
pub fn drafts(query: &str, kind: &str, body: &str, max: usize) -> Result<Vec<Draft>, Code> {
    let drafts = parse::parse_query(query).and_then(|query| parse::drafts(&query, kind, body, max));
    drafts.map(|(drafts, _)| drafts).map_err(|refusal| refusal.code)
}

/// A plain request as it was read, and what is kept of its head for the next one.
pub struct Plain {
    request: Box<Request>,
    size: usize,
    outline: Option<Outline>,
    shape: Option<Shape>,
}

impl Plain {
    /// The one that these bytes begin with, and how many of them it is. `Err`: none, or only the part of one (`true`).
    pub fn read(bytes: &[u8]) -> Result<Plain, bool> {
        let mut rest = BytesMut::from(bytes);
        let (request, outline, shape) = match fast::parse(&mut rest) {
            Parsed::Publish(request, outline) => (request, outline, None),
            Parsed::Request(request, head) => (request, None, Shape::of(&head)),
            Parsed::Again(..) => unreachable!("nothing is known before"),
            Parsed::Part => return Err(true),
            Parsed::Other => return Err(false),
        };
        assert!(bytes.ends_with(&rest), "the rest is as it was");
        Ok(Plain { request, size: bytes.len() - rest.len(), outline, shape })
    }

    /// Bytes of it, body included.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether the next bytes are found to be the same request but for its query, length or cursor. Panics where they are
    /// not what who reads every head takes them for.
    pub fn is_again(&self, bytes: &[u8]) -> bool {
        if let Some(found) = self.outline.as_ref().and_then(|outline| outline.find(bytes)) {
            if bytes.len() < found.head + found.body {
                return false;
            }
            // What is too large to be plain is so for both.
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
        if let Some((start, size)) = self.shape.as_ref().and_then(|shape| shape.find(bytes)) {
            let Ok(next) = Plain::read(bytes) else { panic!("who reads its head takes it, too") };
            assert_eq!((next.size, next.request.headers()), (size, self.request.headers()));
            let query = next.request.uri().query().unwrap_or_default();
            assert_eq!(
                subscribe::last_field(query.as_bytes(), None, "cursor").map(|text| text.parse()),
                Some(Ok(start))
            );
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

/// A raw TCP connection without its socket.
pub struct Conversation {
    app: Arc<App>,
    pump: Pump,
    commands: Commands,
}

impl Conversation {
    /// Of a server whose log is read.
    pub fn new(app: &Arc<App>) -> Conversation {
        let transport = transport::socket().expect("there is one");
        let params = Params::default();
        let opening =
            transport.open(&params, &RequestHead::default()).unwrap_or_else(|_| unreachable!("nothing is asked for"));
        let pump = subscribe::pump(app, transport, &params, opening, None);
        let asker = Arc::new(Asker::unknown([127, 0, 0, 1].into(), transport.name()));
        Conversation { app: app.clone(), pump, commands: Commands::new(asker) }
    }

    /// One command, and the lines that it is answered with.
    pub async fn command(&mut self, text: &[u8]) -> String {
        let outcome = self.commands.carry_out(&self.app, &mut self.pump, text).await;
        let mut said = Vec::new();
        while let Some(bytes) = self.pump.said() {
            said.extend_from_slice(&bytes);
        }
        match outcome {
            // It is answered when it is in the log; the answer would be a line like the others.
            Outcome::Publish(..) => said.extend_from_slice(b"{\"type\":\"ack\"}\n"),
            Outcome::Done | Outcome::TooLarge => {}
        }
        String::from_utf8(said).expect("what we say is UTF-8")
    }
}
