//! The codes with which a connection ends, and how clients react to them.
//!
//! After 4000 a client comes back over TLS. 4001 to 4099 are final. After 4100 to 4199 it waits for a moment before it
//! comes back, and after 4200 to 4299 it comes back at once.

/// Why the server ends a connection or refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// No app has the key.
    UnknownApp,
    /// The app is switched off.
    DisabledApp,
    /// The app has as many connections as it may have.
    OverQuota,
    /// The version of the protocol is not a number.
    BadVersion,
    /// The server does not speak this version of the protocol.
    UnsupportedVersion,
    /// The client did not name a version of the protocol.
    NoVersion,
    /// The connection is not allowed any more.
    Unauthorized,
    /// The server is full, or it is not ready.
    OverCapacity,
    /// The client should come back at once.
    Reconnect,
    /// An event of a client was refused. The connection goes on.
    ClientEventRefused,
}

impl CloseCode {
    /// All codes.
    pub const ALL: [CloseCode; 10] = [
        CloseCode::UnknownApp,
        CloseCode::DisabledApp,
        CloseCode::OverQuota,
        CloseCode::BadVersion,
        CloseCode::UnsupportedVersion,
        CloseCode::NoVersion,
        CloseCode::Unauthorized,
        CloseCode::OverCapacity,
        CloseCode::Reconnect,
        CloseCode::ClientEventRefused,
    ];

    /// The number, which is also the close code of the WebSocket.
    pub fn code(self) -> u16 {
        match self {
            CloseCode::UnknownApp => 4001,
            CloseCode::DisabledApp => 4003,
            CloseCode::OverQuota => 4004,
            CloseCode::BadVersion => 4006,
            CloseCode::UnsupportedVersion => 4007,
            CloseCode::NoVersion => 4008,
            CloseCode::Unauthorized => 4009,
            CloseCode::OverCapacity => 4100,
            CloseCode::Reconnect => 4200,
            CloseCode::ClientEventRefused => 4301,
        }
    }

    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            CloseCode::UnknownApp => "no app has this key",
            CloseCode::DisabledApp => "the app is disabled",
            CloseCode::OverQuota => "the app has reached its limit on connections",
            CloseCode::BadVersion => "protocol must be a number",
            CloseCode::UnsupportedVersion => "the server speaks protocol 5 to 7",
            CloseCode::NoVersion => "the query must have a protocol, such as protocol=7",
            CloseCode::Unauthorized => "the connection is not allowed any more",
            CloseCode::OverCapacity => "the server is over its capacity",
            CloseCode::Reconnect => "reconnect",
            CloseCode::ClientEventRefused => "the event was refused",
        }
    }
}

/// The oldest and the newest version of the protocol.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 5..=7;

/// Checks the version of the protocol that a client names.
///
/// # Errors
///
/// The code with which the connection ends.
pub fn check_version(protocol: Option<&str>) -> Result<u32, CloseCode> {
    let text = protocol.filter(|text| !text.is_empty()).ok_or(CloseCode::NoVersion)?;
    let is_number = text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    let version = text.parse().ok().filter(|_| is_number).ok_or(CloseCode::BadVersion)?;
    VERSIONS.contains(&version).then_some(version).ok_or(CloseCode::UnsupportedVersion)
}
