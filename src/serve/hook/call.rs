//! A call to the application for an event of a client.

use super::HookRequest;
use crate::message::Channel;
use crate::serve::access::credentials::Credentials;
use crate::serve::limits::rate_limiter::EventSender;
use crate::transport::ClientEvent;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderValue};
use hyper::{Method, Request};
use ring::digest;
use serde::Serialize;
use serde_json::value::RawValue;
use std::fmt::Write as _;
use std::sync::Arc;

/// A call for an event.
pub struct EventCall {
    /// The client that sends the event.
    pub sender: EventSender,
    /// The credentials of its request, or of its handshake.
    pub credentials: Arc<Credentials>,
    /// The user that its token names.
    pub user: Option<String>,
    /// The channels that it reads on this connection.
    pub channels: Vec<Channel>,
    /// The event.
    pub event: ClientEvent,
    /// The id of the call. A repeated call has the same id.
    id: String,
}

#[derive(Serialize)]
struct User<'a> {
    id: &'a str,
}

/// The body of a call. A field that needs a session is null.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    id: &'a str,
    protocol: &'static str,
    session: Option<&'a str>,
    client: Option<String>,
    endpoint: &'static str,
    user: Option<User<'a>>,
    data: Option<&'a RawValue>,
    channels: Vec<&'a str>,
    event: &'a str,
    args: &'a RawValue,
    ack: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
}

impl EventCall {
    /// Makes a call. Its id follows from the sender and the event's key, and is random without a key.
    pub fn new(
        sender: EventSender,
        credentials: Arc<Credentials>,
        user: Option<String>,
        channels: Vec<Channel>,
        event: ClientEvent,
    ) -> EventCall {
        let id = match &event.key {
            Some(key) => id(&sender, key),
            None => uuid::Uuid::new_v4().simple().to_string(),
        };
        EventCall { sender, credentials, user, channels, event, id }
    }

    /// The approximate memory that the call takes while it waits. While the request is under way, the call is in memory
    /// twice.
    pub fn size(&self) -> usize {
        let headers = self.headers().map(|(_, value)| value.len()).sum::<usize>();
        let channels: usize = self.channels.iter().map(|channel| channel.as_str().len() + 32).sum();
        1024 + headers + channels + 2 * self.event.size()
    }

    /// The body, as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let body = Body {
            r#type: "event",
            id: &self.id,
            protocol: "longtail",
            session: None,
            client: self.sender.client.as_ref().map(ToString::to_string),
            endpoint: "/",
            user: self.user.as_deref().map(|id| User { id }),
            data: None,
            channels: self.channels.iter().map(Channel::as_str).collect(),
            event: self.event.name.as_str(),
            args: &self.event.args,
            ack: self.event.wants_ack,
            channel: self.event.channel.as_ref().map(Channel::as_str),
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// The request with this body, without its address.
    pub fn request(&self, body: &Bytes) -> HookRequest {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers() {
            headers.insert(name, value.clone());
        }
        request
    }

    /// The headers of the client's request that the application gets.
    fn headers(&self) -> impl Iterator<Item = (hyper::header::HeaderName, &HeaderValue)> {
        let headers = [(COOKIE, self.credentials.cookie()), (AUTHORIZATION, self.credentials.authorization())];
        headers.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

/// The id of the calls for a key of a sender: the beginning of a hash, as hexadecimal digits.
fn id(sender: &EventSender, key: &str) -> String {
    let scope = sender.scope();
    // The length in front distinguishes pairs whose parts would join to the same text.
    let hash = digest::digest(&digest::SHA256, format!("{}:{scope}:{key}", scope.len()).as_bytes());
    let mut id = String::with_capacity(32);
    for byte in &hash.as_ref()[..16] {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn sender(client: Option<&str>, last: u8) -> EventSender {
        let client = client.map(|client| client.parse().expect("a client id"));
        EventSender::new(client, IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn an_id_belongs_to_a_client_and_a_key() {
        assert_eq!(id(&sender(Some("a"), 1), "k"), id(&sender(Some("a"), 2), "k"), "the client may have moved");
        assert_ne!(id(&sender(Some("a"), 1), "k"), id(&sender(Some("b"), 1), "k"));
        assert_ne!(id(&sender(Some("a"), 1), "k"), id(&sender(Some("a"), 1), "l"));
        assert_ne!(id(&sender(Some("a:b"), 1), "k"), id(&sender(Some("a"), 1), "b:k"));
        assert_ne!(id(&sender(None, 1), "k"), id(&sender(None, 2), "k"));
        assert_eq!(id(&sender(None, 1), "k").len(), 32);
    }
}
