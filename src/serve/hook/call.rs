//! A call to the application: what a client does, and what the application already knows about it.

use super::call_type::CallType;
use crate::cursor::Cursor;
use crate::message::{Channel, ClientId};
use crate::serve::access::credentials::Credentials;
use crate::serve::limits::rate_limiter::EventSender;
use crate::serve::transitions::Transition;
use crate::transport::ClientEvent;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request};
use ring::digest;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

/// A request to the application.
pub type HookRequest = Request<Full<Bytes>>;

/// A call.
pub struct HookCall {
    /// The client whose calls run one after the other.
    pub sender: EventSender,
    /// The credentials of its request, or of its handshake.
    pub credentials: Arc<Credentials>,
    /// What the application already knows about the client.
    pub caller: Caller,
    /// What has happened.
    pub content: CallContent,
    /// The id of the call. A repeated call has the same id.
    id: String,
}

/// What a call says about its client.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The protocol that the client speaks.
    pub protocol: String,
    /// The id of its session, if it has one.
    pub session: Option<Arc<str>>,
    /// Its client id.
    pub client: Option<ClientId>,
    /// The namespace or path.
    pub endpoint: String,
    /// The user, as JSON.
    pub user: Option<String>,
    /// What the application has stored in the session, as JSON.
    pub data: Option<String>,
    /// The channels that it reads.
    pub channels: Vec<Channel>,
}

/// What has happened.
pub enum CallContent {
    /// A client wants to begin a session, or the application has to be asked again about one.
    Connect(Box<Connect>),
    /// The client has sent an event.
    Event(ClientEvent),
    /// The client has answered an event of the application.
    Ack {
        /// The name that the application has given to the answer.
        name: String,
        /// The position of the event that has asked for the answer. The application may use a name again.
        asked_at: Cursor,
        /// The answer, a JSON array.
        args: Box<RawValue>,
    },
    /// The session has ended.
    Disconnect {
        /// Why it has ended.
        reason: &'static str,
    },
    /// A channel has got its first reader or lost its last one, or a user has joined or left a channel.
    Transition(Box<Transition>),
}

impl Connect {
    /// A token, as JSON.
    pub fn token(token: &str) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(token).ok()
    }
}

/// The request of a client that wants to begin a session.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Connect {
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The origin of the page.
    pub origin: Option<String>,
    /// The transport's name.
    pub transport: String,
    /// The fields of its query, without secrets.
    pub query: BTreeMap<String, String>,
    /// The token as a JSON string, or what the client of another protocol says about itself.
    pub auth: Option<Box<RawValue>>,
    /// Distinguishes the calls for one session.
    #[serde(skip)]
    pub number: u64,
}

/// The body of a call.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    id: &'a str,
    protocol: &'a str,
    session: Option<&'a str>,
    client: Option<String>,
    endpoint: &'a str,
    #[serde(flatten)]
    known: Option<Known<'a>>,
    #[serde(flatten)]
    connect: Option<&'a Connect>,
    #[serde(flatten)]
    event: Option<EventBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(flatten)]
    transition: Option<TransitionBody<'a>>,
}

/// The fields of all calls for a client that the application knows.
#[derive(Serialize)]
struct Known<'a> {
    user: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    channels: Vec<&'a str>,
}

#[derive(Serialize)]
struct TransitionBody<'a> {
    channel: &'a str,
    cursor: String,
}

#[derive(Serialize)]
struct EventBody<'a> {
    event: &'a str,
    ack: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
}

impl CallContent {
    /// The type of the call.
    pub fn kind(&self) -> CallType {
        match self {
            CallContent::Connect(_) => CallType::Connect,
            CallContent::Event(_) => CallType::Event,
            CallContent::Ack { .. } => CallType::Ack,
            CallContent::Disconnect { .. } => CallType::Disconnect,
            CallContent::Transition(transition) => CallType::of(transition.kind),
        }
    }

    /// What distinguishes the call from other calls of its sender; `None` if every call is another one.
    fn key(&self) -> Option<String> {
        match self {
            CallContent::Connect(connect) => Some(format!("connect:{}", connect.number)),
            // The prefixes of the others have a colon, so that no key of a client is one of them.
            CallContent::Event(event) => event.key.as_ref().map(|key| format!("event:{key}")),
            CallContent::Ack { name, asked_at, .. } => Some(format!("ack:{asked_at}:{name}")),
            CallContent::Disconnect { .. } => Some("disconnect:".to_owned()),
            CallContent::Transition(transition) => Some(format!("transition:{}", transition.id)),
        }
    }

    fn size(&self) -> usize {
        match self {
            CallContent::Connect(connect) => {
                let query: usize = connect.query.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
                query + connect.auth.as_ref().map_or(0, |auth| auth.get().len())
            }
            CallContent::Event(event) => 2 * event.size(),
            CallContent::Ack { name, args, .. } => 2 * (name.len() + args.get().len()),
            CallContent::Disconnect { .. } | CallContent::Transition(_) => 0,
        }
    }
}

impl HookCall {
    /// Makes a call. Its id follows from the sender and from what has happened, and is random for an event without a
    /// key.
    pub fn new(sender: EventSender, credentials: Arc<Credentials>, caller: Caller, content: CallContent) -> HookCall {
        let id = match content.key() {
            Some(key) => id(&sender, &key),
            None => uuid::Uuid::new_v4().simple().to_string(),
        };
        HookCall { sender, credentials, caller, content, id }
    }

    /// The id of the call.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The approximate memory that the call takes while it waits. While the request is under way, the call is in memory
    /// twice.
    pub fn size(&self) -> usize {
        let headers = self.headers().map(|(_, value)| value.len()).sum::<usize>();
        let channels: usize = self.caller.channels.iter().map(|channel| channel.as_str().len() + 32).sum();
        let texts = [&self.caller.user, &self.caller.data].into_iter().flatten().map(String::len).sum::<usize>();
        1024 + headers + channels + texts + self.content.size()
    }

    /// The body, as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let Caller { protocol, session, client, endpoint, user, data, channels } = &self.caller;
        let json = |text: &'_ Option<String>| -> Option<Box<RawValue>> {
            text.as_ref().and_then(|text| RawValue::from_string(text.clone()).ok())
        };
        let (user, data) = (json(user), json(data));
        let known = Known {
            user: user.as_deref(),
            data: data.as_deref(),
            channels: channels.iter().map(Channel::as_str).collect(),
        };
        let mut body = Body {
            r#type: self.content.kind().as_str(),
            id: &self.id,
            protocol,
            session: session.as_deref(),
            client: client.as_ref().map(ToString::to_string),
            endpoint,
            known: Some(known),
            connect: None,
            event: None,
            args: None,
            r#ref: None,
            reason: None,
            transition: None,
        };
        match &self.content {
            CallContent::Connect(connect) => (body.known, body.connect) = (None, Some(&**connect)),
            CallContent::Event(event) => {
                let channel = event.channel.as_ref().map(Channel::as_str);
                body.event = Some(EventBody { event: event.name.as_str(), ack: event.wants_ack, channel });
                body.args = Some(&event.args);
            }
            CallContent::Ack { name, args, .. } => (body.r#ref, body.args) = (Some(name.as_str()), Some(&**args)),
            CallContent::Disconnect { reason } => body.reason = Some(reason),
            CallContent::Transition(transition) => {
                let cursor = transition.cursor.to_string();
                body.transition = Some(TransitionBody { channel: transition.channel.as_str(), cursor });
            }
        }
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// The request with this body, without its address.
    pub fn request(&self, body: &Bytes) -> HookRequest {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers() {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
        request
    }

    /// The headers of the client's request that the application gets.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &HeaderValue)> {
        let headers = [("cookie", self.credentials.cookie()), ("authorization", self.credentials.authorization())];
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

    fn sender(client: Option<&str>, last: u8) -> EventSender {
        let client = client.map(|client| client.parse().expect("a client id"));
        EventSender::new(client, None, IpAddr::from([192, 0, 2, last]))
    }

    fn sender_of(user: &str, client: Option<&str>) -> EventSender {
        let client = client.map(|client| client.parse().expect("a client id"));
        EventSender::new(client, Some(user), IpAddr::from([192, 0, 2, 1]))
    }

    #[test]
    fn an_id_belongs_to_a_user_a_client_and_a_key() {
        assert_eq!(id(&sender(Some("a"), 1), "k"), id(&sender(Some("a"), 2), "k"), "the client may have moved");
        assert_ne!(id(&sender(Some("a"), 1), "k"), id(&sender(Some("b"), 1), "k"));
        assert_ne!(id(&sender(Some("a"), 1), "k"), id(&sender(Some("a"), 1), "l"));
        assert_ne!(id(&sender(Some("a:b"), 1), "k"), id(&sender(Some("a"), 1), "b:k"));
        assert_ne!(id(&sender(None, 1), "k"), id(&sender(None, 2), "k"));
        assert_eq!(id(&sender(None, 1), "k").len(), 32);
        for client in [Some("a"), None] {
            assert_eq!(id(&sender_of("ann", client), "k"), id(&sender_of("ann", client), "k"));
            for other in [sender_of("ben", client), sender(client, 1)] {
                assert_ne!(id(&sender_of("ann", client), "k"), id(&other, "k"), "{client:?}: another user");
            }
        }
        assert_ne!(id(&sender_of("ann:client:a", Some("b")), "k"), id(&sender_of("ann", Some("a:client:b")), "k"));
    }
}
