//! Packets and bodies with the bytes of the specification and of `socket.io` 0.9.19.

use proptest::prelude::*;
use serde_json::Value;

use super::encode::{self, Reason};
use super::error::{Error, MAX_ENDPOINT};
use super::framing;
use super::handshake::{Handshake, jsonp_error};
use super::packet::{Id, Packet, PacketType, Reply};
use super::pages;

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn packets() {
    use PacketType::{Ack, Connect, Disconnect, Error, Event, Heartbeat, Json, Message, Noop};
    let receipt = |number| Some(Id { number, reply: Reply::Receipt });
    let data = |number| Some(Id { number, reply: Reply::Data });
    for (text, kind, id, endpoint, rest) in [
        ("0::", Disconnect, None, "", ""),
        ("0::/woot", Disconnect, None, "/woot", ""),
        ("1::", Connect, None, "", ""),
        ("1::/tobi", Connect, None, "/tobi", ""),
        ("1::/test:?test=1", Connect, None, "/test", "?test=1"),
        ("1::/test?test=1", Connect, None, "/test", "test=1"),
        ("2::", Heartbeat, None, "", ""),
        ("2:::", Heartbeat, None, "", ""),
        ("3:::woot", Message, None, "", "woot"),
        ("3:5:/tobi:a:b::", Message, receipt(5), "/tobi", "a:b::"),
        ("3:1+::", Message, data(1), "", ""),
        ("4:1+::{\"a\":\"b\"}", Json, data(1), "", "{\"a\":\"b\"}"),
        ("5:::{\"name\":\"woot\"}", Event, None, "", "{\"name\":\"woot\"}"),
        ("6:::140", Ack, None, "", "140"),
        ("6::/tobi:12+[1]", Ack, None, "/tobi", "12+[1]"),
        ("7::", Error, None, "", ""),
        ("7:::2+0", Error, None, "", "2+0"),
        ("8::", Noop, None, "", ""),
    ] {
        assert_eq!(Packet::parse(text), Ok(Packet { kind, id, endpoint, data: rest }), "{text}");
    }
    assert_eq!(Packet::parse("1::/test:?test=1").map(|packet| packet.query()), Ok("test=1"));
    assert_eq!(Packet::parse("1::/test?test=1").map(|packet| packet.query()), Ok("test=1"));
    let long = format!("1::/{}", "a".repeat(MAX_ENDPOINT));
    for (text, error) in [
        ("", self::Error::UnknownType),
        ("9::", self::Error::UnknownType),
        ("10::", self::Error::UnknownType),
        ("é::", self::Error::UnknownType),
        ("2", self::Error::Cut),
        ("2:", self::Error::Cut),
        ("3:a::x", self::Error::Id),
        ("3:+::x", self::Error::Id),
        ("3:1++::x", self::Error::Id),
        ("3:1234567890123456::x", self::Error::Id),
        (&long, self::Error::Endpoint),
    ] {
        assert_eq!(Packet::parse(text), Err(error), "{text:.40}");
    }
}

fn parse(text: &str) -> Packet<'_> {
    Packet::parse(text).expect("a packet")
}

#[test]
fn data_of_packets() {
    let event = |data: &str| {
        let text = format!("5:::{data}");
        let event = parse(&text).event();
        event.map(|event| (event.name.into_owned(), event.arguments.map(|json| json.get().to_owned())))
    };
    assert_eq!(event("{\"name\":\"a\"}"), Ok(("a".into(), None)));
    assert_eq!(event("{\"name\":\"\\u00e9\",\"args\":[1, 2.0],\"x\":[]}"), Ok(("é".into(), Some("[1, 2.0]".into()))));
    assert_eq!(event("{\"name\":\"a\",\"args\":null}"), Ok(("a".into(), None)));
    for data in ["", "[]", "{}", "{\"name\":1}", "{\"name\":\"a\",\"args\":{}}", "{\"name\":\"a\"", "{\"name\":\"a\"}x"]
    {
        assert_eq!(event(data), Err(Error::Event), "{data}");
    }
    let deep = format!("{{\"name\":\"a\",\"args\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(event(&deep).is_ok());

    let ack =
        |data: &str| parse(&format!("6:::{data}")).ack().map(|(id, json)| (id, json.map(|json| json.get().to_owned())));
    assert_eq!(ack("4"), Ok((4, None)));
    assert_eq!(ack("4+"), Ok((4, None)));
    assert_eq!(ack("4+[\"A\",\"+\"]"), Ok((4, Some("[\"A\",\"+\"]".into()))));
    for data in ["", "+", "a", "4+1", "4+[", "-4"] {
        assert_eq!(ack(data), Err(Error::Ack), "{data}");
    }
    assert_eq!(parse("4:::[1.0]").json().map(|json| json.get().to_owned()), Ok("[1.0]".to_owned()));
    assert_eq!(parse("4:::[").json().map(|json| json.get().to_owned()), Err(Error::Json));
}

#[test]
fn packets_that_go_out() {
    let id = |reply| Some(Id { number: 7, reply });
    for (text, expected) in [
        (encoded(|out| encode::event(None, "", "m", "[\"é\"]", out)), "5:::{\"name\":\"m\",\"args\":[\"é\"]}"),
        (
            encoded(|out| encode::event(id(Reply::Data), "/n", "\"", "[]", out)),
            "5:7+:/n:{\"name\":\"\\\"\",\"args\":[]}",
        ),
        (encoded(|out| encode::message(id(Reply::Receipt), "", "a:b", out)), "3:7::a:b"),
        (encoded(|out| encode::json(None, "/n", "[1]", out)), "4::/n:[1]"),
        (encoded(|out| encode::connect("", out)), "1::"),
        (encoded(|out| encode::connect("/n", out)), "1::/n"),
        (encoded(|out| encode::disconnect("", out)), "0::"),
        (encoded(|out| encode::ack("", 7, None, out)), "6:::7"),
        (encoded(|out| encode::ack("/n", 7, Some("[1]"), out)), "6::/n:7+[1]"),
        (encoded(|out| encode::error("", Reason::NotHandshaken, true, out)), encode::UNKNOWN_SESSION),
        (encoded(|out| encode::error("/n", Reason::Unauthorized, false, out)), "7::/n:2"),
        (encoded(|out| encode::error("", Reason::UnknownTransport, false, out)), "7:::0"),
        (encode::HEARTBEAT.to_owned(), "2::"),
        (encode::NOOP.to_owned(), "8::"),
    ] {
        assert_eq!(text, expected);
        assert!(Packet::parse(&text).is_ok(), "{text}");
    }
}

fn unframed(body: &[u8]) -> Result<Vec<&str>, Error> {
    framing::packets(body)?.collect()
}

#[test]
fn bodies_with_packets() {
    for (body, packets) in [
        ("", vec![]),
        ("2::", vec!["2::"]),
        ("3:::\u{fffd}", vec!["3:::\u{fffd}"]),
        ("\u{fffd}3\u{fffd}1::\u{fffd}5\u{fffd}3:::a", vec!["1::", "3:::a"]),
        // Lengths count UTF-16 units.
        ("\u{fffd}7\u{fffd}3:::é😀\u{fffd}3\u{fffd}2::", vec!["3:::é😀", "2::"]),
        ("\u{fffd}5\u{fffd}3:::\u{fffd}", vec!["3:::\u{fffd}"]),
        ("\u{fffd}0\u{fffd}", vec![""]),
    ] {
        assert_eq!(unframed(body.as_bytes()), Ok(packets), "{body}");
    }
    for (body, error) in [
        (&b"\xef\xbf\xbd"[..], Error::Length),
        ("\u{fffd}\u{fffd}1::".as_bytes(), Error::Length),
        ("\u{fffd}3:1::".as_bytes(), Error::Length),
        ("\u{fffd}00000000003\u{fffd}1::".as_bytes(), Error::Length),
        ("\u{fffd}4\u{fffd}1::".as_bytes(), Error::Body),
        ("\u{fffd}9999999999\u{fffd}1::".as_bytes(), Error::Body),
        ("\u{fffd}3\u{fffd}1::2".as_bytes(), Error::Length),
        ("\u{fffd}1\u{fffd}😀".as_bytes(), Error::Body),
        (b"1::\xff", Error::Utf8),
    ] {
        assert_eq!(unframed(body), Err(error), "{}", body.escape_ascii());
    }
}

#[test]
fn the_handshake() {
    let handshake = Handshake { sid: "s", heartbeat: Some(60), close: 65, transports: &["websocket", "xhr-polling"] };
    assert_eq!(handshake.line(), "s:60:65:websocket,xhr-polling");
    assert_eq!(Handshake { heartbeat: None, ..handshake }.line(), "s::65:websocket,xhr-polling");
    assert_eq!(encoded(|out| jsonp_error(3, "no \"</script>", out)), "io.j[3](new Error(\"no \\\"\\u003c/script>\"));");
}

#[test]
fn scripts() {
    let page = encoded(|out| {
        out.extend_from_slice(pages::HTMLFILE_HEAD.as_bytes());
        pages::begin_htmlfile(out);
        pages::escape("5:::\"</script>", out);
        pages::end_htmlfile(out);
    });
    assert_eq!(pages::HTMLFILE_HEAD.len() - pages::HTMLFILE_HEAD.trim_end().len(), 173);
    assert!(page.starts_with("<html><body><script>var _ = function (msg) { parent.s._(msg, document); };</script> "));
    assert!(page.ends_with(" <script>_(\"5:::\\\"\\u003c/script>\");</script>"), "{page}");
    let answer = encoded(|out| {
        pages::begin_jsonp(2, out);
        pages::escape("3:::\u{2028}", out);
        pages::end_jsonp(out);
    });
    assert_eq!(answer, "io.j[2](\"3:::\\u2028\");");
    for (form, payload) in [
        (&b"d=%223%3A%3A%3Aa%5Cn%22"[..], Ok("3:::a\n")),
        (b"d=3%3A%3A%3Aa", Ok("3:::a")),
        (b"d=%22a", Err(Error::Json)),
        (b"x=1", Err(Error::Field)),
    ] {
        assert_eq!(pages::payload(form).as_deref(), payload.as_ref().copied(), "{}", form.escape_ascii());
    }
}

proptest! {
    #[test]
    fn packets_come_back(
        number in 0..1_000_000_000_000_000u64,
        with_data: bool,
        endpoint in "(/[a-zé/]{0,6})?",
        name: String,
        texts in prop::collection::vec(any::<String>(), 0..4),
    ) {
        let reply = if with_data { Reply::Data } else { Reply::Receipt };
        let id = Some(Id { number, reply });
        let array = Value::from(texts.clone()).to_string();
        let messages: Vec<String> = texts.iter().map(|text| encoded(|out| encode::message(id, &endpoint, text, out))).collect();
        let event = encoded(|out| encode::event(id, &endpoint, &name, &array, out));
        let ack = encoded(|out| encode::ack(&endpoint, number, Some(&array), out));

        let mut body = Vec::new();
        messages.iter().chain([&event, &ack]).for_each(|packet| framing::frame(packet, &mut body));
        let packets = unframed(&body)?;
        prop_assert_eq!(packets.len(), texts.len() + 2);
        for (packet, text) in packets.iter().zip(&texts) {
            let packet = Packet::parse(packet)?;
            let expected = (PacketType::Message, id, endpoint.as_str(), text.as_str());
            prop_assert_eq!((packet.kind, packet.id, packet.endpoint, packet.data), expected);
        }
        let read = Packet::parse(packets[texts.len()])?.event()?;
        prop_assert_eq!((read.name.as_ref(), read.arguments.map(|json| json.get())), (name.as_str(), Some(array.as_str())));
        let (read, arguments) = Packet::parse(packets[texts.len() + 1])?.ack()?;
        prop_assert_eq!((read, arguments.map(|json| json.get())), (number, Some(array.as_str())));
    }

    #[test]
    fn any_bytes_are_packets_or_an_error(body: Vec<u8>, text in "\\PC*|[\u{fffd}0-9:+/é😀{}\"a]{0,30}") {
        for body in [&body[..], text.as_bytes()] {
            for packet in framing::packets(body).into_iter().flatten().flatten() {
                let _ = Packet::parse(packet);
            }
            let _ = pages::payload(body);
        }
        if let Ok(packet) = Packet::parse(&text) {
            let _ = (packet.event(), packet.json(), packet.ack(), packet.query());
        }
    }
}
