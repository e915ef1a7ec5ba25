//! Errors of the API: a stable code for programs, and a text for people that says how to fix it.

use crate::message::{BadChannels, BadDraft};
use std::fmt;
use std::time::Duration;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The code's name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The HTTP status that comes with the code.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }
        }
    };
}

codes! {
    /// A parameter, header or field is not valid.
    BadRequest = "bad_request", 400;
    /// A channel's name is not valid or missing.
    BadChannel = "bad_channel", 400;
    /// A cursor or `last` is not valid.
    BadCursor = "bad_cursor", 400;
    /// A callback's name is not valid or missing.
    BadCallback = "bad_callback", 400;
    /// A body or a command is not JSON.
    BadJson = "bad_json", 400;
    /// An event's name is not valid.
    BadEvent = "bad_event", 400;
    /// A text is not UTF-8.
    NotUtf8 = "not_utf8", 400;
    /// A part of the request is over its limit.
    TooLarge = "too_large", 413;
    /// The subscription or the message has more channels than allowed.
    TooManyChannels = "too_many_channels", 400;
    /// Credentials are missing, invalid or expired.
    Unauthorized = "unauthorized", 401;
    /// The client is not allowed to do that.
    Forbidden = "forbidden", 403;
    /// The channel has as many members as it may have.
    TooManyMembers = "too_many_members", 403;
    /// A page of this origin is not allowed to do that.
    ForbiddenOrigin = "forbidden_origin", 403;
    /// The path does not exist.
    NotFound = "not_found", 404;
    /// The path does not have this method.
    MethodNotAllowed = "method_not_allowed", 405;
    /// There were too many requests in this time.
    RateLimited = "rate_limited", 429;
    /// A limit on connections has been reached.
    TooManyConnections = "too_many_connections", 503;
    /// The node has not read its log yet, or is shutting down.
    NotReady = "not_ready", 503;
    /// The log cannot be reached, and the message is proven not to be in it.
    LogUnavailable = "log_unavailable", 503;
    /// The message may or may not be in the log.
    OutcomeUnknown = "outcome_unknown", 503;
    /// A subscription that has a position was given another position.
    CursorFixed = "cursor_fixed", 409;
    /// The command does not exist.
    UnknownCommand = "unknown_command", 400;
    /// The server does not pass events on to an application.
    NoHook = "no_hook", 404;
    /// The application's answer needs a session, and the client does not have one.
    NoSession = "no_session", 409;
    /// The application did not answer as expected.
    ApplicationFailed = "application_failed", 502;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of the API: a code for programs and a text for people. The text never repeats input of the client. If an
/// application refuses an event, the text is that of the application.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The code, for programs.
    pub code: Code,
    /// The text, for people.
    pub message: String,
    /// Whether the next attempt may succeed although the code means a permanent error.
    pub may_pass: bool,
    /// The time after which to try again, if it is known.
    pub retry: Option<Duration>,
    /// The data that an application adds to its refusal, as JSON on one line.
    pub data: Option<Box<str>>,
}

impl ApiError {
    /// Makes an error that lasts until the client changes its request.
    pub fn new(code: Code, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), may_pass: false, retry: None, data: None }
    }

    /// Makes a temporary error.
    pub fn passing(code: Code, message: impl Into<String>) -> ApiError {
        ApiError { may_pass: true, ..ApiError::new(code, message) }
    }

    /// Makes a temporary error that ends within `retry`.
    pub fn until(code: Code, message: impl Into<String>, retry: Duration) -> ApiError {
        ApiError { retry: Some(retry), ..ApiError::new(code, message) }
    }

    /// `{"error":{"code":…,"message":…,"data"?:…}}`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = format!("{{\"error\":{{\"code\":\"{}\",\"message\":", self.code).into_bytes();
        crate::wire::json::quote(&self.message, &mut out);
        if let Some(data) = &self.data {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data.as_bytes());
        }
        out.extend_from_slice(b"}}");
        out
    }
}

impl From<crate::message::BadChannel> for ApiError {
    fn from(error: crate::message::BadChannel) -> ApiError {
        ApiError::new(Code::BadChannel, error.to_string())
    }
}

impl From<crate::message::BadChannels> for ApiError {
    fn from(error: crate::message::BadChannels) -> ApiError {
        let code = match error {
            BadChannels::None | BadChannels::Name(_) => Code::BadChannel,
            BadChannels::TooMany => Code::TooManyChannels,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<crate::message::BadEvent> for ApiError {
    fn from(error: crate::message::BadEvent) -> ApiError {
        ApiError::new(Code::BadEvent, error.to_string())
    }
}

impl From<crate::message::BadClient> for ApiError {
    fn from(error: crate::message::BadClient) -> ApiError {
        ApiError::new(Code::BadRequest, error.to_string())
    }
}

impl From<BadDraft> for ApiError {
    fn from(error: BadDraft) -> ApiError {
        let code = match error {
            BadDraft::Event(_) => Code::BadEvent,
            BadDraft::Key(_) | BadDraft::Except | BadDraft::Args => Code::BadRequest,
            BadDraft::Payload { .. } => Code::TooLarge,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<crate::cursor::BadCursor> for ApiError {
    fn from(error: crate::cursor::BadCursor) -> ApiError {
        ApiError::new(Code::BadCursor, error.to_string())
    }
}
