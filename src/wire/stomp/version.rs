//! The versions of the protocol, and how each of them writes headers.

/// A version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.0. Headers do not have escapes.
    V10,
    /// 1.1. Headers escape a line feed, a colon and a backslash.
    V11,
    /// 1.2. Headers escape a carriage return, too.
    #[default]
    V12,
}

impl Version {
    /// All versions, the newest one first.
    pub const ALL: [Version; 3] = [Version::V12, Version::V11, Version::V10];

    /// The version as a frame names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V10 => "1.0",
            Version::V11 => "1.1",
            Version::V12 => "1.2",
        }
    }

    /// The name of the version as a subprotocol of WebSocket.
    #[must_use]
    pub fn subprotocol(self) -> &'static str {
        match self {
            Version::V10 => "v10.stomp",
            Version::V11 => "v11.stomp",
            Version::V12 => "v12.stomp",
        }
    }

    /// The newest version in a list such as `1.0,1.2`. A client of 1.0 does not have the list. `None` if no version of
    /// the list is known.
    #[must_use]
    pub fn choose(accepted: Option<&str>) -> Option<Version> {
        let Some(accepted) = accepted else { return Some(Version::V10) };
        let has = |version: &Version| accepted.split(',').any(|known| known.trim() == version.as_str());
        Version::ALL.into_iter().find(has)
    }
}
