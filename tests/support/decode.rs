//! Turns the bytes of a response into items, by the response's `Content-Type` alone: a transport whose type is known
//! here needs no line in the tests.

use super::http::find;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Message,
    Hello,
    Heartbeat,
    Gap,
    Bye,
    Error,
    Ack,
    Pong,
    /// A member has joined or left.
    Member,
    /// The end of a batch: its cursor.
    Batch,
}

/// One object that the server sent.
#[derive(Clone, Debug)]
pub struct Item {
    pub kind: Kind,
    /// The object's JSON text unchanged from the wire.
    pub text: String,
    fields: BTreeMap<String, Box<RawValue>>,
}

/// Replaces each `JSON.parse("…")` with the JSON: the server sends a value that is not a JavaScript literal to scripts
/// in this form.
fn as_json(text: &str) -> String {
    let mut parts = text.split("JSON.parse(");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut strings = serde_json::Deserializer::from_str(part).into_iter::<String>();
        let Some(Ok(json)) = strings.next() else { return text.to_owned() };
        let rest = &part[strings.byte_offset()..];
        out.push_str(&json);
        out.push_str(rest.strip_prefix(')').expect("the call's end"));
    }
    out
}

impl Item {
    pub fn parse(text: &str) -> Item {
        let text = &as_json(text);
        let fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let mut item = Item { kind: Kind::Message, text: text.to_owned(), fields };
        item.kind = match item.str("type").as_deref() {
            Some("hello") => Kind::Hello,
            Some("heartbeat") => Kind::Heartbeat,
            Some("gap") => Kind::Gap,
            Some("bye") => Kind::Bye,
            Some("error") => Kind::Error,
            Some("ack") => Kind::Ack,
            Some("pong") => Kind::Pong,
            Some("member_added" | "member_removed") => Kind::Member,
            Some(other) => panic!("an object of unknown type {other}: {text}"),
            None if item.fields.contains_key("error") => Kind::Error,
            None if item.fields.contains_key("messages") => Kind::Batch,
            None => Kind::Message,
        };
        if item.kind == Kind::Message {
            for field in ["channel", "event", "data"] {
                assert!(item.fields.contains_key(field), "no {field} in {text}");
            }
        }
        item
    }

    fn control(kind: Kind, fields: &[(&str, &str)]) -> Item {
        let pairs = fields.iter().map(|(name, text)| {
            let text = RawValue::from_string((*text).to_owned()).expect("JSON");
            ((*name).to_owned(), text)
        });
        Item { kind, text: String::new(), fields: pairs.collect() }
    }

    /// A field's JSON text.
    pub fn raw(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(|value| value.get())
    }

    /// A field that is a text.
    pub fn str(&self, field: &str) -> Option<String> {
        serde_json::from_str(self.raw(field)?).ok()
    }

    /// A field that is a whole number.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.raw(field)?.parse().ok()
    }

    pub fn id(&self) -> Option<String> {
        self.str("id")
    }

    /// The payload's JSON text.
    pub fn data(&self) -> &str {
        self.raw("data").unwrap_or_else(|| panic!("no data in {}", self.text))
    }

    /// The error's code, if the item is an error in either form.
    pub fn code(&self) -> Option<String> {
        let inner: Option<BTreeMap<String, String>> =
            self.raw("error").and_then(|error| serde_json::from_str(error).ok());
        inner.map_or_else(|| self.str("code"), |error| error.get("code").cloned())
    }
}

/// A batch as its items: the gap, the messages, the end with the cursor.
pub fn batch(text: &str) -> Vec<Item> {
    let whole = Item::parse(text);
    if whole.kind == Kind::Error {
        return vec![whole];
    }
    assert_eq!(whole.kind, Kind::Batch, "not a batch: {text}");
    let mut items = Vec::new();
    let cursor = whole.raw("cursor").expect("a batch has a cursor");
    if let Some(gap) = whole.raw("gap") {
        let gap: BTreeMap<String, Box<RawValue>> = serde_json::from_str(gap).expect("a gap");
        items.push(Item::control(Kind::Gap, &[("from", gap["from"].get())]));
    }
    let messages: Vec<Box<RawValue>> =
        serde_json::from_str(whole.raw("messages").expect("messages")).expect("an array");
    items.extend(messages.iter().map(|message| Item::parse(message.get())));
    let mut end = Item::control(Kind::Batch, &[("cursor", cursor)]);
    end.text = text.to_owned();
    items.push(end);
    items
}

enum Format {
    Batch,
    Jsonp { callback: String },
    Frame { callback: String },
    Lines,
    Multipart { boundary: String, started: bool },
    Events { last_id: Option<String> },
}

/// Turns a body, in whatever pieces it comes, into items.
pub struct Decoder {
    format: Format,
    buffer: Vec<u8>,
    items: VecDeque<Item>,
    /// The `retry:` of an event stream.
    pub retry: Option<u64>,
}

impl Decoder {
    pub fn new(content_type: &str, callback: &str) -> Decoder {
        let mut parts = content_type.split(';').map(str::trim);
        let callback = callback.to_owned();
        let format = match parts.next().unwrap_or_default() {
            "application/json" => Format::Batch,
            "application/javascript" => Format::Jsonp { callback },
            "text/html" => Format::Frame { callback },
            "text/plain" | "application/x-ndjson" => Format::Lines,
            "text/event-stream" => Format::Events { last_id: None },
            other if other.starts_with("multipart/") => {
                let boundary = parts.find_map(|part| part.strip_prefix("boundary="));
                let boundary = boundary.expect("a boundary").trim_matches('"');
                Format::Multipart { boundary: format!("--{boundary}"), started: false }
            }
            other => panic!("no decoder for {other:?}"),
        };
        Decoder { format, buffer: Vec::new(), items: VecDeque::new(), retry: None }
    }

    pub fn pop(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while self.step() {}
    }

    /// Call this at the end of the body: batches are read here, and no bytes may be left over.
    pub fn finish(&mut self) {
        let text = String::from_utf8(std::mem::take(&mut self.buffer)).expect("UTF-8");
        match &self.format {
            Format::Batch => self.items.extend(batch(&text)),
            Format::Jsonp { callback } => {
                let json =
                    text.trim_end().strip_prefix(&format!("/**/{callback}(")).and_then(|rest| rest.strip_suffix(");"));
                let json = json.unwrap_or_else(|| panic!("not /**/{callback}(…); but {text:?}"));
                sound_script(json);
                self.items.extend(batch(json));
            }
            Format::Multipart { .. } => {
                assert!(text.starts_with("--"), "a multipart ends with its last boundary: {text:?}");
            }
            _ => assert!(text.trim().is_empty(), "the body ended within an object: {text:?}"),
        }
    }

    fn take(&mut self, end: usize) -> String {
        String::from_utf8(self.buffer.drain(..end).collect()).expect("UTF-8")
    }

    /// Takes one object off the buffer; returns false if more bytes are needed.
    fn step(&mut self) -> bool {
        match &self.format {
            Format::Batch | Format::Jsonp { .. } => false,
            Format::Frame { .. } => self.script(),
            Format::Lines => {
                let Some(end) = find(&self.buffer, b"\n") else { return false };
                let line = self.take(end + 1);
                if !line.trim().is_empty() {
                    self.items.push_back(Item::parse(line.trim()));
                }
                true
            }
            Format::Multipart { .. } => self.part(),
            Format::Events { .. } => self.event(),
        }
    }

    /// One `<script>…</script>`, which must hold one whole call or none.
    fn script(&mut self) -> bool {
        let Format::Frame { callback } = &self.format else { return false };
        let call = format!("parent.{callback}(");
        let lower = self.buffer.to_ascii_lowercase();
        let Some(open) = find(&lower, b"<script") else { return false };
        let Some(start) = find(&lower[open..], b">").map(|at| open + at + 1) else { return false };
        let Some(end) = find(&lower[start..], b"</script>").map(|at| start + at) else {
            return false;
        };
        let script = String::from_utf8(self.buffer[start..end].to_vec()).expect("UTF-8");
        self.buffer.drain(..end + "</script>".len());
        if let Some(at) = script.find(&call) {
            let json = script[at + call.len()..].trim_end().trim_end_matches([';', '}']);
            let json = json.strip_suffix(')').unwrap_or_else(|| panic!("no one call: {script}"));
            sound_script(json);
            self.items.push_back(Item::parse(json));
        }
        true
    }

    /// One part, which is whole when the next boundary is there.
    fn part(&mut self) -> bool {
        let Format::Multipart { boundary, started } = &mut self.format else { return false };
        if !*started {
            let Some(at) = find(&self.buffer, boundary.as_bytes()) else { return false };
            self.buffer.drain(..at);
            *started = true;
        }
        let next = format!("\r\n{boundary}");
        let Some(end) = find(&self.buffer, next.as_bytes()) else { return false };
        let skip = boundary.len();
        let part = self.take(end);
        self.buffer.drain(..2);
        let (head, body) = part[skip..].split_once("\r\n\r\n").expect("a part has a head");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("content-type: application/json"), "a JSON part: {head:?}");
        if !body.trim().is_empty() {
            self.items.push_back(Item::parse(body.trim()));
        }
        true
    }

    /// One block of an event stream, ended by an empty line, as WHATWG reads it.
    fn event(&mut self) -> bool {
        let Some(end) = block_end(&self.buffer) else { return false };
        let block = self.take(end).replace("\r\n", "\n").replace('\r', "\n");
        let (mut event, mut id, mut data) = (None, None, None::<String>);
        for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event = Some(value.to_owned()),
                "id" => id = Some(value.to_owned()),
                "retry" => self.retry = Some(value.parse().expect("a number of ms")),
                "data" => {
                    let so_far = data.take().map(|text| text + "\n").unwrap_or_default();
                    data = Some(so_far + value);
                }
                other => panic!("an unknown field {other:?} in {block:?}"),
            }
        }
        let Format::Events { last_id } = &mut self.format else { return false };
        if id.is_some() {
            last_id.clone_from(&id);
        }
        let Some(data) = data else {
            if let Some(id) = id {
                let cursor = serde_json::to_string(&id).expect("JSON");
                self.items.push_back(Item::control(Kind::Heartbeat, &[("cursor", &cursor)]));
            }
            return true;
        };
        let item = Item::parse(&data);
        let named = if item.kind == Kind::Message { None } else { item.str("type") };
        assert_eq!(event, named, "the event's name fits {data}");
        let has_id = matches!(item.kind, Kind::Message | Kind::Member);
        let place = if has_id { item.id() } else { item.str("cursor") };
        assert_eq!(id, place, "the block's id is the position of {data}");
        self.items.push_back(item);
        true
    }
}

/// Checks that a browser would evaluate this JSON text inside a script correctly.
fn sound_script(json: &str) {
    for bad in ["</", "<!--", "\u{2028}", "\u{2029}"] {
        assert!(!json.contains(bad), "unescaped {bad:?} in script: {json}");
    }
}

/// The index behind the empty line that ends the first block.
fn block_end(bytes: &[u8]) -> Option<usize> {
    let mut line_start = 0;
    let mut at = 0;
    while at < bytes.len() {
        let eol = match (bytes[at], bytes.get(at + 1)) {
            (b'\r', Some(b'\n')) => 2,
            (b'\r' | b'\n', _) => 1,
            _ => 0,
        };
        if eol > 0 && at == line_start {
            return Some(at + eol);
        }
        at += eol.max(1);
        if eol > 0 {
            line_start = at;
        }
    }
    None
}
