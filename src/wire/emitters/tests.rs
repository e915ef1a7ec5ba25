//! Payloads as the published emitters write them. Their MessagePack was made with the packages that they use:
//! `msgpack-js` 0.3 (emitters 0.x and 1.x), `notepack.io` 2 (2.x) and 3 (3.x to 5.x).

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::wire::msgpack;

fn emit(event: &str, arguments: &str, attachments: &[&'static [u8]], volatile: bool) -> Action {
    let attachments = attachments.iter().map(|part| Bytes::from_static(part)).collect();
    Action::Emit { event: event.to_owned(), arguments: arguments.to_owned(), attachments, volatile }
}

fn publication(namespace: &str, rooms: &[&str], except: &[&str], action: Action) -> Publication {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Publication { namespace: namespace.to_owned(), rooms: owned(rooms), except: owned(except), action }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Emitter 1.x: a buffer of `msgpack-js`, a long text, `undefined`.
const MSGPACK_JS: &[u8] = b"\x93\xa7emitter\x83\xa4type\x05\xa4data\x94\xa4file\xd8\x00\x02\x07\x08\
    \xda\x00(wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww\xc4\xa3nsp\xa2/n\x82\xa5rooms\x92\xa2r1\xa2r2\xa5flags\x80";

/// Emitter 5.x: `undefined`, a time, a buffer within an object, a flag, `except`.
const NOTEPACK_3: &[u8] = b"\x93\xa7emitter\x83\xa4type\x02\xa4data\x94\xa4news\xc0\xd7\xff;]\xc1\x00\x00\x00\x00\x01\
    \x81\xa1f\xc4\x01\x07\xa3nsp\xa2/n\x83\xa5rooms\x92\xa2r1\xa2r2\xa5flags\x81\xa8volatile\xc3\xa6except\x91\xa2r3";

#[test]
fn events_of_emitters() {
    let long = "w".repeat(40);
    let place = |index| format!("{{\"_placeholder\":true,\"num\":{index}}}");
    for (channel, payload, expected) in [
        // 0.1: no namespace. 0.2: no uid.
        (
            "#emitter",
            &b"\x92\x82\xa4type\x02\xa4data\x91\xa4news\x82\xa5rooms\x90\xa5flags\x80"[..],
            publication("/", &[], &[], emit("news", "[]", &[], false)),
        ),
        (
            "#emitter",
            b"\x92\x83\xa4type\x02\xa4data\x92\xa4news\xa1x\xa3nsp\xa1/\x82\xa5rooms\x91\xa2r1\xa5flags\x80",
            publication("/", &["r1"], &[], emit("news", "[\"x\"]", &[], false)),
        ),
        (
            "#/n#r1#",
            MSGPACK_JS,
            publication(
                "/n",
                &["r1", "r2"],
                &[],
                emit("file", &format!("[{},\"{long}\",null]", place(0)), &[b"\x07\x08"], false),
            ),
        ),
        // notepack 2: undefined and a date as its own extensions.
        (
            "#/#",
            b"\x93\xa7emitter\x83\xa4type\x02\xa4data\x94\xa4news\x82\xa1a\xd4\x00\x00\xa1d\xd7\x00\x00\x00\x00\x00\x00\
              \x00\x04\xe1\xa2\xc3\xa9\xcb?\xf8\x00\x00\x00\x00\x00\x00\xa3nsp\xa1/\x82\xa5rooms\x90\xa5flags\x80",
            publication(
                "/",
                &[],
                &[],
                emit("news", "[{\"a\":null,\"d\":\"1970-01-01T00:00:01.249Z\"},\"é\",1.5]", &[], false),
            ),
        ),
        // Here the byte d9 begins a text.
        (
            "#/n#r1#",
            b"\x93\xa7emitter\x83\xa4type\x05\xa4data\x93\xa4file\xc4\x02\x07\x08\xd9(wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww\
              wwww\xa3nsp\xa2/n\x82\xa5rooms\x91\xa2r1\xa5flags\x80",
            publication("/n", &["r1"], &[], emit("file", &format!("[{},\"{long}\"]", place(0)), &[b"\x07\x08"], false)),
        ),
        (
            "#/n#",
            NOTEPACK_3,
            publication(
                "/n",
                &["r1", "r2"],
                &["r3"],
                emit(
                    "news",
                    &format!("[null,\"1970-01-01T00:00:01.249Z\",{{\"f\":{}}}]", place(0)),
                    &[b"\x07"],
                    true,
                ),
            ),
        ),
        // A room that is a number, and PHP's empty arrays. Adapter 5.0.0 writes the room without the last mark.
        (
            "#/#5",
            b"\x93\xa7emitter\x83\xa4type\x02\xa4data\x91\xa4news\xa3nsp\xa1/\x83\xa5rooms\x91\x05\xa5flags\x90\xa6except\x90",
            publication("/", &["5"], &[], emit("news", "[]", &[], false)),
        ),
    ] {
        assert_eq!(broadcast::decode(channel, payload), Ok(Some(expected)), "{channel} {}", payload.escape_ascii());
    }
}

#[test]
fn what_does_not_concern_clients() {
    // The same event for the second of its rooms, a channel of another namespace, and the packet of an ack.
    assert_eq!(broadcast::decode("#/n#r2#", MSGPACK_JS), Ok(None));
    assert_eq!(broadcast::decode("#/other#", MSGPACK_JS), Ok(None));
    assert_eq!(broadcast::decode("#/#", b"\x92\x82\xa4type\x03\xa4data\x91\x01\x80"), Ok(None));
    for payload in ["{\"uid\":\"emitter\",\"type\":6,\"data\":[\"a\"]}", "{\"requestId\":\"x\",\"type\":0}"] {
        assert_eq!(request::decode("#/#", payload.as_bytes()), Ok(None), "{payload}");
    }
    assert_eq!(python::decode(b"{\"method\":\"callback\",\"id\":1}"), Ok(None));
}

#[test]
fn what_is_not_an_event() {
    for (payload, error) in [
        (&b""[..], Error::Msgpack(msgpack::Error::Cut)),
        (b"{\"type\":2}", Error::Msgpack(msgpack::Error::Rest)),
        (b"\x90", Error::Form),
        (b"\x92\x80\x80", Error::Form),
        (b"\x92\x81\xa4type\x02\x80", Error::Form),
        (b"\x92\x82\xa4type\x02\xa4data\x90\x80", Error::Form),
        (b"\x92\x82\xa4type\x02\xa4data\x91\x90\x80", Error::Form),
        (b"\x92\x83\xa4type\x02\xa4data\x91\xa1a\xa3nsp\x01\x80", Error::Form),
        (b"\x92\x82\xa4type\x02\xa4data\x91\xa1a\x81\xa5rooms\x91\x90", Error::Room),
        (b"\x92\x82\xa4type\x02\xa4data\x91\xa1a\x81\xa6except\x91\xc0", Error::Room),
        // A buffer beside an object that looks like the placeholder of another one.
        (b"\x92\x82\xa4type\x02\xa4data\x93\xa1a\xc4\x00\x82\xac_placeholder\xc3\xa3num\x01\x80", Error::Placeholder),
    ] {
        assert_eq!(broadcast::decode("#/#", payload), Err(error), "{}", payload.escape_ascii());
    }
    let parts = |count: u8| {
        [b"\x92\x82\xa4type\x05\xa4data", &[0x91 + count, 0xa1, b'a'][..], &b"\xc4\x00".repeat(count.into()), b"\x80"]
            .concat()
    };
    assert!(broadcast::decode("#/#", &parts(10)).is_ok_and(|event| event.is_some()));
    assert_eq!(broadcast::decode("#/#", &parts(11)), Err(Error::TooManyAttachments));
}

#[test]
fn commands_of_emitters() {
    for (channel, payload, expected) in [
        (
            "#/#",
            r#"{"type":2,"opts":{"rooms":["r1"],"except":["r2"]},"rooms":["r3",4]}"#,
            publication("/", &["r1"], &["r2"], Action::Join(names(&["r3", "4"]))),
        ),
        (
            "#/n#",
            r#"{"type":3,"opts":{"rooms":[],"except":[]},"rooms":["r3"]}"#,
            publication("/n", &[], &[], Action::Leave(names(&["r3"]))),
        ),
        (
            "#/#",
            r#"{"type":4,"opts":{"rooms":["r1"],"except":[]},"close":true}"#,
            publication("/", &["r1"], &[], Action::Disconnect { transport: true }),
        ),
        (
            "#/#",
            r#"{"uid":"x","requestId":"y","type":2,"sid":"s","room":"r"}"#,
            publication("/", &["s"], &[], Action::Join(names(&["r"]))),
        ),
        ("#/#", r#"{"type":4,"sid":"s"}"#, publication("/", &["s"], &[], Action::Disconnect { transport: false })),
    ] {
        assert_eq!(request::decode(channel, payload.as_bytes()), Ok(Some(expected)), "{payload}");
    }
    for (channel, payload, error) in [
        ("#/#", "", Error::Json),
        ("#/#", "[]", Error::Json),
        ("#/#", "{\"type\":\"2\"}", Error::Json),
        ("#emitter", "{\"type\":2,\"opts\":{}}", Error::Form),
        // Without a target, the command would concern every socket.
        ("#/#", "{\"type\":4}", Error::Form),
        ("#/#", "{\"type\":2,\"opts\":{\"rooms\":[{}]}}", Error::Room),
    ] {
        assert_eq!(request::decode(channel, payload.as_bytes()), Err(error), "{payload}");
    }
}

#[test]
fn publications_of_python() {
    let place = "{\"_placeholder\": true, \"num\": 0}";
    for (payload, expected) in [
        (
            r#"{"method": "emit", "event": "news", "data": [{"a": 1.0}], "binary": false, "namespace": "/", "room": "r1", "skip_sid": null, "callback": null, "host_id": "h"}"#.to_owned(),
            publication("/", &["r1"], &[], emit("news", "[{\"a\": 1.0}]", &[], false)),
        ),
        (
            r#"{"method": "emit", "event": "news", "data": ["x", 2], "namespace": "/n", "room": null, "skip_sid": "s"}"#.to_owned(),
            publication("/n", &[], &["s"], emit("news", "[\"x\", 2]", &[], false)),
        ),
        (
            format!(r#"{{"method": "emit", "event": "file", "data": [[{place}], "AQI="], "binary": true, "namespace": "/", "room": ["a", "b"], "skip_sid": ["s", "t"]}}"#),
            publication("/", &["a", "b"], &["s", "t"], emit("file", &format!("[{place}]"), &[b"\x01\x02"], false)),
        ),
        (r#"{"method":"emit","event":"a","data":"x"}"#.to_owned(), publication("/", &[], &[], emit("a", "[\"x\"]", &[], false))),
        (r#"{"method":"emit","event":"a","data":null}"#.to_owned(), publication("/", &[], &[], emit("a", "[]", &[], false))),
        (
            r#"{"method": "enter_room", "sid": "s", "room": "r", "namespace": "/n"}"#.to_owned(),
            publication("/n", &["s"], &[], Action::Join(names(&["r"]))),
        ),
        (
            r#"{"method": "leave_room", "sid": "s", "room": "r", "namespace": "/"}"#.to_owned(),
            publication("/", &["s"], &[], Action::Leave(names(&["r"]))),
        ),
        (
            r#"{"method": "close_room", "room": "r", "namespace": "/"}"#.to_owned(),
            publication("/", &["r"], &[], Action::Leave(names(&["r"]))),
        ),
        (
            r#"{"method": "disconnect", "sid": "s", "namespace": "/"}"#.to_owned(),
            publication("/", &["s"], &[], Action::Disconnect { transport: false }),
        ),
    ] {
        assert_eq!(python::decode(payload.as_bytes()), Ok(Some(expected)), "{payload}");
    }
    for (payload, error) in [
        (&b"\x80\x04\x95"[..], Error::Pickle),
        (b"(dp0\n", Error::Pickle),
        (b"", Error::Json),
        (b"{}", Error::Json),
        (b"{\"method\":\"emit\"}", Error::Form),
        (b"{\"method\":\"emit\",\"event\":\"a\",\"room\":{}}", Error::Room),
        (b"{\"method\":\"enter_room\",\"room\":\"r\"}", Error::Room),
        (b"{\"method\":\"emit\",\"event\":\"a\",\"binary\":true,\"data\":[]}", Error::Form),
        (b"{\"method\":\"emit\",\"event\":\"a\",\"binary\":true,\"data\":[[],\"?\"]}", Error::Base64),
        (
            b"{\"method\":\"emit\",\"event\":\"a\",\"binary\":true,\"data\":[[{\"_placeholder\":true,\"num\":0}]]}",
            Error::Placeholder,
        ),
        (
            b"{\"method\":\"emit\",\"event\":\"a\",\"binary\":true,\"data\":[[],\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"]}",
            Error::TooManyAttachments,
        ),
    ] {
        assert_eq!(python::decode(payload), Err(error), "{}", payload.escape_ascii());
    }
}

proptest! {
    #[test]
    fn any_payload_is_a_publication_or_an_error(
        bytes: Vec<u8>,
        at in 0..MSGPACK_JS.len(),
        byte: u8,
        json in r#"\{"(type|method|opts|rooms)":([0-9"a-z\[\]{}]{0,9}),?.{0,20}\}"#,
    ) {
        let mut changed = MSGPACK_JS.to_vec();
        changed[at] = byte;
        for payload in [&bytes[..], &changed, json.as_bytes()] {
            if let Ok(Some(Publication { action: Action::Emit { arguments, .. }, .. })) = broadcast::decode("#/n#", payload) {
                prop_assert!(serde_json::from_str::<Vec<serde_json::Value>>(&arguments).is_ok());
            }
            let _ = request::decode("#/n#", payload);
            let _ = python::decode(payload);
        }
    }
}
