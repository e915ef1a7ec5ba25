//! The flags of Socket.IO.

use super::error::BadConfig;
use super::values::size;
use crate::message::{Channel, Event};
use clap::{ArgAction, Args, ValueEnum};
use std::time::Duration;

/// The flags of Socket.IO.
#[derive(Args, Clone, Debug)]
pub struct SocketIoFlags {
    /// Serves pages that use socket.io-client, at /socket.io/
    #[arg(long, env = "LONGTAIL_SOCKETIO", help_heading = "Socket.IO")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub socketio: bool,

    /// A channel that every Socket.IO client reads: CHANNEL for the namespace `/`, or /ns=CHANNEL. Repeatable
    #[arg(long, env = "LONGTAIL_SOCKETIO_JOIN", value_name = "SPEC", help_heading = "Socket.IO")]
    #[arg(value_delimiter = ' ', value_parser = join, action = ArgAction::Append)]
    pub socketio_join: Vec<Join>,

    /// The effect of an event of a Socket.IO client: EVENT=ACTION or /ns:EVENT=ACTION. The actions join and leave take a
    /// room from the first argument. publish sends the event to the whole namespace, and broadcast to all except the sender.
    /// Repeatable
    #[arg(long, env = "LONGTAIL_SOCKETIO_ON", value_name = "SPEC", help_heading = "Socket.IO")]
    #[arg(value_delimiter = ' ', value_parser = on, action = ArgAction::Append)]
    pub socketio_on: Vec<On>,

    /// Lets Socket.IO clients from 4.6 on continue their socket after a lost connection. Each event then has one more
    /// argument
    #[arg(long, env = "LONGTAIL_SOCKETIO_RECOVERY", help_heading = "Socket.IO")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub socketio_recovery: bool,

    /// Accepts the events and commands that the emitters of Socket.IO PUBLISH in Redis. With `=events`, accepts only
    /// events. A program that may PUBLISH to these channels can reach every Socket.IO client
    #[arg(long, env = "LONGTAIL_SOCKETIO_EMITTERS", value_name = "WHAT", help_heading = "Socket.IO")]
    #[arg(value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub socketio_emitters: Option<Emitters>,

    /// The browser library at /socket.io/socket.io.js: the folder `dist` of a package socket.io-client, or an address to
    /// which the server redirects
    #[arg(long, env = "LONGTAIL_SOCKETIO_CLIENT", value_name = "DIR|URL", help_heading = "Socket.IO")]
    pub socketio_client: Option<String>,

    /// Seconds between two pings of a Socket.IO connection
    #[arg(long, env = "LONGTAIL_SOCKETIO_PING_INTERVAL", value_name = "S", default_value = "25")]
    #[arg(value_parser = seconds, help_heading = "Socket.IO")]
    pub socketio_ping_interval: Duration,

    /// Seconds that a Socket.IO connection waits for the answer to a ping
    #[arg(long, env = "LONGTAIL_SOCKETIO_PING_TIMEOUT", value_name = "S", default_value = "20")]
    #[arg(value_parser = seconds, help_heading = "Socket.IO")]
    pub socketio_ping_timeout: Duration,

    /// Seconds after which the server closes a Socket.IO connection without a namespace
    #[arg(long, env = "LONGTAIL_SOCKETIO_CONNECT_TIMEOUT", value_name = "S", default_value = "45")]
    #[arg(value_parser = seconds, help_heading = "Socket.IO")]
    pub socketio_connect_timeout: Duration,

    /// Size limit on a request or a frame of a Socket.IO client
    #[arg(long, env = "LONGTAIL_SOCKETIO_MAX_PAYLOAD", value_name = "SIZE", default_value = "1000000")]
    #[arg(value_parser = size, help_heading = "Socket.IO")]
    pub socketio_max_payload: usize,
}

/// A value of `--socketio-emitters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emitters {
    /// Events, and commands: join, leave, disconnect.
    All,
    /// Only events.
    Events,
}

/// A value of `--socketio-join`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The namespace.
    pub namespace: String,
    /// The channel.
    pub channel: Channel,
}

/// A value of `--socketio-on`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct On {
    /// The namespace.
    pub namespace: String,
    /// The event's name.
    pub event: String,
    /// What it does.
    pub action: OnAction,
}

/// What an event of a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAction {
    /// The client reads a room.
    Join,
    /// The client does not read a room any more.
    Leave,
    /// The whole namespace gets the event.
    Publish,
    /// All but the sender get the event.
    Broadcast,
}

/// The longest time of these flags, in seconds.
const MAX_SECONDS: f64 = 3600.0;

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.001..=MAX_SECONDS).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "use a number of seconds from 0.001 to 3600".into())
}

fn join(text: &str) -> Result<Join, String> {
    // A text that begins with a slash and has no `=` is the channel of a namespace.
    let (namespace, channel) = match text.rsplit_once('=') {
        Some((namespace, channel)) if namespace.starts_with('/') => (namespace, channel),
        _ => ("/", text),
    };
    let channel = channel.parse().map_err(|error| format!("{error}; write CHANNEL or /ns=CHANNEL"))?;
    Ok(Join { namespace: namespace.to_owned(), channel })
}

fn on(text: &str) -> Result<On, String> {
    let form =
        || "write EVENT=ACTION or /ns:EVENT=ACTION, with join, leave, publish or broadcast as the action".to_owned();
    let (event, action) = text.rsplit_once('=').ok_or_else(form)?;
    let action = match action {
        "join" => OnAction::Join,
        "leave" => OnAction::Leave,
        "publish" => OnAction::Publish,
        "broadcast" => OnAction::Broadcast,
        _ => return Err(form()),
    };
    let (namespace, event) = match event.split_once(':') {
        Some((namespace, event)) if namespace.starts_with('/') => (namespace, event),
        _ => ("/", event),
    };
    if event.is_empty() {
        return Err(form());
    }
    if matches!(action, OnAction::Publish | OnAction::Broadcast)
        && let Err(error) = event.parse::<Event>()
    {
        return Err(format!("{error}; give the event to the application, which may send it to the clients"));
    }
    Ok(On { namespace: namespace.to_owned(), event: event.to_owned(), action })
}

impl SocketIoFlags {
    /// Checks rules that involve more than one flag.
    pub(super) fn check(&self, max_buffer: usize, has_redis: bool) -> Result<(), BadConfig> {
        let has_other = !self.socketio_join.is_empty()
            || !self.socketio_on.is_empty()
            || self.socketio_recovery
            || self.socketio_emitters.is_some()
            || self.socketio_client.is_some();
        if !self.socketio && has_other {
            let text = "the flags --socketio-… have no effect alone: switch on --socketio";
            return Err(BadConfig::new(text.into()));
        }
        if self.socketio_emitters.is_some() && !has_redis {
            let text = "--socketio-emitters needs --redis: emitters PUBLISH in Redis";
            return Err(BadConfig::new(text.into()));
        }
        if self.socketio && self.socketio_max_payload.saturating_mul(4) > max_buffer {
            let text = "--socketio-max-payload: use at most a quarter of --max-buffer-bytes";
            return Err(BadConfig::new(text.into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_name_a_namespace_or_stand_for_the_main_one() {
        for (text, namespace, channel) in [
            ("todo", "/", "todo"),
            ("a=20b", "/", "a=20b"),
            ("/chat", "/", "/chat"),
            ("/chat=room", "/chat", "room"),
            ("/a=b=c", "/a=b", "c"),
        ] {
            let expected = Join { namespace: namespace.into(), channel: channel.parse().expect("a channel") };
            assert_eq!(join(text), Ok(expected), "{text}");
        }
        for text in ["", "/chat=", "a b", "~s/1", "/chat=~x"] {
            assert!(join(text).is_err_and(|error| error.contains("/ns=CHANNEL")), "{text}");
        }
    }

    #[test]
    fn events_have_actions() {
        use OnAction::{Broadcast, Join, Leave, Publish};
        for (text, namespace, event, action) in [
            ("subscribe=join", "/", "subscribe", Join),
            ("/chat:bye=leave", "/chat", "bye", Leave),
            ("a=b=publish", "/", "a=b", Publish),
            ("a:b=broadcast", "/", "a:b", Broadcast),
            ("/chat:a:b=broadcast", "/chat", "a:b", Broadcast),
        ] {
            let expected = On { namespace: namespace.into(), event: event.into(), action };
            assert_eq!(on(text), Ok(expected), "{text}");
        }
        for text in ["", "a", "a=", "=join", "/chat:=join", "a=drop"] {
            assert!(on(text).is_err_and(|error| error.contains("EVENT=ACTION")), "{text}");
        }
        for text in ["hello=publish", "/chat:open=broadcast"] {
            assert!(on(text).is_err_and(|error| error.contains("reserved")), "{text}");
        }
        assert!(on("open=join").is_ok(), "nobody else gets the event");
    }

    #[test]
    fn times_may_have_decimals() {
        assert_eq!(seconds("0.3"), Ok(Duration::from_millis(300)));
        for text in ["0", "-1", "3601", "a", "NaN", "inf"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
