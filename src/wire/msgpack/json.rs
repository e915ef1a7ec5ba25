//! A value as JSON, as a script would write it.

use bytes::Bytes;

use super::value::Value;
use crate::wire::{json, timestamp};

/// Appends a value as JSON. The function appends what stands for bytes.
///
/// A number that JSON does not have becomes `null`, a time becomes text, and an extension becomes an array of its type
/// and its bytes.
pub fn write_json(value: &Value, out: &mut Vec<u8>, binary: &mut dyn FnMut(&Bytes, &mut Vec<u8>)) {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Unsigned(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Float(number) => float(*number, out),
        Value::Text(text) => json::quote(text, out),
        Value::Binary(bytes) => binary(bytes, out),
        Value::Time(ms) => json::quote(&timestamp::rfc3339_signed(*ms), out),
        Value::Array(values) => {
            out.push(b'[');
            for (index, value) in values.iter().enumerate() {
                comma(index, out);
                write_json(value, out, binary);
            }
            out.push(b']');
        }
        Value::Map(entries) => {
            out.push(b'{');
            for (index, (key, value)) in entries.iter().enumerate() {
                comma(index, out);
                json::quote(key, out);
                out.push(b':');
                write_json(value, out, binary);
            }
            out.push(b'}');
        }
        Value::Extension(kind, bytes) => {
            out.extend_from_slice(format!("[{kind},").as_bytes());
            binary(bytes, out);
            out.push(b']');
        }
    }
}

fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

fn float(number: f64, out: &mut Vec<u8>) {
    // JSON does not have NaN and the infinities. serde_json writes `null` for them, as scripts do.
    let text = serde_json::to_string(&number).unwrap_or_else(|_| "null".to_owned());
    // Scripts write whole numbers without a fraction.
    out.extend_from_slice(text.strip_suffix(".0").unwrap_or(&text).as_bytes());
}
