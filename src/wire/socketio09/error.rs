//! The errors of packets and bodies that break a rule.

/// The longest endpoint in bytes, with its query.
pub const MAX_ENDPOINT: usize = 4096;

/// Why a text is not a packet of Socket.IO 0.9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text does not begin with a type.
    #[error("the type of the packet is not a digit from 0 to 8")]
    UnknownType,
    /// The text has fewer than two colons.
    #[error("the packet does not have a place for its id and its endpoint")]
    Cut,
    /// The id is not a number.
    #[error("the id of the packet is not a number of at most 15 digits")]
    Id,
    /// The endpoint is too long.
    #[error("an endpoint may have at most {MAX_ENDPOINT} bytes")]
    Endpoint,
    /// The data of an event does not have its form.
    #[error("an event has to be a JSON object with a name and perhaps an array of args")]
    Event,
    /// The data of a `json` is not JSON.
    #[error("the data of the packet is not JSON")]
    Json,
    /// The data of an `ack` does not have its form.
    #[error("an answer has to be an id and perhaps a plus sign and a JSON array")]
    Ack,
    /// The text is not UTF-8.
    #[error("the text is not UTF-8")]
    Utf8,
    /// A frame of U+FFFD does not have a length.
    #[error("the length of a packet is not a number of 1 to 10 digits between two U+FFFD")]
    Length,
    /// The body ends within a packet, or a packet ends within a character.
    #[error("the length of a packet does not fit the body")]
    Body,
    /// The post of a JSONP client does not have the field `d`.
    #[error("the form does not have the field d")]
    Field,
}
