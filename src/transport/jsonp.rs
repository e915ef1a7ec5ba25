//! JSONP polling: a batch as a script that calls a function, for pages of any origin.

use super::{Accepted, ApiError, Control, Envelope, Lifecycle, Params, RequestHead, Transport, encoding};
use crate::message::Encoding;
use crate::wire::script;

const SCRIPT: &str = "application/javascript; charset=utf-8";

/// `/jsonp`.
pub struct Jsonp;

impl Transport for Jsonp {
    fn name(&self) -> &'static str {
        "jsonp"
    }

    fn lifecycle(&self, params: &Params) -> Lifecycle {
        if params.poll_mode { Lifecycle::Poll } else { Lifecycle::LongPoll }
    }

    fn open(&self, params: &Params, _head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Ok(Accepted::new(SCRIPT, Call::new(params.required_callback()?)))
    }

    fn calls_back(&self) -> bool {
        true
    }

    fn refuse(&self, callback: Option<&str>, error: &ApiError) -> Option<(&'static str, Vec<u8>)> {
        let call = Call::new(callback?);
        let mut out = call.before.clone().into_bytes();
        script::escape(&error.to_json(), &mut out);
        out.extend_from_slice(b");");
        Some((SCRIPT, out))
    }
}

struct Call {
    before: String,
}

impl Call {
    fn new(callback: &str) -> Call {
        // Because of the comment, the body does not begin with bytes that the client has chosen. Flash could execute
        // such a body as a film (Rosetta Flash, CVE-2014-4671).
        Call { before: format!("/**/{callback}(") }
    }
}

impl Envelope for Call {
    fn encoding(&self) -> &'static Encoding {
        &encoding::SCRIPT
    }

    fn around(&self) -> (&[u8], &[u8]) {
        (self.before.as_bytes(), b");")
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        script::escape(&control.to_json(), out);
    }
}
