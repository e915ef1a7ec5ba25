//! WebSockets: those of SockJS, and those without its frames.

use super::admission::Admitted;
use super::envelope::{SocketEnvelope, go_away};
use super::messages::{self, Done, MAX_MESSAGES, Speaker};
use super::request::Asked;
use super::transports::{RAW_WEBSOCKET, WEBSOCKET};
use crate::cursor::Start;
use crate::serve::access::credentials::Credentials;
use crate::serve::access::query::Validity;
use crate::serve::access::renewal::GrantRenewal;
use crate::serve::http::upgrade::Upgrade;
use crate::serve::routes::response::{self, Body, Response};
use crate::serve::session::commands::live_session;
use crate::serve::session::duplex::DuplexSession;
use crate::serve::session::protocol_commands::{Commands, ProtocolCommands};
use crate::serve::session::pump::Pump;
use crate::serve::session::record::SessionRecord;
use crate::serve::session::session::Session;
use crate::serve::session::stream_settings::StreamSettings;
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use crate::transport::page::OnMessage;
use crate::wire::sockjs::{frame, messages as wire};
use crate::wire::{json, websocket};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest silence.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// How long a WebSocket is open whose session ends at once.
const AFTER_HANDSHAKE: Duration = Duration::from_millis(50);

/// The code of a close after a frame that is not JSON (RFC 6455 §7.4.1).
const BROKEN: u16 = 1002;

/// Opens a WebSocket.
///
/// # Errors
///
/// The client may not or cannot read.
pub async fn open(asked: Asked<'_>, upgrade: Upgrade, is_raw: bool) -> Result<Response, ApiError> {
    let state = asked.state;
    let transport = if is_raw { RAW_WEBSOCKET } else { WEBSOCKET };
    let envelope = Arc::new(SocketEnvelope { is_raw, end: asked.prefix.on_open.clone().unwrap_or_else(go_away) });
    let last = Some(asked.prefix.last).filter(|last| *last > 0);
    let begin = |channels: &[_], client, heartbeat_ms| {
        let subscription = state.hub.subscribe(Some(transport.name()), channels, Start::Latest, last, client);
        let settings = StreamSettings { heartbeat_ms, probe: false, rollover: None };
        let record = SessionRecord::new(state.delivery.open(transport.name()));
        let mut pump = Pump::new(subscription, envelope.clone(), settings, record, state.drain.clone(), &state.timers);
        pump.hold(asked.peer.address_permit.clone());
        pump
    };
    let (pump, commands) = if asked.prefix.on_open.is_some() {
        let mut pump = begin(&[], None, u32::MAX);
        // Some clients fail if the close comes together with the end of the handshake.
        let credentials = Arc::new(Credentials::anonymous(asked.peer.ip, transport.name()));
        let mut grant = GrantRenewal::new(&state.authorizer, None);
        grant.add(&asked.prefix.channels, Validity::EndsAt(Instant::now() + AFTER_HANDSHAKE), &credentials);
        pump.set_grant(Some(grant));
        pump.hello();
        (pump, Commands::Refused)
    } else {
        let Admitted { client, credentials, session, grant } = asked.admit(transport).await?;
        let speaker = Speaker::new(&asked, client.clone(), credentials);
        let heartbeat = state.settings.heartbeat.min(HEARTBEAT);
        let channels: &[_] = if session.is_some() { &[] } else { &asked.prefix.channels };
        let mut pump = begin(channels, Some(client), u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX));
        pump.set_grant(grant);
        if let Some(session) = session {
            pump.subscription().start(Start::After(session.cursor), None);
            pump.set_session(live_session(state, session));
        }
        pump.hello();
        (pump, Commands::Protocol(Box::new(Socket { speaker, is_raw })))
    };
    let mut response = response::whole(upgrade.status(), "", "");
    upgrade.write_headers(response.headers_mut());
    let session = DuplexSession::new(state, transport, pump, commands)?;
    *response.body_mut() = Body::Session(Session::Duplex(Box::new(session)));
    Ok(response)
}

/// Carries out the messages of a WebSocket.
struct Socket {
    speaker: Speaker,
    is_raw: bool,
}

impl Socket {
    /// The texts in a frame, as JSON strings; `None` if the frame is not one of SockJS.
    fn texts(&self, frame: &[u8]) -> Option<Vec<String>> {
        let text = std::str::from_utf8(frame).ok()?;
        if self.is_raw {
            return Some(vec![json::quoted(text)]);
        }
        let messages = wire::of_frame(text).ok().filter(|messages| messages.len() <= MAX_MESSAGES)?;
        Some(messages::texts(&messages))
    }

    async fn carry_out(&mut self, state: &Arc<ServerState>, pump: &mut Pump, frame: &[u8]) {
        let speaker = &self.speaker;
        if let Err(refusal) = state.rates.request(speaker.credentials.ip) {
            return speaker.refused(state, refusal.code);
        }
        let Some(texts) = self.texts(frame) else {
            return pump.end(websocket::close_frame(BROKEN, "Broken framing."));
        };
        if speaker.prefix.on_message == OnMessage::Hook {
            if let Some((session, _)) = pump.session() {
                let answers = speaker.to_application(state, session.state(), texts);
                let (speaker, state) = (speaker.clone(), state.clone());
                // The messages for the client do not wait for the application.
                tokio::spawn(async move {
                    for answer in answers {
                        if let Err(error) = answer.await {
                            speaker.refused(&state, error.code);
                        }
                    }
                });
            }
            return;
        }
        match speaker.carry_out(state, texts).await {
            Ok(Done::Nothing) => {}
            Ok(Done::Echo(texts)) => texts.iter().for_each(|text| self.echo(pump, text)),
            Err(error) => speaker.refused(state, error.code),
        }
    }

    /// Sends a text, which is a JSON string, to the client itself.
    fn echo(&self, pump: &mut Pump, text: &str) {
        let bare;
        let mut out = Vec::new();
        let bytes: &[u8] = if self.is_raw {
            bare = json::text_of(text).unwrap_or_default();
            bare.as_bytes()
        } else {
            let mut item = Vec::new();
            frame::item(text, &mut item);
            frame::array(&item, &mut out);
            &out
        };
        pump.push_frame(websocket::text_frame(bytes));
    }
}

impl ProtocolCommands for Socket {
    fn handle<'a>(&'a mut self, state: &'a Arc<ServerState>, pump: &'a mut Pump, frame: &'a [u8]) -> BoxFuture<'a, ()> {
        Box::pin(self.carry_out(state, pump, frame))
    }
}
