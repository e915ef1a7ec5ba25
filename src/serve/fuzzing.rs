//! Parsers of this room, opened for the fuzzer only.

use super::App;
use super::asker::Asker;
use super::commands::{Commands, Outcome};
use super::publish;
use super::pump::Pump;
use super::subscribe;
use crate::message::Draft;
use crate::transport::{self, Code, Params, Peer};
use std::sync::Arc;

pub use super::authorize::Action;
pub use super::proxy_protocol::read as read_proxy_header;
pub use super::request::settle_host;

/// What a request publishes; the code of its refusal.
///
/// # Errors
///
/// Why it was refused.
pub fn drafts(query: &str, kind: &str, body: &str, max: usize) -> Result<Vec<Draft>, Code> {
    let drafts = publish::parse_query(query).and_then(|query| publish::drafts(&query, kind, body, max));
    drafts.map(|(drafts, _)| drafts).map_err(|refusal| refusal.code)
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
            transport.open(&params, &Peer::default()).unwrap_or_else(|_| unreachable!("nothing is asked for"));
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
