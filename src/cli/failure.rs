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
    /// The server refused the request without an HTTP status: in a stream, or in the answer to a command.
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
    /// The exit code, as in sysexits.h: 64 for wrong usage, 69 if the server cannot be reached, 1 for any other error.
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
    /// The error in a body or in a command's answer. If the body is not an error of Longtail, returns the beginning of
    /// a plain text, or a description of other content: a page of another server is not useful in a terminal.
    pub fn in_body(body: &str) -> Reason {
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        // In the answer to a command, the whole object is the error. In a body, the error is a member of the object.
        let error = json.get("error").unwrap_or(&json);
        match (error["code"].as_str(), error["message"].as_str()) {
            (Some(code), Some(message)) => Reason { code: Some(printable(code)), message: printable(message) },
            _ if is_html(body) => Reason::words("an HTML page, not an answer of a Longtail server"),
            _ if body.trim().is_empty() => Reason::words("an empty answer, not one of a Longtail server"),
            _ => Reason::words(printable(&body.trim().chars().take(100).collect::<String>())),
        }
    }

    /// Makes the reason from a text that is not an error of Longtail.
    pub fn words(text: impl Into<String>) -> Reason {
        Reason { code: None, message: text.into() }
    }

    /// Adds the name of the refused channel or action.
    pub fn about(self, what: &str) -> Reason {
        Reason { message: format!("{} ({what})", self.message), ..self }
    }

    /// Whether it is an error of Longtail with this code.
    pub fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
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

/// Whether a text is HTML or XML, or has a tag in it.
fn is_html(text: &str) -> bool {
    text.split('<').skip(1).any(|rest| rest.starts_with(|c: char| "/!?".contains(c) || c.is_alphabetic()))
}

/// Replaces control characters, which would move a terminal's cursor or change its colours.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_our_error_or_a_plain_text() {
        const HTML: &str = "an HTML page, not an answer of a Longtail server";
        for (body, said) in [
            (r#"{"error":{"code":"forbidden","message":"not allowed: a"}}"#, "forbidden: not allowed: a"),
            (r#"{"type":"error","code":"too_large","message":"x\u001b[2J"}"#, "too_large: x\u{fffd}[2J"),
            ("draining\n", "draining"),
            ("no healthy upstream", "no healthy upstream"),
            ("", "an empty answer, not one of a Longtail server"),
            ("<html>\r\n<head><title>502 Bad Gateway</title></head>", HTML),
            ("\u{feff}  <!DOCTYPE html><p>x", HTML),
            ("Sorry! <a href='/'>back</a>", HTML),
            ("<?xml version='1.0'?><Error/>", HTML),
        ] {
            assert_eq!(Reason::in_body(body).to_string(), said, "{body}");
        }
        assert_eq!(Reason::in_body(&"x".repeat(1000)).to_string().len(), 100);
    }
}
