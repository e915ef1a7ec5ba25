//! Raw TCP: one JSON object per line, in both directions, as the Java applets of 1998 did.

use super::json_commands::JsonCommands;
use super::xhr_stream::JsonLines;
use super::{
    Accepted, ApiError, Code, Decode, Dialect, Input, Lifecycle, Params, ProtocolViolation, RequestHead, Transport,
};
use crate::wire::lines::Lines;
use bytes::{Bytes, BytesMut};

/// The first bytes from a Flash player or an applet that asks for permission to connect.
const POLICY_REQUEST: &[u8] = b"<policy-file-request/>\0";

/// Raw TCP. The transport has a port of its own.
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

    fn open(&self, params: &Params, _head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        let lines = JsonLines { opening_padding: false, heartbeat_padding: params.padding };
        Ok(Accepted::new("application/x-ndjson", lines))
    }

    fn decoder(&self, max: usize) -> Option<Box<dyn Decode>> {
        Some(Box::new(LineDecoder {
            lines: Lines::new(max),
            max,
            first: true,
            first_line: true,
            dialect: JsonCommands,
        }))
    }
}

struct LineDecoder {
    lines: Lines,
    max: usize,
    first: bool,
    first_line: bool,
    dialect: JsonCommands,
}

/// Whether a line begins an HTTP request (RFC 9112 §3).
fn is_request_line(line: &[u8]) -> bool {
    line.split(|byte| *byte == b' ').next_back().is_some_and(|version| version.starts_with(b"HTTP/"))
}

impl LineDecoder {
    fn input(line: Bytes) -> Input {
        // An empty line is accepted, because clients send one to keep a connection alive.
        if line.is_empty() { Input::Nothing } else { Input::Command(line) }
    }
}

impl Decode for LineDecoder {
    fn dialect(&mut self) -> Option<&mut dyn Dialect> {
        Some(&mut self.dialect)
    }

    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Input>, ProtocolViolation> {
        if self.first && !buf.is_empty() {
            // The policy request does not end in a line feed.
            let seen = buf.len().min(POLICY_REQUEST.len());
            if buf[..seen] == POLICY_REQUEST[..seen] {
                return Ok((seen == POLICY_REQUEST.len()).then_some(Input::PolicyRequest));
            }
            self.first = false;
        }
        let line = self.lines.decode(buf).map_err(|_| ProtocolViolation {
            error: Some(ApiError::new(Code::TooLarge, format!("a line may have at most {} bytes", self.max))),
            farewell: Bytes::new(),
        })?;
        if let Some(line) = &line
            && std::mem::take(&mut self.first_line)
            && is_request_line(line)
        {
            // The connection is refused, because a page of any origin can make a browser send a form here, and a line
            // of the form could be a command.
            let text = "this port speaks lines of JSON, not HTTP";
            return Err(ProtocolViolation {
                error: Some(ApiError::new(Code::BadRequest, text)),
                farewell: Bytes::new(),
            });
        }
        Ok(line.map(LineDecoder::input))
    }

    fn rest(&mut self, buf: &mut BytesMut) -> Option<Input> {
        self.lines.rest(buf).map(LineDecoder::input)
    }
}
