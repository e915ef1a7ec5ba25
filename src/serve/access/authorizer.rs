//! Decides which client may read and publish which channels, for every transport and for publishing.

use super::credentials::Credentials;
use super::keys::Keys;
use super::query::{AccessRequest, Action, Grant, Validity};
use super::tokens::Tokens;
use super::webhook::{Answer, Webhook};
use crate::message::{Channel, ClientId, Pattern, User, unmatched};
use crate::serve::limits::rate_limiter::Publisher;
use crate::transport::{ApiError, Code};
use std::sync::Arc;

/// Decides whether a client has a permission.
pub enum Authorizer {
    /// Every client may do everything. [`super::origin::OriginPolicy`] decides which clients may connect.
    Open,
    /// A client may do only what these rules allow.
    Guarded(Box<AccessRules>),
}

/// The sources of permissions, in the order in which the authorizer tries them.
#[derive(Default)]
pub struct AccessRules {
    /// Server keys, which allow everything.
    pub keys: Keys,
    /// Channels that every client may read.
    pub public: Vec<Pattern>,
    /// The verifier of tokens. A token contains its own permissions.
    pub tokens: Option<Tokens>,
    /// The application, which decides about all other access requests.
    pub application: Option<Webhook>,
    /// Whether the server must know the users of public channels. If it is true, the server also reads the tokens of
    /// clients that read only public channels.
    pub needs_users: bool,
    /// Beginnings of channels that a pattern matches only if it spells them: those of apps, which have their own keys.
    pub spelled: Vec<String>,
}

impl Authorizer {
    /// Whether every client may do everything.
    pub fn is_open(&self) -> bool {
        matches!(self, Authorizer::Open)
    }

    /// Grants the action for *all* channels of the access request, or refuses it.
    ///
    /// # Errors
    ///
    /// `unauthorized` if credentials are missing or invalid. `forbidden`, with the names of the channels, if the
    /// credentials do not allow these channels. `forbidden` also if the application did not answer.
    ///
    /// # Cancel safety
    ///
    /// If the returned future is dropped, a request to the application continues, and its answer is cached.
    pub async fn ask(&self, access_request: AccessRequest) -> Result<Grant, ApiError> {
        match self {
            Authorizer::Open => Ok(Grant::unlimited(Publisher::Anonymous(access_request.credentials.ip))),
            Authorizer::Guarded(rules) => rules.ask(access_request).await,
        }
    }

    /// Whether a client may see operators' data: channels, metrics.
    ///
    /// # Errors
    ///
    /// On a guarded server, only a server key gives access. Without it, the error is `unauthorized`, or `forbidden` if
    /// no key is configured.
    pub fn admit_operator(&self, credentials: &Credentials) -> Result<(), ApiError> {
        let (code, text) = match self {
            Authorizer::Guarded(rules) if rules.keys.is_empty() => (
                Code::Forbidden,
                "not available on this listener: configure --admin-listen, or --publish-key and send a key",
            ),
            Authorizer::Guarded(rules) if !rules.has_server_key(credentials) => (
                Code::Unauthorized,
                "this needs a server key, sent as Authorization: Bearer; or use the listener of --admin-listen",
            ),
            _ => return Ok(()),
        };
        Err(ApiError::new(code, text))
    }

    /// Identifies the sender of an event by the token in its credentials: returns its client id, and the `sub` of the
    /// token. `client` is the id that the client names.
    ///
    /// # Errors
    ///
    /// `unauthorized`: the token is not valid. `forbidden`: the token is bound to another client id.
    pub fn identify(
        &self,
        credentials: &Credentials,
        client: Option<ClientId>,
    ) -> Result<(Option<ClientId>, Option<String>), ApiError> {
        let Authorizer::Guarded(rules) = self else { return Ok((client, None)) };
        let (Some(tokens), Some(token)) = (&rules.tokens, credentials.token()) else { return Ok((client, None)) };
        if rules.has_server_key(credentials) {
            return Ok((client, None));
        }
        let permission = tokens.read(token)?;
        check_client(permission.client.as_ref(), client.as_ref())?;
        Ok((client.or(permission.client), permission.subject))
    }

    /// Returns the channels that the token in the credentials allows the client to read, and the end of this
    /// permission.
    pub fn covered(&self, credentials: &Credentials, channels: Vec<Channel>) -> Option<(Vec<Channel>, Validity)> {
        let Authorizer::Guarded(rules) = self else { return None };
        let tokens = rules.tokens.as_ref()?;
        let permission = tokens.read(credentials.token()?).ok()?;
        let denied: Vec<Channel> =
            permission.denied(Action::Subscribe, &rules.spelled, &channels).into_iter().cloned().collect();
        let covered = channels.into_iter().filter(|channel| !denied.contains(channel)).collect();
        Some((covered, Validity::EndsAt(permission.until)))
    }
}

impl AccessRules {
    fn has_server_key(&self, credentials: &Credentials) -> bool {
        credentials.bearer().is_some_and(|key| self.keys.has(key))
    }

    /// The user that a token names, for a channel that everybody may read. A token that is not valid is ignored.
    fn user_of(&self, credentials: &Credentials) -> Option<Arc<User>> {
        let tokens = self.tokens.as_ref().filter(|_| self.needs_users)?;
        tokens.read(credentials.token()?).ok()?.user()
    }

    async fn ask(&self, access_request: AccessRequest) -> Result<Grant, ApiError> {
        let AccessRequest { action, mut channels, client, credentials } = access_request;
        if self.has_server_key(&credentials) {
            return Ok(Grant::unlimited(Publisher::Server));
        }
        let by_address = Publisher::Address(credentials.ip);
        channels.sort_unstable();
        channels.dedup();
        if action == Action::Subscribe {
            channels = unmatched(&self.public, &self.spelled, &channels).into_iter().cloned().collect();
            if channels.is_empty() {
                return Ok(Grant { user: self.user_of(&credentials), ..Grant::unlimited(by_address) });
            }
        }
        if let (Some(tokens), Some(token)) = (&self.tokens, credentials.token()) {
            let permission = tokens.read(token)?;
            // A publisher does not name its own client id, because `exclude` may name any client.
            if action == Action::Subscribe {
                check_client(permission.client.as_ref(), client.as_ref())?;
            }
            deny(&permission.denied(action, &self.spelled, &channels))?;
            let user = permission.user();
            let publisher = permission.subject.map_or(by_address, Publisher::Subject);
            let validity = Validity::EndsAt(permission.until);
            return Ok(Grant { validity, publisher, client: permission.client, user });
        }
        let Some(application) = &self.application else {
            let text = format!("this needs credentials: {}", names(channels.iter()));
            return Err(ApiError::new(Code::Unauthorized, text));
        };
        let (wanted, credentials) = (channels.clone(), credentials.with_token(None));
        match application.ask(AccessRequest { action, channels, client, credentials }).await {
            Answer::Allowed(allowed) => {
                let is_denied = |channel: &&Channel| !allowed.channels.contains(channel.as_str());
                deny(&wanted.iter().filter(is_denied).collect::<Vec<_>>())?;
                let validity = Validity::RenewAt(allowed.until);
                Ok(Grant { validity, publisher: by_address, client: None, user: allowed.user })
            }
            Answer::Unauthorized => {
                let text = format!("the application wants you to sign in: {}", names(wanted.iter()));
                Err(ApiError::new(Code::Unauthorized, text))
            }
            Answer::Refused => {
                let text = format!("not allowed: {}; the application refuses it", names(wanted.iter()));
                Err(ApiError::new(Code::Forbidden, text))
            }
            Answer::Failed => {
                Err(ApiError::passing(Code::Forbidden, "the application that decides about access did not answer"))
            }
        }
    }
}

/// Refuses a client id if the token is bound to a different one.
fn check_client(bound: Option<&ClientId>, named: Option<&ClientId>) -> Result<(), ApiError> {
    match (bound, named) {
        (Some(bound), Some(named)) if bound != named => {
            Err(ApiError::new(Code::Forbidden, "the token is bound to another client id"))
        }
        _ => Ok(()),
    }
}

/// Refuses the whole access request if any channel is denied.
fn deny(denied: &[&Channel]) -> Result<(), ApiError> {
    if denied.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(Code::Forbidden, format!("not allowed: {}", names(denied.iter().copied()))))
}

fn names<'a>(channels: impl Iterator<Item = &'a Channel>) -> String {
    channels.map(Channel::as_str).collect::<Vec<_>>().join(", ")
}
