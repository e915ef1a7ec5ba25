//! What each transport over HTTP puts around a frame.

use crate::wire::script;
use std::borrow::Cow;

/// The first bytes of an XHR stream. Some browsers report a stream only when they have this many bytes.
pub const XHR_PRELUDE: usize = 2048;

/// The number of bytes that a page of htmlfile has before its first frame. Some browsers show nothing before.
const HTMLFILE_HEAD: usize = 1024;

/// Appends the prelude of an XHR stream.
pub fn xhr_prelude(out: &mut Vec<u8>) {
    out.resize(out.len() + XHR_PRELUDE, b'h');
    out.push(b'\n');
}

/// Appends a line: the form of frames in XHR.
pub fn line(frame: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(frame);
    out.push(b'\n');
}

/// The first bytes of an event stream.
pub const EVENT_PRELUDE: &[u8] = b"\r\n";

/// Appends a frame as an event. Clients undo the percent escapes.
pub fn event(frame: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    for byte in frame {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b'\r' => out.extend_from_slice(b"%0D"),
            b'\n' => out.extend_from_slice(b"%0A"),
            0 => out.extend_from_slice(b"%00"),
            _ => out.push(*byte),
        }
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a frame as a script of an htmlfile page.
pub fn script(frame: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"<script>\np(\"");
    string(frame, out);
    out.extend_from_slice(b"\");\n</script>\r\n");
}

/// Appends the beginning of an htmlfile page. `callback` is the name of the object of the page that gets the frames.
pub fn htmlfile_head(callback: &str, out: &mut Vec<u8>) {
    let from = out.len();
    out.extend_from_slice(
        b"<!doctype html>\n<html><head>\n  <meta http-equiv=\"X-UA-Compatible\" content=\"IE=edge\" />\n  \
          <meta http-equiv=\"Content-Type\" content=\"text/html; charset=UTF-8\" />\n</head><body><h2>Don't panic!</h2>\n  \
          <script>\n    document.domain = document.domain;\n    var c = parent.",
    );
    out.extend_from_slice(callback.as_bytes());
    out.extend_from_slice(
        b";\n    c.start();\n    function p(d) {c.message(d);};\n    window.onload = function() {c.stop();};\n  </script>",
    );
    let spaces = (from + HTMLFILE_HEAD + 1).saturating_sub(out.len());
    out.resize(out.len() + spaces, b' ');
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a frame as an answer of JSONP.
pub fn jsonp(callback: &str, frame: &[u8], out: &mut Vec<u8>) {
    // Without the comment, the first bytes of the answer could be read as a Flash file.
    out.extend_from_slice(b"/**/");
    out.extend_from_slice(callback.as_bytes());
    out.extend_from_slice(b"(\"");
    string(frame, out);
    out.extend_from_slice(b"\");\r\n");
}

/// Appends a frame as the inside of a string in a script.
fn string(frame: &[u8], out: &mut Vec<u8>) {
    script::string(&String::from_utf8_lossy(frame), out);
}

/// The longest name of a callback.
const MAX_CALLBACK: usize = 32;

/// Why the name of a callback is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCallback {
    /// The request does not have a callback.
    Missing,
    /// It has other characters than letters, digits, `-`, `_` and `.`, or too many of them.
    Invalid,
}

impl BadCallback {
    /// The words that clients know.
    pub fn words(self) -> &'static str {
        match self {
            BadCallback::Missing => "\"callback\" parameter required",
            BadCallback::Invalid => "invalid \"callback\" parameter",
        }
    }
}

/// Reads the name of the callback in a query: the field `c` or `callback`. The name is written into a script, so it may
/// not have other characters.
///
/// # Errors
///
/// It is missing or not valid.
pub fn callback(query: &str) -> Result<String, BadCallback> {
    let field = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| matches!(&**name, "c" | "callback"));
    let (_, name) = field.ok_or(BadCallback::Missing)?;
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match &name {
        name if name.is_empty() => Err(BadCallback::Missing),
        name if name.len() <= MAX_CALLBACK && name.bytes().all(is_sound) => Ok(Cow::clone(name).into_owned()),
        _ => Err(BadCallback::Invalid),
    }
}
