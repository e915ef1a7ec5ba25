//! The parameters of a subscription, from the query and a form.

use super::{ApiError, Code};
use crate::cursor::Start;
use crate::message::{Channel, ClientId};
use crate::wire::script;
use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

/// The parameters of a subscription. By default all of them are unset.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// The channels, each once, in the order in which they were named.
    pub channels: Vec<Channel>,
    /// The start position, if it was given.
    pub cursor: Option<Start>,
    /// The id of the last event that an `EventSource` has seen, if its script sends it as a field: see
    /// [`LAST_EVENT_ID`]. It is not parsed, since it counts for some transports only.
    pub last_event_id: Option<Box<str>>,
    /// The number of retained messages with which reading begins, or continues after a gap.
    pub last: Option<usize>,
    /// The client's id.
    pub client: Option<ClientId>,
    /// The time for which a long poll waits, if the client gave one.
    pub timeout: Option<Duration>,
    /// The maximum number of messages in a batch.
    pub limit: Option<usize>,
    /// The number of bytes until a rollover.
    pub max_bytes: Option<usize>,
    /// The time until a rollover.
    pub max_time: Option<Duration>,
    /// The longest silence on a stream, if that was given. A longer time than the server's own heartbeat has no effect.
    pub heartbeat: Option<Duration>,
    /// Whether to send entries about members that join or leave, in channels with presence.
    pub presence: bool,
    /// The client's session, or the wish for a new one; `None` for a client without a session.
    pub session: Option<WantedSession>,
    /// Whether to send padding.
    pub padding: bool,
    /// The name of the function to call. It is valid.
    pub callback: Option<String>,
    /// Whether the client tests the network path. On a stream, scripts can then see the heartbeats, and the first
    /// heartbeat comes early. A poll that does not wait then does not count as a reader, and its user is not a member.
    pub probe: bool,
    /// For JSONP: whether to answer at once, without waiting for a message.
    pub poll_mode: bool,
    /// For SSE: whether to send bare payloads.
    pub data_format: bool,
    /// For the forever frame: the `document.domain` to set. It is not checked against the host yet.
    pub domain: Option<String>,
}

/// The session that a client wants.
#[derive(Clone, PartialEq, Eq)]
pub enum WantedSession {
    /// A new one: `session=1`.
    New,
    /// The one with this id. It is a secret, so there is no `Debug` for it.
    Known(Box<str>),
}

impl WantedSession {
    /// Reads `session=`. Without a session, the value is empty or 0.
    pub fn parse(value: &str) -> Option<WantedSession> {
        match value {
            "" | "0" => None,
            "1" => Some(WantedSession::New),
            id => Some(WantedSession::Known(id.into())),
        }
    }
}

impl std::fmt::Debug for WantedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == WantedSession::New { "a new session" } else { "a known session" })
    }
}

/// Fields that have a single value. If a field is repeated, its last value counts.
const SINGLE: [&str; 16] = [
    "cursor",
    "last",
    "client",
    "timeout",
    "limit",
    "max_bytes",
    "max_seconds",
    "heartbeat",
    "padding",
    "presence",
    "session",
    "probe",
    "mode",
    "format",
    "domain",
    "callback",
];

/// Fields with the id of the last event, in upper or lower case. A script that replaces `EventSource` cannot set the
/// header of that name without a CORS preflight, so it sends a field: Yaffle's `lastEventId`, clients of Mercure
/// `lastEventID` or `Last-Event-ID`, amvtek's `evs_last_event_id`.
const LAST_EVENT_ID: [&str; 3] = ["lastEventId", "Last-Event-ID", "evs_last_event_id"];

/// Up to this number of names, comparing them one by one is faster than a set.
const FEW: usize = 16;

/// Bounds of [`Params`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum number of channels in a subscription.
    pub channels: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { channels: 100 }
    }
}

/// Returns the fields of the query and then those of the form, so that a field of the form overrides one of the query.
pub fn fields<'a>(query: &'a [u8], form: Option<&'a [u8]>) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
    form_urlencoded::parse(query).chain(form_urlencoded::parse(form.unwrap_or_default()))
}

impl Params {
    /// Whether a connection without a channel determines its start position only when it names its first channels. A
    /// cursor is a position even without channels, but the newest messages depend on the channels.
    pub fn begins_later(&self) -> bool {
        match self.cursor {
            None => true,
            Some(Start::Latest) => self.last.is_some(),
            Some(Start::Earliest | Start::After(_)) => false,
        }
    }

    /// Parses the parameters. Unknown fields are ignored (old browsers add extra fields to avoid cached responses). If
    /// a field repeats, its last value counts. Channels add up.
    ///
    /// # Errors
    ///
    /// The first field that is not valid.
    pub fn parse(query: &[u8], form: Option<&[u8]>, limits: &Limits) -> Result<Params, ApiError> {
        let mut params = Params::default();
        let mut names = HashSet::new();
        // The last value of each field. Values are checked after this, so that a value that a later one replaces is not
        // refused.
        let mut last_of: [Option<Cow<'_, str>>; SINGLE.len()] = Default::default();
        for (name, value) in fields(query, form) {
            if name == "channel" {
                params.add_channels(&value, limits, &mut names)?;
            } else if let Some(place) = SINGLE.iter().position(|single| *single == name) {
                last_of[place] = Some(value);
            } else if LAST_EVENT_ID.iter().any(|known| known.eq_ignore_ascii_case(&name)) && !value.is_empty() {
                params.last_event_id = Some(value.into());
            }
        }
        for (name, value) in SINGLE.into_iter().zip(last_of) {
            if let Some(value) = value {
                params.set(name, &value)?;
            }
        }
        Ok(params)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        match name {
            "cursor" => self.cursor = Some(value.parse()?),
            "last" => self.last = Some(last(value)?),
            "client" => self.client = Some(value.parse()?),
            "timeout" => self.timeout = Some(Duration::from_secs(whole("timeout", value, 1, 55)?)),
            "limit" => self.limit = Some(whole("limit", value, 1, 1000)? as usize),
            "max_bytes" => self.max_bytes = Some(whole("max_bytes", value, 1, 1 << 24)? as usize),
            "max_seconds" => self.max_time = Some(Duration::from_secs(whole("max_seconds", value, 1, 3600)?)),
            "heartbeat" => self.heartbeat = Some(Duration::from_secs(whole("heartbeat", value, 1, 3600)?)),
            "padding" => self.padding = choice("padding", value, "0", "1")?,
            "presence" => self.presence = choice("presence", value, "0", "1")?,
            "session" => self.session = WantedSession::parse(value),
            "probe" => self.probe = choice("probe", value, "0", "1")?,
            "mode" => self.poll_mode = choice("mode", value, "long-poll", "poll")?,
            "format" => self.data_format = choice("format", value, "message", "data")?,
            "domain" => self.domain = Some(value.to_owned()),
            "callback" if script::is_callback(value) => self.callback = Some(value.to_owned()),
            "callback" => return Err(bad_callback()),
            _ => {}
        }
        Ok(())
    }

    fn add_channels(&mut self, list: &str, limits: &Limits, names: &mut HashSet<Channel>) -> Result<(), ApiError> {
        for name in list.split(',') {
            let channel: Channel = name.parse()?;
            let is_new = if self.channels.len() < FEW {
                !self.channels.contains(&channel)
            } else {
                if names.is_empty() {
                    names.extend(self.channels.iter().cloned());
                }
                names.insert(channel.clone())
            };
            if is_new {
                self.channels.push(channel);
            }
            if self.channels.len() > limits.channels {
                return Err(too_many_channels(limits.channels));
            }
        }
        Ok(())
    }

    /// Returns the callback's name if it is valid, even if other parts of the request are wrong: errors are sent to the
    /// callback.
    pub fn valid_callback(query: &[u8], form: Option<&[u8]>) -> Option<String> {
        let callback = fields(query, form).filter(|(name, _)| name == "callback").last()?.1;
        script::is_callback(&callback).then(|| callback.into_owned())
    }

    /// Returns the callback, for a transport that needs one.
    ///
    /// # Errors
    ///
    /// The client has not named a callback.
    pub fn required_callback(&self) -> Result<&str, ApiError> {
        self.callback.as_deref().ok_or_else(bad_callback)
    }
}

/// The error for more channels than allowed.
pub fn too_many_channels(limit: usize) -> ApiError {
    ApiError::new(Code::TooManyChannels, format!("at most {limit} channels per subscription"))
}

/// The error for a callback that is missing or not valid.
pub fn bad_callback() -> ApiError {
    let rule = "callback must be a JavaScript name of at most 64 characters, with dots between its parts";
    ApiError::new(Code::BadCallback, rule)
}

/// Parses `last=`: a whole number, clamped to the range 0 to 1,000.
///
/// # Errors
///
/// The code is `bad_cursor`, since `last` also determines where to begin.
pub fn last(value: &str) -> Result<usize, ApiError> {
    let clamped = clamp(value, 0, 1000).map(|n| n as usize);
    clamped.ok_or_else(|| ApiError::new(Code::BadCursor, "last must be a whole number from 0 to 1000"))
}

fn whole(name: &str, value: &str, least: u64, most: u64) -> Result<u64, ApiError> {
    let rule = || ApiError::new(Code::BadRequest, format!("{name} must be a whole number from {least} to {most}"));
    clamp(value, least, most).ok_or_else(rule)
}

/// Parses a whole number of any number of digits, and clamps it to its range. `None` for any other text.
fn clamp(value: &str, least: u64, most: u64) -> Option<u64> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if value.len() != digits.len() {
        return Some(least);
    }
    Some(digits.parse().unwrap_or(u64::MAX).clamp(least, most))
}

fn choice(name: &str, value: &str, no: &str, yes: &str) -> Result<bool, ApiError> {
    if value == yes {
        Ok(true)
    } else if value == no {
        Ok(false)
    } else {
        Err(ApiError::new(Code::BadRequest, format!("{name} must be {no} or {yes}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(query: &str) -> Result<Params, Code> {
        Params::parse(query.as_bytes(), None, &Limits { channels: 3 }).map_err(|error| error.code)
    }

    #[test]
    fn channels_add_up_and_count_once() {
        let params = parse("channel=a,b&channel=c&channel=a").expect("valid");
        assert_eq!(params.channels.iter().map(Channel::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(parse("channel=a,b,c,d").err(), Some(Code::TooManyChannels));
        for bad in ["channel=", "channel=a,", "channel=a%20b", "channel=%ff", "channel=a%2Cb,%2C"] {
            assert_eq!(parse(bad).err(), Some(Code::BadChannel), "{bad}");
        }
    }

    #[test]
    fn numbers_are_clamped_and_anything_else_is_refused() {
        let timeout =
            |value: &str| parse(&format!("timeout={value}")).map(|params| params.timeout.map(|t| t.as_secs()));
        for (value, seconds) in [("0", 1), ("-7", 1), ("30", 30), ("56", 55), ("99999999999999999999999", 55)] {
            assert_eq!(timeout(value), Ok(Some(seconds)), "{value}");
        }
        for value in ["", "-", "1.5", "1e3", "ten", "%2B5", "0x10", "1%00"] {
            assert_eq!(timeout(value), Err(Code::BadRequest), "{value}");
        }
        assert_eq!(parse("last=x").err(), Some(Code::BadCursor));
    }

    #[test]
    fn the_form_wins_over_the_query() {
        let params = Params::parse(b"limit=1&channel=a", Some(b"limit=2&channel=b"), &Limits::default());
        let params = params.expect("valid");
        assert_eq!((params.limit, params.channels.len()), (Some(2), 2));
    }

    #[test]
    fn only_the_last_value_of_a_field_is_checked() {
        for name in SINGLE {
            // One invalid value for each field. The domain and the session are checked later: against the host, and
            // against the sessions that there are.
            let is_checked = !matches!(name, "domain" | "session");
            let (bad, good) = (
                format!("{name}=%00"),
                match name {
                    "cursor" => "latest",
                    "mode" => "poll",
                    "format" => "data",
                    "callback" | "client" | "domain" => "a",
                    _ => "1",
                },
            );
            assert_eq!(parse(&bad).is_err(), is_checked, "{bad}");
            assert!(parse(&format!("{bad}&{name}={good}")).is_ok(), "{name}");
            assert_eq!(parse(&format!("{name}={good}&{bad}")).is_err(), is_checked, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_parsed_or_refused(query: Vec<u8>, form: Option<Vec<u8>>) {
            let _ = Params::parse(&query, form.as_deref(), &Limits::default());
            if let Some(callback) = Params::valid_callback(&query, form.as_deref()) {
                prop_assert!(script::is_callback(&callback));
            }
        }
    }
}
