//! The paths of plain WebSocket pages.

use crate::serve::access::allowed_origins::AllowedOrigins;
use crate::serve::protocols::path_pattern::PathPattern;
use crate::serve::routes::route::Origins;
use crate::transport::page::OnMessage;

/// A path of plain WebSocket pages, as a flag describes it.
pub struct RawWebSocketPage {
    /// The path, which may have a place for a channel: `/chat/{channel}`.
    pub path: String,
    /// The channels that its pages read. They may have the same place.
    pub channels: Vec<String>,
    /// What a text does that a page sends.
    pub on_message: OnMessage,
    /// The code and the reason with which the server closes a connection at once.
    pub closes: Option<(u16, String)>,
    /// The origins whose pages may connect; `None` for those that may use the server.
    pub origins: Option<AllowedOrigins>,
    /// The number of messages with which a page begins.
    pub last: usize,
}

/// A path that is served.
pub struct Page {
    /// The path.
    pub path: PathPattern,
    /// The path as the flag has it.
    pub text: String,
    /// The channels that its pages read.
    pub channels: Vec<String>,
    /// What a text does that a page sends.
    pub on_message: OnMessage,
    /// The code and the reason with which the server closes a connection at once.
    pub closes: Option<(u16, String)>,
    /// The pages that may connect.
    pub origins: Origins,
    /// The number of messages with which a page begins.
    pub last: usize,
}

impl From<RawWebSocketPage> for Page {
    fn from(page: RawWebSocketPage) -> Page {
        let origins = match page.origins {
            None => Origins::Known,
            Some(list) if list.has_star() => Origins::Any,
            // A route is copied for each request. The lists exist as long as the server, so they are never freed.
            Some(list) => Origins::Listed(Box::leak(Box::new(list))),
        };
        let RawWebSocketPage { path, channels, on_message, closes, last, .. } = page;
        Page { path: PathPattern::new(&path), text: path, channels, on_message, closes, origins, last }
    }
}
