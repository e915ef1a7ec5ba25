//! Describes an answer of the application that is not one of the expected answers.

use super::client::{NoReply, Reply};
use hyper::StatusCode;
use serde::Deserialize;
use std::borrow::Cow;

/// An answer that the server did not expect. It does not contain the application's text, because an error page may show
/// cookies and passwords.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// A description of the answer.
    pub came: Cow<'static, str>,
    /// The advice for the operator.
    pub fix: &'static str,
    /// Whether the server may ask again.
    pub may_pass: bool,
    /// Whether the application has answered, and not with a status of 5xx.
    pub is_answer: bool,
}

impl Problem {
    /// A temporary problem: there was no answer, or an error produced it.
    pub fn passing(came: impl Into<Cow<'static, str>>, fix: &'static str) -> Problem {
        Problem { came: came.into(), fix, may_pass: true, is_answer: false }
    }

    /// The application has answered with something that cannot be used.
    pub fn unusable(came: impl Into<Cow<'static, str>>, fix: &'static str) -> Problem {
        Problem { is_answer: true, ..Problem::passing(came, fix) }
    }

    /// There is no answer.
    pub fn no_reply(error: &NoReply) -> Problem {
        let fix = match error {
            NoReply::NoConnection => "start it, or correct the address",
            NoReply::Broke | NoReply::BrokeOff | NoReply::TooLarge { .. } => "look into its log",
        };
        Problem::passing(error.to_string(), fix)
    }

    /// The answer has a status that is not expected. `rule` is the form in which the application has to answer.
    pub fn status(status: StatusCode, rule: &'static str) -> Problem {
        Problem {
            came: format!("status {}", status.as_u16()).into(),
            fix: match status.as_u16() {
                300..=399 => "redirects are not followed: name the address that it redirects to",
                404 | 410 => "correct the path",
                405 => "the address has to accept POST",
                500.. => "look into the application's log",
                _ => rule,
            },
            may_pass: status.is_server_error(),
            is_answer: !status.is_server_error(),
        }
    }
}

/// The form of the JSON in an answer with status 200.
pub struct Form {
    /// The form, as advice to the operator.
    pub rule: &'static str,
    /// The expected JSON contains at least one of these texts.
    pub marks: &'static [&'static str],
    /// The description of JSON in another form.
    pub other_json: &'static str,
}

impl Form {
    /// Reads the JSON object of an answer with status 200, or of an answer without a status.
    ///
    /// # Errors
    ///
    /// The answer has another status, or its body does not have the form.
    pub fn object<'a, T: Deserialize<'a>>(&self, reply: &'a Reply) -> Result<T, Problem> {
        if let Some(status) = reply.status.filter(|status| *status != StatusCode::OK) {
            return Err(Problem::status(status, self.rule));
        }
        // Serde would also read the fields of a struct from an array.
        let is_object = reply.body.trim_ascii_start().starts_with(b"{");
        match serde_json::from_slice(&reply.body) {
            Ok(object) if is_object => Ok(object),
            _ => Err(self.mismatch(reply)),
        }
    }

    /// Describes an answer that has the expected status but not the expected form.
    pub fn mismatch(&self, reply: &Reply) -> Problem {
        let body = &*reply.body;
        let text = body.trim_ascii_start();
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
        let has_json = self.marks.iter().any(|mark| body.windows(mark.len()).any(|part| part == mark.as_bytes()));
        let (came, fix) = if text.is_empty() {
            ("an empty body", self.rule)
        } else if is_json {
            (self.other_json, self.rule)
        } else if is_by_php(text) && has_json {
            (
                "a warning of PHP in front of the JSON",
                "correct the script, and set display_errors=0, so that PHP logs its warnings and does not print them",
            )
        } else if is_by_php(text) {
            ("an error of PHP", "correct the script: PHP's log has the error")
        } else if text.starts_with(b"\xef\xbb\xbf") {
            ("a byte order mark in front of the JSON", "save the script without a byte order mark")
        } else if has_json && !text.starts_with(b"{") {
            ("a text in front of the JSON", "print nothing but the JSON")
        } else if text.starts_with(b"<") {
            ("an HTML page", "name the address that answers in JSON")
        } else {
            ("a text that is not JSON", self.rule)
        };
        Problem::unusable(reply.came_with(came), fix)
    }
}

impl Reply {
    /// A description of the answer: its status, if it has one, and its body.
    pub fn came_with(&self, body: &str) -> String {
        match self.status {
            Some(status) => format!("status {} and {body}", status.as_u16()),
            None => body.to_owned(),
        }
    }
}

/// Whether a text begins like a message of PHP, with or without HTML.
fn is_by_php(text: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&text[..text.len().min(100)]).replace("<br />", "").replace("<b>", "");
    let words = ["Warning", "Notice", "Deprecated", "Fatal error", "Parse error", "Recoverable fatal error"];
    let start = start.trim_start().trim_start_matches("PHP ");
    words.iter().filter_map(|word| start.strip_prefix(word)).any(|rest| rest.starts_with([':', '<']))
}
