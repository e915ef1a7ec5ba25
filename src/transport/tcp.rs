//! Raw TCP: one JSON object a line, both ways. What the Java applets of 1998 did.

use super::xhr_stream::JsonLines;
use super::{Breach, Code, Decode, Input, Lifecycle, Opening, Params, Peer, Refusal, Transport};
use crate::wire::lines::Lines;
use bytes::{Bytes, BytesMut};

/// What a Flash player or an applet sends first to ask whether it may connect.
const POLICY_REQUEST: &[u8] = b"<policy-file-request/>\0";

/// A port of its own.
pub struct Tcp;

impl Transport for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::Socket
    }

    fn in_browsers(&self) -> bool {
        false
    }

    fn open(&self, params: &Params, _peer: &Peer<'_>) -> Result<Opening, Refusal> {
        let lines = JsonLines { opening_padding: false, heartbeat_padding: params.padding };
        Ok(Opening::new("application/x-ndjson", lines))
    }

    fn decoder(&self, max: usize) -> Option<Box<dyn Decode>> {
        Some(Box::new(Commands { lines: Lines::new(max), max, first: true, first_line: true }))
    }
}

struct Commands {
    lines: Lines,
    max: usize,
    first: bool,
    first_line: bool,
}

/// Whether a line begins an HTTP request (RFC 9112 §3).
fn is_request_line(line: &[u8]) -> bool {
    line.split(|byte| *byte == b' ').next_back().is_some_and(|version| version.starts_with(b"HTTP/"))
}

impl Commands {
    fn input(line: Bytes) -> Input {
        // An empty line is a friendly way to keep a connection alive.
        if line.is_empty() { Input::Nothing } else { Input::Command(line) }
    }
}

impl Decode for Commands {
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Input>, Breach> {
        if self.first && !buf.is_empty() {
            // It has no line feed at its end.
            let seen = buf.len().min(POLICY_REQUEST.len());
            if buf[..seen] == POLICY_REQUEST[..seen] {
                return Ok((seen == POLICY_REQUEST.len()).then_some(Input::PolicyRequest));
            }
            self.first = false;
        }
        let line = self.lines.decode(buf).map_err(|_| Breach {
            refusal: Some(Refusal::new(Code::TooLarge, format!("a line is at most {} bytes", self.max))),
            farewell: Bytes::new(),
        })?;
        if let Some(line) = &line
            && std::mem::take(&mut self.first_line)
            && is_request_line(line)
        {
            // A page of any origin can make a browser send a form here, and one of its lines could be
            // a command.
            let mend = "this port speaks lines of JSON and no HTTP";
            return Err(Breach { refusal: Some(Refusal::new(Code::BadRequest, mend)), farewell: Bytes::new() });
        }
        Ok(line.map(Commands::input))
    }

    fn rest(&mut self, buf: &mut BytesMut) -> Option<Input> {
        self.lines.rest(buf).map(Commands::input)
    }
}
