//! The settings of SockJS.

use crate::message::Channel;
use crate::serve::routes::route::Origins;
use crate::transport::page::OnMessage;

/// The settings.
pub struct SockJsSettings {
    /// The prefixes.
    pub prefixes: Vec<Prefix>,
    /// The most sessions over HTTP of all nodes.
    pub most: usize,
}

/// A prefix.
pub struct Prefix {
    /// The path, without a slash at the end.
    pub path: String,
    /// The channels that its clients read.
    pub channels: Vec<Channel>,
    /// What a message of a client does.
    pub on_message: OnMessage,
    /// The close with which every session begins and ends.
    pub on_open: Option<Close>,
    /// The pages that may use it.
    pub origins: Origins,
    /// Whether clients may use a WebSocket.
    pub websocket: bool,
    /// Whether answers set the cookie that some balancers need.
    pub cookie: bool,
    /// After how many bytes a streaming response ends.
    pub response_limit: usize,
    /// The address of the library for hidden frames.
    pub library: String,
    /// How many of the newest messages a new session gets.
    pub last: usize,
}

/// A code and a reason with which a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: u16,
    /// The reason.
    pub reason: String,
}
