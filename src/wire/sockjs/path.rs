//! The paths below a prefix.

/// What a path below a prefix asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The prefix itself: a greeting.
    Greeting,
    /// What the server can do.
    Info,
    /// The page of the hidden frames.
    Iframe,
    /// A WebSocket without frames of SockJS.
    RawWebSocket,
    /// A transport of a session.
    Session {
        /// The id of the session. The segment before it only helps balancers.
        session: &'a str,
        /// The transport.
        transport: PathTransport,
    },
}

/// The transport that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of the protocol")]
pub enum PathTransport {
    Xhr,
    XhrSend,
    XhrStreaming,
    EventSource,
    HtmlFile,
    Jsonp,
    JsonpSend,
    WebSocket,
}

impl PathTransport {
    /// Each transport and its name in a path.
    pub const ALL: [(PathTransport, &str); 8] = [
        (PathTransport::Xhr, "xhr"),
        (PathTransport::XhrSend, "xhr_send"),
        (PathTransport::XhrStreaming, "xhr_streaming"),
        (PathTransport::EventSource, "eventsource"),
        (PathTransport::HtmlFile, "htmlfile"),
        (PathTransport::Jsonp, "jsonp"),
        (PathTransport::JsonpSend, "jsonp_send"),
        (PathTransport::WebSocket, "websocket"),
    ];
}

/// The longest id of a session.
const MAX_ID: usize = 200;

impl<'a> Target<'a> {
    /// Reads the part of a path after the prefix; `None` if there is no such path.
    pub fn parse(rest: &'a str) -> Option<Target<'a>> {
        let rest = match rest {
            "" | "/" => return Some(Target::Greeting),
            _ => rest.strip_prefix('/')?,
        };
        match rest {
            "info" => return Some(Target::Info),
            "websocket" => return Some(Target::RawWebSocket),
            _ if is_iframe(rest) => return Some(Target::Iframe),
            _ => {}
        }
        let (server, rest) = rest.split_once('/')?;
        let (session, name) = rest.split_once('/')?;
        let is_segment = |text: &str| (1..=MAX_ID).contains(&text.len()) && !text.contains('.');
        let (transport, _) = PathTransport::ALL.into_iter().find(|(_, known)| *known == name)?;
        (is_segment(server) && is_segment(session)).then_some(Target::Session { session, transport })
    }
}

/// Whether this is the name of the page of the hidden frames: `iframe.html`, or one with a version.
fn is_iframe(name: &str) -> bool {
    let version = name.strip_prefix("iframe").and_then(|rest| rest.strip_suffix(".html"));
    let is_sound = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || matches!(byte, b'-' | b'.' | b'_');
    version.is_some_and(|version| version.bytes().all(is_sound))
}
