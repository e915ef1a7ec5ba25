//! Parsers of this folder, public for the fuzzer only.

use super::{entry, entry_fields};
use crate::cursor::Epoch;
use crate::message::{Draft, Message};
use redis::Value;

fn text(bytes: &[u8]) -> Value {
    Value::BulkString(bytes.to_vec())
}

/// Decodes a reply with one entry, which has this id and these fields and values. Returns its messages.
pub fn entries(id: &[u8], fields: &[&[u8]], max_payload: usize) -> Vec<Message> {
    let fields = fields.iter().map(|field| text(field)).collect();
    let entry = Value::Array(vec![text(id), Value::Array(fields)]);
    let reply = Value::Array(vec![entry]);
    let entries = entry::entries(&reply).unwrap_or_default();
    let epoch: Epoch = "k3f9a1".parse().unwrap_or_else(|_| unreachable!("an epoch"));
    entries.iter().filter_map(|entry| entry.message(epoch, max_payload).ok()).collect()
}

/// Returns the fields and values of a draft's entry.
pub fn draft_fields(draft: &Draft) -> Vec<String> {
    entry_fields::draft_fields(draft)
}

/// Returns a volatile message in the form that nodes send to each other.
pub fn volatile(json: &[u8], max_payload: usize) -> Option<Message> {
    entry_fields::volatile_from_json(json, max_payload)
}

/// Whether a text is the identity of a log.
pub fn identity(reply: &[u8]) -> bool {
    entry::identity(&text(reply)).is_some()
}
