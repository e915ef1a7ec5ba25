//! XHR multipart: a response of many parts, each a message (`multipart/x-mixed-replace`, Netscape
//! 1.1 and Firefox up to 21; `multipart/mixed` for clients that ask for it).

use super::padding::{HEARTBEAT_PADDING, PADDING, pad};
use super::{Accepted, ApiError, Control, Envelope, Lifecycle, Params, RequestHead, Transport, encoding};
use crate::message::Encoding;
use crate::wire::multipart;

/// `/multipart`.
pub struct Multipart;

impl Transport for Multipart {
    fn name(&self) -> &'static str {
        "multipart"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::Stream { rollover: true }
    }

    fn open(&self, params: &Params, head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        let content_type = if prefers_mixed(head.accept) { multipart::MIXED } else { multipart::MIXED_REPLACE };
        Ok(Accepted::new(content_type, Parts { padding: params.padding }))
    }
}

/// Whether `Accept` names `multipart/mixed`, and does not prefer `multipart/x-mixed-replace` (RFC 9110 §12.5.1).
fn prefers_mixed(accept: &str) -> bool {
    let mixed = weight(accept, "multipart/mixed").unwrap_or_default();
    mixed > 0.0 && mixed >= weight(accept, "multipart/x-mixed-replace").unwrap_or_default()
}

/// The weight of a media type that `Accept` names.
fn weight(accept: &str, media_type: &str) -> Option<f32> {
    let mut ranges = accept.split(',').map(|range| range.split(';').map(str::trim));
    let mut range = ranges.find_map(|mut range| range.next()?.eq_ignore_ascii_case(media_type).then_some(range))?;
    let weight = range.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or_default())
    });
    Some(weight.unwrap_or(1.0))
}

struct Parts {
    padding: bool,
}

impl Envelope for Parts {
    fn encoding(&self) -> &'static Encoding {
        &encoding::PART
    }

    fn prelude(&self, out: &mut Vec<u8>) {
        if self.padding {
            // The padding is a preamble. Readers skip it (RFC 2046 §5.1.1).
            pad(PADDING, out);
            out.extend_from_slice(b"\r\n");
        }
        multipart::opening(out);
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        let mut json = control.to_json();
        if self.padding && matches!(control, Control::Heartbeat { .. }) {
            pad(HEARTBEAT_PADDING, &mut json);
        }
        match control {
            Control::Bye { .. } => multipart::last_part(&json, out),
            _ => multipart::part(&json, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_accept_names() {
        for (accept, expected) in [
            ("", false),
            ("*/*", false),
            ("multipart/*", false),
            ("multipart/mixed", true),
            ("Multipart/Mixed;boundary=x", true),
            ("text/html, multipart/mixed ; q=0.5", true),
            ("multipart/mixedx", false),
            ("x-multipart/mixed", false),
            ("text/plain;x=multipart/mixed", false),
            ("multipart/mixed;q=0", false),
            ("multipart/mixed;q=x", false),
            ("multipart/x-mixed-replace, multipart/mixed", true),
            ("multipart/x-mixed-replace, multipart/mixed;q=0.9", false),
            ("multipart/x-mixed-replace;Q=0.1, multipart/mixed;q=0.9", true),
        ] {
            assert_eq!(prefers_mixed(accept), expected, "{accept}");
        }
    }
}
