//! AJAX polling: one batch at once.

use super::{Accepted, ApiError, Control, Envelope, Lifecycle, Params, RequestHead, Transport, encoding};
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

    fn open(&self, _params: &Params, _head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Ok(Accepted::new("application/json; charset=utf-8", JsonBatch))
    }
}

/// The envelope of a batch without anything around it.
pub(super) struct JsonBatch;

impl Envelope for JsonBatch {
    fn encoding(&self) -> &'static Encoding {
        &encoding::OBJECT
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        control.write_json(out);
    }
}
