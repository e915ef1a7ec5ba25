//! Begins the session of a socket: one namespace of one connection.

use super::request::SECRETS;
use super::shared::Shared;
use crate::message::{Channel, ClientId};
use crate::serve::access::credentials::Credentials;
use crate::serve::access::query::{AccessRequest, Action};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::protocol::Bookmarks;
use crate::serve::client_sessions::registry::CLOSED;
use crate::serve::client_sessions::state::{Membership, SessionState};
use crate::serve::events::connect;
use crate::serve::events::service::user_of;
use crate::serve::hook::call::Connect;
use crate::serve::hook::call_type::CallType;
use crate::serve::state::ServerState;
use crate::transport::params::fields;
use crate::transport::{ApiError, Code};
use std::sync::Arc;

/// The dialect of the sessions, as the application sees it.
pub const DIALECT: &str = "socket.io";

/// The number of random bytes of a socket's public id.
const ID_BYTES: usize = 15;

/// The number of characters of a socket's public id, in base64.
const PUBLIC_LENGTH: usize = ID_BYTES * 4 / 3;

/// A namespace that a client wants to connect.
pub struct Wanted {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The id of its session; `None` for a new one.
    pub session: Option<SessionId>,
    /// The public id of the socket.
    pub client: ClientId,
    /// The credentials of the request.
    pub credentials: Arc<Credentials>,
    /// What the application is told.
    pub connect: Connect,
    /// Where its bookmark is.
    pub bookmarks: Bookmarks,
}

/// A new public id of a socket; `None` if the system has no random numbers.
pub fn public_id() -> Option<ClientId> {
    public_part(&SessionId::random()?)
}

/// A public id that is made of a secret one, which nothing else may be made of.
pub fn public_part(secret: &SessionId) -> Option<ClientId> {
    // A part of random characters is random, too. The rest is dropped, so the id does not tell the secret one.
    secret.secret().get(..PUBLIC_LENGTH)?.parse().ok()
}

/// Whether a text has the form of a public id.
pub fn is_public_id(text: &str) -> bool {
    text.len() == PUBLIC_LENGTH && is_base64(text)
}

/// Whether a text has the form of the secret part of a connection's id.
pub fn is_secret_part(text: &str) -> bool {
    text.len() > PUBLIC_LENGTH && is_base64(text)
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The channel of a whole namespace.
pub fn channel_of(namespace: &str) -> Option<Channel> {
    Channel::escaped(namespace.as_bytes()).ok()
}

/// The error for a namespace that does not exist. Clients know these words.
pub fn invalid_namespace() -> ApiError {
    ApiError::new(Code::Forbidden, "Invalid namespace")
}

/// Begins the session of a socket.
///
/// # Errors
///
/// The reason why the client cannot have the namespace.
pub async fn open(state: Arc<ServerState>, shared: Arc<Shared>, wanted: Wanted) -> Result<SessionState, ApiError> {
    let Wanted { namespace, session, client, credentials, connect, bookmarks } = wanted;
    let not_ready = || ApiError::new(Code::NotReady, "the server has not read its log yet; try again in a moment");
    let channel = channel_of(&namespace).ok_or_else(invalid_namespace)?;
    let decides = state.hook.as_ref().is_some_and(|hook| hook.takes(CallType::Connect));
    if !decides && !shared.settings.names(&namespace) {
        let channels = vec![channel.clone()];
        let credentials = Credentials::clone(&credentials);
        let request = AccessRequest { action: Action::Subscribe, channels, client: None, credentials };
        state.authorizer.ask(request).await.map_err(|_| invalid_namespace())?;
    }
    if !state.is_ready().await {
        return Err(not_ready());
    }
    let head = state.hub.head().ok_or_else(not_ready)?;
    let id = session.or_else(SessionId::random);
    let id = id.ok_or_else(|| ApiError::new(Code::NotReady, "there are no random numbers"))?;
    let mut session = SessionState::new(id, DIALECT, &namespace, client, head);
    session.bookmarks = bookmarks;
    let joined = Membership { joined: Some(head), is_named: false };
    for channel in shared.settings.joins_of(&namespace).chain([&channel]) {
        session.channels.insert(channel.clone(), joined);
    }
    // A page may have tokens that are for its application only.
    session.user = state.authorizer.identify(&credentials, None).ok().and_then(|(_, subject)| user_of(subject));
    connect::admit(&state, session, &credentials, connect, CLOSED).await
}

/// The longest token of a namespace, in bytes.
const MAX_TOKEN: usize = 8192;

/// The token that a page gives for a namespace: in the `auth` object, or in the query of the packet.
///
/// # Errors
///
/// The token is too long.
pub fn token(auth: Option<&str>, query: Option<&str>) -> Result<Option<String>, ApiError> {
    #[derive(serde::Deserialize)]
    struct Auth {
        #[serde(default)]
        token: Option<String>,
    }
    let auth = auth.and_then(|auth| serde_json::from_str::<Auth>(auth).ok()?.token);
    let mut fields = fields(query.unwrap_or_default().as_bytes(), None);
    let token = auth.or_else(|| fields.find(|(name, _)| name == "token").map(|(_, value)| value.into_owned()));
    if token.as_ref().is_some_and(|token| token.len() > MAX_TOKEN) {
        return Err(ApiError::new(Code::BadRequest, format!("a token may have at most {MAX_TOKEN} bytes")));
    }
    Ok(token)
}

/// The credentials of a connection, with the token of a namespace.
pub fn with_token(credentials: &Arc<Credentials>, token: Option<&str>) -> Arc<Credentials> {
    match token {
        Some(_) => Arc::new(Credentials::clone(credentials).with_token(token)),
        None => credentials.clone(),
    }
}

/// Adds the fields of a packet's query to those of the request, without the secrets.
pub fn add_query(connect: &mut Connect, query: Option<&str>) {
    for (name, value) in fields(query.unwrap_or_default().as_bytes(), None) {
        if !SECRETS.contains(&&*name) {
            connect.query.insert(name.into_owned(), value.into_owned());
        }
    }
}
