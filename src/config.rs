//! The configuration: flags and environment variables as a [`Config`]. This module does not do I/O.

mod access;
#[cfg(feature = "demo")]
mod demo;
mod environment;
mod error;
mod healthcheck;
mod hook;
mod message_log;
mod page_path;
mod parse;
mod presence;
mod pusher;
mod raw_websocket;
mod socketio;
mod sockjs;
mod stomp;
mod values;

pub use access::{AccessFlags, Secret};
pub use environment::{Origins, unknown_variables};
pub use error::BadConfig;
pub use hook::{HookFlags, Notify};
pub use message_log::MessageLogFlags;
pub use page_path::{OnMessage, PagePath};
pub use presence::PresenceFlags;
pub use pusher::{PusherApp, PusherFlags, PusherWebhookConfig, WEBHOOK_EVENTS};
pub use raw_websocket::RawWebSocketFlags;
pub use socketio::{Emitters, OnAction, SocketIoFlags};
pub use sockjs::{SockJsFlags, SockJsPrefix};
pub use stomp::StompFlags;
pub use values::{AccessLogTo, AddressOrOff};

use crate::cli;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::net::SocketAddr;
use std::path::PathBuf;
use values::{access_log, address, address_or_off, size, size_or_none};

/// A real-time push server that reaches every client: one log, ten transports, one cursor.
///
/// Start the server and open the address that it prints: the page shows every
/// transport at work. Publish with
///
///   curl -d '{"title":"milk"}' 'http://127.0.0.1:8080/publish?channel=demo'
///
/// Every flag is also an environment variable (--max-connections is
/// LONGTAIL_MAX_CONNECTIONS). The variable of a repeatable flag holds a list with
/// spaces between the values.
#[derive(Parser, Clone, Debug)]
#[command(name = "longtail", version, verbatim_doc_comment, max_term_width = 110, allow_negative_numbers = true)]
// Each command has its own flags. Without this, a flag in front of the command would be accepted without having an
// effect.
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The command to run instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The server's flags.
    #[command(flatten)]
    pub config: Config,
}

/// The command to run instead of serving.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Serves the full comparison page, with the bytes on the wire and with faults to switch on
    ///
    /// Takes all flags of the server, after the word `demo`.
    #[cfg(feature = "demo")]
    Demo(Box<Demo>),

    /// Says that this build does not include the demo
    #[cfg(not(feature = "demo"))]
    #[command(hide = true, disable_help_flag = true)]
    Demo(NoDemo),

    /// Asks the server of this configuration whether it is ready, and exits with 0 or 1
    ///
    /// Takes all flags and variables of the server, so that it finds the same listener. Container runtimes run it as
    /// their health check.
    Healthcheck(Box<Healthcheck>),

    /// Prints a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },

    /// The commands that are clients of a running server.
    #[command(flatten)]
    Client(cli::Command),
}

/// The arguments of `longtail demo` in a build that does not include the demo: any arguments are accepted.
#[cfg(not(feature = "demo"))]
#[derive(Args, Clone, Debug)]
pub struct NoDemo {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<std::ffi::OsString>,
}

/// The flags of `longtail demo`.
#[cfg(feature = "demo")]
#[derive(Args, Clone, Debug)]
#[command(max_term_width = 110, allow_negative_numbers = true)]
// A client on a faulty path detects a silent stream by missing heartbeats, and the audience of a demo should not have
// to wait long for this.
#[command(mut_arg("heartbeat_seconds", |flag| flag.default_value("3")))]
pub struct Demo {
    /// The server's flags.
    #[command(flatten)]
    pub config: Config,

    /// Address of the demo's ports with faults, one for each transport. Port 0 picks free ports. Any other port is the
    /// first of a range
    #[arg(long, env = "LONGTAIL_WEATHER_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:0")]
    #[arg(value_parser = address, help_heading = "Demo")]
    pub weather_listen: SocketAddr,
}

/// The flags of `longtail healthcheck`.
#[derive(Args, Clone, Debug)]
#[command(max_term_width = 110, allow_negative_numbers = true)]
pub struct Healthcheck {
    /// The server's flags.
    #[command(flatten)]
    pub config: Config,

    /// Asks only whether the process runs (`/healthz`), and not whether clients should connect to it (`/readyz`)
    #[arg(long, help_heading = "Health check")]
    pub live: bool,

    /// Seconds that the server may take for its answer
    #[arg(long, value_name = "S", default_value_t = 5, help_heading = "Health check")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60))]
    pub timeout: u64,
}

/// The server's flags.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address for HTTP, or for HTTPS with `--tls-cert`. Port 0 picks a free port. Repeatable
    #[arg(long, env = "LONGTAIL_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    #[arg(value_parser = address, value_delimiter = ' ', action = ArgAction::Append, help_heading = "Listening")]
    pub listen: Vec<SocketAddr>,

    /// Address for raw TCP clients, or `off`
    #[arg(long, env = "LONGTAIL_TCP_LISTEN", value_name = "ADDR|off", default_value = "127.0.0.1:8081")]
    #[arg(value_parser = address_or_off, help_heading = "Listening")]
    pub tcp_listen: AddressOrOff,

    /// Certificate for HTTPS: a PEM file with the server's certificate first, then the certificates of its issuers.
    /// SIGHUP reloads the file
    #[arg(long, env = "LONGTAIL_TLS_CERT", value_name = "FILE", help_heading = "Listening")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate: a PEM file without a passphrase
    #[arg(long, env = "LONGTAIL_TLS_KEY", value_name = "FILE", help_heading = "Listening")]
    pub tls_key: Option<PathBuf>,

    /// The flags of access control.
    #[command(flatten)]
    pub access: AccessFlags,

    /// The flags of the application hook.
    #[command(flatten)]
    pub hook: HookFlags,

    /// The flags of presence.
    #[command(flatten)]
    pub presence: PresenceFlags,

    /// The flags of Pusher apps.
    #[command(flatten)]
    pub pusher: PusherFlags,

    /// The flags of Socket.IO.
    #[command(flatten)]
    pub socketio: SocketIoFlags,

    /// The flags of plain WebSocket pages.
    #[command(flatten)]
    pub raw_websocket: RawWebSocketFlags,

    /// The flags of SockJS.
    #[command(flatten)]
    pub sockjs: SockJsFlags,

    /// The flags of STOMP.
    #[command(flatten)]
    pub stomp: StompFlags,

    /// The flags of the log of messages.
    #[command(flatten)]
    pub message_log: MessageLogFlags,

    /// Seconds of silence on a stream before the server sends a heartbeat
    #[arg(long, env = "LONGTAIL_HEARTBEAT_SECONDS", value_name = "S", default_value_t = 15, help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub heartbeat_seconds: u64,

    /// Size limit on a payload
    #[arg(
        long,
        env = "LONGTAIL_MAX_MESSAGE_BYTES",
        value_name = "SIZE",
        default_value = "64KiB",
        help_heading = "Limits"
    )]
    #[arg(value_parser = size)]
    pub max_message_bytes: usize,

    /// Limit on channels in a subscription
    #[arg(long, env = "LONGTAIL_MAX_CHANNELS", value_name = "N", default_value_t = 100, help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub max_channels: u64,

    /// Limit on connections, HTTP and TCP together. The limit on file descriptors (LimitNOFILE, ulimit -n) may allow
    /// fewer connections: descriptors for Redis, the application and operators are reserved
    #[arg(
        long,
        env = "LONGTAIL_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = Config::MAX_CONNECTIONS,
        help_heading = "Limits"
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub max_connections: u64,

    /// Limit on connections from one IP address. 0 means that there is no limit
    #[arg(
        long,
        env = "LONGTAIL_MAX_CONNECTIONS_PER_IP",
        value_name = "N",
        default_value_t = 0,
        help_heading = "Limits"
    )]
    pub max_connections_per_ip: u64,

    /// Limit on client sessions (session=1), on all nodes of the log together
    #[arg(long, env = "LONGTAIL_MAX_SESSIONS", value_name = "N", default_value_t = 100_000, help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub max_sessions: u64,

    /// Limit on client sessions that clients of one IP address have begun at this node. 0 means that there is no limit
    #[arg(long, env = "LONGTAIL_MAX_SESSIONS_PER_IP", value_name = "N", default_value_t = 1000)]
    #[arg(help_heading = "Limits")]
    pub max_sessions_per_ip: u64,

    /// Limit on requests and commands per second from one IP address. 0 means that there is no limit
    #[arg(long, env = "LONGTAIL_REQUEST_RATE", value_name = "N", default_value_t = 0, help_heading = "Limits")]
    pub request_rate: u32,

    /// Limit on messages per second from a publisher without a server key. 0 means that there is no limit
    #[arg(long, env = "LONGTAIL_PUBLISH_RATE", value_name = "N", default_value_t = 0, help_heading = "Limits")]
    pub publish_rate: u32,

    /// Memory budget for data that clients have not read yet, or have not sent completely: heads, TLS handshakes, bodies.
    /// Above it, the server disconnects the slowest readers. Incomplete input may take half of it
    #[arg(long, env = "LONGTAIL_MAX_BUFFER_BYTES", value_name = "SIZE", default_value = "256MiB")]
    #[arg(value_parser = size, help_heading = "Limits")]
    pub max_buffer_bytes: usize,

    /// Size of the kernel's send buffer for each connection (SO_SNDBUF; Linux doubles it). With 0, the system's default
    /// applies: a buffer that may grow to several MiB for a stalled client
    #[arg(long, env = "LONGTAIL_SEND_BUFFER_BYTES", value_name = "SIZE", default_value = "128KiB")]
    #[arg(value_parser = size_or_none, help_heading = "Limits")]
    pub send_buffer_bytes: usize,

    /// Seconds for which a polling client counts as a reader after its last request
    #[arg(long, env = "LONGTAIL_AWAY_SECONDS", value_name = "S", default_value_t = 30, help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub away_seconds: u64,

    /// Seconds within which the head and body of a request must arrive
    #[arg(long, env = "LONGTAIL_REQUEST_TIMEOUT", value_name = "S", default_value_t = 30, help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub request_timeout: u64,

    /// Seconds for which a connection may be idle between two requests. Make it longer than the idle timeout of the proxy
    /// in front (usually 60), so that the proxy never sends a request on a connection that the server closes
    #[arg(long, env = "LONGTAIL_KEEP_ALIVE_TIMEOUT", value_name = "S", default_value_t = 75, help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=7200))]
    pub keep_alive_timeout: u64,

    /// Seconds without progress of a write, after which the server disconnects the client. On Linux, this is also the
    /// time for which a client may leave sent bytes unconfirmed, before it counts as gone
    #[arg(long, env = "LONGTAIL_WRITE_TIMEOUT", value_name = "S", default_value_t = 30, help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub write_timeout: u64,

    /// Whether the task that reads the log also writes to idle readers. With `false`, it wakes a task for each reader
    #[arg(long, env = "LONGTAIL_DIRECT_WRITES", value_name = "BOOL", default_value_t = true, help_heading = "Running")]
    #[arg(action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub direct_writes: bool,

    /// Whether simple HTTP/1.1 polls, streams and publishes take a fast path, on which the server answers pipelined
    /// requests together. With `false`, hyper handles all requests
    #[arg(
        long,
        env = "LONGTAIL_PLAIN_REQUESTS",
        value_name = "BOOL",
        default_value_t = true,
        help_heading = "Running"
    )]
    #[arg(action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub plain_requests: bool,

    /// Seconds that readers have to disconnect after SIGTERM. A request that was only partly sent before SIGTERM has
    /// two seconds
    #[arg(long, env = "LONGTAIL_DRAIN_SECONDS", value_name = "S", default_value_t = 20, help_heading = "Running")]
    pub drain_seconds: u64,

    /// Seconds after SIGTERM during which the node still takes connections and `/readyz` answers 503, so that a load
    /// balancer stops sending clients before the drain begins
    #[arg(long, env = "LONGTAIL_DRAIN_DELAY", value_name = "S", default_value_t = 0, help_heading = "Running")]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub drain_delay: u64,

    /// Access log, with one line per request and without credentials: a file, `-` for standard output, or `off`
    #[arg(long, env = "LONGTAIL_ACCESS_LOG", value_name = "FILE|-|off", default_value = "off")]
    #[arg(value_parser = access_log, help_heading = "Running")]
    pub access_log: AccessLogTo,

    /// Format of log lines
    #[arg(long, env = "LONGTAIL_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, help_heading = "Running")]
    pub log_format: LogFormat,

    /// Log level: error, warn, info, debug or trace. It can also be set per module, such as `info,longtail::hub=debug`
    #[arg(long, env = "LONGTAIL_LOG", value_name = "FILTER", default_value = "info", help_heading = "Running")]
    pub log: String,
}

/// The smallest memory budget with which the server works.
const MIN_BUFFER: usize = 2 << 20;

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text, for people.
    Text,
    /// JSON, one object per line, for programs.
    Json,
}

impl Default for Config {
    /// The default of each flag. Environment variables have no effect.
    fn default() -> Config {
        let command = Config::augment_args(clap::Command::new("longtail")).mut_args(|arg| arg.env(None::<&str>));
        let matches = command.get_matches_from(["longtail"]);
        Config::from_arg_matches(&matches).expect("the defaults are valid")
    }
}

impl Config {
    /// The default of `--max-connections`.
    pub(crate) const MAX_CONNECTIONS: u64 = 100_000;

    /// Checks rules that clap cannot check, because they involve more than one flag.
    ///
    /// # Errors
    ///
    /// The first invalid combination.
    pub fn check(&self) -> Result<(), BadConfig> {
        let bad = |text: String| Err(BadConfig::new(text));
        let addresses: Vec<SocketAddr> = self.listen.iter().chain(&self.tcp_listen.0).copied().collect();
        self.access.check(&addresses, self.pusher.has_apps())?;
        self.hook.check(self.message_log.redis.is_some())?;
        // Incomplete input may use half of the budget, and the longest body must fit into this half.
        let least = MIN_BUFFER.max(self.max_message_bytes.saturating_mul(4));
        if self.max_buffer_bytes < least {
            return bad(format!(
                "--max-buffer-bytes: use at least {least} bytes: four times --max-message-bytes, and at least 2 MiB"
            ));
        }
        self.presence.patterns()?;
        self.socketio.check(self.max_buffer_bytes, self.message_log.redis.is_some())?;
        self.raw_websocket.check(self.hook.is_on())?;
        self.sockjs.check(self.hook.is_on())?;
        self.stomp.check(self.hook.is_on())?;
        self.message_log.check()?;
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return bad("--tls-cert and --tls-key need each other: set both or neither".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[&str]) -> Config {
        Cli::try_parse_from(std::iter::once(&"longtail").chain(flags)).expect("flags that clap takes").config
    }

    #[test]
    fn only_open_allows_other_machines_without_access_control() {
        assert!(config(&[]).check().is_ok());
        assert!(config(&["--listen", "[::1]:0"]).check().is_ok());
        for flags in [["--listen", "0.0.0.0:80"], ["--tcp-listen", "192.168.1.2:1"], ["--listen", "[::]:80"]] {
            let error = config(&flags).check().expect_err("refused").to_string();
            assert!(error.contains("--open") && !error.contains('\n'), "{error}");
            assert!(config(&[flags[0], flags[1], "--open"]).check().is_ok());
            for guard in
                [["--publish-key", "k"], ["--public", "a"], ["--token-secret", "s"], ["--authorize-url", "http://a/"]]
            {
                assert!(config(&[flags[0], flags[1], guard[0], guard[1]]).check().is_ok());
                assert!(config(&["--open", guard[0], guard[1]]).check().is_err());
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let bad = |flags: &[&str]| config(flags).check().expect_err("refused").to_string();
        for (flags, fix) in [
            (&["--token-secret", "s", "--token-public-key", "f"][..], "set only one"),
            (&["--max-buffer-bytes", "1MiB"], "2 MiB"),
            (&["--max-buffer-bytes", "8MiB", "--max-message-bytes", "4MiB"], "at least 16777216"),
            (&["--key-bytes", "4095"], "at least 4096"),
            (&["--proxy-protocol"], "--trusted-proxy"),
            (&["--hook-secret-file", "f"], "--hook-url"),
            (&["--hook-stream", "s"], "needs --redis"),
            (&["--socketio", "--socketio-emitters"], "--socketio-emitters needs --redis"),
            (&["--socketio-emitters", "--redis", "redis://x/"], "switch on --socketio"),
            (&["--hook-stream", "s", "--redis", "redis://a/", "--hook-url", "http://a/"], "only one of them"),
            (&["--hook-stream", "s", "--redis", "redis://a/", "--hook-secret-file", "f"], "over HTTP"),
            (&["--trusted-proxy", "0.0.0.0/0"], "name your proxies"),
            (&["--listen", "127.0.0.1:80", "--admin-listen", "127.0.0.1:80"], "a port of its own"),
        ] {
            let error = bad(flags);
            assert!(error.contains(fix) && !error.contains('\n'), "{error}");
        }
        assert!(Cli::try_parse_from(["longtail", "--publish-key", ""]).is_err());
        assert!(Cli::try_parse_from(["longtail", "--trusted-proxy", "10.0.0.0/33"]).is_err());
        assert_eq!(config(&["--trusted-proxy", "10.0.0.1"]).access.trusted_proxy[0].to_string(), "10.0.0.1/32");
        let keys = config(&["--publish-key", "secret-one secret-two"]);
        assert_eq!(keys.access.publish_key.len(), 2);
        assert!(!format!("{keys:?}").contains("secret-"), "{keys:?}");
    }

    #[test]
    fn patterns() {
        for bad in ["a*b", "a?", "", "~s*"] {
            let error = config(&["--presence", bad]).check().expect_err("refused").to_string();
            assert!(error.starts_with("--presence: ") && !error.contains('\n'), "{error}");
        }
        for bad in ["a*b", "[ab]", "a?", "*a"] {
            assert!(config(&["--redis-subscribe", bad]).check().is_err(), "{bad}");
        }
        assert!(config(&["--redis-subscribe", "push:*", "--redis-subscribe", "push:a*"]).check().is_err());
        assert!(config(&["--redis-subscribe", "off"]).message_log.patterns().expect("off").is_empty());
    }
}
