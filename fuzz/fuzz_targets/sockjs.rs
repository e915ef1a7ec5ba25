//! SockJS: whatever a client sends is read or refused, and the texts in it are the same in the frame that goes out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::message::Payload;
use longtail::internals::wire::json;
use longtail::internals::wire::sockjs::path::Target;
use longtail::internals::wire::sockjs::{frame, messages, transport};

fuzz_target!(|text: &str| {
    if let Some(Target::Session { session, .. }) = Target::parse(text) {
        assert!(!session.is_empty() && !session.contains(['/', '.']));
    }
    if let Ok(callback) = transport::callback(text) {
        assert!(callback.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
    }
    let _ = messages::field(text.as_bytes());
    let read = messages::of_body(text);
    assert!(read.is_err() || messages::of_frame(text).is_ok());
    let sent: Vec<&str> = read.iter().flatten().map(|message| message.get()).filter(|it| it.starts_with('"')).collect();
    let (mut items, mut expected) = (Vec::new(), Vec::new());
    for json in sent {
        if !items.is_empty() {
            items.push(b',');
        }
        let (payload, _) = Payload::of_bare_json(json);
        expected.push(json::text_of(json).expect("a text"));
        frame::item(payload.as_str(), &mut items);
    }
    let mut out = Vec::new();
    frame::array(&items, &mut out);
    let out = String::from_utf8(out).expect("UTF-8");
    let lost = |it: char| matches!(it, '\u{200c}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{206f}' | '\u{fff0}'..='\u{ffff}');
    assert!(!out.contains(lost));
    let again = messages::of_body(&out[1..]).expect("an array");
    let again: Vec<String> = again.iter().map(|item| json::text_of(item.get()).expect("a text")).collect();
    assert_eq!(again, expected);

    let mut event = Vec::new();
    transport::event(text.as_bytes(), &mut event);
    let event = String::from_utf8(event).expect("UTF-8");
    let data = event.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\r\n\r\n")).expect("an event");
    assert!(!data.contains(['\r', '\n', '\0']));
    let mut script = Vec::new();
    transport::script(text.as_bytes(), &mut script);
    assert_eq!(String::from_utf8(script).expect("UTF-8").matches('<').count(), 2);
});
