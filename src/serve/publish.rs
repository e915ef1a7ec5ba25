//! Publishing: `POST /publish` in its forms, and what commands share with it.

use super::App;
use super::asker::Asker;
use super::authorize::{Action, Authorizer, Publisher, Question};
use super::client::{Client, Handover};
use super::counts::Census;
use super::meters::Way;
use super::reply::{self, Reply};
use super::request::Request;
use super::router::read_body;
use super::subscribe::last_field;
use crate::cursor::Cursor;
use crate::log::AppendError;
use crate::message::{Channel, ClientId, Draft, Event, Key, Payload};
use crate::transport::params::fields;
use crate::transport::{Code, Refusal};
use hyper::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a body in all.
const BODY_BYTES: usize = 1 << 20;

/// Messages of an array.
const MESSAGES: usize = 1000;

/// Bytes of an idempotency key.
const KEY_BYTES: usize = 200;

/// The content type of a form.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// How long after an append has begun its answer waits for this node to have read what it appended, so that who
/// publishes and then polls reads what he wrote. The message is in the log whether or not.
const OWN_TAIL_WAIT: Duration = Duration::from_millis(500);

/// And how long at least, where the append itself has taken longer.
const OWN_TAIL_LEAST: Duration = Duration::from_millis(20);

/// One message as a publisher writes it in JSON. Unknown fields are passed over.
#[derive(Deserialize)]
pub struct Publication<'a> {
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    exclude: Option<Cow<'a, str>>,
    #[serde(default)]
    volatile: Option<bool>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
}

/// `null` is a payload like any other; only a field that is not there is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Publication<'_> {
    /// Checks it.
    ///
    /// # Errors
    ///
    /// The first field that is not sound.
    pub fn into_draft(self, max_message: usize) -> Result<Draft, Refusal> {
        let channel = self.channel.ok_or_else(|| Refusal::new(Code::BadChannel, "name a channel"))?.parse()?;
        let data = self.data.ok_or_else(|| Refusal::new(Code::BadRequest, "data is missing"))?.get();
        check_size(data, max_message)?;
        Ok(Draft {
            channel,
            event: parse_event(self.event.as_deref())?,
            payload: Payload::from_any(data),
            exclude: self.exclude.as_deref().map(str::parse).transpose()?,
            key: parse_key(self.key.as_deref())?,
            volatile: self.volatile.unwrap_or_default(),
        })
    }
}

fn parse_event(event: Option<&str>) -> Result<Event, Refusal> {
    Ok(event.map(str::parse).transpose()?.unwrap_or_default())
}

fn parse_key(key: Option<&str>) -> Result<Option<Key>, Refusal> {
    let Some(key) = key else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_BYTES {
        return Err(Refusal::new(Code::BadRequest, format!("key is 1 to {KEY_BYTES} bytes")));
    }
    // Whose it is is known when the publisher is: see `authorize`.
    Ok(Some(Key { publisher: String::new(), key: key.into() }))
}

fn check_size(data: &str, max: usize) -> Result<(), Refusal> {
    if Payload::fits(data, max) {
        return Ok(());
    }
    Err(Refusal::new(Code::TooLarge, format!("a payload is at most {max} bytes")))
}

/// Whether somebody may publish these, as many and now. Says in them whose they are.
///
/// # Errors
///
/// He may not, or too many for the time.
pub async fn authorize(
    app: &App,
    asker: &Asker,
    client: Option<ClientId>,
    drafts: &mut [Draft],
) -> Result<(), Refusal> {
    let publisher = match *app.authorizer {
        Authorizer::Open => Publisher::Anybody(asker.ip),
        Authorizer::Guarded(_) => {
            let channels = drafts.iter().map(|draft| draft.channel.clone()).collect();
            let question = Question { action: Action::Publish, channels, client, asker: asker.to_publish()? };
            app.authorizer.ask(question).await?.publisher
        }
    };
    app.rates.publish(&publisher, drafts.len())?;
    for key in drafts.iter_mut().filter_map(|draft| draft.key.as_mut()) {
        key.publisher = publisher.scope();
    }
    Ok(())
}

/// Appends drafts. They are queued at the first poll, in the order of first polls.
pub fn append(
    app: &Arc<App>,
    way: Way,
    drafts: Vec<Draft>,
) -> impl Future<Output = Result<Vec<Option<Cursor>>, Refusal>> + Send + 'static {
    let app = app.clone();
    async move {
        let began = Instant::now();
        let cursors = app.hub.log().append(drafts).await.map_err(|error| {
            let code = match error {
                AppendError::Unavailable(_) => Code::LogUnavailable,
                AppendError::OutcomeUnknown => Code::OutcomeUnknown,
            };
            app.meters.append_failed(code);
            Refusal::new(code, error.to_string())
        })?;
        app.meters.published(way, cursors.len(), began);
        if let Some(newest) = cursors.iter().flatten().max_by_key(|cursor| cursor.id) {
            app.hub.advance();
            if app.hub.has_reached(*newest) {
                return Ok(cursors);
            }
            // From its beginning, and not from here: of a pipeline's publishes only the first is polled, and each would
            // come here, and wait anew, when the one before is answered.
            let until = (began + OWN_TAIL_WAIT).max(Instant::now() + OWN_TAIL_LEAST);
            let _ = tokio::time::timeout_at(until, app.hub.reached(*newest)).await;
        }
        Ok(cursors)
    }
}

/// Answers `POST /publish`.
///
/// # Errors
///
/// Why nothing was appended, or that it is not known.
pub async fn answer(app: &Arc<App>, client: &Client, mut request: Request) -> Result<Reply, Refusal> {
    let most = BODY_BYTES.max(app.settings.max_message.saturating_mul(2));
    let body = read_body(app, &mut request, most).await?;
    let body = std::str::from_utf8(&body).map_err(|_| Refusal::new(Code::NotUtf8, "the body is not UTF-8"))?;
    let query = request.uri().query().unwrap_or_default();
    let publishing = Publishing::read(query, &kind(request.headers()), body, app.settings.max_message)?;
    let asker = asker(app, client, request.headers());
    let is_hidden_form = publishing.is_hidden_form;
    let published = publishing.carry_out(app, &asker, &client.handover()).await?;
    if is_hidden_form {
        return Ok(reply::whole(StatusCode::OK, "text/plain; charset=utf-8", published));
    }
    Ok(reply::json(StatusCode::OK, published))
}

/// The content type without its parameters, in small letters.
pub fn kind(headers: &HeaderMap) -> String {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Who publishes, but for a token in the query or a form.
pub fn asker(app: &App, client: &Client, headers: &HeaderMap) -> Asker {
    let by_cookie = !app.access.is_by_star(headers, client.forwarded_host());
    Asker::new(client.ip, "publish", headers, by_cookie)
}

/// What a request publishes, taken out of it.
pub struct Publishing {
    drafts: Vec<Draft>,
    /// Theirs, for the answer.
    channels: SmallVec<[Channel; 1]>,
    wants_counts: bool,
    token: Option<String>,
    is_hidden_form: bool,
}

impl Publishing {
    /// Reads it. `kind`: see [`kind`].
    ///
    /// # Errors
    ///
    /// The first that is not sound.
    pub fn read(query: &str, kind: &str, body: &str, max: usize) -> Result<Publishing, Refusal> {
        let query = parse_query(query)?;
        let (drafts, is_hidden_form) = drafts(&query, kind, body, max)?;
        let wants_counts = match query.iter().find(|(name, _)| name == "counts") {
            Some((_, value)) => flag("counts", value)?,
            None => false,
        };
        let form = is_hidden_form.then_some(body.as_bytes());
        let token = form.and_then(|form| last_field(form, None, "token"));
        let of_query = || query.iter().rfind(|(name, _)| name == "token").map(|(_, value)| value.to_string());
        Ok(Publishing {
            channels: drafts.iter().map(|draft| draft.channel.clone()).collect(),
            drafts,
            wants_counts,
            token: token.or_else(of_query),
            is_hidden_form,
        })
    }

    /// Appends it, if that is allowed, and says what is answered.
    ///
    /// # Errors
    ///
    /// Why nothing was appended, or that it is not known.
    pub async fn carry_out(self, app: &Arc<App>, asker: &Asker, handover: &Handover) -> Result<Vec<u8>, Refusal> {
        let Publishing { mut drafts, channels, .. } = self;
        // While the application or the log is slow, what waits for it grows with those who publish.
        let mut loan = app.budget.loan();
        loan.set(drafts.iter().map(|draft| draft.payload.as_str().len()).sum())?;
        let asker = asker.clone().with_token(self.token.as_deref());
        authorize(app, &asker, None, &mut drafts).await?;
        let cursors = handover.queueing(append(app, Way::Http, drafts)).await?;
        drop(loan);
        let census = if self.wants_counts { Some(Census::of(app, &channels).await) } else { None };
        Ok(published(&channels, &cursors, census.as_ref()))
    }
}

/// A field's name and value, decoded.
pub type Field<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A query's fields.
pub type Fields<'a> = SmallVec<[Field<'a>; 4]>;

/// Takes a query apart.
///
/// # Errors
///
/// `not_utf8`.
pub fn parse_query(query: &str) -> Result<Fields<'_>, Refusal> {
    check_utf8(query)?;
    // Where nothing is encoded, as mostly, each field is as it stands.
    if !query.bytes().any(|byte| byte == b'%' || byte == b'+') {
        let fields = query.split('&').filter(|field| !field.is_empty());
        let halves = fields.map(|field| field.split_once('=').unwrap_or((field, "")));
        return Ok(halves.map(|(name, value)| (name.into(), value.into())).collect());
    }
    Ok(fields(query.as_bytes(), None).collect())
}

/// What a request publishes, by its query, its content type without parameters, and its body; and
/// whether it is an old browser's hidden form.
///
/// # Errors
///
/// The first that is not sound.
pub fn drafts(query: &[Field<'_>], kind: &str, body: &str, max: usize) -> Result<(Vec<Draft>, bool), Refusal> {
    let is_form = kind == FORM;
    // Sent by an old browser's hidden form: into a frame, where it would offer JSON as a download.
    let is_hidden_form = is_form && body.starts_with("data=");
    let is_json = kind == "application/json" || body.trim_start().starts_with(['{', '[']);
    let drafts = if is_hidden_form {
        vec![from_fields(query, Some(body), None, max)?]
    } else if query.iter().any(|(name, _)| name == "channel") {
        vec![from_fields(query, None, Some(body), max)?]
    } else if is_json {
        from_json(body, max)?
    } else {
        vec![from_fields(query, is_form.then_some(body), Some(body).filter(|_| !is_form), max)?]
    };
    Ok((drafts, is_hidden_form))
}

/// The fields of a query, and of a form where it is one; `payload` is the body where it is none.
fn from_fields(query: &[Field<'_>], form: Option<&str>, payload: Option<&str>, max: usize) -> Result<Draft, Refusal> {
    if let Some(form) = form {
        check_utf8(form)?;
    }
    let (mut channel, mut data, mut event, mut exclude, mut key) = (None, None, None, None, None);
    let (mut volatile, mut as_text) = (false, false);
    let borrowed = query.iter().map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value)));
    for (name, value) in borrowed.chain(fields(form.unwrap_or_default().as_bytes(), None)) {
        match &*name {
            "channel" => channel = Some(value),
            "data" => data = Some(value),
            "event" => event = Some(value),
            "exclude" => exclude = Some(value),
            "key" => key = Some(value),
            "volatile" => volatile = flag("volatile", &value)?,
            "as" if value == "text" => as_text = true,
            "as" if value == "json" => as_text = false,
            "as" => return Err(Refusal::new(Code::BadRequest, "as is text or json")),
            _ => {}
        }
    }
    let channel = channel.ok_or_else(|| Refusal::new(Code::BadChannel, "name a channel: ?channel=…"))?.parse()?;
    let text = match (payload, &data) {
        (Some(payload), _) => payload,
        (None, Some(data)) => data,
        (None, None) => return Err(Refusal::new(Code::BadRequest, "data is missing")),
    };
    check_size(text, max)?;
    let payload = if as_text { Payload::from_text(text) } else { Payload::from_any(text) };
    let exclude = exclude.filter(|exclude| !exclude.is_empty()).map(|exclude| exclude.parse()).transpose()?;
    Ok(Draft {
        channel,
        event: parse_event(event.as_deref())?,
        payload,
        exclude,
        key: parse_key(key.as_deref())?,
        volatile,
    })
}

fn check_utf8(encoded: &str) -> Result<(), Refusal> {
    // What has no percent sign is what it was.
    if !encoded.contains('%') || decodes_to_utf8(encoded.as_bytes()) {
        return Ok(());
    }
    Err(Refusal::new(Code::NotUtf8, "a percent-encoded field is not UTF-8"))
}

/// Whether what is percent-encoded is UTF-8. The parser of forms would put U+FFFD where it is not,
/// and a payload would not arrive as it was sent.
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

fn flag(name: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Refusal::new(Code::BadRequest, format!("{name} is 0 or 1"))),
    }
}

fn from_json(body: &str, max: usize) -> Result<Vec<Draft>, Refusal> {
    if body.trim_start().starts_with('[') {
        // Cut into items first: one that is not sound is told apart from a body that is no JSON, and
        // a body of the smallest items is refused before it is taken apart.
        let items: Vec<&RawValue> = serde_json::from_str(body).map_err(|error| bad_json(&error))?;
        if items.len() > MESSAGES {
            return Err(Refusal::new(Code::TooLarge, format!("an array is at most {MESSAGES} messages")));
        }
        return items.into_iter().map(|item| one(item.get(), max)).collect();
    }
    Ok(vec![one(body, max)?])
}

fn one(json: &str, max: usize) -> Result<Draft, Refusal> {
    object(json)?;
    serde_json::from_str::<Publication<'_>>(json).map_err(|error| bad_json(&error))?.into_draft(max)
}

/// Refuses JSON that is no object: serde would read a struct's fields from an array, too.
///
/// # Errors
///
/// `bad_json` or `bad_request`.
pub fn object(json: &str) -> Result<(), Refusal> {
    if json.trim_start().starts_with('{') {
        return Ok(());
    }
    serde_json::from_str::<&RawValue>(json).map_err(|error| bad_json(&error))?;
    Err(Refusal::new(Code::BadRequest, "a JSON object is wanted"))
}

/// What is wrong with JSON, by place and not by content.
pub fn bad_json(error: &serde_json::Error) -> Refusal {
    let place = format!("line {} column {}", error.line(), error.column());
    if error.is_data() {
        let rule = "a message is {\"channel\":…,\"data\":…,\"event\"?,\"exclude\"?,\"volatile\"?,\"key\"?}";
        Refusal::new(Code::BadRequest, format!("a field is not of its type at {place}: {rule}"))
    } else {
        Refusal::new(Code::BadJson, format!("not JSON at {place}"))
    }
}

fn published(channels: &[Channel], cursors: &[Option<Cursor>], census: Option<&Census>) -> Vec<u8> {
    let mut out = String::with_capacity(32 + channels.len() * 128);
    out.push_str("{\"messages\":[");
    for (index, (channel, cursor)) in channels.iter().zip(cursors).enumerate() {
        out.push_str(if index > 0 { ",{" } else { "{" });
        if let Some(cursor) = cursor {
            out.push_str("\"id\":\"");
            out.push_str(cursor.text().as_str());
            out.push_str("\",");
        }
        out.push_str("\"channel\":\"");
        out.push_str(channel.as_str());
        out.push('"');
        if let Some(census) = census {
            out.push_str(&format!(",\"readers\":{}", census.readers(channel)));
        }
        out.push('}');
    }
    out.push(']');
    if let Some(census) = census {
        out.push_str(&format!(",\"complete\":{}", census.is_complete));
    }
    out.push('}');
    out.into_bytes()
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
            (r#"{"channel":"a","data":1,"exclude":"a b"}"#, Code::BadRequest),
            (r#"{"channel":"a","data":1,"key":""}"#, Code::BadRequest),
            (r#"{"channel":"a","data":1,"volatile":"yes"}"#, Code::BadRequest),
            (r#"{"channel":"a","data":[1,2,3,4,5,6]}"#, Code::TooLarge),
            (r#"[{"channel":"a","data":1},{"channel":"a"}]"#, Code::BadRequest),
        ];
        for (body, code) in cases {
            assert_eq!(json(body).err(), Some(code), "{body}");
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
