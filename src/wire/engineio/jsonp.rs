//! JSONP of Engine.IO: an answer is a call with the payload as a string, and a post is a form with the field `d`.
//!
//! Version 3 has it, and the clients of Socket.IO 3.0 to 4.2, which speak version 4.

use std::borrow::Cow;

use super::packet::Error;
use crate::wire::script;

/// Appends the beginning of an answer: `___eio[N]("`. The number is the `j` of the request.
pub fn begin(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("___eio[{number}](\"").as_bytes());
}

/// Appends a part of the payload, escaped for the string in the answer.
pub fn escape(payload: &str, out: &mut Vec<u8>) {
    script::string(payload, out);
}

/// Appends the end of an answer.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\");");
}

/// Reads the payload of a post: the field `d` of a form.
///
/// The client writes a line feed as `\n`, and a backslash before an `n` as `\\n`, because browsers change the line ends
/// of a form.
///
/// # Errors
///
/// The field is missing.
pub fn payload(form: &[u8]) -> Result<String, Error> {
    let field = form_urlencoded::parse(form).find(|(name, _)| name == "d");
    let (_, value) = field.ok_or(Error::Field)?;
    Ok(unescape(&value).into_owned())
}

/// Undoes the client's escapes. A backslash before `\n` says that the escape stands for itself.
fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains("\\n") {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find("\\n") {
        let before = &rest[..at];
        match before.strip_suffix('\\') {
            Some(before) => {
                out.push_str(before);
                out.push_str("\\n");
            }
            None => {
                out.push_str(before);
                out.push('\n');
            }
        }
        rest = &rest[at + 2..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}
