//! The failures of a command.

use serde_json::Value;
use std::{fmt, io};

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments are invalid.
    #[error("{0}")]
    Usage(String),
    /// The server is unreachable.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The URL, without credentials.
        url: String,
        /// The error, in the system's text.
        reason: String,
    },
    /// The server, or a proxy in front of it, refused the request.
    #[error("{status} {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error in the body.
        reason: Reason,
    },
    /// The server refused the request without a status: in a stream, or in the answer to a command.
    #[error("{0}")]
    Denied(Reason),
    /// The client received data that a Longtail server does not send.
    #[error("{0}")]
    Unexpected(String),
    /// Standard input or output failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Failure {
    /// The exit code, after sysexits.h: 64 usage, 69 unreachable; 1 for the others.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 64,
            Failure::Unreachable { .. } => 69,
            _ => 1,
        }
    }
}

/// The reason why the server refused.
#[derive(Debug)]
pub struct Reason {
    /// The error's code, if it is an error of Longtail.
    code: Option<String>,
    pub message: String,
}

impl Reason {
    /// The error in a body or in a command's answer; the beginning of the body if it has no error.
    pub fn in_body(body: &str) -> Reason {
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        // In a command's answer the error is the object itself. In a body it is a member.
        let error = json.get("error").unwrap_or(&json);
        match (error["code"].as_str(), error["message"].as_str()) {
            (Some(code), Some(message)) => Reason { code: Some(printable(code)), message: printable(message) },
            _ => Reason::words(printable(&body.chars().take(100).collect::<String>())),
        }
    }

    /// A text that is not an error of Longtail.
    pub fn words(text: impl Into<String>) -> Reason {
        Reason { code: None, message: text.into() }
    }

    /// Adds the name of the refused channel or action.
    pub fn about(self, what: &str) -> Reason {
        Reason { message: format!("{} ({what})", self.message), ..self }
    }

    /// Whether access was denied.
    pub fn is_about_access(&self) -> bool {
        matches!(self.code.as_deref(), Some("unauthorized" | "forbidden"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Replaces control characters, which would move a terminal's cursor or change its colours.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
