//! The types of calls to the application.

/// The type of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallType {
    /// A client begins a session.
    Connect,
    /// A client sends an event.
    Event,
    /// A client answers an event of the application.
    Ack,
    /// A session has ended.
    Disconnect,
}

impl CallType {
    /// All types.
    pub const ALL: [CallType; 4] = [CallType::Connect, CallType::Event, CallType::Ack, CallType::Disconnect];

    /// Its name in a call.
    pub fn as_str(self) -> &'static str {
        match self {
            CallType::Connect => "connect",
            CallType::Event => "event",
            CallType::Ack => "ack",
            CallType::Disconnect => "disconnect",
        }
    }
}
