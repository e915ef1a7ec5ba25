//! The access requests to the authorizer, and its grants.

use super::credentials::Credentials;
use crate::message::{Channel, ClientId, User};
use crate::serve::limits::rate_limiter::Publisher;
use std::sync::Arc;
use tokio::time::Instant;

/// The action that a client wants to take on channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read the channels.
    Subscribe,
    /// Write to the channels.
    Publish,
}

impl Action {
    /// The name of the action on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Subscribe => "subscribe",
            Action::Publish => "publish",
        }
    }
}

/// A complete access request to the authorizer. An answer is valid for exactly this access request.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AccessRequest {
    /// The action.
    pub action: Action,
    /// The channels, in order.
    pub channels: Vec<Channel>,
    /// The client id that the request names.
    pub client: Option<ClientId>,
    /// The credentials of the request.
    pub credentials: Credentials,
}

/// The time for which a grant is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// For ever.
    Unlimited,
    /// The grant is valid until this moment. Then the server can ask the authorizer again.
    RenewAt(Instant),
    /// The grant is valid until this moment, and the server cannot prolong it.
    EndsAt(Instant),
}

/// A permission that the authorizer has given.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The time for which the grant is valid.
    pub validity: Validity,
    /// The publisher, for an access request about publishing.
    pub publisher: Publisher,
    /// The client id that the credentials are bound to.
    pub client: Option<ClientId>,
    /// The user that the credentials name.
    pub user: Option<Arc<User>>,
}

impl Grant {
    /// Makes a grant without an end.
    pub fn unlimited(publisher: Publisher) -> Grant {
        Grant { validity: Validity::Unlimited, publisher, client: None, user: None }
    }
}
