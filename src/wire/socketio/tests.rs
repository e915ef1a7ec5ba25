//! Packets with the bytes of the protocol's documents and of the published parsers.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::assembler::{Assembler, Incomplete};
use super::encode::{self, Arguments, Charset, Event};
use super::error::{Error, MAX_NAMESPACE};
use super::event::{self, is_reserved};
use super::packet::{self, PacketType, Version};
use super::placeholders;

fn packet(kind: PacketType, namespace: &str, ack: Option<u64>, json: Option<&str>) -> packet::Packet<'static> {
    let packet = packet::Packet {
        kind,
        attachments: 0,
        namespace: namespace.into(),
        query: None,
        ack,
        json: json.map(Into::into),
    };
    packet.into_owned()
}

fn parse(text: &str) -> Result<packet::Packet<'_>, Error> {
    packet::Packet::parse(text, Version::V5)
}

#[test]
fn packets_of_both_versions() {
    use PacketType::{Ack, BinaryAck, BinaryEvent, Connect, ConnectError, Disconnect, Event};
    let with = |attachments, packet| packet::Packet { attachments, ..packet };
    for (text, expected) in [
        ("0", packet(Connect, "/", None, None)),
        ("0/admin,{\"token\":\"x\"}", packet(Connect, "/admin", None, Some("{\"token\":\"x\"}"))),
        // A namespace may go to the end.
        ("0/random", packet(Connect, "/random", None, None)),
        ("1/custom", packet(Disconnect, "/custom", None, None)),
        ("1/admin,", packet(Disconnect, "/admin", None, None)),
        ("2[\"a\",1]", packet(Event, "/", None, Some("[\"a\",1]"))),
        ("2/admin,[\"a\"]", packet(Event, "/admin", None, Some("[\"a\"]"))),
        ("212[\"a\"]", packet(Event, "/", Some(12), Some("[\"a\"]"))),
        ("2/admin,456[\"a\"]", packet(Event, "/admin", Some(456), Some("[\"a\"]"))),
        ("2[7]", packet(Event, "/", None, Some("[7]"))),
        ("3/admin,456[]", packet(Ack, "/admin", Some(456), Some("[]"))),
        ("30[1]", packet(Ack, "/", Some(0), Some("[1]"))),
        ("4{\"message\":\"no\"}", packet(ConnectError, "/", None, Some("{\"message\":\"no\"}"))),
        ("4\"no\"", packet(ConnectError, "/", None, Some("\"no\""))),
        (
            "51-[\"a\",{\"_placeholder\":true,\"num\":0}]",
            with(1, packet(BinaryEvent, "/", None, Some("[\"a\",{\"_placeholder\":true,\"num\":0}]"))),
        ),
        ("510-/n,9[\"a\"]", with(10, packet(BinaryEvent, "/n", Some(9), Some("[\"a\"]")))),
        ("50-[\"a\"]", packet(BinaryEvent, "/", None, Some("[\"a\"]"))),
        ("61-/n,9[1]", with(1, packet(BinaryAck, "/n", Some(9), Some("[1]")))),
    ] {
        for version in [Version::V4, Version::V5] {
            assert_eq!(packet::Packet::parse(text, version), Ok(expected.clone()), "{text} {version:?}");
        }
    }
    let parsed = packet::Packet::parse("0/chat?a=1&b=/x,", Version::V4).expect("a packet");
    assert_eq!((&*parsed.namespace, parsed.query.as_deref()), ("/chat", Some("a=1&b=/x")));
    let parsed = parse("0/chat?a=1,").expect("a packet");
    assert_eq!((&*parsed.namespace, parsed.query), ("/chat?a=1", None));
}

#[test]
fn what_is_not_a_packet() {
    let long = format!("0/{}", "a".repeat(MAX_NAMESPACE));
    let deep = format!("2[\"a\",{}", "[".repeat(100_000));
    for (text, error) in [
        ("", Error::UnknownType),
        ("7", Error::UnknownType),
        ("9[\"a\"]", Error::UnknownType),
        ("é", Error::UnknownType),
        ("5[\"a\"]", Error::Attachments),
        ("5-[\"a\"]", Error::Attachments),
        ("51", Error::Attachments),
        ("5x1-[\"a\"]", Error::Attachments),
        ("51.5-[\"a\"]", Error::Attachments),
        ("511-[\"a\"]", Error::TooManyAttachments),
        ("599999999999999999999999999-[\"a\"]", Error::TooManyAttachments),
        (&long, Error::Namespace),
        ("29007199254740992[\"a\"]", Error::Ack),
        ("2999999999999999999999[\"a\"]", Error::Ack),
        ("2", Error::Event),
        ("2{}", Error::Event),
        ("2[]", Error::Event),
        ("2[{}]", Error::Event),
        ("2[null]", Error::Event),
        ("2[\"a\"", Error::Event),
        ("2[\"a\",]", Error::Event),
        ("2[\"a\"]x", Error::Event),
        ("2\"a\"", Error::Event),
        ("2x[\"a\"]", Error::Event),
        (&deep, Error::Event),
        ("2[\"connect\"]", Error::ReservedEvent),
        ("2[\"\\u0063onnect\"]", Error::ReservedEvent),
        ("2[\"disconnecting\"]", Error::ReservedEvent),
        ("51-[\"newListener\"]", Error::ReservedEvent),
        ("3", Error::Json),
        ("31", Error::Json),
        ("31{}", Error::Json),
        ("31[", Error::Json),
        ("1{}", Error::Json),
        ("0[]", Error::Json),
        ("0\"a\"", Error::Json),
        ("0{", Error::Json),
        ("4[]", Error::Json),
    ] {
        assert_eq!(parse(text), Err(error), "{text:.80}");
    }
    // Version 4 does not reserve names.
    assert!(packet::Packet::parse("2[\"connect\"]", Version::V4).is_ok());
    assert!(is_reserved("connect_error") && !is_reserved("message"));
}

#[test]
fn events_and_their_arguments() {
    for (json, name, arguments, count) in [
        ("[\"a\"]", "a", "", 0),
        ("[\"a\",1]", "a", "1", 1),
        (" [ \"a\" , {\"b\": [1, 2]} , \"]\" ] ", "a", "{\"b\": [1, 2]} , \"]\"", 2),
        ("[\"\",\"\"]", "", "\"\"", 1),
        ("[\"\\u00e9\\n\",null]", "é\n", "null", 1),
        ("[\"\\ud800\"]", "\u{fffd}", "", 0),
        ("[7,7]", "7", "7", 1),
        ("[-1.5e3]", "-1.5e3", "", 0),
        // Numbers keep their digits, and keys their order.
        ("[\"a\",12345678901234567890.10,{\"b\":1,\"a\":1}]", "a", "12345678901234567890.10,{\"b\":1,\"a\":1}", 2),
    ] {
        let event = event::Event::parse(json).expect(json);
        assert_eq!((&*event.name, event.arguments, event.count), (name, arguments, count), "{json}");
        assert_eq!(event.array(), format!("[{arguments}]"));
    }
    let deep = format!("[\"a\",{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(event::Event::parse(&deep).map(|event| event.count), Ok(1));
    assert!(parse("3[1]").expect("an ack").event().is_none());
    assert_eq!(
        parse("25[\"a\",1]").expect("an event").event().map(|event| event.arguments.to_owned()),
        Some("1".into())
    );
}

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn packets_that_go_out() {
    let event = Event {
        namespace: "/",
        ack: None,
        name: "a",
        arguments: Arguments::One("{\"b\":1.0}"),
        attachments: 0,
        offset: None,
    };
    for (event, text) in [
        (event, "2[\"a\",{\"b\":1.0}]"),
        (Event { arguments: Arguments::Array(" [ 1, \"é\" ] "), ..event }, "2[\"a\",1, \"é\"]"),
        (Event { arguments: Arguments::Array("[]"), ..event }, "2[\"a\"]"),
        (Event { arguments: Arguments::Array("[ ]"), offset: Some("1-0"), ..event }, "2[\"a\",\"1-0\"]"),
        (Event { namespace: "/n", ack: Some(0), ..event }, "2/n,0[\"a\",{\"b\":1.0}]"),
        (Event { attachments: 2, namespace: "/n", ack: Some(12), ..event }, "52-/n,12[\"a\",{\"b\":1.0}]"),
        (Event { name: "\"é\n", ..event }, "2[\"\\\"é\\n\",{\"b\":1.0}]"),
        (Event { offset: Some("17-0.a"), ..event }, "2[\"a\",{\"b\":1.0},\"17-0.a\"]"),
    ] {
        assert_eq!(encoded(|out| event.encode(Charset::Utf8, out)), text);
    }
    let foreign = Event { name: "é", arguments: Arguments::One("\"😀\""), ..event };
    assert_eq!(encoded(|out| foreign.encode(Charset::Ascii, out)), r#"2["\u00e9","\ud83d\ude00"]"#);

    let ack = |arguments, attachments| encoded(|out| encode::ack("/n", 7, arguments, attachments, Charset::Utf8, out));
    assert_eq!(ack(Arguments::Array("[1]"), 0), "3/n,7[1]");
    assert_eq!(ack(Arguments::Array("[]"), 0), "3/n,7[]");
    assert_eq!(ack(Arguments::One("1"), 1), "61-/n,7[1]");
    for (text, expected) in [
        (encoded(|out| encode::connect_v4("/", out)), "0"),
        (encoded(|out| encode::connect_v4("/n", out)), "0/n,"),
        (encoded(|out| encode::connect_v5("/", "s", None, out)), "0{\"sid\":\"s\"}"),
        (encoded(|out| encode::connect_v5("/n", "s", Some("p"), out)), "0/n,{\"sid\":\"s\",\"pid\":\"p\"}"),
        (encoded(|out| encode::error_v4("/n", "\"nö\"", out)), "4/n,\"n\\u00f6\""),
        (
            encoded(|out| encode::error_v5("/n", "Invalid namespace", None, out)),
            "4/n,{\"message\":\"Invalid namespace\"}",
        ),
        (encoded(|out| encode::error_v5("/", "no", Some("[1]"), out)), "4{\"message\":\"no\",\"data\":[1]}"),
        (encoded(|out| encode::disconnect("/", out)), "1"),
        (encoded(|out| encode::disconnect("/n", out)), "1/n,"),
    ] {
        assert_eq!(text, expected);
        assert!(parse(&text).is_ok(), "{text}");
    }
}

const PLACE: &str = "{\"_placeholder\":true,\"num\":0}";

#[test]
fn places_of_binary_parts() {
    for (json, indexes) in [
        (PLACE.to_owned(), vec![0]),
        (format!("[{PLACE},{{\"a\":{PLACE}}}]"), vec![0, 0]),
        ("[ { \"num\" : 12 , \"_placeholder\" : true } ]".to_owned(), vec![12]),
        (format!("[\"{{\",{PLACE},\"\\\"{{\"]"), vec![0]),
        // A string that contains the text of a placeholder.
        (Value::from(PLACE).to_string(), vec![]),
        ("{\"_placeholder\":false,\"num\":0}".to_owned(), vec![]),
        ("{\"_placeholder\":true,\"num\":-1}".to_owned(), vec![]),
        ("{\"_placeholder\":true,\"num\":1.5}".to_owned(), vec![]),
        ("{\"_placeholder\":true,\"num\":10000}".to_owned(), vec![]),
        ("{\"_placeholder\":true,\"num\":\"0\"}".to_owned(), vec![]),
        ("{\"_placeholder\":true,\"num\":0,\"x\":1}".to_owned(), vec![]),
        ("{\"_placeholder\":true,\"_placeholder\":true}".to_owned(), vec![]),
        ("{\"num\":0,\"num\":0}".to_owned(), vec![]),
        ("{\"_placeholder\":true}".to_owned(), vec![]),
        ("{}".to_owned(), vec![]),
        (String::new(), vec![]),
    ] {
        let found: Vec<_> = placeholders::find(&json).map(|place| place.index).collect();
        assert_eq!(found, indexes, "{json}");
    }
    let mut out = Vec::new();
    placeholders::replace(&format!("[1,{PLACE},\"é\"]"), &mut out, |index, out| {
        out.extend_from_slice(format!("{{\"$binary\":{index}}}").as_bytes());
    });
    assert_eq!(out, "[1,{\"$binary\":0},\"é\"]".as_bytes());
}

#[test]
fn binary_parts_follow_their_packet() {
    let mut assembler = Assembler::new(Version::V5, 100);
    let part = |bytes: &'static [u8]| Bytes::from_static(bytes);
    let complete = assembler.text("2[\"a\"]").expect("a packet").expect("complete");
    assert!(complete.attachments.is_empty());

    let text = format!("52-[\"a\",{PLACE},{{\"_placeholder\":true,\"num\":1}}]");
    assert_eq!(assembler.text(&text), Ok(None));
    assert_eq!(assembler.binary(part(b"\x01")), Ok(None));
    // The other parts come to another node.
    let stored = assembler.take().expect("incomplete");
    assert_eq!(stored, Incomplete { text: text.clone(), attachments: vec![part(b"\x01")] });
    let mut other = Assembler::new(Version::V5, 100);
    other.resume(stored).expect("valid");
    assert_eq!(other.text("2[\"b\"]"), Err(Error::UnexpectedText));
    let complete = other.binary(part(b"")).expect("a part").expect("complete");
    assert_eq!((complete.packet, complete.attachments), (parse(&text).expect("valid"), vec![part(b"\x01"), part(b"")]));
    assert_eq!(other.binary(part(b"")), Err(Error::UnexpectedBinary));

    // A part that does not exist.
    assert_eq!(other.text("51-[\"a\",{\"_placeholder\":true,\"num\":1}]"), Ok(None));
    assert_eq!(other.binary(part(b"")), Err(Error::Placeholder));
    assert_eq!(other.text(&format!("50-[\"a\",{PLACE}]")), Err(Error::Placeholder));
    // A part in two places.
    assert_eq!(other.text(&format!("51-[\"a\",{PLACE},{PLACE}]")), Ok(None));
    assert_eq!(other.binary(part(b"\x01")), Err(Error::Placeholder));
    // In another packet it is data.
    assert!(other.text(&format!("2[\"a\",{PLACE}]")).is_ok_and(|complete| complete.is_some()));

    // The limit counts the text and all parts.
    let text = "52-[\"a\"]";
    let long = |len: usize| Bytes::from(vec![0; len]);
    assert_eq!(assembler.text(text), Ok(None));
    assert_eq!(assembler.binary(long(100 - text.len())), Ok(None));
    assert_eq!(assembler.binary(long(1)), Err(Error::TooLong));
    assert_eq!(assembler.text(&format!("51-[\"{}\"]", "a".repeat(100))), Err(Error::TooLong));
    for (text, parts) in [("2[\"a\"]", 0), ("51-[\"a\"]", 1), ("x", 0)] {
        let incomplete = Incomplete { text: text.to_owned(), attachments: vec![Bytes::new(); parts] };
        assert!(assembler.resume(incomplete).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn events_come_back(
        namespace in "/[a-zé?/]{0,5}",
        ack in prop::option::of(0..1u64 << 53),
        name: String,
        texts in prop::collection::vec(any::<String>(), 0..4),
        attachments in 0..=10usize,
        offset in prop::option::of("[0-9a-f.-]{0,9}"),
    ) {
        let array = Value::from(texts.clone()).to_string();
        let arguments = if texts.len() == 1 { Arguments::One(&array[1..array.len() - 1]) } else { Arguments::Array(&array) };
        let event = Event { namespace: &namespace, ack, name: &name, arguments, attachments, offset: offset.as_deref() };
        let text = encoded(|out| event.encode(Charset::Utf8, out));
        let ascii = encoded(|out| Event { namespace: "/", ..event }.encode(Charset::Ascii, out));
        prop_assert!(ascii.is_ascii());
        let expected: Vec<String> = [name.clone()].into_iter().chain(texts).chain(offset.clone()).collect();
        for (text, namespace) in [(&text, namespace.as_str()), (&ascii, "/")] {
            let packet = packet::Packet::parse(text, Version::V5);
            if is_reserved(&name) {
                prop_assert_eq!(packet, Err(Error::ReservedEvent));
                continue;
            }
            let packet = packet?;
            prop_assert_eq!((&*packet.namespace, packet.ack, packet.attachments), (namespace, ack, attachments));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(packet.json.as_deref().unwrap_or_default())?, expected.clone());
            let event = packet.event().ok_or(TestCaseError::fail("not an event"))?;
            prop_assert_eq!((&*event.name, event.count), (expected[0].as_str(), expected.len() - 1));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&event.array())?, expected[1..].to_vec());
        }
    }

    #[test]
    fn any_text_is_a_packet_or_an_error(
        text in r#"\PC*|[0-9]{0,3}-?(/[a-z?,]{0,4})?[0-9]{0,4}[\[\]{}"a,:\\ 0-9]{0,20}"#,
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..4),
    ) {
        for version in [Version::V4, Version::V5] {
            let mut assembler = Assembler::new(version, 50);
            if let Ok(Some(complete)) = assembler.text(&text) {
                let _ = complete.packet.event();
            }
            for part in &parts {
                let _ = assembler.binary(part.clone().into());
            }
        }
        let _ = event::Event::parse(&text);
        prop_assert!(placeholders::find(&text).all(|place| text.get(place.range).is_some()));
    }
}
