//! Parses the body of `POST /event`: JSON, or the form of an old browser.

use crate::message::{ClientId, Payload};
use crate::serve::publishing::parse::{self, FORM, Field, Fields, parse_query};
use crate::transport::{ApiError, ClientAck, ClientEvent, Code, EventFields};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A parsed request.
#[derive(Debug)]
pub struct EventRequest {
    /// What the client sends.
    pub content: RequestContent,
    /// The session that the request names.
    pub session: Option<String>,
    /// The client id that the request names.
    pub client: Option<ClientId>,
    /// A token in the query or the form.
    pub token: Option<String>,
}

/// Whether a body is a form. An old browser shows the response to it in a hidden frame, and would offer JSON there as a
/// download.
pub fn is_form(kind: &str, body: &[u8]) -> bool {
    // `curl -d` sends JSON with the content type of a form.
    kind == FORM && !body.trim_ascii_start().starts_with(b"{")
}

/// What a client sends in a request.
#[derive(Debug)]
pub enum RequestContent {
    /// An event.
    Event(ClientEvent),
    /// An answer to an event of the application.
    Ack(ClientAck),
}

/// Parses a request. `kind` is the content type without parameters. The fields of the query come before the fields of
/// the body.
///
/// # Errors
///
/// The first error in the request.
pub fn read(query: &str, kind: &str, body: &str, max: usize) -> Result<EventRequest, ApiError> {
    let query = parse_query(query)?;
    let is_form = is_form(kind, body.as_bytes());
    let form = if is_form { parse_query(body)? } else { Fields::new() };
    let token = parse::token(&query, &form);
    let mut fields = if is_form { from_form(query.iter().chain(&form))? } else { EventFields::parse(body)? };
    if let Some((_, client)) = query.iter().rfind(|(name, _)| name == "client") {
        fields.client.get_or_insert(Cow::Borrowed(client));
    }
    if let Some((_, session)) = query.iter().rfind(|(name, _)| name == "session") {
        fields.session.get_or_insert(Cow::Borrowed(session));
    }
    let client = fields.client.as_deref().map(str::parse).transpose()?;
    let session = fields.session.as_deref().filter(|session| !session.is_empty()).map(str::to_owned);
    let content = match fields.check_ack(max)? {
        Some(ack) => RequestContent::Ack(ack),
        // The page cannot read the response to a form.
        None => RequestContent::Event(fields.check(!is_form, max)?),
    };
    Ok(EventRequest { content, session, client, token })
}

/// The fields of a form. Data that is not JSON is a text, as in a publication.
fn from_form<'a>(form: impl Iterator<Item = &'a Field<'a>>) -> Result<EventFields<'a>, ApiError> {
    let mut fields = EventFields::default();
    let json = |text: &str| RawValue::from_string(text.to_owned());
    let invalid = |_| ApiError::new(Code::BadJson, "args is not JSON");
    // An empty field of a form counts as missing, except for data.
    for (name, value) in form.filter(|(name, value)| name == "data" || !value.is_empty()) {
        match &**name {
            "event" => fields.event = Some(Cow::Borrowed(value)),
            "data" => fields.data = Some(json(Payload::from_any(value).as_str()).map_err(invalid)?),
            "args" => fields.args = Some(json(value).map_err(invalid)?),
            "channel" => fields.channel = Some(Cow::Borrowed(value)),
            "key" => fields.key = Some(Cow::Borrowed(value)),
            "client" => fields.client = Some(Cow::Borrowed(value)),
            "session" => fields.session = Some(Cow::Borrowed(value)),
            "ack" => fields.ack = Some(json(Payload::from_text(value).as_str()).map_err(invalid)?),
            _ => {}
        }
    }
    // The hidden form of the library always has a field `data`.
    fields.data.take_if(|_| fields.args.is_some());
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_or_forms() {
        for (query, kind, body, args, is_form) in [
            ("", "application/json", r#"{"event":"e","data":1,"client":"c"}"#, "[1]", false),
            ("", FORM, r#"{"event":"e","args":[1,2],"client":"c"}"#, "[1,2]", false),
            ("client=c", "", r#"{"event":"e"}"#, "[]", false),
            ("", FORM, "event=e&data=%7B%22a%22%3A1%7D&client=c", r#"[{"a":1}]"#, true),
            ("client=c&token=t", FORM, "data=milk+and+honey&event=e", r#"["milk and honey"]"#, true),
            ("", FORM, "event=e&args=[1,2]&client=c&token=t", "[1,2]", true),
            ("channel=&client=c&event=e", FORM, "data=1", "[1]", true),
            ("client=c&event=e&args=[1,2]", FORM, "data=[1,2]", "[1,2]", true),
        ] {
            let request = read(query, kind, body, 100).expect("an event");
            let RequestContent::Event(event) = &request.content else { panic!("{body}") };
            assert_eq!((event.args.get(), super::is_form(kind, body.as_bytes())), (args, is_form), "{body}");
            assert_eq!(request.client, Some("c".parse().expect("a client id")), "{body}");
            assert_eq!(request.token.is_some(), format!("{query}{body}").contains("token"), "{body}");
            assert_eq!(event.wants_ack, !is_form);
        }
    }

    #[test]
    fn bad_requests_are_refused_by_what_is_wrong() {
        for (query, kind, body, code) in [
            ("", "application/json", "event=e", Code::BadJson),
            ("", FORM, "data=1", Code::BadEvent),
            ("", FORM, "event=e&args=[", Code::BadJson),
            ("", FORM, "event=e&args=1", Code::BadRequest),
            ("", FORM, "event=%ff", Code::NotUtf8),
            ("client=%ff", "", "{}", Code::NotUtf8),
            ("client=a+b", "", r#"{"event":"e"}"#, Code::BadRequest),
            ("", "", r#"{"event":"e","client":"a b"}"#, Code::BadRequest),
        ] {
            assert_eq!(read(query, kind, body, 100).map_err(|error| error.code).err(), Some(code), "{query} {body}");
        }
    }
}
