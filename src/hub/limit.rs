//! The limit on one step of a reader.

/// The limit on the messages that one step copies out. The first message is copied even if it is larger.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The maximum number of messages; at least 1.
    pub messages: usize,
    /// The maximum number of bytes of JSON.
    pub bytes: usize,
}

/// The limit on one step of a reader. A direct write by the hub also respects the limit on bytes. But it contains all
/// messages of one turn of the tail, so it may exceed the limit on messages.
pub const LIMIT: Limit = Limit { messages: 256, bytes: 256 << 10 };
