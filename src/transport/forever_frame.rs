//! The forever frame: a page for a hidden frame. The page never ends, and calls functions of its parent.

use super::padding::{HEARTBEAT_PADDING, PADDING, pad};
use super::{Accepted, ApiError, Code, Control, Envelope, Lifecycle, Params, RequestHead, Transport, encoding};
use crate::message::Encoding;
use crate::wire::script;
use std::borrow::Cow;

const PAGE: &str = "text/html; charset=utf-8";
const HEAD: &[u8] = b"<!DOCTYPE html><html><head><meta charset=\"utf-8\"><title>longtail</title></head><body>\n";
/// The scripts of the page call `parent`. In a window of its own, `parent` is the window itself, so a page of another
/// site could open it with a callback such as `opener.button.click`, and press a button of the application (same-origin
/// method execution). In a frame of another site, `parent` is that site's window, whose named frames can be reached. In
/// both cases this script takes `parent` away. The script protects browsers that support neither `Sec-Fetch-Dest` nor
/// `frame-ancestors`.
const GUARD: &[u8] = b"<script>try{if(parent==self)throw 0;parent.document.title}catch(e){parent=null}</script>\n";
const END_OF_CALL: &[u8] = b");</script>\n";

/// `/forever-frame`.
pub struct ForeverFrame;

impl Transport for ForeverFrame {
    fn name(&self) -> &'static str {
        "forever-frame"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::Stream { rollover: true }
    }

    fn open(&self, params: &Params, head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        let domain = params.domain.as_deref().map(|domain| parent_domain(domain, head.host)).transpose()?;
        let policy = policy(domain.as_deref());
        let frame = Frame::new(params.required_callback()?, domain, params.padding);
        let mut accepted = Accepted::new(PAGE, frame);
        accepted.headers.push(("content-security-policy", policy));
        // With this header, a window that opens the page loses its `opener`. Through `opener`, the page could call
        // functions of another page.
        accepted.headers.push(("cross-origin-opener-policy", "same-origin".into()));
        if params.domain.is_some() {
            // Since Chrome 115, `document.domain` has no effect without this header.
            accepted.headers.push(("origin-agent-cluster", "?0".into()));
        }
        Ok(accepted)
    }

    fn is_page(&self) -> bool {
        true
    }

    fn calls_back(&self) -> bool {
        true
    }

    fn refuse(&self, callback: Option<&str>, error: &ApiError) -> Option<(&'static str, Vec<u8>)> {
        let frame = Frame::new(callback?, None, false);
        let mut out = HEAD.to_vec();
        out.extend_from_slice(GUARD);
        out.extend_from_slice(frame.call.as_bytes());
        script::escape(&error.to_json(), &mut out);
        out.extend_from_slice(END_OF_CALL);
        Some((PAGE, out))
    }
}

/// The page loads nothing, and pages of its own origin may frame it. If a domain is given, hosts of this domain may
/// also frame it.
fn policy(domain: Option<&str>) -> Cow<'static, str> {
    const POLICY: &str =
        "default-src 'none'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
    match domain {
        Some(domain) => format!("{POLICY} {domain}:* *.{domain}:*").into(),
        None => POLICY.into(),
    }
}

/// Returns the domain in the spelling of host names, if it is a parent of this host and contains a dot.
fn parent_domain(domain: &str, host: &str) -> Result<String, ApiError> {
    let (domain, host) = (domain.to_ascii_lowercase(), host.to_ascii_lowercase());
    let sound = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let named = domain.contains('.') && domain.split('.').all(sound) && domain.bytes().any(|b| b.is_ascii_alphabetic());
    let parent = host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'));
    if named && parent {
        Ok(domain)
    } else {
        let rule = "domain must be a parent domain of the requested host, with at least one dot";
        Err(ApiError::new(Code::BadRequest, rule))
    }
}

struct Frame {
    /// `<script>parent.callback(`
    call: String,
    domain: Option<String>,
    padding: bool,
}

impl Frame {
    fn new(callback: &str, domain: Option<String>, padding: bool) -> Frame {
        Frame { call: format!("<script>parent.{callback}("), domain, padding }
    }
}

impl Envelope for Frame {
    fn encoding(&self) -> &'static Encoding {
        &encoding::SCRIPT
    }

    fn around(&self) -> (&[u8], &[u8]) {
        (self.call.as_bytes(), END_OF_CALL)
    }

    fn prelude(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(HEAD);
        if let Some(domain) = &self.domain {
            // The domain has only letters, digits, hyphens and dots: see `parent_domain`.
            out.extend_from_slice(format!("<script>document.domain='{domain}';</script>\n").as_bytes());
        }
        // This script comes after `document.domain` is set: before that, the script could not read the page around the
        // frame.
        out.extend_from_slice(GUARD);
        pad(PADDING, out);
        out.push(b'\n');
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        if self.padding && matches!(control, Control::Heartbeat { .. }) {
            pad(HEARTBEAT_PADDING, out);
        }
        out.extend_from_slice(self.call.as_bytes());
        script::escape(&control.to_json(), out);
        out.extend_from_slice(END_OF_CALL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_parent_of_the_host() {
        for (domain, host) in [("example.com", "push.example.com"), ("Example.com", "a.b.example.COM"), ("a.b", "a.b")]
        {
            assert_eq!(parent_domain(domain, host), Ok(domain.to_lowercase()));
        }
        let bad = [
            ("com", "example.com"),
            ("ample.com", "example.com"),
            ("evil.com", "example.com"),
            ("", "example.com"),
            (".com", "example.com"),
            ("example.com.", "push.example.com."),
            ("0.0.1", "127.0.0.1"),
            ("a.b';alert(1)//", "a.b';alert(1)//"),
        ];
        for (domain, host) in bad {
            assert!(parent_domain(domain, host).is_err(), "{domain} {host}");
        }
    }
}
