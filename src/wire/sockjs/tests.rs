//! Tests of the codec.

use super::frame::{array, close, escape, item, quote};
use super::messages::{BadMessages, field, of_body, of_frame};
use super::page;
use super::path::{PathTransport, Target};
use super::transport::{BadCallback, callback, event, htmlfile_head, jsonp, line, script, xhr_prelude};
use crate::wire::json;
use proptest::prelude::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn frames() {
    assert_eq!(written(|out| array(b"\"a\",\"b\"", out)), "a[\"a\",\"b\"]");
    assert_eq!(written(|out| close(3000, "Go away!", out)), "c[3000,\"Go away!\"]");
    assert_eq!(written(|out| close(1, "\"\u{2028}", out)), "c[1,\"\\\"\\u2028\"]");
    for (payload, text) in [
        ("1", "\"1\""),
        ("{\"a\":\"b\"}", "\"{\\\"a\\\":\\\"b\\\"}\""),
        ("\"x\"", "\"x\""),
        ("\"\\ud800\\u0000\\n\"", "\"\\ud800\\u0000\\n\""),
        ("\"\u{200c}é\u{200b}\u{ffff}😀\"", "\"\\u200cé\u{200b}\\uffff😀\""),
    ] {
        assert_eq!(written(|out| item(payload, out)), text, "{payload}");
    }
}

#[test]
fn each_transport_has_its_own_form() {
    assert_eq!(written(|out| line(b"o", out)), "o\n");
    assert_eq!(written(xhr_prelude), format!("{}\n", "h".repeat(2048)));
    assert_eq!(written(|out| event(b"a[\"%\r\n\0\"]", out)), "data: a[\"%25%0D%0A%00\"]\r\n\r\n");
    assert_eq!(written(|out| script(b"a[\"x\"]", out)), "<script>\np(\"a[\\\"x\\\"]\");\n</script>\r\n");
    let script = written(|out| script(b"a[\"</script>\"]", out));
    assert_eq!(script.matches("</script>").count(), 1, "{script}");
    assert_eq!(written(|out| jsonp("cb", b"a[\"x\"]", out)), "/**/cb(\"a[\\\"x\\\"]\");\r\n");
    let head = written(|out| htmlfile_head("cb", out));
    assert!(
        head.len() > 1024 && head.contains("var c = parent.cb;") && head.trim_end().ends_with("</script>"),
        "{head}"
    );
}

#[test]
fn callbacks_have_few_characters() {
    for (query, expected) in [
        ("c=callback", Ok("callback")),
        ("c=%63allback&c=other", Ok("callback")),
        ("callback=_jp.a-1", Ok("_jp.a-1")),
        ("", Err(BadCallback::Missing)),
        ("c=", Err(BadCallback::Missing)),
        ("d=x", Err(BadCallback::Missing)),
        ("c=%20", Err(BadCallback::Invalid)),
        ("c=*", Err(BadCallback::Invalid)),
        ("c=abc(", Err(BadCallback::Invalid)),
        ("c=abc%28", Err(BadCallback::Invalid)),
        ("c=%3Cscript", Err(BadCallback::Invalid)),
        ("c=é", Err(BadCallback::Invalid)),
        ("c=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Err(BadCallback::Invalid)),
    ] {
        assert_eq!(callback(query), expected.map(str::to_owned), "{query}");
    }
}

#[test]
fn bodies_and_frames() {
    let texts = |read: Result<Vec<&serde_json::value::RawValue>, BadMessages>| {
        read.map(|messages| messages.iter().map(|message| message.get().to_owned()).collect::<Vec<_>>())
    };
    let some = |items: &[&str]| Ok(items.iter().map(|item| (*item).to_owned()).collect());
    for (body, in_body, in_frame) in [
        ("[\"a\",\"\\ud800\"]", some(&["\"a\"", "\"\\ud800\""]), some(&["\"a\"", "\"\\ud800\""])),
        (" [ ] ", some(&[]), some(&[])),
        ("[1,{\"a\":2}]", some(&["1", "{\"a\":2}"]), some(&["1", "{\"a\":2}"])),
        ("\"a\"", Err(BadMessages::Json), some(&["\"a\""])),
        ("", Err(BadMessages::Missing), some(&[])),
        ("[\"x", Err(BadMessages::Json), Err(BadMessages::Json)),
        ("[\"a\"]x", Err(BadMessages::Json), Err(BadMessages::Json)),
        ("[\"a\nb\"]", Err(BadMessages::Json), Err(BadMessages::Json)),
        ("x", Err(BadMessages::Json), Err(BadMessages::Json)),
    ] {
        assert_eq!(texts(of_body(body)), in_body, "{body}");
        assert_eq!(texts(of_frame(body)), in_frame, "{body}");
    }
    for (form, expected) in [("d=%5B%22x%22%5D", Ok("[\"x\"]")), ("d=", Err(())), ("p=p", Err(())), ("", Err(()))] {
        assert_eq!(field(form.as_bytes()).map_err(|_| ()), expected.map(str::to_owned), "{form}");
    }
}

#[test]
fn paths() {
    use PathTransport::{JsonpSend, Xhr};
    let session = |session, transport| Some(Target::Session { session, transport });
    for (rest, target) in [
        ("", Some(Target::Greeting)),
        ("/", Some(Target::Greeting)),
        ("/info", Some(Target::Info)),
        ("/websocket", Some(Target::RawWebSocket)),
        ("/iframe.html", Some(Target::Iframe)),
        ("/iframe-.html", Some(Target::Iframe)),
        ("/iframe-0.1.2abc-dirty.2144.html", Some(Target::Iframe)),
        ("/a/b/xhr", session("b", Xhr)),
        ("/abcdefgh_i-j%20/abc%20/jsonp_send", session("abc%20", JsonpSend)),
    ] {
        assert_eq!(Target::parse(rest), target, "{rest}");
    }
    let long = format!("/a/{}/xhr", "b".repeat(201));
    for rest in [
        "x",
        "//",
        "///",
        "/a",
        "/a/",
        "/a/a",
        "/a/a/",
        "/a.html",
        "//xhr",
        "///xhr",
        "/a./a/xhr",
        "/a/a./xhr",
        "/./././xhr",
        "/a//xhr",
        "/a/b/xhr/",
        "/a/b/XHR",
        "/a/b/c/xhr",
        "/iframe.htm",
        "/iframe",
        "/IFRAME.HTML",
        "/iframe.HTML",
        "/iframe-/.html",
        "/iframe-A.html",
        "/iframe.xml",
        "/infos",
        &long,
    ] {
        assert_eq!(Target::parse(rest), None, "{rest}");
    }
}

#[test]
fn pages() {
    let page = page::iframe("https://a.example/s.js?\"&<");
    assert!(page.contains("<script src=\"https://a.example/s.js?&quot;&amp;&lt;\"></script>"), "{page}");
    let info: serde_json::Value = serde_json::from_str(&page::info(true, false, u32::MAX)).expect("JSON");
    assert_eq!(info["entropy"], u32::MAX);
}

/// The messages in a frame.
fn read(frame: &str) -> Vec<String> {
    let items = frame.strip_prefix('a').expect("messages");
    of_body(items).expect("an array").iter().map(|item| json::text_of(item.get()).expect("a text")).collect()
}

proptest! {
    #[test]
    fn texts_come_back(texts in prop::collection::vec(r"(\x{2028}|\x{200c}|\x{ffff}|%|<|\PC)*|\PC*", 0..4)) {
        let mut items = Vec::new();
        for text in &texts {
            if !items.is_empty() {
                items.push(b',');
            }
            quote(text, &mut items);
        }
        let frame = written(|out| array(&items, out));
        prop_assert!(!frame.chars().any(super::frame::is_escaped));
        prop_assert_eq!(read(&frame), texts);
    }

    #[test]
    fn escaped_json_is_the_same_value(text: String) {
        let json = json::quoted(&text);
        let escaped = written(|out| escape(&json, out));
        prop_assert_eq!(json::text_of(&escaped), Some(text));
    }

    #[test]
    fn an_event_is_one_line_that_comes_back(frame in r"[a-z%\r\n\x00\x{e9}]{0,40}") {
        let event = written(|out| event(frame.as_bytes(), out));
        let data = event.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\r\n\r\n")).expect("an event");
        prop_assert!(!data.contains(['\r', '\n', '\0']));
        let plain = data.replace("%0D", "\r").replace("%0A", "\n").replace("%00", "\0").replace("%25", "%");
        prop_assert_eq!(plain, frame);
    }

    #[test]
    fn nothing_panics(text: String) {
        let _ = (Target::parse(&text), of_body(&text), of_frame(&text), callback(&text), field(text.as_bytes()));
    }
}
