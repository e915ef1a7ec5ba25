//! Payloads and frames of both versions, with the bytes of the protocol's documents and of the published parsers.

use std::borrow::Cow;

use proptest::prelude::*;

use super::handshake::{Handshake, Refusal};
use super::utf8::{Encoded, decode};
use super::*;

fn text(kind: PacketType, text: &str) -> Packet<'static> {
    Packet { kind, data: Data::Text(Cow::Owned(text.to_owned())) }
}

fn message(text: &str) -> Packet<'static> {
    self::text(PacketType::Message, text)
}

fn binary(bytes: &[u8]) -> Packet<'static> {
    Packet { kind: PacketType::Message, data: Data::Binary(Cow::Owned(bytes.to_vec())) }
}

fn v4_packets(body: &[u8]) -> Result<Vec<Packet<'_>>, Error> {
    v4::packets(body)?.collect()
}

fn v3_packets(body: &[u8]) -> Result<Vec<Packet<'_>>, Error> {
    v3::packets(body, Encoded::PerhapsTwice)?.collect()
}

fn octet_packets(body: &[u8]) -> Result<Vec<Packet<'_>>, Error> {
    octets::packets(body).collect()
}

#[test]
fn payloads_of_version_4() {
    for (body, packets) in [
        (&b"4hello"[..], vec![message("hello")]),
        (b"2", vec![text(PacketType::Ping, "")]),
        (b"3probe", vec![text(PacketType::Pong, "probe")]),
        (b"4", vec![message("")]),
        ("4€\x1e2\x1e4x".as_bytes(), vec![message("€"), text(PacketType::Ping, ""), message("x")]),
        (b"4a\x1ebAQIDBA==\x1e1", vec![message("a"), binary(&[1, 2, 3, 4]), text(PacketType::Close, "")]),
        // Not all clients write the padding.
        (b"bAQIDBA", vec![binary(&[1, 2, 3, 4])]),
        (b"b", vec![binary(&[])]),
    ] {
        assert_eq!(v4_packets(body), Ok(packets), "{}", body.escape_ascii());
    }
    for (body, error) in [
        (&b""[..], Error::Empty),
        (b"4a\x1e", Error::Empty),
        (b"\x1e4a", Error::Empty),
        (b"abc", Error::UnknownType),
        (b"7", Error::UnknownType),
        (b"/", Error::UnknownType),
        (b"b!", Error::Base64),
        (b"b%%%%", Error::Base64),
        (b"4\xff", Error::Utf8),
    ] {
        assert_eq!(v4_packets(body), Err(error), "{}", body.escape_ascii());
    }
    // The packets before an error are read, and none after it.
    let all: Vec<_> = v4::packets(b"4a\x1e9\x1e4b").expect("UTF-8").collect();
    assert_eq!(all, [Ok(message("a")), Err(Error::UnknownType)]);
}

#[test]
fn frames_of_version_4() {
    assert_eq!(v4::text_frame("2probe"), Ok(text(PacketType::Ping, "probe")));
    assert_eq!(v4::text_frame("bAQI="), Ok(binary(&[1, 2])));
    assert_eq!(v4::text_frame(""), Err(Error::Empty));
    // The first byte is data, not a type.
    assert_eq!(v4::binary_frame(&[4, 1]), binary(&[4, 1]));
    assert_eq!(v4::binary_frame(&[]), binary(&[]));
}

#[test]
fn text_payloads_of_version_3() {
    for (body, packets) in [
        ("6:4hello", vec![message("hello")]),
        ("1:2", vec![text(PacketType::Ping, "")]),
        ("6:4hello2:4€", vec![message("hello"), message("€")]),
        // An emoji has two units.
        ("3:4😀1:6", vec![message("😀"), text(PacketType::Noop, "")]),
        ("2:4é10:b4AQIDBA==", vec![message("é"), binary(&[1, 2, 3, 4])]),
        ("0:", vec![]),
        ("", vec![]),
        ("0:1:2", vec![text(PacketType::Ping, "")]),
        // Parsers 1.x: é is two characters, and the length counts both.
        ("3:4Ã©", vec![message("é")]),
        ("5:4ð\u{9f}\u{98}\u{80}", vec![message("😀")]),
        // These are not UTF-8 as bytes, so they were encoded once.
        ("2:4Ã", vec![message("Ã")]),
        ("4:4Ã©€", vec![message("Ã©€")]),
    ] {
        assert_eq!(v3_packets(body.as_bytes()), Ok(packets), "{body}");
    }
    for (body, error) in [
        (&b"2"[..], Error::Length),
        (b":4a", Error::Length),
        (b"x:4a", Error::Length),
        (b"-1:4a", Error::Length),
        (b" 2:4a", Error::Length),
        (b"00000000002:4a", Error::Length),
        (b"9999999999:4a", Error::Cut),
        (b"3:4a", Error::Cut),
        (b"2:4a3", Error::Length),
        (b"1:7", Error::UnknownType),
        (b"1:b", Error::Empty),
        (b"2:b9", Error::UnknownType),
        (b"3:b4!", Error::Base64),
        // The length ends between the two units of the emoji.
        ("2:4😀".as_bytes(), Error::Cut),
        (b"2:4\xff", Error::Utf8),
    ] {
        assert_eq!(v3_packets(body), Err(error), "{}", body.escape_ascii());
    }
}

#[test]
fn octet_payloads_of_version_3() {
    for (body, packets) in [
        (&b"\0\x06\xff4hello"[..], vec![message("hello")]),
        // The length is in bytes, and its digits are not characters.
        (
            b"\0\x01\x02\xff4hello world\x01\x05\xff\x04\x01\x02\x03\x04",
            vec![message("hello world"), binary(&[1, 2, 3, 4])],
        ),
        (b"\0\x03\xff4\xc3\xa9", vec![message("é")]),
        (b"\x01\x01\xff\x04", vec![binary(&[])]),
        (b"\0\x08\xffb4AQIDBA", vec![binary(&[1, 2, 3, 4])]),
        (b"", vec![]),
    ] {
        assert_eq!(octet_packets(body), Ok(packets), "{}", body.escape_ascii());
    }
    for (body, error) in [
        (&b"6:4hello"[..], Error::Marker),
        (b"\0", Error::Length),
        (b"\0\x06", Error::Length),
        (b"\0\xff4", Error::Length),
        (b"\x006\xff4hello", Error::Length),
        (b"\0\0\0\0\0\0\0\0\0\0\0\x01\xff4", Error::Length),
        (b"\0\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff4", Error::Cut),
        (b"\0\x07\xff4hello", Error::Cut),
        (b"\0\0\xff", Error::Empty),
        (b"\x01\0\xff", Error::Empty),
        (b"\x01\x01\xff4", Error::UnknownType),
        (b"\0\x02\xff4\xc3", Error::Utf8),
    ] {
        assert_eq!(octet_packets(body), Err(error), "{}", body.escape_ascii());
    }
}

#[test]
fn frames_of_version_3() {
    let read = |text| v3::read_text_frame(text, Encoded::Once);
    assert_eq!(read("2probe"), Ok(text(PacketType::Ping, "probe")));
    assert_eq!(read("b4AQI="), Ok(binary(&[1, 2])));
    assert_eq!(read("4Ã©"), Ok(message("Ã©")));
    assert_eq!(v3::read_text_frame("4Ã©", Encoded::PerhapsTwice), Ok(message("é")));
    assert_eq!(v3::read_binary_frame(&[4, 1]), Ok(binary(&[1])));
    assert_eq!(v3::read_binary_frame(&[]), Err(Error::Empty));
    assert_eq!(v3::read_binary_frame(b"4"), Err(Error::UnknownType));
}

#[test]
fn objects_of_the_handshake() {
    let handshake = Handshake {
        sid: "a\"b",
        websocket: true,
        ping_interval: 25_000,
        ping_timeout: 20_000,
        max_payload: Some(1_000_000),
    };
    assert_eq!(
        handshake.json(),
        r#"{"sid":"a\"b","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
    );
    assert_eq!(
        Handshake { websocket: false, max_payload: None, ..handshake }.json(),
        r#"{"sid":"a\"b","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#
    );
    for (refusal, status, json) in [
        (Refusal::UnknownTransport, 400, r#"{"code":0,"message":"Transport unknown"}"#),
        (Refusal::UnknownSession, 400, r#"{"code":1,"message":"Session ID unknown"}"#),
        (Refusal::HandshakeMethod, 400, r#"{"code":2,"message":"Bad handshake method"}"#),
        (Refusal::BadRequest, 400, r#"{"code":3,"message":"Bad request"}"#),
        (Refusal::Forbidden, 403, r#"{"code":4,"message":"Forbidden"}"#),
        (Refusal::UnsupportedVersion, 400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
    ] {
        assert_eq!((refusal.status(), refusal.json().as_str()), (status, json));
    }
}

#[test]
fn jsonp_in_both_directions() {
    let mut out = Vec::new();
    jsonp::begin(7, &mut out);
    jsonp::escape("5:4\"é\n", &mut out);
    jsonp::escape("\u{2028}</script>", &mut out);
    jsonp::end(&mut out);
    assert_eq!(String::from_utf8(out).expect("UTF-8"), "___eio[7](\"5:4\\\"é\\n\\u2028\\u003c/script>\");");
    for (form, payload) in [
        (&b"d=1%3A2"[..], Ok("1:2")),
        (b"x=1&d=3%3A4+%C3%A9&d=2", Ok("3:4 é")),
        (b"d=a%5Cnb", Ok("a\nb")),
        (b"d=a%5C%5Cnb", Ok("a\\nb")),
        (b"d=a%5C%5C%5Cn%5Cn", Ok("a\\\\n\n")),
        (b"d=", Ok("")),
        (b"", Err(Error::Field)),
        (b"D=1", Err(Error::Field)),
    ] {
        assert_eq!(jsonp::payload(form).as_deref(), payload.as_ref().copied(), "{}", form.escape_ascii());
    }
}

/// A packet that a server may send.
fn packets() -> impl Strategy<Value = Vec<Packet<'static>>> {
    let kinds = vec![PacketType::Open, PacketType::Close, PacketType::Ping, PacketType::Pong, PacketType::Noop];
    let control = (prop::sample::select(kinds), "[ -~]{0,5}").prop_map(|(kind, data)| text(kind, &data));
    let message = "[^\x1e]{0,20}".prop_map(|data| self::message(&data));
    let bytes = prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| binary(&bytes));
    prop::collection::vec(prop_oneof![control, message, bytes], 1..6)
}

type Text = fn(PacketType, &str, &mut Vec<u8>);
type Binary = fn(&[u8], &mut Vec<u8>);

fn encoded(packets: &[Packet<'_>], text: Text, binary: Binary, between: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(between);
        }
        match &packet.data {
            Data::Text(data) => text(packet.kind, data, &mut out),
            Data::Binary(data) => binary(data, &mut out),
        }
    }
    out
}

proptest! {
    #[test]
    fn packets_come_back(packets in packets()) {
        let body = encoded(&packets, v4::packet, v4::binary, &[v4::SEPARATOR]);
        prop_assert_eq!(v4_packets(&body)?, packets.clone());
        let body = encoded(&packets, v3::packet, v3::binary, b"");
        let read: Result<Vec<_>, _> = v3::packets(&body, Encoded::Once)?.collect();
        prop_assert_eq!(read?, packets.clone());
        let body = encoded(&packets, octets::packet, octets::binary, b"");
        prop_assert_eq!(octet_packets(&body)?, packets);
    }

    #[test]
    fn frames_come_back(data: String, bytes: Vec<u8>) {
        let frame = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            out
        };
        let text = String::from_utf8(frame(&|out| v3::text_frame(PacketType::Message, &data, out)))?;
        prop_assert_eq!(v3::read_text_frame(&text, Encoded::Once)?, message(&data));
        prop_assert_eq!(v4::text_frame(&text)?, message(&data));
        let binary_frame = frame(&|out| v3::binary_frame(&bytes, out));
        prop_assert_eq!(v3::read_binary_frame(&binary_frame)?, binary(&bytes));
        let base64 = String::from_utf8(frame(&|out| v3::base64_frame(&bytes, out)))?;
        prop_assert_eq!(v3::read_text_frame(&base64, Encoded::PerhapsTwice)?, binary(&bytes));
    }

    #[test]
    fn any_bytes_are_packets_or_an_error(body: Vec<u8>, text in "[0-9b:\\x1eé😀=A]{0,30}") {
        for body in [&body[..], text.as_bytes()] {
            let _ = v4_packets(body);
            let _ = v3_packets(body);
            let _ = octet_packets(body);
            let _ = v3::read_binary_frame(body);
            let _ = jsonp::payload(body);
        }
        let _ = v4::text_frame(&text);
        let _ = v3::read_text_frame(&text, Encoded::PerhapsTwice);
    }

    #[test]
    fn text_that_was_encoded_twice_comes_back(text: String) {
        let twice: String = text.bytes().map(char::from).collect();
        prop_assert_eq!(decode(&twice, Encoded::PerhapsTwice), Cow::Borrowed(text.as_str()));
        // In a payload, the length counts the characters of the second encoding.
        let mut body = Vec::new();
        v3::packet(PacketType::Message, &twice, &mut body);
        prop_assert_eq!(v3_packets(&body)?, [message(&text)]);
    }

    #[test]
    fn jsonp_carries_any_payload(parts in prop::collection::vec(any::<String>(), 0..4)) {
        let mut out = Vec::new();
        parts.iter().for_each(|part| jsonp::escape(part, &mut out));
        let string = format!("\"{}\"", String::from_utf8(out)?);
        prop_assert_eq!(serde_json::from_str::<String>(&string)?, parts.concat());
    }

    /// The escapes of the client: first a backslash and an `n` become a backslash and a line feed, then each line feed
    /// becomes a backslash and an `n`.
    #[test]
    fn a_jsonp_post_comes_back(text in r"([a\\n\n]|é|\\n){0,12}") {
        // A backslash before a line feed is lost in the client's escapes. JSON does not have raw line feeds.
        prop_assume!(!text.contains("\\\n"));
        let escaped = text.replace("\\n", "\\\n").replace('\n', "\\n");
        let form: String = form_urlencoded::Serializer::new(String::new()).append_pair("d", &escaped).finish();
        prop_assert_eq!(jsonp::payload(form.as_bytes())?, text);
    }
}
