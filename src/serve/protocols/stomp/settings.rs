//! The settings of STOMP.

/// The settings of STOMP, from the flags `--stomp…`.
#[derive(Clone, Debug, Default)]
pub struct StompSettings {
    /// The paths of the WebSockets.
    pub paths: Vec<String>,
    /// The beginnings of destinations whose messages go to the application.
    pub applications: Vec<String>,
}

impl StompSettings {
    /// The path of the flags that a request's path is. A WebSocket below it, as clients of SockJS servers open it, is the
    /// same.
    pub fn path<'a>(&self, path: &'a str) -> Option<&'a str> {
        let is_known = |path: &&str| self.paths.iter().any(|known| known == path);
        Some(path).filter(is_known).or_else(|| path.strip_suffix("/websocket").filter(is_known))
    }
}
