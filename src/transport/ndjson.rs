//! ndjson: one JSON object a line, for programs.

use super::xhr_stream::JsonLines;
use super::{Lifecycle, Opening, Params, Peer, Refusal, Transport};

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

    fn open(&self, params: &Params, _peer: &Peer<'_>) -> Result<Opening, Refusal> {
        let lines = JsonLines { opening_padding: params.padding, heartbeat_padding: params.padding };
        Ok(Opening::new("application/x-ndjson", lines))
    }
}
