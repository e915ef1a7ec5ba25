//! The query of a request: the version, the transport and the session.

use super::settings::SocketIoSettings;
use crate::transport::params::fields;
use crate::wire::engineio::handshake::{Handshake, Refusal};
use std::collections::BTreeMap;

/// The fields that belong to the protocol. The application does not get them.
const OWN_FIELDS: [&str; 9] = ["EIO", "transport", "sid", "t", "b64", "j", "jsonp", "i", "disconnect"];

/// The fields that are secrets of this server.
pub const SECRETS: [&str; 2] = ["token", "session"];

/// The longest time stamp.
const MAX_STAMP: usize = 100;

/// The version of Engine.IO that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineVersion {
    /// Socket.IO 0.9, which has no Engine.IO below it.
    V1,
    /// Version 3, as the bundles of Socket.IO 1.0.0 to 1.0.6 speak it. They say `EIO=2`.
    V2,
    /// Version 3.
    V3,
    /// Version 4.
    V4,
}

/// The transport that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineTransport {
    /// Long polls and posts.
    Polling,
    /// A WebSocket.
    WebSocket,
}

/// The query of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct EngineRequest {
    /// The version.
    pub version: EngineVersion,
    /// The transport.
    pub transport: EngineTransport,
    /// The id of the session; `None` for a handshake.
    pub sid: Option<String>,
    /// Whether the client takes only text.
    pub is_text: bool,
    /// The time stamp, which a client gives each request. In 0.9 it is the time in milliseconds.
    pub t: Option<String>,
    /// The number of the JSONP callback.
    pub jsonp: Option<u32>,
    /// The token, if the page adds one.
    pub token: Option<String>,
    /// The page's own fields.
    pub query: BTreeMap<String, String>,
}

impl EngineRequest {
    /// Reads a query. A page may add fields of its own before and after the others, and repeat them: the first one counts.
    ///
    /// # Errors
    ///
    /// The transport or the version is not known.
    pub fn parse(query: &str) -> Result<EngineRequest, Refusal> {
        let Fields { own, others, token } = Fields::read(query);
        let transport = match own.get("transport").map(String::as_str) {
            Some("polling") => EngineTransport::Polling,
            Some("websocket") => EngineTransport::WebSocket,
            _ => return Err(Refusal::UnknownTransport),
        };
        let version = match own.get("EIO").map(String::as_str) {
            Some("4") => EngineVersion::V4,
            Some("3") => EngineVersion::V3,
            Some("2") => EngineVersion::V2,
            _ => return Err(Refusal::UnsupportedVersion),
        };
        let sid = own.get("sid").filter(|sid| !sid.is_empty()).cloned();
        let is_text = own.get("b64").is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        let t = own.get("t").filter(|t| (1..=MAX_STAMP).contains(&t.len())).cloned();
        let jsonp = own.get("j").and_then(|number| number.parse().ok());
        Ok(EngineRequest { version, transport, sid, is_text, t, jsonp, token, query: others })
    }
}

/// The fields of a query.
struct Fields {
    own: BTreeMap<String, String>,
    others: BTreeMap<String, String>,
    token: Option<String>,
}

impl Fields {
    fn read(query: &str) -> Fields {
        let mut read = Fields { own: BTreeMap::new(), others: BTreeMap::new(), token: None };
        for (name, value) in fields(query.as_bytes(), None) {
            if OWN_FIELDS.contains(&&*name) {
                read.own.entry(name.into_owned()).or_insert(value.into_owned());
            } else if SECRETS.contains(&&*name) {
                read.token = read.token.or((name == "token").then(|| value.into_owned()));
            } else {
                read.others.entry(name.into_owned()).or_insert(value.into_owned());
            }
        }
        read
    }
}

/// The fields of a query of 0.9 that belong to the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Fields09 {
    /// The number of the callback of a handshake by JSONP.
    pub jsonp: Option<u32>,
    /// Whether the page is about to be closed.
    pub disconnects: bool,
}

impl EngineRequest {
    /// Reads a query of 0.9, where the path names the transport and the session.
    pub fn parse_09(query: &str, transport: EngineTransport, sid: Option<String>) -> (EngineRequest, Fields09) {
        let Fields { own, others, token } = Fields::read(query);
        let number = |name: &str| own.get(name).and_then(|number| number.parse().ok());
        let fields = Fields09 { jsonp: number("jsonp"), disconnects: own.contains_key("disconnect") };
        let jsonp = number("i");
        let (version, is_text) = (EngineVersion::V1, true);
        let is_time = |t: &&String| (12..=15).contains(&t.len()) && t.bytes().all(|byte| byte.is_ascii_digit());
        let t = own.get("t").filter(is_time).cloned();
        (EngineRequest { version, transport, sid, is_text, t, jsonp, token, query: others }, fields)
    }

    /// Whether the client takes only payloads of bytes. Such old clients are known by their time stamps: the time in
    /// milliseconds, and perhaps a number.
    pub fn takes_octets(&self) -> bool {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_old = |t: &String| t.split_once('-').map_or(is_number(t), |(time, n)| is_number(time) && is_number(n));
        let is_old = self.version == EngineVersion::V2 || self.t.as_ref().is_some_and(is_old);
        matches!(self.version, EngineVersion::V2 | EngineVersion::V3) && is_old && !self.is_text && self.jsonp.is_none()
    }
}

/// What the server tells a client at the start of its connection.
pub fn handshake<'a>(
    settings: &SocketIoSettings,
    version: EngineVersion,
    sid: &'a str,
    websocket: bool,
) -> Handshake<'a> {
    Handshake {
        sid,
        websocket,
        ping_interval: settings.ping_interval.as_millis() as u64,
        ping_timeout: settings.ping_timeout.as_millis() as u64,
        max_payload: (version == EngineVersion::V4).then_some(settings.max_payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_are_known_by_their_time_stamps() {
        for (query, takes_octets) in [
            ("EIO=3&t=1400000000000", true),
            ("EIO=3&t=1400000000000-12", true),
            ("EIO=3&t=1400000000000-12&b64=1", false),
            ("EIO=3&t=1400000000000-12&j=0", false),
            ("EIO=3&t=MBx8Q1a.2", false),
            ("EIO=3", false),
            ("EIO=2&t=MBx8Q1a", true),
            ("EIO=4&t=1400000000000", false),
        ] {
            let read = EngineRequest::parse(&format!("{query}&transport=polling")).expect("a request");
            assert_eq!(read.takes_octets(), takes_octets, "{query}");
        }
    }

    #[test]
    fn the_query_says_how_a_client_speaks() {
        let read = EngineRequest::parse("a=1&EIO=3&EIO=4&transport=websocket&b64=1&t=x&sid=&token=s&session=q&a=2");
        let read = read.expect("a request");
        assert_eq!((read.version, read.transport), (EngineVersion::V3, EngineTransport::WebSocket));
        assert_eq!((read.sid, read.is_text, read.token.as_deref()), (None, true, Some("s")));
        assert_eq!((read.t.as_deref(), read.jsonp), (Some("x"), None));
        assert_eq!(read.query.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn what_is_missing_is_said() {
        for (query, refusal) in [
            ("", Refusal::UnknownTransport),
            ("EIO=4&transport=abc", Refusal::UnknownTransport),
            ("EIO=4&transport=flashsocket", Refusal::UnknownTransport),
            ("transport=polling", Refusal::UnsupportedVersion),
            ("EIO=abc&transport=polling", Refusal::UnsupportedVersion),
            ("EIO=5&transport=websocket", Refusal::UnsupportedVersion),
        ] {
            assert_eq!(EngineRequest::parse(query), Err(refusal), "{query}");
        }
    }
}
