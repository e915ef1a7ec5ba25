//! ndjson: one JSON object per line, for programs.

use super::xhr_stream::JsonLines;
use super::{Accepted, ApiError, Lifecycle, Params, RequestHead, Transport};

/// `/ndjson`.
pub struct Ndjson;

impl Transport for Ndjson {
    fn name(&self) -> &'static str {
        "ndjson"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::Stream { rollover: false }
    }

    fn in_browsers(&self) -> bool {
        false
    }

    fn open(&self, params: &Params, _head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        let lines = JsonLines { opening_padding: params.padding, heartbeat_padding: params.padding };
        Ok(Accepted::new("application/x-ndjson", lines))
    }
}
