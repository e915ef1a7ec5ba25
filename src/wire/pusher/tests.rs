//! Frames, names and signatures, with the vectors of the documentation and of the published SDKs.

use super::channel_data::{self, BadUser};
use super::close::{CloseCode, check_version};
use super::encode::{self, Event};
use super::frame::{self, BadFrame, Command, Subscribe};
use super::names::{self, Access, BadName, ChannelKind};
use super::rest::{Refused, Request, body_md5};
use super::signature::{Secret, split_auth};
use proptest::prelude::*;
use serde_json::{Value, json};

const KEY: &str = "278d425bdf160c739803";
const SECRET: &str = "7ad3773142a6692b25b8";

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut out = Vec::new();
    write(&mut out);
    serde_json::from_slice(&out).expect("JSON")
}

#[test]
fn frames_of_clients() {
    let subscribe = |channel: &str, auth: Option<&str>, data: Option<&str>| {
        let owned = |text: &str| text.to_owned().into();
        Command::Subscribe(Subscribe { channel: owned(channel), auth: auth.map(owned), channel_data: data.map(owned) })
    };
    for (text, command) in [
        (r#"{"event":"pusher:ping","data":{}}"#, Ok(Command::Ping)),
        (r#"{"event":"pusher:pong"}"#, Ok(Command::Pong)),
        (r#"{"event":"pusher:subscribe","data":{"channel":"a"}}"#, Ok(subscribe("a", None, None))),
        (
            r#"{"event":"pusher:subscribe","data":{"auth":"k:s","channel_data":"{\"user_id\":1}","channel":"presence-a"}}"#,
            Ok(subscribe("presence-a", Some("k:s"), Some("{\"user_id\":1}"))),
        ),
        (r#"{"event":"pusher:subscribe","data":"{\"channel\":\"a\",\"auth\":null}"}"#, Ok(subscribe("a", None, None))),
        (r#"{"event":"pusher:subscribe","data":{}}"#, Err(BadFrame::Data)),
        (r#"{"event":"pusher:subscribe","data":{"channel":1}}"#, Err(BadFrame::Data)),
        (r#"{"event":"pusher:subscribe"}"#, Err(BadFrame::Data)),
        (r#"{"event":"pusher:unsubscribe","data":{"channel":"a"}}"#, Ok(Command::Unsubscribe("a".into()))),
        (r#"{"event":"pusher:unsubscribe","channel":"a"}"#, Ok(Command::Unsubscribe("a".into()))),
        (
            r#"{"event":"pusher:signin","data":{"auth":"k:s","user_data":"{}"}}"#,
            Ok(Command::Signin { auth: "k:s".into(), user_data: "{}".into() }),
        ),
        (r#"{"event":"pusher:signin","data":{"auth":"k:s"}}"#, Err(BadFrame::Data)),
        (
            r#"{"event":"client-a","channel":"private-b","data":{"n": 1e400}}"#,
            Ok(Command::ClientEvent { event: "client-a".into(), channel: "private-b".into(), data: "{\"n\": 1e400}" }),
        ),
        (
            r#"{"event":"client-a","channel":"private-b"}"#,
            Ok(Command::ClientEvent { event: "client-a".into(), channel: "private-b".into(), data: "null" }),
        ),
        (r#"{"event":"client-a","data":1}"#, Err(BadFrame::Data)),
        (r#"{"event":"pusher:new","data":1}"#, Ok(Command::Unknown)),
        (r#"{"event":"a","channel":"b"}"#, Ok(Command::Unknown)),
        (r#"{"event":1}"#, Err(BadFrame::NotAFrame)),
        ("{}", Err(BadFrame::NotAFrame)),
        ("[]", Err(BadFrame::NotAFrame)),
        ("", Err(BadFrame::NotAFrame)),
    ] {
        assert_eq!(frame::read(text), command, "{text}");
    }
}

#[test]
fn frames_of_the_server() {
    let established = encoded(|out| encode::connection_established("123.456", 30, out));
    let data = r#"{"socket_id":"123.456","activity_timeout":30}"#;
    assert_eq!(established, json!({"event": "pusher:connection_established", "data": data}));
    assert_eq!(encoded(encode::pong), json!({"event": "pusher:pong", "data": "{}"}));
    let event = Event { event: "App\\Events\\A", channel: "a", data: "{\"x\":\"\\\"\"}", user_id: None, id: None };
    let frame = json!({"event": "App\\Events\\A", "channel": "a", "data": "{\"x\":\"\\\"\"}"});
    assert_eq!(encoded(|out| event.encode(out)), frame);
    let full = Event { user_id: Some("\"7\""), id: Some("1-0.a"), ..event };
    assert_eq!(encoded(|out| full.encode(out))["user_id"], "7");
    assert_eq!(encoded(|out| full.encode(out))["id"], "1-0.a");
    let members = encode::members([("1", "{\"name\":\"A\"}"), ("b\"", "null")].into_iter());
    let data = r#"{"presence":{"count":2,"ids":["1","b\""],"hash":{"1":{"name":"A"},"b\"":null}}}"#;
    assert_eq!(members, data);
    let nobody = encode::members(std::iter::empty());
    assert_eq!(nobody, r#"{"presence":{"count":0,"ids":[],"hash":{}}}"#, "a map stays a map");
    let succeeded = encoded(|out| encode::subscription_succeeded("presence-a", data, out));
    let name = "pusher_internal:subscription_succeeded";
    assert_eq!(succeeded, json!({"event": name, "channel": "presence-a", "data": data}));
    let added = encoded(|out| encode::member_added("presence-a", "7", "{}", None, out));
    assert_eq!(added["data"], r#"{"user_id":"7","user_info":{}}"#);
    let removed = encoded(|out| encode::member_removed("presence-a", "7", Some("1-0.a"), out));
    assert_eq!((&removed["data"], &removed["id"]), (&json!(r#"{"user_id":"7"}"#), &json!("1-0.a")));
    let refused = encoded(|out| encode::subscription_error("private-a", "AuthError", "no \"auth\"", 401, out));
    assert_eq!(refused["data"], r#"{"type":"AuthError","error":"no \"auth\"","status":401}"#);
    let error = encoded(|out| encode::error(Some(CloseCode::UnknownApp), "x", out));
    assert_eq!(error, json!({"event": "pusher:error", "data": {"code": 4001, "message": "x"}}));
    assert_eq!(encoded(|out| encode::error(None, "x", out))["data"]["code"], Value::Null);
    assert_eq!(encoded(|out| encode::cache_miss("cache-a", out))["event"], "pusher:cache_miss");
    let signed_in = encoded(|out| encode::signin_success("{\"id\":\"1\"}", out));
    assert_eq!(signed_in["data"], r#"{"user_data":"{\"id\":\"1\"}"}"#);
}

#[test]
fn names_of_channels() {
    let kind = |access, is_cache| Ok(ChannelKind { access, is_cache });
    let longest = format!("private-{}", "x".repeat(192));
    for (name, expected) in [
        ("a", kind(Access::Public, false)),
        ("A-z_0=@,.;", kind(Access::Public, false)),
        ("privatea", kind(Access::Public, false)),
        ("cache-a", kind(Access::Public, true)),
        ("private-", kind(Access::Private, false)),
        (&longest, kind(Access::Private, false)),
        ("private-App.Models.User.1", kind(Access::Private, false)),
        ("private-cache-a", kind(Access::Private, true)),
        ("private-encrypted-a", kind(Access::Encrypted, false)),
        ("private-encrypted-cache-a", kind(Access::Encrypted, true)),
        ("presence-a", kind(Access::Presence, false)),
        ("presence-cache-a", kind(Access::Presence, true)),
        ("#server-to-user-7", kind(Access::User, false)),
        ("#server-to-user-", Err(BadName::Channel)),
        ("#a", Err(BadName::Channel)),
        ("##server-to-user-7", Err(BadName::Channel)),
        ("", Err(BadName::Channel)),
        ("#", Err(BadName::Channel)),
        ("a b", Err(BadName::Channel)),
        ("a/b", Err(BadName::Channel)),
        ("ä", Err(BadName::Channel)),
        ("~a", Err(BadName::Channel)),
        (&"x".repeat(201), Err(BadName::Channel)),
    ] {
        assert_eq!(names::channel(name), expected, "{name}");
    }
}

#[test]
fn names_of_events_and_sockets() {
    for good in ["a", "App\\Events\\OrderShipped", "error", "open", "client-a", "pusher", &"x".repeat(200)] {
        assert_eq!(names::event(good), Ok(()), "{good}");
    }
    for (bad, error) in [
        ("", BadName::Event),
        ("a\n", BadName::Event),
        (&"x".repeat(201), BadName::Event),
        ("pusher:error", BadName::ReservedEvent),
        ("pusher_internal:member_removed", BadName::ReservedEvent),
    ] {
        assert_eq!(names::event(bad), Err(error), "{bad}");
    }
    for (text, is_id) in
        [("1.2", true), ("123.456", true), ("1", false), ("1.", false), (".1", false), ("1.2.3", false)]
    {
        assert_eq!(names::is_socket_id(text), is_id, "{text}");
    }
}

#[test]
fn versions_of_the_protocol() {
    for (text, version) in [
        (Some("5"), Ok(5)),
        (Some("7"), Ok(7)),
        (Some("4"), Err(CloseCode::UnsupportedVersion)),
        (Some("8"), Err(CloseCode::UnsupportedVersion)),
        (Some("x"), Err(CloseCode::BadVersion)),
        (Some("-7"), Err(CloseCode::BadVersion)),
        (Some("9999999999"), Err(CloseCode::BadVersion)),
        (Some(""), Err(CloseCode::NoVersion)),
        (None, Err(CloseCode::NoVersion)),
    ] {
        assert_eq!(check_version(text), version, "{text:?}");
    }
    // The numbers decide how a client reacts.
    let codes = CloseCode::ALL.map(CloseCode::code);
    assert_eq!(codes, [4001, 4003, 4004, 4006, 4007, 4008, 4009, 4100, 4200, 4301]);
    assert!(CloseCode::ALL.iter().all(|code| !code.reason().is_empty()));
}

#[test]
fn users() {
    let read = |text| channel_data::channel_data(text).map(|user| (user.id, user.info.map(str::to_owned)));
    assert_eq!(read(r#"{"user_id":"7"}"#), Ok(("7".to_owned(), None)));
    let info = Some(r#"{"name": "Mr. Channels"}"#.to_owned());
    assert_eq!(read(r#"{"user_id":10,"user_info":{"name": "Mr. Channels"}}"#), Ok(("10".to_owned(), info)));
    for number in ["12345678901234567890123456", "-1", "1.0"] {
        let data = format!("{{\"user_id\":{number}}}");
        let user = channel_data::channel_data(&data).expect("a user");
        assert_eq!(user.id, number);
    }
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"user_id":true}"#,
        r#"{"user_id":""}"#,
        r#"{"user_id":null}"#,
        r#"{"user_id":{}}"#,
        r#"{"id":"7"}"#,
    ] {
        assert_eq!(read(bad), Err(BadUser::NoId), "{bad}");
    }
    let long = format!(r#"{{"user_id":"{}"}}"#, "x".repeat(channel_data::MAX_DATA));
    assert_eq!(read(&long), Err(BadUser::TooLong));
    let user = channel_data::user_data(r#"{"id":"12345","watchlist":[]}"#).expect("a user");
    assert_eq!((&*user.id, user.info), ("12345", None));
    assert_eq!(channel_data::user_data(r#"{"user_id":"7"}"#), Err(BadUser::NoId));
}

#[test]
fn signatures_of_subscriptions() {
    let secret = Secret::new(SECRET);
    let private = "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4";
    assert!(secret.allows("1234.1234", "private-foobar", None, private));
    assert!(secret.allows("1234.1234", "private-foobar", None, &private.to_uppercase()));
    for (socket, channel, data) in [
        ("1234.1235", "private-foobar", None),
        ("1234.1234", "private-foobaz", None),
        ("1234.1234", "private-foobar", Some("")),
    ] {
        assert!(!secret.allows(socket, channel, data, private), "{socket} {channel}");
    }
    for bad in ["", "58", "zz", &private[1..], &format!("{private}00"), &"0".repeat(64), &"é".repeat(32)] {
        assert!(!secret.allows("1234.1234", "private-foobar", None, bad), "{bad}");
    }
    let data = r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#;
    let presence = "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80";
    assert!(secret.allows("1234.1234", "presence-foobar", Some(data), presence));
    assert!(!secret.allows("1234.1234", "presence-foobar", Some(&data.replace("10", "11")), presence));
    let user = "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba";
    assert!(secret.proves_user("1234.1234", r#"{"id":"12345"}"#, user));
    assert!(!secret.proves_user("1234.1234", r#"{"id":"12346"}"#, user));
    assert!(!Secret::new("other").proves_user("1234.1234", r#"{"id":"12345"}"#, user));
    assert_eq!(split_auth("key:signature"), Some(("key", "signature")));
    assert_eq!(split_auth("key"), None);
    assert_eq!(format!("{secret:?}"), "…");
}

fn query(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const BODY: &str = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
const NOW: u64 = 1_353_088_179;

/// The request of the documentation.
fn documented() -> Vec<(String, String)> {
    query(&[
        ("auth_key", KEY),
        ("auth_timestamp", "1353088179"),
        ("auth_version", "1.0"),
        ("body_md5", "ec365a775a4cd0599faeb73354201b6f"),
        ("auth_signature", "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"),
    ])
}

#[test]
fn signatures_of_requests() {
    let secret = Secret::new(SECRET);
    let verify = |query: &[(String, String)], body: &str, path: &str, now| {
        Request { method: "POST", path, query, body: body.as_bytes() }.verify(KEY, &secret, now)
    };
    let path = "/apps/3/events";
    assert_eq!(body_md5(BODY.as_bytes()), "ec365a775a4cd0599faeb73354201b6f");
    let mut request = documented();
    assert_eq!(verify(&request, BODY, path, NOW), Ok(()));
    request.reverse();
    assert_eq!(verify(&request, BODY, path, NOW + 600), Ok(()), "the order of the fields does not count");
    assert_eq!(verify(&request, BODY, path, NOW + 601), Err(Refused::Expired));
    assert_eq!(verify(&request, BODY, path, NOW - 601), Err(Refused::Expired));
    assert_eq!(verify(&request, &BODY.replace("foo", "bar"), path, NOW), Err(Refused::Body));
    assert_eq!(verify(&request, BODY, "/apps/4/events", NOW), Err(Refused::Signature));
    let changed = |name: &str, value: Option<&str>| {
        let mut query = documented();
        query.retain(|(known, _)| known != name);
        query.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        verify(&query, BODY, path, NOW)
    };
    for (name, value, error) in [
        ("auth_key", None, Refused::Missing),
        ("auth_timestamp", None, Refused::Missing),
        ("auth_version", None, Refused::Missing),
        ("auth_signature", None, Refused::Missing),
        ("auth_key", Some("other"), Refused::Key),
        ("auth_version", Some("2.0"), Refused::Version),
        ("auth_timestamp", Some("now"), Refused::Timestamp),
        ("auth_timestamp", Some("1353088180"), Refused::Signature),
        ("body_md5", None, Refused::Body),
        ("auth_signature", Some(""), Refused::Signature),
        ("socket_id", Some("1.2"), Refused::Signature),
    ] {
        assert_eq!(changed(name, value), Err(error), "{name} {value:?}");
    }
}

#[test]
fn the_query_is_signed_decoded_and_sorted() {
    let query = query(&[
        ("info[1]", "b c"),
        ("Filter_by_prefix", "presence-é&="),
        ("auth_signature", "x"),
        ("info[0]", "a"),
        ("auth_key", "k"),
    ]);
    let request = Request { method: "GET", path: "/apps/3/channels", query: &query, body: b"" };
    let text = "GET\n/apps/3/channels\nauth_key=k&filter_by_prefix=presence-é&=&info=b c,a";
    assert_eq!(request.text(), text);
    assert_eq!(request.field("filter_by_prefix"), Some("presence-é&="));
    // A request without a body needs no digest.
    let secret = Secret::new(SECRET);
    let mut query = self::query(&[("auth_key", KEY), ("auth_timestamp", "1353088179"), ("auth_version", "1.0")]);
    let signature = secret.sign(Request { query: &query, ..request }.text().as_bytes());
    query.push(("auth_signature".to_owned(), signature));
    assert_eq!(Request { query: &query, ..request }.verify(KEY, &secret, NOW), Ok(()));
    assert_eq!(Request { query: &query, body: b"x", ..request }.verify(KEY, &secret, NOW), Err(Refused::Body));
}

proptest! {
    #[test]
    fn data_is_the_same_text_when_it_is_read(event in "\\PC{1,20}", data: String) {
        let frame = encoded(|out| {
            Event { event: &event, channel: "a", data: &data, user_id: None, id: None }.encode(out);
        });
        prop_assert_eq!((&frame["event"], &frame["data"]), (&json!(event), &json!(data)));
    }

    #[test]
    fn any_frame_is_read_or_refused(text: String, event in "pusher:(subscribe|unsubscribe|signin|ping)|client-.*") {
        let _ = frame::read(&text);
        let frame = json!({ "event": event, "channel": text, "data": { "channel": text } }).to_string();
        match frame::read(&frame) {
            Ok(Command::Subscribe(subscribe)) => prop_assert_eq!(&*subscribe.channel, &*text),
            Ok(Command::Unsubscribe(channel)) => prop_assert_eq!(&*channel, &*text),
            _ => {}
        }
    }

    #[test]
    fn only_the_signed_request_is_valid(at in 0_usize..4, change in "[a-z0-9]{1,40}") {
        let mut query = documented();
        let is_same = query[at].1 == change;
        query[at].1 = change;
        let request = Request { method: "POST", path: "/apps/3/events", query: &query, body: BODY.as_bytes() };
        prop_assert_eq!(request.verify(KEY, &Secret::new(SECRET), NOW).is_ok(), is_same);
    }

    #[test]
    fn a_signature_is_that_of_one_text(text: Vec<u8>, other: Vec<u8>) {
        let secret = Secret::new(SECRET);
        let signature = secret.sign(&text);
        prop_assert!(secret.verifies(&text, &signature));
        prop_assert_eq!(secret.verifies(&other, &signature), text == other);
    }
}
