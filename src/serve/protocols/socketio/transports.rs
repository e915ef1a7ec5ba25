//! The transports under which metrics count the readers.

use crate::transport::{Accepted, ApiError, Code, Lifecycle, Params, RequestHead, Transport};

/// The WebSocket.
pub static WEBSOCKET: &dyn Transport = &WebSocket;

/// All transports.
pub static TRANSPORTS: [&dyn Transport; 2] = [WEBSOCKET, POLLING];

/// Long polls.
pub static POLLING: &dyn Transport = &LongPolls;

struct LongPolls;

impl Transport for LongPolls {
    fn name(&self) -> &'static str {
        "socketio-polling"
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        Lifecycle::LongPoll
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Err(not_by_parameters())
    }
}

struct WebSocket;

impl Transport for WebSocket {
    fn name(&self) -> &'static str {
        "socketio-ws"
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        Lifecycle::Duplex
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Err(not_by_parameters())
    }
}

fn not_by_parameters() -> ApiError {
    ApiError::new(Code::NotFound, "a Socket.IO connection does not subscribe by parameters")
}
