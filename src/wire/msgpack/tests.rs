//! Values with the bytes of the specification and of the packages that the emitters use.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn standard(input: &[u8]) -> Result<Value, Error> {
    decode(input, Dialect::Standard)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn bytes(bytes: &'static [u8]) -> Value {
    Value::Binary(Bytes::from_static(bytes))
}

#[test]
fn values_of_the_standard() {
    for (input, value) in [
        (&b"\x00"[..], Value::Integer(0)),
        (b"\x7f", Value::Integer(127)),
        (b"\xff", Value::Integer(-1)),
        (b"\xe0", Value::Integer(-32)),
        (b"\xcc\xff", Value::Integer(255)),
        (b"\xcd\x01\x00", Value::Integer(256)),
        (b"\xce\xff\xff\xff\xff", Value::Integer(0xffff_ffff)),
        (b"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff", Value::Integer(i64::MAX)),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", Value::Unsigned(u64::MAX)),
        (b"\xd0\x80", Value::Integer(-128)),
        (b"\xd1\x80\x00", Value::Integer(-32768)),
        (b"\xd2\x80\x00\x00\x00", Value::Integer(-2_147_483_648)),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", Value::Integer(i64::MIN)),
        (b"\xca\x3f\xc0\x00\x00", Value::Float(1.5)),
        (b"\xcb\xc0\x04\x00\x00\x00\x00\x00\x00", Value::Float(-2.5)),
        (b"\xc0", Value::Nil),
        (b"\xc2", Value::Bool(false)),
        (b"\xc3", Value::Bool(true)),
        (b"\xa0", text("")),
        (b"\xa2\xc3\xa9", text("é")),
        (b"\xa1\xff", text("\u{fffd}")),
        (b"\xd9\x01a", text("a")),
        (b"\xda\x00\x01a", text("a")),
        (b"\xdb\x00\x00\x00\x01a", text("a")),
        (b"\xc4\x02\x00\xff", bytes(b"\x00\xff")),
        (b"\xc5\x00\x01\x00", bytes(b"\x00")),
        (b"\xc6\x00\x00\x00\x00", bytes(b"")),
        (b"\x92\x01\xa1a", Value::Array(vec![Value::Integer(1), text("a")])),
        (b"\xdc\x00\x01\xc0", Value::Array(vec![Value::Nil])),
        (b"\xdd\x00\x00\x00\x00", Value::Array(vec![])),
        (b"\x81\xa1a\x01", Value::Map(vec![("a".into(), Value::Integer(1))])),
        (b"\xde\x00\x01\x05\xc0", Value::Map(vec![("5".into(), Value::Nil)])),
        (b"\xdf\x00\x00\x00\x01\xc2\xc0", Value::Map(vec![("false".into(), Value::Nil)])),
        // Extensions: undefined, a date and a buffer of notepack 2, the timestamps of the specification, and another.
        (b"\xd4\x00\x00", Value::Nil),
        (b"\xd7\x00\x00\x00\x00\x00\x00\x00\x03\xe8", Value::Time(1000)),
        (b"\xc7\x02\x00\x01\x02", bytes(b"\x01\x02")),
        (b"\xd6\xff\x00\x00\x00\x01", Value::Time(1000)),
        (b"\xd7\xff\x3b\x9a\xc9\xfc\x00\x00\x00\x01", Value::Time(1249)),
        (b"\xc7\x0c\xff\x00\x1e\x84\x80\xff\xff\xff\xff\xff\xff\xff\xff", Value::Time(-998)),
        (b"\xd5\x05ab", Value::Extension(5, Bytes::from_static(b"ab"))),
        (b"\xd8\x05abcdefghijklmnop", Value::Extension(5, Bytes::from_static(b"abcdefghijklmnop"))),
    ] {
        assert_eq!(standard(input), Ok(value), "{}", input.escape_ascii());
    }
}

#[test]
fn buffers_of_msgpack_js() {
    let decode = |input| decode(input, Dialect::MsgpackJs);
    assert_eq!(decode(b"\xd8\x00\x02\x01\x02"), Ok(bytes(b"\x01\x02")));
    assert_eq!(decode(b"\xd9\x00\x00\x00\x01\x05"), Ok(bytes(b"\x05")));
    assert_eq!(decode(b"\x92\xc4\x01"), Ok(Value::Array(vec![Value::Nil, Value::Integer(1)])));
    assert_eq!(decode(b"\xda\x00\x01a"), Ok(text("a")));
    assert_eq!(decode(b"\xd8\x00\x02\x01"), Err(Error::Cut));
    assert_eq!(decode(b"\xd9\xff\xff\xff\xff\x05"), Err(Error::Cut));
}

#[test]
fn what_is_not_a_value() {
    for (input, error) in [
        (&b""[..], Error::Cut),
        (b"\xc1", Error::Reserved),
        (b"\xcd\x01", Error::Cut),
        (b"\xa2a", Error::Cut),
        (b"\x91", Error::Cut),
        (b"\xdd\xff\xff\xff\xff", Error::Cut),
        (b"\xdf\xff\xff\xff\xff\x01", Error::Cut),
        (b"\xc6\xff\xff\xff\xff", Error::Cut),
        (b"\xc9\xff\xff\xff\xff\x05", Error::Cut),
        (b"\x01\x02", Error::Rest),
        (b"\x81\x90\x01", Error::Key),
        (b"\x81\xc4\x00\x01", Error::Key),
    ] {
        assert_eq!(standard(input), Err(error), "{}", input.escape_ascii());
    }
}

#[test]
fn the_limits_are_exact() {
    let nested = |levels: usize| [vec![0x91; levels], vec![0xc0]].concat();
    assert!(standard(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(standard(&nested(MAX_DEPTH + 1)), Err(Error::TooDeep));
    assert_eq!(standard(&nested(1_000_000)), Err(Error::TooDeep));
    let list = |length: u32| [&b"\xdd"[..], &length.to_be_bytes(), &vec![0xc0; length as usize]].concat();
    let most = u32::try_from(MAX_ITEMS - 1).expect("small");
    assert!(standard(&list(most)).is_ok());
    assert_eq!(standard(&list(most + 1)), Err(Error::TooManyItems));
}

#[test]
fn values_as_json() {
    let json = |value: &Value| {
        let (mut out, mut parts) = (Vec::new(), 0);
        write_json(value, &mut out, &mut |bytes, out| {
            parts += 1;
            out.extend_from_slice(format!("<{}>", bytes.len()).as_bytes());
        });
        String::from_utf8(out).expect("UTF-8")
    };
    for (value, expected) in [
        (Value::Nil, "null"),
        (Value::Bool(true), "true"),
        (Value::Integer(-7), "-7"),
        (Value::Unsigned(u64::MAX), "18446744073709551615"),
        (Value::Float(1.5), "1.5"),
        (Value::Float(3.0), "3"),
        (Value::Float(f64::NAN), "null"),
        (Value::Float(f64::INFINITY), "null"),
        (text("a\"é"), "\"a\\\"é\""),
        (Value::Time(1249), "\"1970-01-01T00:00:01.249Z\""),
        (Value::Time(-1), "\"1969-12-31T23:59:59.999Z\""),
        (bytes(b"ab"), "<2>"),
        (Value::Extension(5, Bytes::from_static(b"a")), "[5,<1>]"),
        (Value::Array(vec![]), "[]"),
        (Value::Array(vec![Value::Nil, bytes(b"")]), "[null,<0>]"),
        (Value::Map(vec![("a".into(), Value::Nil), ("\"".into(), Value::Nil)]), "{\"a\":null,\"\\\"\":null}"),
    ] {
        assert_eq!(json(&value), expected);
    }
    let map = Value::Map(vec![("a".into(), Value::Nil), ("a".into(), Value::Bool(true))]);
    assert_eq!((map.get("a"), map.get("b")), (Some(&Value::Bool(true)), None));
}

/// Writes a value in one of the forms of the standard.
fn write(value: &Value, out: &mut Vec<u8>) {
    let length = |len: usize| u32::try_from(len).expect("short").to_be_bytes();
    match value {
        Value::Nil => out.push(0xc0),
        Value::Bool(value) => out.push(0xc2 + u8::from(*value)),
        Value::Integer(number) => out.extend_from_slice(&[&[0xd3][..], &number.to_be_bytes()].concat()),
        Value::Unsigned(number) => out.extend_from_slice(&[&[0xcf][..], &number.to_be_bytes()].concat()),
        Value::Float(number) => out.extend_from_slice(&[&[0xcb][..], &number.to_be_bytes()].concat()),
        Value::Text(text) => out.extend_from_slice(&[&[0xdb][..], &length(text.len()), text.as_bytes()].concat()),
        Value::Binary(bytes) => out.extend_from_slice(&[&[0xc6][..], &length(bytes.len()), bytes].concat()),
        Value::Array(values) => {
            out.extend_from_slice(&[&[0xdd][..], &length(values.len())].concat());
            values.iter().for_each(|value| write(value, out));
        }
        Value::Map(entries) => {
            out.extend_from_slice(&[&[0xdf][..], &length(entries.len())].concat());
            entries.iter().for_each(|(key, value)| {
                write(&Value::Text(key.clone()), out);
                write(value, out);
            });
        }
        Value::Time(ms) => out.extend_from_slice(&[&[0xd7, 0][..], &ms.to_be_bytes()].concat()),
        Value::Extension(kind, bytes) => {
            out.extend_from_slice(&[&[0xc9][..], &length(bytes.len()), &kind.to_be_bytes(), bytes].concat());
        }
    }
}

fn values() -> impl Strategy<Value = Value> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        (i64::MAX as u64 + 1..).prop_map(Value::Unsigned),
        any::<i32>().prop_map(|number| Value::Float(f64::from(number) / 8.0)),
        any::<String>().prop_map(Value::Text),
        bytes().prop_map(Value::Binary),
        any::<i64>().prop_map(Value::Time),
        (1i8..=127, bytes()).prop_map(|(kind, bytes)| Value::Extension(kind, bytes)),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((any::<String>(), inner), 0..5).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn values_come_back(value in values()) {
        let mut bytes = Vec::new();
        write(&value, &mut bytes);
        prop_assert_eq!(standard(&bytes)?, value.clone());
        // Every shorter input ends within the value.
        let cut = bytes.len() / 2;
        prop_assert_eq!(standard(&bytes[..cut]), Err(Error::Cut));
        let mut json = Vec::new();
        write_json(&value, &mut json, &mut |_, out| out.extend_from_slice(b"0"));
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(input: Vec<u8>) {
        for dialect in [Dialect::Standard, Dialect::MsgpackJs] {
            if let Ok(value) = decode(&input, dialect) {
                write_json(&value, &mut Vec::new(), &mut |_, out| out.extend_from_slice(b"0"));
            }
        }
    }
}
