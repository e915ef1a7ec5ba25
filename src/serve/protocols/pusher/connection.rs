//! A connection of a client: it carries out the client's commands.

use super::apps::{App, AppPermit};
use super::metrics::{PusherMetrics, Refused};
use super::transport;
use crate::cursor::Start;
use crate::message::{Channel, ClientId, User};
use crate::serve::limits::token_bucket::{Refill, TokenBucket};
use crate::serve::presence::stay::Stay;
use crate::serve::session::protocol_commands::ProtocolCommands;
use crate::serve::session::pump::Pump;
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use crate::wire::pusher::channel_data::{self, SignedUser};
use crate::wire::pusher::close::CloseCode;
use crate::wire::pusher::encode;
use crate::wire::pusher::frame::{self, Command};
use crate::wire::pusher::signature::split_auth;
use futures_util::future::BoxFuture;
use prometheus_client::metrics::gauge::Gauge;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The events that a client may send per second.
pub(super) const CLIENT_EVENTS: u32 = 10;

/// How long a command waits for the rate limit at most, and how long it waits at least before it tries again.
const LONGEST_TURN: Duration = Duration::from_secs(10);
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// A connection of a client.
pub struct Connection {
    pub(super) app: Arc<App>,
    pub(super) ip: IpAddr,
    /// The id of the socket, which is the client id of its subscription.
    pub(super) socket: ClientId,
    /// The stays of the client's user in presence channels.
    pub(super) memberships: Vec<Membership>,
    /// The user that the client has proven.
    pub(super) user: Option<Arc<User>>,
    /// The tokens for events of the client.
    pub(super) events: TokenBucket,
    pub(super) metrics: PusherMetrics,
    /// The number of connections of the app, for the metrics.
    connections: Gauge,
    _permit: AppPermit,
}

/// The stay of a user in a presence channel.
pub(super) struct Membership {
    pub(super) channel: Channel,
    pub(super) user: String,
    /// Keeps the user a member.
    pub(super) stay: Option<Stay>,
}

impl Connection {
    /// Makes a connection.
    pub fn new(app: Arc<App>, permit: AppPermit, ip: IpAddr, socket: ClientId, metrics: PusherMetrics) -> Connection {
        let events = TokenBucket::full(&Refill::of_one_second(CLIENT_EVENTS), Instant::now());
        let connections = metrics.connections(&app.id);
        connections.inc();
        Connection {
            app,
            ip,
            socket,
            memberships: Vec::new(),
            user: None,
            events,
            metrics,
            connections,
            _permit: permit,
        }
    }

    async fn carry_out(&mut self, state: &Arc<ServerState>, pump: &mut Pump, frame: &[u8]) {
        if let Err(refusal) = self.turn(state).await {
            return self.refuse(pump, Refused::Frame, None, &refusal.message);
        }
        let command = std::str::from_utf8(frame).map_err(|_| frame::BadFrame::NotAFrame).and_then(frame::read);
        match command {
            Ok(Command::Ping) => send(pump, encode::pong),
            Ok(Command::Subscribe(subscribe)) => self.subscribe(state, pump, &subscribe).await,
            Ok(Command::Unsubscribe(name)) => self.unsubscribe(pump, &name),
            Ok(Command::ClientEvent { event, channel, data }) => {
                if let Err(refusal) = self.client_event(state, pump, &event, &channel, data).await {
                    self.refuse(pump, Refused::ClientEvent, Some(CloseCode::ClientEventRefused), &refusal);
                }
            }
            Ok(Command::Signin { auth, user_data }) => match self.signin(pump, &auth, &user_data) {
                Ok(()) => send(pump, |out| encode::signin_success(&user_data, out)),
                Err(refusal) => self.refuse(pump, Refused::Signin, Some(CloseCode::Unauthorized), &refusal),
            },
            Ok(Command::Pong | Command::Unknown) => {}
            Err(bad) => self.refuse(pump, Refused::Frame, None, &bad.to_string()),
        }
    }

    /// Waits until the rate limit allows a command. Client libraries do not repeat a command, so it is refused only after
    /// a long wait. Commands are carried out one after the other, and the client cannot make more than one wait.
    async fn turn(&self, state: &ServerState) -> Result<(), ApiError> {
        let until = Instant::now() + LONGEST_TURN;
        let mut is_counted = false;
        loop {
            let Err(refusal) = state.rates.request(self.ip) else { return Ok(()) };
            if !std::mem::replace(&mut is_counted, true) {
                state.rejections.count(refusal.code);
            }
            let at = Instant::now() + refusal.retry.unwrap_or(SHORTEST_WAIT).max(SHORTEST_WAIT);
            if at >= until {
                return Err(refusal);
            }
            tokio::time::sleep_until(at).await;
        }
    }

    /// Notes the user of the client, if the application has signed it. From then on, the application can end the
    /// connections of the user.
    fn signin(&mut self, pump: &mut Pump, auth: &str, user_data: &str) -> Result<(), String> {
        let signed = split_auth(auth).filter(|(key, _)| *key == self.app.key);
        let (_, signature) = signed.ok_or("auth must be the key of the app, a colon and a signature")?;
        if !self.app.secret.proves_user(&self.socket.to_string(), user_data, signature) {
            return Err("the signature is not that of this socket and this user: check the secret of the app".into());
        }
        let SignedUser { id, info } = channel_data::user_data(user_data).map_err(|bad| bad.to_string())?;
        let user = User::new(&id, Some(info.unwrap_or("{}"))).map_err(|bad| bad.to_string())?;
        if self.user.as_ref().is_some_and(|known| known.id() != user.id()) {
            return Err("the connection belongs to another user: a client signs in once per connection".into());
        }
        let channel = self.app.user_channel(&id).map_err(|bad| bad.to_string())?;
        read(pump, &channel);
        self.user = Some(Arc::new(user));
        Ok(())
    }

    fn unsubscribe(&mut self, pump: &mut Pump, name: &str) {
        let Ok(channel) = self.app.channel(name) else { return };
        pump.subscription().remove(&channel);
        pump.filter().forget(&channel);
        self.memberships.retain(|membership| membership.channel != channel);
    }

    /// Answers with an error. The connection goes on.
    pub(super) fn refuse(&self, pump: &mut Pump, what: Refused, code: Option<CloseCode>, message: &str) {
        self.metrics.refused(what);
        send(pump, |out| encode::error(code, message, out));
    }
}

/// Reads a channel from the present position on.
pub(super) fn read(pump: &mut Pump, channel: &Channel) {
    let subscription = pump.subscription();
    // A connection without a channel does not move on with the log.
    let is_first = subscription.channels() == 0;
    subscription.add(channel);
    subscription.read_members(true);
    if is_first {
        subscription.start(Start::Latest, None);
    }
}

/// Sends a frame to the client.
pub(super) fn send(pump: &mut Pump, write: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::with_capacity(128);
    transport::text_frame(&mut out, write);
    pump.push_frame(out.into());
}

impl ProtocolCommands for Connection {
    fn handle<'a>(&'a mut self, state: &'a Arc<ServerState>, pump: &'a mut Pump, frame: &'a [u8]) -> BoxFuture<'a, ()> {
        Box::pin(self.carry_out(state, pump, frame))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.dec();
    }
}
