//! The types of calls to the application.

use crate::serve::transitions::TransitionKind;

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
    /// A channel has got its first reader.
    Occupied,
    /// A channel has lost its last reader.
    Vacated,
    /// A user has become a member of a channel.
    MemberAdded,
    /// A user is not a member of a channel any more.
    MemberRemoved,
}

impl CallType {
    /// All types.
    pub const ALL: [CallType; 8] = [
        CallType::Connect,
        CallType::Event,
        CallType::Ack,
        CallType::Disconnect,
        CallType::Occupied,
        CallType::Vacated,
        CallType::MemberAdded,
        CallType::MemberRemoved,
    ];

    /// The types about channels and members, which no request of a client causes.
    pub const OF_TRANSITIONS: [CallType; 4] =
        [CallType::Occupied, CallType::Vacated, CallType::MemberAdded, CallType::MemberRemoved];

    /// The type of a call about this transition.
    pub fn of(kind: TransitionKind) -> CallType {
        match kind {
            TransitionKind::Occupied => CallType::Occupied,
            TransitionKind::Vacated => CallType::Vacated,
            TransitionKind::MemberAdded => CallType::MemberAdded,
            TransitionKind::MemberRemoved => CallType::MemberRemoved,
        }
    }

    /// Its name in a call.
    pub fn as_str(self) -> &'static str {
        match self {
            CallType::Connect => "connect",
            CallType::Event => "event",
            CallType::Ack => "ack",
            CallType::Disconnect => "disconnect",
            CallType::Occupied => TransitionKind::Occupied.as_str(),
            CallType::Vacated => TransitionKind::Vacated.as_str(),
            CallType::MemberAdded => TransitionKind::MemberAdded.as_str(),
            CallType::MemberRemoved => TransitionKind::MemberRemoved.as_str(),
        }
    }
}
