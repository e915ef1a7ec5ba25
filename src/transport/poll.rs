//! AJAX polling: one batch at once.

use super::{Control, Envelope, Lifecycle, Opening, Params, Peer, Refusal, Transport, encoding};
use crate::message::Encoding;

/// `/poll`.
pub struct Poll;

impl Transport for Poll {
    fn name(&self) -> &'static str {
        "poll"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::Poll
    }

    fn open(&self, _params: &Params, _peer: &Peer<'_>) -> Result<Opening, Refusal> {
        Ok(Opening::new("application/json; charset=utf-8", JsonBatch))
    }
}

/// A batch as it stands.
pub(super) struct JsonBatch;

impl Envelope for JsonBatch {
    fn encoding(&self) -> &'static Encoding {
        &encoding::OBJECT
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        control.write_json(out);
    }
}
