//! Executes the commands of duplex clients: subscribe, unsubscribe, publish, event, ping. The dialect parses the
//! commands.

use super::opening::Opening;
use super::own_frames;
use super::pending::PendingAnswer;
use super::pump::Pump;
use crate::cursor::{Cursor, Start};
use crate::message::{Channel, ClientId, Draft, User};
use crate::serve::access::credentials::Credentials;
use crate::serve::access::query::{AccessRequest, Action, Grant, Validity};
use crate::serve::access::renewal::GrantRenewal;
use crate::serve::client_sessions::live::LiveSession;
use crate::serve::client_sessions::protocol::NATIVE;
use crate::serve::client_sessions::registry::CLOSED;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::events::connect::{self, SessionRequest};
use crate::serve::events::service::{self as events, Sender};
use crate::serve::hook::call::Connect;
use crate::serve::limits::memory::Reservation;
use crate::serve::presence::stay::Stay;
use crate::serve::publishing::service;
use crate::serve::state::ServerState;
use crate::transport::params::{Params, too_many_channels};
use crate::transport::{ApiError, Code, Command, Control, Dialect, Subscribe, WantedSession};
use std::sync::Arc;

/// The action that the connection must take after a command.
pub enum Outcome {
    /// No action: the answer is already queued in the pump.
    Done,
    /// Append these drafts, and then answer. The fields are the drafts, the command's reference, and the memory that
    /// the drafts take. If there is not enough memory, the last field is the error.
    Publish(Vec<Draft>, Option<String>, Result<Reservation, ApiError>),
    /// Wait for the application's answer to an event.
    Event(PendingAnswer),
    /// End the connection: the command was too large, or the protocol ends a connection after any error.
    Close,
}

/// Handles the commands of a connection.
pub struct CommandHandler {
    /// The client's credentials. The token of a command replaces them for all later commands.
    credentials: Arc<Credentials>,
    /// Whether the client has named its client id. Credentials may be bound to an id that the client has named, but not
    /// to an id that the server has generated.
    client_named: bool,
    /// Whether the client has sent a position or named channels. After that, the position cannot change.
    position_fixed: bool,
    channels_named: bool,
    /// How the session of the connection begins, if it begins with a command.
    opening: Option<Box<Opening>>,
    /// The `last` of a URL without channels. It applies to the first channels that the client names.
    last: Option<u16>,
}

impl CommandHandler {
    /// Makes a handler for raw TCP, whose clients do not send a URL.
    pub fn new(credentials: Arc<Credentials>) -> CommandHandler {
        CommandHandler {
            credentials,
            client_named: false,
            position_fixed: false,
            channels_named: false,
            opening: None,
            last: None,
        }
    }

    /// Makes a handler for a connection that began with a request with these parameters. `client_named`: whether the
    /// parameters include a client id.
    pub fn after(credentials: Arc<Credentials>, params: &Params, client_named: bool) -> CommandHandler {
        let channels_named = !params.channels.is_empty();
        // A session reads its changes from the beginning of the connection on.
        let position_fixed = channels_named || !params.begins_later() || params.session.is_some();
        // `last` is at most 1000.
        let last = params.last.map(|last| u16::try_from(last).unwrap_or(u16::MAX));
        CommandHandler { credentials, client_named, position_fixed, channels_named, opening: None, last }
    }

    /// Begins a session when the client sends the command for it.
    pub fn open_later(&mut self, opening: Opening) {
        self.opening = Some(Box::new(opening));
    }

    /// The memory that the credentials take until the connection ends.
    pub fn held(&self) -> usize {
        self.credentials.size()
    }

    /// Handles one command and answers it through the pump. An error ends only the command, not the connection.
    pub async fn handle(
        &mut self,
        state: &Arc<ServerState>,
        pump: &mut Pump,
        dialect: &mut dyn Dialect,
        frame: &[u8],
    ) -> Outcome {
        let mut reference = None;
        match self.try_handle(state, pump, dialect, frame, &mut reference).await {
            Ok(outcome) => outcome,
            Err(refusal) => {
                state.rejections.count(refusal.code);
                pump.push_control(&Control::Error { reference: reference.as_deref(), error: &refusal });
                if refusal.code == Code::TooLarge || dialect.ends_on_error() { Outcome::Close } else { Outcome::Done }
            }
        }
    }

    async fn try_handle(
        &mut self,
        state: &Arc<ServerState>,
        pump: &mut Pump,
        dialect: &mut dyn Dialect,
        frame: &[u8],
        reference: &mut Option<String>,
    ) -> Result<Outcome, ApiError> {
        let head = dialect.head(frame)?;
        reference.clone_from(&head.reference);
        // The rate limiter counts the command before the server parses the rest of it. So if a client is over its
        // limit, the server parses only the head of the command.
        state.rates.request(self.credentials.ip)?;
        let command = dialect.command(&head, state.settings.max_message)?;
        if let Some(envelope) = dialect.envelope() {
            pump.set_envelope(envelope);
        }
        let credentials = match &head.token {
            Some(token) => Arc::new(self.credentials.with_command_token(token)),
            None => self.credentials.clone(),
        };
        match command {
            Command::Subscribe(subscribe) => {
                let cursor = self.subscribe(state, pump, subscribe, credentials).await?;
                pump.push_control(&Control::Ack { reference: reference.as_deref(), cursor: Some(cursor), id: None });
            }
            Command::Unsubscribe(channels) => {
                let cursor = unsubscribe(pump, &channels);
                pump.push_control(&Control::Ack { reference: reference.as_deref(), cursor: Some(cursor), id: None });
            }
            Command::Publish(draft) => return self.publish(state, pump, draft, reference, credentials).await,
            Command::Broadcast(draft) => {
                let draft = Draft { exclude: pump.subscription().client().cloned(), ..draft };
                return self.publish(state, pump, draft, reference, credentials).await;
            }
            Command::Echo(draft) => own_frames::echo(pump, &draft.into_message(None)),
            Command::Connect => self.connect(state, pump, credentials).await?,
            Command::Disconnect => own_frames::leave(pump, reference.as_deref()),
            Command::Ignored => state.rejections.count_reason("ignored"),
            Command::Event(event) => {
                let answer = events::send(state, self.sender(pump, &credentials), event)?;
                self.credentials = credentials;
                return Ok(Outcome::Event(PendingAnswer::to_event(reference.take(), answer)));
            }
            Command::Ack(ack) => {
                let answer = events::acknowledge(state, self.sender(pump, &credentials), ack)?;
                self.credentials = credentials;
                return Ok(Outcome::Event(PendingAnswer::to_event(reference.take(), answer)));
            }
            Command::Ping => pump.push_control(&Control::Pong { reference: reference.as_deref() }),
        }
        Ok(Outcome::Done)
    }

    /// Begins a connection whose client has now said what it is.
    async fn connect(
        &mut self,
        state: &Arc<ServerState>,
        pump: &mut Pump,
        credentials: Arc<Credentials>,
    ) -> Result<(), ApiError> {
        let (client, subject) = state.authorizer.identify(&credentials, None)?;
        if let Some(opening) = self.opening.take() {
            let user = events::user_of(subject);
            let session = opening.open(state, &credentials, client.clone(), user).await?;
            pump.subscription().set_client(session.client.clone());
            let mut session = live_session(state, session);
            session.end_with_stream();
            pump.set_session(session);
            // The session reads its changes from here on.
            self.position_fixed = true;
        } else if let Some(client) = client {
            pump.subscription().set_client(client);
        }
        self.client_named = pump.subscription().client().is_some();
        self.credentials = credentials;
        pump.hello();
        Ok(())
    }

    async fn publish(
        &mut self,
        state: &Arc<ServerState>,
        pump: &mut Pump,
        draft: Draft,
        reference: &mut Option<String>,
        credentials: Arc<Credentials>,
    ) -> Result<Outcome, ApiError> {
        let mut reservation = state.budget.publication();
        // The server reserves the memory before it asks the authorizer, because the answer may take time.
        if let Err(refusal) = reservation.resize(draft.size()) {
            return Ok(Outcome::Publish(Vec::new(), reference.take(), Err(refusal)));
        }
        let client = pump.subscription().client().cloned();
        let mut drafts = vec![draft];
        service::authorize(state, &credentials, client, &mut drafts).await?;
        self.credentials = credentials;
        Ok(Outcome::Publish(drafts, reference.take(), Ok(reservation)))
    }

    /// The client of this connection, as the sender of an event.
    fn sender(&self, pump: &mut Pump, credentials: &Arc<Credentials>) -> Sender {
        let session = pump.session().map(|(session, _)| Box::new(session.state().clone()));
        let connection = pump.subscription();
        Sender {
            named: connection.client().filter(|_| self.client_named).cloned(),
            made: connection.client().cloned(),
            credentials: credentials.clone(),
            channels: connection.names().filter(|channel| !channel.is_reserved()).cloned().collect(),
            session,
        }
    }

    async fn subscribe(
        &mut self,
        state: &Arc<ServerState>,
        pump: &mut Pump,
        subscribe: Subscribe,
        credentials: Arc<Credentials>,
    ) -> Result<Cursor, ApiError> {
        self.check(state, pump, &subscribe)?;
        let Subscribe { channels, start, last, client, presence, session } = subscribe;
        // Only the first client id that a client names counts.
        let known = pump.subscription().client().filter(|_| self.client_named).cloned();
        let named = if self.channels_named { known.clone() } else { client.or_else(|| known.clone()) };
        let access_request = AccessRequest {
            action: Action::Subscribe,
            channels: channels.clone(),
            client: named.clone(),
            credentials: Credentials::clone(&credentials),
        };
        let grant = state.authorizer.ask(access_request).await?;
        let opened = match &session {
            Some(wanted) => {
                let named = named.as_ref().or(grant.client.as_ref()).cloned();
                Some(self.open_session(state, wanted, named, &channels, start, &credentials, grant.user.clone()).await?)
            }
            None => None,
        };
        let known_user = match &opened {
            Some(opened) => opened.user.clone(),
            None => pump.session().and_then(|(session, _)| session.user().cloned()),
        };
        let user = grant.user.clone().or(known_user);
        let stay = match (&state.presence, &user) {
            (Some(presence), Some(user)) => {
                // The client may have subscribed without a user to a channel that it already reads.
                let held = pump.grant().and_then(|renewal| renewal.stay());
                let is_held = |channel: &Channel| held.is_some_and(|stay| stay.holds(channel));
                let unheld: Vec<Channel> = channels.iter().filter(|channel| !is_held(channel)).cloned().collect();
                presence.join(&unheld, user, named.as_ref().or(grant.client.as_ref())).await?
            }
            _ => None,
        };
        // The code above does not change any state. So the server executes a command completely or not at all.
        let named =
            named.or_else(|| grant.client.clone()).or_else(|| opened.as_ref().map(|session| session.client.clone()));
        if named != known
            && let Some(client) = &named
        {
            state.hub.left_polling(&channels, client);
            pump.subscription().set_client(client.clone());
        }
        self.client_named = named.is_some();
        self.hold(state, pump, &channels, &grant, stay, named, &credentials);
        self.credentials = credentials;
        let subscription = pump.subscription();
        if let Some(presence) = presence {
            subscription.read_members(presence);
        }
        for channel in &channels {
            subscription.add(channel);
        }
        if !self.position_fixed {
            subscription.start(start.unwrap_or(Start::Latest), last.or(self.last.map(usize::from)));
        }
        if let Some(opened) = opened {
            pump.set_session(live_session(state, opened));
        } else if let Some((session, subscription)) = pump.session() {
            session.name(&channels)?;
            session.attach(subscription);
        }
        let subscription = pump.subscription();
        (self.position_fixed, self.channels_named) = (true, true);
        // On raw TCP, the stream begins here: first the hello, then the ack.
        let cursor = subscription.cursor();
        pump.hello();
        Ok(cursor)
    }

    /// Checks a `subscribe` before anything is asked for it.
    fn check(&self, state: &ServerState, pump: &mut Pump, subscribe: &Subscribe) -> Result<(), ApiError> {
        let Subscribe { channels, start, last, session, .. } = subscribe;
        if (start.is_some() || last.is_some()) && self.position_fixed {
            let rule = "a connection has one cursor: send cursor and last only with its first channels";
            return Err(ApiError::new(Code::CursorFixed, rule));
        }
        if session.is_some() && (self.position_fixed || self.channels_named) {
            let rule = "a connection has one session: send session only with its first channels";
            return Err(ApiError::new(Code::CursorFixed, rule));
        }
        let most = state.settings.limits.channels;
        let (named, new) = match pump.session() {
            // The channels that the application has made it join do not count.
            Some((session, _)) => (session.named(), session.check_named(channels)?),
            None => {
                let subscription = pump.subscription();
                (subscription.channels(), channels.iter().filter(|channel| !subscription.reads(channel)).count())
            }
        };
        if named + new > most {
            return Err(too_many_channels(most));
        }
        Ok(())
    }

    /// Holds a grant and a stay for as long as the subscription runs.
    #[expect(clippy::too_many_arguments, reason = "each of them is a part of the command")]
    fn hold(
        &self,
        state: &ServerState,
        pump: &mut Pump,
        channels: &[Channel],
        grant: &Grant,
        stay: Option<Stay>,
        client: Option<ClientId>,
        credentials: &Arc<Credentials>,
    ) {
        if (grant.validity != Validity::Unlimited || stay.is_some()) && pump.grant().is_none() {
            pump.set_grant(Some(GrantRenewal::new(&state.authorizer, client)));
        }
        if let Some(renewal) = pump.grant() {
            renewal.add(channels, grant.validity, credentials);
            // The info that came last counts in all channels of the user.
            if let (Some(user), Some(held)) = (&grant.user, renewal.stay()) {
                held.set_user(user);
            }
            if let Some(stay) = stay {
                renewal.hold(stay);
            }
            // A newer token also prolongs the grants of an older one.
            if let (Validity::EndsAt(end), false) = (grant.validity, Arc::ptr_eq(credentials, &self.credentials))
                && let Some((covered, validity)) = state.authorizer.covered(credentials, renewal.ending_before(end))
            {
                renewal.add(&covered, validity, credentials);
            }
        }
    }

    /// Opens the session that the first `subscribe` wants.
    #[expect(clippy::too_many_arguments, reason = "each of them is a part of the command")]
    async fn open_session(
        &self,
        state: &Arc<ServerState>,
        wanted: &WantedSession,
        client: Option<ClientId>,
        channels: &[Channel],
        start: Option<Start>,
        credentials: &Arc<Credentials>,
        user: Option<Arc<User>>,
    ) -> Result<SessionState, ApiError> {
        let connect = Connect {
            ip: Some(credentials.ip),
            transport: credentials.transport.to_owned(),
            auth: credentials.token().and_then(Connect::token),
            ..Connect::default()
        };
        // From then on, the node renews the deadline.
        let time = CLOSED;
        let protocol = NATIVE;
        let endpoint = "/";
        let request =
            SessionRequest { wanted, protocol, endpoint, client, channels, start, credentials, user, connect, time };
        connect::open(state, request).await
    }
}

/// The session of a stream, whose user is a member of channels with presence.
pub fn live_session(state: &ServerState, session: SessionState) -> LiveSession {
    let mut live = LiveSession::of_stream(&state.sessions, &state.hub, session);
    live.set_presence(state.presence.clone());
    live
}

fn unsubscribe(pump: &mut Pump, channels: &[Channel]) -> Cursor {
    match pump.session() {
        Some((session, subscription)) => {
            session.unname(channels);
            session.attach(subscription);
        }
        None => channels.iter().for_each(|channel| pump.subscription().remove(channel)),
    }
    let subscription = pump.subscription();
    let cursor = subscription.cursor();
    if let Some(renewal) = pump.grant() {
        channels.iter().for_each(|channel| renewal.remove(channel));
    }
    cursor
}
