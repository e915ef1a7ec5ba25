//! A message comes out of every encoding as it went in, whatever its event and payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::cursor::Cursor;
use longtail::internals::message::{Encoding, Event, Message, Payload};
use longtail::internals::transport::encoding;
use longtail::internals::wire::{json, multipart};
use serde_json::{Value, value::RawValue};

// The first line is the event, the rest is the payload.
fuzz_target!(|input: &str| {
    let (event, payload) = input.split_once('\n').unwrap_or(("", input));
    let event: Event = event.parse().unwrap_or_default();
    let cursor: Cursor = "1763841234567-0.k3f9a1".parse().expect("a cursor");
    let channel = "todo".parse().expect("a channel");
    let message = Message::new(Some(cursor), channel, event.clone(), &Payload::from_any(payload), None);
    let frame = |encoding: &'static Encoding| encoding.frame(&message);
    let text = |encoding: &'static Encoding| String::from_utf8(frame(encoding).to_vec()).expect("UTF-8");

    let object = text(&encoding::OBJECT);
    assert!(serde_json::from_str::<&RawValue>(&object).is_ok());
    assert!(!object.contains(['\r', '\n']));
    assert_eq!(text(&encoding::LINE), format!("{object}\n"));

    let script = text(&encoding::SCRIPT);
    assert!(!script.contains(['<', '\u{2028}', '\u{2029}', '\n', '\r']));

    let (id, data) = event_stream(&text(&encoding::EVENT));
    assert_eq!((id.as_str(), data.1.as_str()), ("1763841234567-0.k3f9a1", object.as_str()));
    assert_eq!(data.0, "message");
    let (id, (name, data)) = event_stream(&text(&encoding::DATA_EVENT));
    let bare = json::text_of(message.payload()).unwrap_or_else(|| message.payload().to_owned());
    // The stream's own rule: a line ends at CR, LF or both, and is joined by LF.
    assert_eq!(data, bare.replace("\r\n", "\n").replace('\r', "\n"));
    assert_eq!((id.as_str(), name.as_str()), ("1763841234567-0.k3f9a1", event.as_str()));

    let part = text(&encoding::PART);
    assert_eq!(part.matches(multipart::BOUNDARY).count(), 1);
    if let Ok(value) = serde_json::from_str::<Value>(&object) {
        let body = part.lines().find(|line| line.starts_with('{')).expect("a body");
        assert_eq!(serde_json::from_str::<Value>(body).expect("JSON"), value);
    }

    let bytes = frame(&encoding::TEXT_FRAME);
    assert_eq!((bytes[0], bytes[1] & 0x80), (0x81, 0));
    assert!(bytes.ends_with(object.as_bytes()) && bytes.len() <= object.len() + 10);
});

/// The one event of a stream: last event id, name, data (WHATWG HTML §9.2.6).
fn event_stream(stream: &str) -> (String, (String, String)) {
    let (mut id, mut name, mut data, mut events) = (String::new(), String::new(), Vec::new(), 0);
    let lines = stream.replace("\r\n", "\n");
    for line in lines.split(['\n', '\r']) {
        if line.is_empty() {
            events += usize::from(!data.is_empty() && events == 0);
            continue;
        }
        assert_eq!(events, 0, "something behind the event: {stream:?}");
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut id),
            "event" => value.clone_into(&mut name),
            "data" => data.push(value),
            other => panic!("a field {other:?} in {stream:?}"),
        }
    }
    assert_eq!(events, 1, "{stream:?}");
    (id, (if name.is_empty() { "message".into() } else { name }, data.join("\n")))
}
