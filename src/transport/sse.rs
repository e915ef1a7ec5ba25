//! Server-Sent Events (WHATWG HTML 9.2).

use super::padding::{HEARTBEAT_PADDING, PADDING};
use super::{
    Accepted, ApiError, CloseReason, Code, Control, Envelope, Lifecycle, Params, RequestHead, Transport, encoding,
};
use crate::message::Encoding;
use crate::wire::sse;
use std::time::Duration;

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// The time that an `EventSource` waits before it reconnects by itself.
const RETRY: Duration = Duration::from_secs(1);

/// The time that an `EventSource` waits after a temporary refusal.
const RETRY_REFUSED: Duration = Duration::from_secs(5);

/// `/sse`.
pub struct Sse;

impl Transport for Sse {
    fn name(&self) -> &'static str {
        "sse"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::Stream { rollover: false }
    }

    fn open(&self, params: &Params, _head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        let is_bare = params.data_format;
        Ok(Accepted::new(EVENT_STREAM, Events { is_bare, padding: params.padding, probe: params.probe }))
    }

    fn refuse(&self, _callback: Option<&str>, error: &ApiError) -> Option<(&'static str, Vec<u8>)> {
        // An EventSource does not reconnect after a 503. So a temporary error is sent as an event stream with a time
        // after which the client reconnects. Because of the jitter, clients that were refused together do not return
        // together.
        let bye = match error.code {
            Code::TooManyConnections | Code::RateLimited => CloseReason::TooManyConnections,
            Code::NotReady => CloseReason::Drain,
            _ => return None,
        };
        let retry = RETRY_REFUSED.mul_f64(0.5 + fastrand::f64());
        let mut out = Vec::new();
        sse::retry(retry.as_millis() as u64, &mut out);
        let json = Control::Bye { bye, retry: Some(retry), cursor: None }.to_json();
        sse::block(Some("bye"), None, &json, &mut out);
        Some((EVENT_STREAM, out))
    }
}

struct Events {
    /// Whether events hold the bare payload.
    is_bare: bool,
    padding: bool,
    /// Whether heartbeats fire an event. A script does not see a block without an event, so it could not distinguish
    /// silence from a dead connection.
    probe: bool,
}

impl Envelope for Events {
    fn encoding(&self) -> &'static Encoding {
        if self.is_bare { &encoding::DATA_EVENT } else { &encoding::EVENT }
    }

    fn prelude(&self, out: &mut Vec<u8>) {
        sse::retry(RETRY.as_millis() as u64, out);
        if self.padding {
            sse::comment_padding(PADDING, out);
        }
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        let id = control.cursor().map(|cursor| cursor.to_string());
        if let (Control::Heartbeat { .. }, Some(id)) = (control, &id) {
            if self.padding {
                sse::comment_padding(HEARTBEAT_PADDING, out);
            }
            if !self.probe {
                return sse::id_only(id, out);
            }
        }
        if let Control::Bye { retry: Some(retry), .. } = control {
            // The `retry` field makes the browser's own reconnection follow the bye, too.
            sse::retry(retry.as_millis() as u64, out);
        }
        sse::block(Some(control.name()), id.as_deref(), &control.to_json(), out);
    }
}
