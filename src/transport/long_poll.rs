//! Long polling: one batch as soon as there is a message.

use super::poll::JsonBatch;
use super::{Accepted, ApiError, Lifecycle, Params, RequestHead, Transport};

/// `/long-poll`.
pub struct LongPoll;

impl Transport for LongPoll {
    fn name(&self) -> &'static str {
        "long-poll"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::LongPoll
    }

    fn open(&self, _params: &Params, _head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Ok(Accepted::new("application/json; charset=utf-8", JsonBatch))
    }
}
