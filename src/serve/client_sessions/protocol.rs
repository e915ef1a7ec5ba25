//! What the sessions of a protocol have in common.

use std::time::Duration;

/// Where the bookmark of a session is between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bookmarks {
    /// In the record of sessions. The client brings the session's id.
    Record,
    /// In a sealed token, which the client brings. Each answer has the next one.
    Sealed {
        /// How long a token is good.
        life: Duration,
    },
}

/// A protocol with sessions.
#[derive(Clone, Copy, Debug)]
pub struct SessionProtocol {
    /// Its name, as the application sees it.
    pub name: &'static str,
    /// Where the bookmarks of its sessions are, unless a session needs the record.
    pub bookmarks: Bookmarks,
    /// Whether a client can come back to its session on another connection.
    pub outlives_stream: bool,
}

/// The protocol of native clients.
pub const NATIVE: SessionProtocol =
    SessionProtocol { name: "longtail", bookmarks: Bookmarks::Record, outlives_stream: true };
