//! Who may read a prefix: the access rules decide, or the application.

use super::request::Asked;
use crate::cursor::{Cursor, Start};
use crate::message::ClientId;
use crate::serve::access::credentials::Credentials;
use crate::serve::access::query::{AccessRequest, Action, Validity};
use crate::serve::access::renewal::GrantRenewal;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::registry::CLOSED;
use crate::serve::client_sessions::state::{Membership, SessionState};
use crate::serve::events::connect;
use crate::serve::events::service::user_of;
use crate::serve::hook::call_type::CallType;
use crate::transport::page::OnMessage;
use crate::transport::{ApiError, Code, Transport};
use std::sync::Arc;

/// The dialect of the sessions, as the application sees it.
pub const DIALECT: &str = "sockjs";

/// A client that may read.
pub struct Admitted {
    /// Its client id.
    pub client: ClientId,
    /// Its credentials.
    pub credentials: Arc<Credentials>,
    /// Its client session, if the application has one.
    pub session: Option<SessionState>,
    /// The permission, if it has an end.
    pub grant: Option<GrantRenewal>,
}

impl Asked<'_> {
    fn is_for_application(&self) -> bool {
        self.prefix.on_message == OnMessage::Hook
    }

    /// Waits until the node can serve readers.
    ///
    /// # Errors
    ///
    /// `not_ready`.
    pub async fn ready(&self) -> Result<Cursor, ApiError> {
        let late = || ApiError::new(Code::NotReady, "the server is not ready; try again in a moment");
        let is_ready = !self.state.drain.has_begun() && self.state.is_ready().await;
        self.state.hub.head().filter(|_| is_ready).ok_or_else(late)
    }

    /// Asks whether the client may read the channels.
    async fn grant(&self, credentials: &Arc<Credentials>) -> Result<Option<GrantRenewal>, ApiError> {
        let state = self.state;
        if state.authorizer.is_open() {
            return Ok(None);
        }
        let channels = self.prefix.channels.clone();
        let credentials_of_request = Credentials::clone(credentials);
        let request =
            AccessRequest { action: Action::Subscribe, channels, client: None, credentials: credentials_of_request };
        let grant = state.authorizer.ask(request).await?;
        Ok((grant.validity != Validity::Unlimited).then(|| {
            let mut renewal = GrantRenewal::new(&state.authorizer, None);
            renewal.add(&self.prefix.channels, grant.validity, credentials);
            renewal
        }))
    }

    /// Admits a client that begins a session.
    ///
    /// # Errors
    ///
    /// The reason why the client may not read.
    pub async fn admit(&self, transport: &'static dyn Transport) -> Result<Admitted, ApiError> {
        let (state, prefix) = (self.state, self.prefix);
        let (client, credentials) = (ClientId::random(), self.credentials(transport));
        let decides =
            self.is_for_application() && state.hook.as_ref().is_some_and(|hook| hook.takes(CallType::Connect));
        let grant = if decides { None } else { self.grant(&credentials).await? };
        let head = self.ready().await?;
        if !self.is_for_application() {
            return Ok(Admitted { client, credentials, session: None, grant });
        }
        let random = || ApiError::new(Code::NotReady, "there are no random numbers");
        let id = SessionId::random().ok_or_else(random)?;
        let mut session = SessionState::new(id, DIALECT, &prefix.path, client.clone(), head);
        let joined = Membership { joined: Some(head), is_named: false };
        session.channels.extend(prefix.channels.iter().map(|channel| (channel.clone(), joined)));
        session.user = state.authorizer.identify(&credentials, None).ok().and_then(|(_, subject)| user_of(subject));
        let connect = self.connect(transport, &credentials);
        let session = connect::admit(state, session, &credentials, connect, CLOSED).await?;
        Ok(Admitted { client, credentials, session: Some(session), grant })
    }

    /// Admits a client that goes on with a session, from a position.
    ///
    /// # Errors
    ///
    /// The reason why the client may not read. `no_session`: the application has ended its session.
    pub async fn readmit(
        &self,
        transport: &'static dyn Transport,
        client: ClientId,
        session: Option<&str>,
        at: Cursor,
    ) -> Result<Admitted, ApiError> {
        let credentials = self.credentials(transport);
        let Some(session) = session else {
            let grant = self.grant(&credentials).await?;
            return Ok(Admitted { client, credentials, session: None, grant });
        };
        let session = connect::find_at(self.state, session, at, CLOSED).await?;
        Ok(Admitted { client, credentials, session: Some(session), grant: None })
    }

    /// The position from which a new session reads.
    pub fn begins_at(&self) -> Cursor {
        let last = Some(self.prefix.last).filter(|last| *last > 0);
        self.state.hub.subscribe(None, &self.prefix.channels, Start::Latest, last, None).cursor()
    }
}
