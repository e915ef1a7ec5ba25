//! How the session of a connection begins, where the client asks for it with a command and not with its handshake.

use crate::message::{ClientId, User};
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::protocol::SessionProtocol;
use crate::serve::client_sessions::registry::CLOSED;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::events::connect::{self, SessionRequest};
use crate::serve::hook::call::Connect;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, WantedSession};
use std::sync::Arc;

/// What is known about a connection whose session has not begun.
pub struct Opening {
    /// The protocol.
    pub protocol: SessionProtocol,
    /// The path, as the application sees it.
    pub endpoint: String,
    /// What the application is told about the handshake.
    pub connect: Connect,
}

impl Opening {
    /// Begins the session.
    ///
    /// # Errors
    ///
    /// The reason why the client cannot have a session: the application refuses it, for example.
    pub async fn open(
        self,
        state: &Arc<ServerState>,
        credentials: &Arc<Credentials>,
        client: Option<ClientId>,
        user: Option<Arc<User>>,
    ) -> Result<SessionState, ApiError> {
        let connect = Connect { auth: credentials.token().and_then(Connect::token), ..self.connect };
        let request = SessionRequest {
            wanted: &WantedSession::New,
            protocol: self.protocol,
            endpoint: &self.endpoint,
            client,
            channels: &[],
            start: None,
            credentials,
            user,
            connect,
            // From then on, the node renews the deadline.
            time: CLOSED,
        };
        connect::open(state, request).await
    }
}
