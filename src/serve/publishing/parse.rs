//! Parses a query, a form or JSON as drafts of messages.

use crate::message::{Channel, Channels, Draft, DraftFields};
use crate::transport::params::fields;
use crate::transport::publication::{Publication, bad_json, known_fields, object};
use crate::transport::{ApiError, Code};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use std::borrow::Cow;

/// The maximum number of messages in an array.
const MESSAGES: usize = 1000;

/// The maximum number of channels that the messages of an array name together.
const CHANNELS: usize = 10_000;

/// The content type of a form.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// The decoded name and value of a field.
pub type Field<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The fields of a query.
pub type Fields<'a> = SmallVec<[Field<'a>; 4]>;

/// Parses a query.
///
/// # Errors
///
/// `not_utf8`.
pub fn parse_query(query: &str) -> Result<Fields<'_>, ApiError> {
    check_utf8(query)?;
    Ok(fields(query.as_bytes(), None).collect())
}

/// The token of a request. The last one counts. A token in the form takes precedence over a token in the query.
pub fn token(query: &[Field<'_>], form: &[Field<'_>]) -> Option<String> {
    let token = query.iter().chain(form).rfind(|(name, _)| name == "token");
    token.map(|(_, value)| value.to_string())
}

/// Whether a body is the hidden form of an old browser. The browser sends it into a frame, and would offer JSON there
/// as a download.
pub fn is_hidden_form(kind: &str, body: &[u8]) -> bool {
    kind == FORM && body.starts_with(b"data=")
}

/// Parses the drafts of a request from its query, its content type without parameters, and its body. Also returns
/// whether the request is the hidden form of an old browser.
///
/// # Errors
///
/// The first error in the request.
pub fn drafts(query: &[Field<'_>], kind: &str, body: &str, max: usize) -> Result<(Vec<Draft>, bool), ApiError> {
    let is_form = kind == FORM;
    let is_hidden_form = is_hidden_form(kind, body.as_bytes());
    let is_json = kind == "application/json" || body.trim_start().starts_with(['{', '[']);
    let drafts = if is_hidden_form {
        vec![from_fields(query, Some(body), None, max)?]
    } else if query.iter().any(|(name, _)| name == "channel" || name == "channels") {
        vec![from_fields(query, None, Some(body), max)?]
    } else if is_json {
        from_json(body, max)?
    } else {
        vec![from_fields(query, is_form.then_some(body), Some(body).filter(|_| !is_form), max)?]
    };
    Ok((drafts, is_hidden_form))
}

/// A draft from the fields of a query and a form. `payload` is the body, if it is not a form.
fn from_fields(query: &[Field<'_>], form: Option<&str>, payload: Option<&str>, max: usize) -> Result<Draft, ApiError> {
    if let Some(form) = form {
        check_utf8(form)?;
    }
    let (mut channel, mut data, mut event, mut key) = (None, None, None, None);
    let (mut channels, mut except) = (Vec::new(), Vec::new());
    let (mut exclude, mut socket, mut volatile, mut as_text) = (None, None, false, false);
    let borrowed = query.iter().map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value)));
    for (name, value) in borrowed.chain(fields(form.unwrap_or_default().as_bytes(), None)) {
        match &*name {
            // A form has all its fields, including those that the user leaves empty.
            "channel" | "channels" | "except" if value.is_empty() => {}
            "channel" => channel = Some(value),
            "channels" => channels.push(value),
            "except" => except.push(value),
            "args" => return Err(ApiError::new(Code::BadRequest, "args is a field of JSON: send the message as JSON")),
            "data" => data = Some(value),
            "event" => event = Some(value),
            "exclude" => exclude = Some(value),
            "socket" => socket = Some(value),
            "key" => key = Some(value),
            "volatile" => volatile = flag("volatile", &value)?,
            "as" if value == "text" => as_text = true,
            "as" if value == "json" => as_text = false,
            "as" => return Err(ApiError::new(Code::BadRequest, "as must be text or json")),
            _ => {}
        }
    }
    let channels = match (&channel, channels.as_slice()) {
        (Some(channel), []) => channel.parse::<Channel>()?.into(),
        (None, []) => return Err(ApiError::new(Code::BadChannel, "name a channel: ?channel=…")),
        (None, lists) => Channels::parse(lists.iter().flat_map(|list| list.split(',')))?,
        (Some(_), _) => return Err(ApiError::new(Code::BadRequest, "send channel or channels, not both")),
    };
    let text = match (payload, &data) {
        (Some(payload), _) => payload,
        (None, Some(data)) => data,
        (None, None) => return Err(ApiError::new(Code::BadRequest, "data is missing")),
    };
    let except: Vec<&str> = except.iter().flat_map(|list| list.split(',')).collect();
    let fields = DraftFields {
        data: text,
        except: &except,
        is_text: as_text,
        event: event.as_deref(),
        exclude: exclude.as_deref(),
        socket: socket.as_deref(),
        key: key.as_deref(),
        volatile,
        ..DraftFields::default()
    };
    Ok(fields.check(channels, max)?)
}

fn check_utf8(encoded: &str) -> Result<(), ApiError> {
    // Without a percent sign, no character is encoded.
    if !encoded.contains('%') || decodes_to_utf8(encoded.as_bytes()) {
        return Ok(());
    }
    Err(ApiError::new(Code::NotUtf8, "a percent-encoded field is not UTF-8"))
}

/// Whether a percent-encoded text is UTF-8. The form parser would replace invalid bytes with U+FFFD, and change the
/// payload that the client sent.
fn decodes_to_utf8(encoded: &[u8]) -> bool {
    let hex = |at: usize| encoded.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut at = 0;
    while at < encoded.len() {
        match (encoded[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    std::str::from_utf8(&decoded).is_ok()
}

/// Parses a field whose value is 1 or 0.
///
/// # Errors
///
/// `bad_request`.
pub fn flag(name: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(ApiError::new(Code::BadRequest, format!("{name} must be 0 or 1"))),
    }
}

fn from_json(body: &str, max: usize) -> Result<Vec<Draft>, ApiError> {
    if body.trim_start().starts_with('[') {
        // The array is split into items first. So the error distinguishes an invalid item from a body that is not JSON,
        // and a body with too many items is refused before the items are parsed.
        let items: Vec<&RawValue> = serde_json::from_str(body).map_err(|error| bad_json(&error))?;
        if items.len() > MESSAGES {
            return Err(ApiError::new(Code::TooLarge, format!("an array may have at most {MESSAGES} messages")));
        }
        let mut channels = 0;
        let next = |item: &RawValue| {
            let draft = one(item.get(), max)?;
            channels += draft.channels().len();
            if channels > CHANNELS {
                let rule = format!("the messages of an array may name at most {CHANNELS} channels");
                return Err(ApiError::new(Code::TooLarge, rule));
            }
            Ok(draft)
        };
        return items.into_iter().map(next).collect();
    }
    Ok(vec![one(body, max)?])
}

/// Parses one publish object.
///
/// # Errors
///
/// The first error in the object.
pub fn one(json: &str, max: usize) -> Result<Draft, ApiError> {
    object(json)?;
    let publication = serde_json::from_str::<Publication<'_>>(json).map_err(|error| bad_json(&error))?;
    known_fields(json)?;
    publication.into_draft(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(body: &str) -> Result<Vec<Draft>, Code> {
        from_json(body, 10).map_err(|refusal| refusal.code)
    }

    #[test]
    fn json_is_a_message_or_a_list_of_them() {
        let drafts =
            json(r#"[{"channel":"a","data":null},{"channel":"b","data":{"a":1},"event":"e","volatile":true}]"#);
        let drafts = drafts.expect("sound");
        assert_eq!((drafts[0].payload.as_str(), drafts[1].payload.as_str()), ("null", "{\"a\":1}"));
        assert!(drafts[1].volatile && !drafts[0].volatile);
        assert_eq!(json("[]").map(|drafts| drafts.len()), Ok(0));
    }

    #[test]
    fn bad_messages_are_refused_by_what_is_wrong() {
        let cases = [
            ("", Code::BadJson),
            ("{", Code::BadJson),
            ("[{]", Code::BadJson),
            ("5", Code::BadRequest),
            (r#"[["a",1]]"#, Code::BadRequest),
            (r#"{"data":1}"#, Code::BadChannel),
            (r#"{"channel":"a b","data":1}"#, Code::BadChannel),
            (r#"{"channel":5,"data":1}"#, Code::BadRequest),
            (r#"{"channel":"a"}"#, Code::BadRequest),
            (r#"{"channel":"a","data":1,"event":"hello"}"#, Code::BadEvent),
            (r#"{"channel":"a","data":1,"except":"b"}"#, Code::BadRequest),
            (r#"{"channel":"a","channels":["b"],"data":1}"#, Code::BadRequest),
            (r#"{"channel":"a","data":1,"args":[1]}"#, Code::BadRequest),
            (r#"{"channel":"a","args":{}}"#, Code::BadRequest),
            (r#"{"channel":"a","args":null}"#, Code::BadRequest),
            (r#"{"channels":[],"data":1}"#, Code::BadChannel),
            (r#"{"channels":["a","a b"],"data":1}"#, Code::BadChannel),
            (r#"{"channels":["a","~s/1"],"data":1}"#, Code::BadChannel),
            (r#"{"channel":"~s/1","data":1}"#, Code::BadChannel),
            (r#"{"channels":"a,b","data":1}"#, Code::BadRequest),
            (r#"[{"channel":"a","data":1},{"channel":"a","data":1,"exlude":"me"}]"#, Code::BadRequest),
            (r#"{"channel":"a","data":1,"key":""}"#, Code::BadRequest),
            (r#"{"channel":"a","data":1,"volatile":"yes"}"#, Code::BadRequest),
            (r#"{"channel":"a","data":[1,2,3,4,5,6]}"#, Code::TooLarge),
            (r#"[{"channel":"a","data":1},{"channel":"a"}]"#, Code::BadRequest),
        ];
        for (body, code) in cases {
            assert_eq!(json(body).err(), Some(code), "{body}");
        }
    }

    /// Some publishers send these values when there is no client to exclude.
    #[test]
    fn an_exclude_that_is_not_a_client_id_leaves_nobody_out() {
        for (fields, client, is_ignored) in [
            (r#""exclude":"me""#, Some("me"), false),
            (r#""socket":"123.456""#, Some("123.456"), false),
            (r#""exclude":null"#, None, false),
            (r#""socket":null"#, None, false),
            (r#""exclude":"me","socket":null"#, Some("me"), false),
            (r#""exclude":"""#, None, true),
            (r#""socket":"""#, None, true),
            (r#""exclude":"","socket":"me""#, Some("me"), true),
            (r#""exclude":"a b""#, None, true),
            (r#""exclude":"\u0000""#, None, true),
            (r#""exclude":false"#, None, true),
            (r#""exclude":7"#, None, true),
            (r#""exclude":["me"]"#, None, true),
            (r#""exclude":{"id":"me"}"#, None, true),
        ] {
            let drafts = json(&format!(r#"{{"channel":"a","data":1,{fields}}}"#)).expect("a message");
            let expected = client.map(|client: &str| client.parse().expect("a client id"));
            assert_eq!((&drafts[0].exclude, drafts[0].ignored_exclude), (&expected, is_ignored), "{fields}");
        }
        for (query, client, is_ignored) in [
            ("exclude=me", Some("me"), false),
            ("socket=me", Some("me"), false),
            ("exclude=", None, true),
            ("exclude=a+b", None, true),
            ("socket=&exclude=me", Some("me"), true),
        ] {
            let query = format!("channel=a&{query}");
            let (drafts, _) = drafts(&parse_query(&query).expect("UTF-8"), "", "1", 10).expect("a message");
            let expected = client.map(|client: &str| client.parse().expect("a client id"));
            assert_eq!((&drafts[0].exclude, drafts[0].ignored_exclude), (&expected, is_ignored), "{query}");
        }
    }

    proptest! {
        #[test]
        fn a_query_is_split_as_forms_are(query in "[ab%+&=é20]{0,30}") {
            let by_form: Vec<Field<'_>> = fields(query.as_bytes(), None).collect();
            if let Ok(parsed) = parse_query(&query) {
                prop_assert_eq!(parsed.to_vec(), by_form);
            }
        }
    }

    #[test]
    fn a_text_is_measured_as_a_text() {
        assert!(json(r#"{"channel":"a","data":"0123456789"}"#).is_ok());
        assert_eq!(json(r#"{"channel":"a","data":"01234567890"}"#).err(), Some(Code::TooLarge));
    }
}
