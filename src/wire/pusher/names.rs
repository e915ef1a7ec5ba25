//! The names of channels and events.

/// The longest name of a channel, in bytes.
pub const MAX_CHANNEL: usize = 200;

/// The longest name of an event, in bytes.
pub const MAX_EVENT: usize = 200;

/// The beginning of the events that clients send.
pub const CLIENT_EVENT: &str = "client-";

/// The beginning of the channel of one user. Only this user's clients may subscribe to it.
pub const SERVER_TO_USER: &str = "#server-to-user-";

/// Who may subscribe to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every client of the app.
    Public,
    /// Clients with a signature of the application.
    Private,
    /// As [`Private`](Access::Private). The payloads are encrypted, and clients do not send events.
    Encrypted,
    /// Clients with a signature that also covers the user. The channel knows its members.
    Presence,
    /// The clients of one user, after their sign-in.
    User,
}

/// What the name of a channel says about the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelKind {
    /// Who may subscribe.
    pub access: Access,
    /// Whether a new subscriber gets the last event.
    pub is_cache: bool,
}

impl ChannelKind {
    /// Whether a subscription needs a signature.
    pub fn needs_signature(self) -> bool {
        matches!(self.access, Access::Private | Access::Encrypted | Access::Presence)
    }

    /// Whether clients may send events to the channel.
    pub fn takes_client_events(self) -> bool {
        matches!(self.access, Access::Private | Access::Presence)
    }
}

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// The name of a channel.
    #[error("a channel name must be 1 to {MAX_CHANNEL} bytes of A-Z a-z 0-9 _ - = @ , . ;")]
    Channel,
    /// The name of an event.
    #[error("an event name must be 1 to {MAX_EVENT} bytes without control characters")]
    Event,
    /// The name of an event that only the server sends.
    #[error("event names that begin with pusher: or pusher_internal: are reserved for the server")]
    ReservedEvent,
}

/// Reads the name of a channel.
///
/// # Errors
///
/// The text is not the name of a channel.
pub fn channel(name: &str) -> Result<ChannelKind, BadName> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=@,.;".contains(&byte);
    let user = name.strip_prefix('#');
    let rest = user.unwrap_or(name);
    if rest.is_empty() || name.len() > MAX_CHANNEL || !rest.bytes().all(is_allowed) {
        return Err(BadName::Channel);
    }
    if user.is_some() {
        let is_known = name.len() > SERVER_TO_USER.len() && name.starts_with(SERVER_TO_USER);
        return if is_known {
            Ok(ChannelKind { access: Access::User, is_cache: false })
        } else {
            Err(BadName::Channel)
        };
    }
    // The longest prefix counts.
    let (access, rest) = [
        ("private-encrypted-", Access::Encrypted),
        ("private-", Access::Private),
        ("presence-", Access::Presence),
        ("", Access::Public),
    ]
    .into_iter()
    .find_map(|(prefix, access)| Some((access, name.strip_prefix(prefix)?)))
    .unwrap_or((Access::Public, name));
    Ok(ChannelKind { access, is_cache: rest.starts_with("cache-") })
}

/// Whether only the server may send an event with this name to clients.
pub fn is_reserved_event(name: &str) -> bool {
    name.starts_with("pusher:") || name.starts_with("pusher_internal:")
}

/// Checks the name of an event that a publisher sends.
///
/// # Errors
///
/// The text is not a name, or it is reserved.
pub fn event(name: &str) -> Result<(), BadName> {
    if name.is_empty() || name.len() > MAX_EVENT || name.chars().any(char::is_control) {
        return Err(BadName::Event);
    }
    if is_reserved_event(name) { Err(BadName::ReservedEvent) } else { Ok(()) }
}

/// Whether a text is a socket id: two numbers with a dot between them.
pub fn is_socket_id(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 100 && text.split_once('.').is_some_and(|(one, other)| is_number(one) && is_number(other))
}
