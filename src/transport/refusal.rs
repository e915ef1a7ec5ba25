//! Why something was refused: stable codes, and a text that says the mend.

use crate::message::BadDraft;
use std::fmt;
use std::time::Duration;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// Its name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The HTTP status it comes with.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }
        }
    };
}

codes! {
    /// A parameter, header or field that is not sound.
    BadRequest = "bad_request", 400;
    /// A channel's name.
    BadChannel = "bad_channel", 400;
    /// A cursor, or `last`.
    BadCursor = "bad_cursor", 400;
    /// A callback's name, or none.
    BadCallback = "bad_callback", 400;
    /// A body or a command that is not JSON.
    BadJson = "bad_json", 400;
    /// An event's name.
    BadEvent = "bad_event", 400;
    /// Text that is not UTF-8.
    NotUtf8 = "not_utf8", 400;
    /// Something over its limit.
    TooLarge = "too_large", 413;
    /// More channels than a subscription may have.
    TooManyChannels = "too_many_channels", 400;
    /// Credentials are missing, invalid or expired.
    Unauthorized = "unauthorized", 401;
    /// Not allowed.
    Forbidden = "forbidden", 403;
    /// A page of this origin may not do that.
    ForbiddenOrigin = "forbidden_origin", 403;
    /// No such path.
    NotFound = "not_found", 404;
    /// The path has no such method.
    MethodNotAllowed = "method_not_allowed", 405;
    /// Too many of them in this time.
    RateLimited = "rate_limited", 429;
    /// The server has as many connections as it takes.
    TooManyConnections = "too_many_connections", 503;
    /// The node has not read its log yet, or is going.
    NotReady = "not_ready", 503;
    /// The log cannot be reached, and the message is proven not to be in it.
    LogUnavailable = "log_unavailable", 503;
    /// The message may or may not be in the log.
    OutcomeUnknown = "outcome_unknown", 503;
    /// A subscription that has a position is given another.
    CursorFixed = "cursor_fixed", 409;
    /// A command that there is not.
    UnknownCommand = "unknown_command", 400;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: a code for programs and a text for people, which never repeats what the client sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
    /// Whether it may be another answer in a moment, although the code does not say so.
    pub may_pass: bool,
    /// When to come back, where that is known.
    pub retry: Option<Duration>,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), may_pass: false, retry: None }
    }

    /// A refusal that may pass.
    pub fn passing(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { may_pass: true, ..Refusal::new(code, message) }
    }

    /// A refusal that is over then.
    pub fn until(code: Code, message: impl Into<String>, retry: Duration) -> Refusal {
        Refusal { retry: Some(retry), ..Refusal::new(code, message) }
    }

    /// `{"error":{"code":…,"message":…}}`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = format!("{{\"error\":{{\"code\":\"{}\",\"message\":", self.code).into_bytes();
        crate::wire::json::quote(&self.message, &mut out);
        out.extend_from_slice(b"}}");
        out
    }
}

impl From<crate::message::BadChannel> for Refusal {
    fn from(error: crate::message::BadChannel) -> Refusal {
        Refusal::new(Code::BadChannel, error.to_string())
    }
}

impl From<crate::message::BadEvent> for Refusal {
    fn from(error: crate::message::BadEvent) -> Refusal {
        Refusal::new(Code::BadEvent, error.to_string())
    }
}

impl From<crate::message::BadClient> for Refusal {
    fn from(error: crate::message::BadClient) -> Refusal {
        Refusal::new(Code::BadRequest, error.to_string())
    }
}

impl From<BadDraft> for Refusal {
    fn from(error: BadDraft) -> Refusal {
        let code = match error {
            BadDraft::Event(_) => Code::BadEvent,
            BadDraft::Exclude(_) | BadDraft::Key(_) => Code::BadRequest,
            BadDraft::Payload { .. } => Code::TooLarge,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<crate::cursor::BadCursor> for Refusal {
    fn from(error: crate::cursor::BadCursor) -> Refusal {
        Refusal::new(Code::BadCursor, error.to_string())
    }
}
