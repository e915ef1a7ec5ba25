//! Long polling: one batch as soon as there is a message.

use super::poll::JsonBatch;
use super::{Lifecycle, Opening, Params, Peer, Refusal, Transport};

/// `/long-poll`.
pub struct LongPoll;

impl Transport for LongPoll {
    fn name(&self) -> &'static str {
        "long-poll"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::LongPoll
    }

    fn open(&self, _params: &Params, _peer: &Peer<'_>) -> Result<Opening, Refusal> {
        Ok(Opening::new("application/json; charset=utf-8", JsonBatch))
    }
}
