//! The limits of packets, and the errors of those that break a rule.

/// The most binary parts of a packet, as in the parsers since March 2026.
pub const MAX_ATTACHMENTS: usize = 10;

/// The longest namespace in bytes, with its query.
pub const MAX_NAMESPACE: usize = 4096;

/// The largest ack id: the largest number that a script counts exactly.
pub const MAX_ACK: u64 = (1 << 53) - 1;

/// Why a text or a sequence of packets is not Socket.IO. The connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text does not begin with a type.
    #[error("the type of the packet is not a digit from 0 to 6")]
    UnknownType,
    /// A binary packet does not say how many parts follow.
    #[error("the packet does not say how many binary parts follow")]
    Attachments,
    /// Too many binary parts follow.
    #[error("a packet may have at most {MAX_ATTACHMENTS} binary parts")]
    TooManyAttachments,
    /// The namespace is too long.
    #[error("a namespace may have at most {MAX_NAMESPACE} bytes")]
    Namespace,
    /// The ack id is too large.
    #[error("the ack id is larger than {MAX_ACK}")]
    Ack,
    /// The JSON does not have the form of an event.
    #[error("an event has to be a JSON array that begins with the name")]
    Event,
    /// The event's name is reserved.
    #[error("the name of the event is reserved")]
    ReservedEvent,
    /// The JSON is not valid, or does not have the form that the type needs.
    #[error("the JSON of the packet is not valid for its type")]
    Json,
    /// Binary data came without a packet that waits for it.
    #[error("binary data came, but no packet waits for it")]
    UnexpectedBinary,
    /// A text came while binary parts of a packet were missing.
    #[error("a text came before all binary parts of the packet")]
    UnexpectedText,
    /// A place in the JSON names a part that does not exist, or one that has a place already.
    #[error("the packet refers to a binary part that it does not have, or twice to one part")]
    Placeholder,
    /// The packet and its parts are too long.
    #[error("the packet and its binary parts are too long")]
    TooLong,
}
