//! The line with which a handshake is answered: `sid:heartbeat:close:transports`.

use super::pages;

/// What the server tells a client at the start of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The id of the session. It must not contain `:` or `/`.
    pub sid: &'a str,
    /// The seconds within which the server sends a heartbeat; `None` if it sends none.
    pub heartbeat: Option<u64>,
    /// The seconds after which a silent session is over.
    pub close: u64,
    /// The transports, in the order in which a client tries them: `websocket`, `htmlfile`, `xhr-polling`,
    /// `jsonp-polling`.
    pub transports: &'a [&'a str],
}

impl Handshake<'_> {
    /// The line.
    #[must_use]
    pub fn line(&self) -> String {
        let heartbeat = self.heartbeat.map(|seconds| seconds.to_string()).unwrap_or_default();
        format!("{}:{heartbeat}:{}:{}", self.sid, self.close, self.transports.join(","))
    }
}

/// Appends the answer to a handshake by JSONP that was refused. Its status is 200, so that the script runs.
pub fn jsonp_error(number: u32, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("io.j[{number}](new Error(\"").as_bytes());
    pages::escape(message, out);
    out.extend_from_slice(b"\"));");
}
