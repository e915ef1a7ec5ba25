//! JSONP and htmlfile: bodies in scripts.

use std::borrow::Cow;

use super::error::Error;
use crate::wire::script;

/// The first bytes of an htmlfile answer. Internet Explorer shows a page when it has 256 bytes, so spaces follow.
pub const HTMLFILE_HEAD: &str = concat!(
    "<html><body>",
    "<script>var _ = function (msg) { parent.s._(msg, document); };</script>",
    "                                                            ",
    "                                                            ",
    "                                                     "
);

/// Appends a part of the script that gives a packet to an htmlfile page: its beginning.
pub fn begin_htmlfile(out: &mut Vec<u8>) {
    out.extend_from_slice(b"<script>_(\"");
}

/// Appends the end of such a script.
pub fn end_htmlfile(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\");</script>");
}

/// Appends the beginning of a JSONP answer: `io.j[N]("`. The number is the `i` of a poll, or the `jsonp` of a handshake.
pub fn begin_jsonp(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("io.j[{number}](\"").as_bytes());
}

/// Appends the end of a JSONP answer.
pub fn end_jsonp(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\");");
}

/// Appends a part of a body, escaped for the string in a script.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    script::string(text, out);
}

/// Reads the body of a JSONP post: the field `d` of a form, which is a JSON string as a rule.
///
/// # Errors
///
/// The field is missing, or begins as a JSON string and is not one.
pub fn payload(form: &[u8]) -> Result<String, Error> {
    let field = form_urlencoded::parse(form).find(|(name, _)| name == "d");
    let (_, value) = field.ok_or(Error::Field)?;
    if value.starts_with('"') {
        return crate::wire::json::text_of(&value).ok_or(Error::Json);
    }
    Ok(Cow::into_owned(value))
}
