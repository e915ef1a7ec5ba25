//! The transport under which metrics count STOMP clients.

use crate::transport::{Accepted, ApiError, Code, Lifecycle, Params, RequestHead, Transport};

/// The transports of STOMP clients.
pub static TRANSPORTS: [&dyn Transport; 1] = [&StompSocket];

/// A WebSocket of a STOMP client.
struct StompSocket;

impl Transport for StompSocket {
    fn name(&self) -> &'static str {
        "stomp"
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        Lifecycle::Duplex
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        // The frames depend on the client's commands, so the endpoint opens the connection itself.
        Err(ApiError::new(Code::NotFound, "use a path of --stomp"))
    }
}
