//! A connection to Redis, and the scripts.

use super::ScriptError;
use super::endpoint::Endpoint;
use super::server_info::ServerInfo;
use crate::cursor::{Epoch, Id};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, ServerErrorKind, Value};
use std::sync::LazyLock;
use std::time::Duration;

/// The time limit for an attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The time limit for the answer to a command that does not block. If Redis takes longer, the node treats the
/// connection as lost.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The time for which a batch waits for its replicas before it is sent again. This is shorter than the time for an
/// answer.
const WAIT_TIME: Duration = Duration::from_millis(1000);

/// A script and its hash, by which Redis knows it.
pub struct Script {
    source: &'static str,
    hash: String,
}

#[cfg(test)]
impl Script {
    /// The same script with a clock that a test sets.
    pub(super) fn with_clock(&self) -> Script {
        let clock = "local function now_ms()\n";
        let patched = format!("{clock}  do return tonumber(redis.call('GET', 'test:now')) end\n");
        assert!(self.source.contains(clock), "the clock of the scripts");
        let source: &'static str = Box::leak(self.source.replace(clock, &patched).into_boxed_str());
        Script { source, hash: redis::Script::new(source).get_hash().to_owned() }
    }
}

macro_rules! script {
    ($($file:literal),+) => {
        LazyLock::new(|| {
            let source = concat!(include_str!("lua/common.lua"), $(include_str!($file)),+);
            Script { source, hash: redis::Script::new(source).get_hash().to_owned() }
        })
    };
}

pub(super) static OPEN: LazyLock<Script> = script!("lua/open.lua");
pub(super) static READ: LazyLock<Script> = script!("lua/bounded.lua", "lua/read.lua");
pub(super) static RANGE: LazyLock<Script> = script!("lua/bounded.lua", "lua/range.lua");
pub(super) static APPEND: LazyLock<Script> = script!("lua/keys.lua", "lua/append.lua");
pub(super) static CHECK: LazyLock<Script> = script!("lua/check.lua");
pub(super) static IDENTIFY: LazyLock<Script> = script!("lua/identify.lua");
pub(super) static MARK: LazyLock<Script> = script!("lua/mark.lua");
pub(super) static TRIM: LazyLock<Script> = script!("lua/trim.lua");
pub(super) static PEERS: LazyLock<Script> = script!("lua/peers.lua");
pub(super) static CALLS: LazyLock<Script> = script!("lua/calls.lua");
pub(super) static COUNTS_REPORT: LazyLock<Script> = script!("lua/counts_report.lua");
pub(super) static COUNTS_READ: LazyLock<Script> = script!("lua/counts_read.lua");
pub(super) static PRESENCE_JOIN: LazyLock<Script> = script!("lua/presence.lua", "lua/presence_join.lua");
pub(super) static PRESENCE_RENEW: LazyLock<Script> = script!("lua/presence.lua", "lua/presence_renew.lua");
pub(super) static PRESENCE_MEMBERS: LazyLock<Script> = script!("lua/presence.lua", "lua/presence_members.lua");
pub(super) static PRESENCE_CHANNELS: LazyLock<Script> = script!("lua/presence.lua", "lua/presence_channels.lua");
pub(super) static TOLD: LazyLock<Script> = script!("lua/told.lua");
pub(super) static SESSIONS_CREATE: LazyLock<Script> =
    script!("lua/presence.lua", "lua/sessions.lua", "lua/sessions_create.lua");
pub(super) static SESSIONS_BEGIN: LazyLock<Script> =
    script!("lua/presence.lua", "lua/sessions.lua", "lua/sessions_begin.lua");
pub(super) static SESSIONS_RENEW: LazyLock<Script> =
    script!("lua/presence.lua", "lua/sessions.lua", "lua/sessions_renew.lua");
pub(super) static SESSIONS_END: LazyLock<Script> =
    script!("lua/presence.lua", "lua/sessions.lua", "lua/sessions_end.lua");
pub(super) static SESSIONS_LIST: LazyLock<Script> =
    script!("lua/presence.lua", "lua/sessions.lua", "lua/sessions_list.lua");
pub(super) static CONNECTIONS: LazyLock<Script> = script!("lua/presence.lua", "lua/connections.lua");
pub(in crate::log) static BRIDGE: LazyLock<Script> = script!("lua/keys.lua", "lua/bridge.lua");

/// One connection. After an error other than [`ScriptError::Refused`] the connection must be dropped.
#[derive(Clone)]
pub struct Connection {
    inner: MultiplexedConnection,
    client: Client,
    info: ServerInfo,
}

impl Connection {
    /// Connects to the server that has the log. `answer_within` is how long each answer may take.
    pub(super) async fn open(
        endpoint: &Endpoint,
        log: &str,
        answer_within: Duration,
    ) -> Result<Connection, ScriptError> {
        let mut last = ScriptError::NoPrimary("the address does not name a server".into());
        for client in endpoint.candidates().await? {
            match Connection::to(client, answer_within).await {
                Ok(connection) => return connection.at_the_owner(endpoint, log, answer_within).await,
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn to(client: Client, answer_within: Duration) -> Result<Connection, ScriptError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // The redis crate's default of 500 ms would end every blocking XREAD.
            .set_response_timeout(Some(answer_within));
        // The timeout includes the handshake, because a stopped Redis still accepts connections.
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
        let opened = opened.unwrap_or_else(|_| Err(ScriptError::timed_out()));
        let is_tls = matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. });
        let inner = opened.map_err(|error| match error.is_timeout() && is_tls {
            // Without a timeout, a server without TLS would wait for the end of a command, and this node would wait for
            // the server's part of the handshake.
            true => ScriptError::Unconnected(ScriptError::timed_out_in_tls()),
            false => ScriptError::Unconnected(error),
        })?;
        let mut connection = Connection { inner, client, info: ServerInfo::default() };
        // This sends INFO without arguments, which Redis before 7.0 also knows: the error can then say that the server
        // is too old.
        let info = tokio::time::timeout(ANSWER_TIMEOUT, connection.send(&redis::cmd("INFO"))).await;
        let info = info.map_err(|_| ScriptError::Unconnected(ScriptError::timed_out()))??;
        let address = connection.client.get_connection_info().addr().to_string();
        connection.info = ServerInfo::of(address, &info).ok_or(ScriptError::Unexpected)?;
        Ok(connection)
    }

    /// Connects to one server, which does not have to own the log.
    pub(super) async fn open_at(
        endpoint: &Endpoint,
        address: &str,
        answer_within: Duration,
    ) -> Result<Connection, ScriptError> {
        Connection::to(endpoint.at(address)?, answer_within).await
    }

    /// In a Cluster, connects to the member that owns the log's slot.
    async fn at_the_owner(
        mut self,
        endpoint: &Endpoint,
        log: &str,
        answer_within: Duration,
    ) -> Result<Connection, ScriptError> {
        if self.info.is_cluster
            && let Some(owner) = endpoint.owner(&mut self.inner, &self.client, log).await?
        {
            self = Connection::to(owner, answer_within).await?;
        }
        Endpoint::check(&self.info)?;
        Ok(self)
    }

    /// The server process that this connection leads to: its client, and its `run_id`. The `run_id` is unique to the
    /// process.
    pub fn server(&self) -> (&Client, &str) {
        (&self.client, &self.info.run_id)
    }

    /// The first argument of a script: an epoch for a log that does not have one, and the server's reign.
    pub fn candidate(&self) -> String {
        format!("{}:{}", Epoch::random(), self.info.reign())
    }

    /// The server's address.
    pub fn address(&self) -> &str {
        &self.info.address
    }

    /// Whether the server is a member of a Cluster.
    pub fn is_cluster(&self) -> bool {
        self.info.is_cluster
    }

    /// Returns the connection with the process and the reign replaced by the given ones.
    #[cfg(test)]
    pub(super) fn in_reign(&self, run_id: &str, promoted_at: u64) -> Connection {
        Connection { info: self.info.in_reign(run_id, promoted_at), ..self.clone() }
    }

    /// The server's `INFO`.
    pub(super) fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// Runs a script, and loads it first if Redis does not know it.
    pub async fn run<T: AsRef<[u8]>>(
        &mut self,
        script: &Script,
        keys: &[&str],
        args: &[T],
    ) -> Result<Value, ScriptError> {
        let command = evalsha(script, keys, args);
        match self.send(&command).await {
            Err(error) if is_no_script(&error) => {
                self.load(script).await?;
                self.send(&command).await
            }
            outcome => outcome,
        }
    }

    /// Runs a script that writes, and waits until this many replicas have its changes.
    ///
    /// # Errors
    ///
    /// [`ScriptError::Unreplicated`] if fewer replicas had the changes in time. With this error the script has run.
    pub(super) async fn run_and_wait<T: AsRef<[u8]>>(
        &mut self,
        script: &Script,
        keys: &[&str],
        args: &[T],
        replicas: u32,
    ) -> Result<Value, ScriptError> {
        let mut pipeline = redis::pipe();
        pipeline.add_command(evalsha(script, keys, args));
        pipeline.cmd("WAIT").arg(replicas).arg(WAIT_TIME.as_millis() as u64);
        let mut is_loaded = false;
        loop {
            let replies = self.inner.send_packed_commands(&pipeline, 0, 2).await.map_err(ScriptError::of)?;
            let [reply, reached] = <[Value; 2]>::try_from(replies).map_err(|_| ScriptError::Unexpected)?;
            match reply.extract_error().map_err(ScriptError::of) {
                Err(error) if is_no_script(&error) && !is_loaded => {
                    self.load(script).await?;
                    is_loaded = true;
                }
                Err(error) => return Err(error),
                Ok(reply) => match reached {
                    Value::Int(reached) if reached >= i64::from(replicas) => return Ok(reply),
                    Value::Int(reached) => return Err(ScriptError::Unreplicated { reached, wanted: replicas }),
                    _ => return Err(ScriptError::Unexpected),
                },
            }
        }
    }

    /// Loads the script that identifies the log.
    pub(super) async fn know_identity(&mut self) -> Result<(), ScriptError> {
        self.load(&IDENTIFY).await
    }

    /// Loads a script. A Redis that is loading its data refuses to load a script.
    pub(in crate::log) async fn load(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.send(redis::cmd("SCRIPT").arg("LOAD").arg(script.source)).await.map(drop)
    }

    /// Sends a PUBLISH for each message, in one round trip.
    pub(super) async fn publish(&mut self, channel: &str, payloads: &[Vec<u8>]) -> Result<(), ScriptError> {
        let mut pipeline = redis::pipe();
        for payload in payloads {
            pipeline.cmd("PUBLISH").arg(channel).arg(payload);
        }
        let replies = self.inner.send_packed_commands(&pipeline, 0, payloads.len()).await.map_err(ScriptError::of)?;
        replies.into_iter().try_for_each(|reply| reply.extract_error().map(drop)).map_err(ScriptError::of)
    }

    pub(super) async fn send(&mut self, command: &Cmd) -> Result<Value, ScriptError> {
        self.inner.send_packed_command(command).await.and_then(Value::extract_error).map_err(ScriptError::of)
    }

    /// Sends commands in one round trip, and returns their answers, which may be errors.
    pub(super) async fn send_pipeline(
        &mut self,
        pipeline: &redis::Pipeline,
        count: usize,
    ) -> Result<Vec<Value>, ScriptError> {
        self.inner.send_packed_commands(pipeline, 0, count).await.map_err(ScriptError::of)
    }

    /// Sends commands and discards their answers.
    pub(super) async fn send_all(&mut self, pipeline: &redis::Pipeline, count: usize) -> Result<(), ScriptError> {
        self.send_pipeline(pipeline, count).await.map(drop)
    }

    /// Reads entries after a position, then the log's identity, and returns both replies unparsed.
    /// The script that reads the identity has to be [loaded](Connection::know_identity) first. With `block`, waits for
    /// entries for up to this time.
    pub(super) async fn read_and_identify(
        &mut self,
        log: &str,
        after: Id,
        count: usize,
        block: Option<Duration>,
    ) -> Result<TailRead, ScriptError> {
        let mut pipeline = redis::pipe();
        let read = pipeline.cmd("XREAD").arg("COUNT").arg(count);
        if let Some(block) = block {
            read.arg("BLOCK").arg(block.as_millis() as u64);
        }
        read.arg("STREAMS").arg(log).arg(after.to_string());
        pipeline.add_command(evalsha::<&str>(&IDENTIFY, &[log], &[]));
        let replies = self.inner.send_packed_commands(&pipeline, 0, 2).await.map_err(ScriptError::of)?;
        let [read, identity] = replies.try_into().map_err(|_| ScriptError::Unexpected)?;
        Ok(TailRead {
            entries: read.extract_error().and_then(of_one_stream).map_err(ScriptError::of),
            identity,
            is_cut: false,
        })
    }

    /// Reads as [`read_and_identify`](Connection::read_and_identify) does, but does not wait for entries, and leaves
    /// out entries beyond the limits.
    pub(super) async fn read_bounded_and_identify(
        &mut self,
        log: &str,
        after: Id,
        count: usize,
        limits: ReplyLimits,
    ) -> Result<TailRead, ScriptError> {
        let range = self.range(log, after, "+", count, limits).await;
        let identity = self.run::<&str>(&IDENTIFY, &[log], &[]).await?;
        let (entries, is_cut) = match range {
            Ok((entries, is_cut)) => (Ok(entries), is_cut),
            Err(error @ ScriptError::Refused(_)) => (Err(error), false),
            Err(error) => return Err(error),
        };
        Ok(TailRead { entries, identity, is_cut })
    }

    /// Reads the entries after one position and up to another, oldest first. Returns them, and whether some of them are
    /// left out because of the limits.
    pub(super) async fn range(
        &mut self,
        log: &str,
        after: Id,
        upto: impl ToString,
        count: usize,
        limits: ReplyLimits,
    ) -> Result<(Value, bool), ScriptError> {
        let [longest, total] = limits.args();
        let args = [self.candidate(), after.to_string(), upto.to_string(), count.to_string(), longest, total];
        match self.run(&RANGE, &[log], &args).await? {
            Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([entries, Value::Int(is_cut)]) => Ok((entries, is_cut != 0)),
                _ => Err(ScriptError::Unexpected),
            },
            _ => Err(ScriptError::Unexpected),
        }
    }
}

/// The limits of a reply with entries.
#[derive(Clone, Copy)]
pub(super) struct ReplyLimits {
    /// The maximum bytes of a value. A longer value is cut.
    longest: usize,
    /// The maximum bytes of all entries but the first one.
    total: usize,
}

impl ReplyLimits {
    /// The limits for nodes whose payloads have at most this many bytes. No value of a message is cut: binary parts are
    /// in base64, and a list of names is far shorter than the addend.
    pub(super) fn new(max_payload: usize, total: usize) -> ReplyLimits {
        ReplyLimits { longest: max_payload.saturating_mul(2).saturating_add(256 << 10), total }
    }

    /// The arguments of a script.
    pub(super) fn args(self) -> [String; 2] {
        [self.longest.to_string(), self.total.to_string()]
    }
}

/// The replies to a read of the tail.
pub(super) struct TailRead {
    /// The entries, unparsed, or the error of the read alone.
    pub(super) entries: Result<Value, ScriptError>,
    pub(super) identity: Value,
    /// Whether entries were left out because of their size.
    pub(super) is_cut: bool,
}

/// The entries in a reply of `XREAD` on one stream.
fn of_one_stream(reply: Value) -> Result<Value, redis::RedisError> {
    let entries = match reply {
        Value::Nil => Some(Value::Array(Vec::new())),
        Value::Array(mut streams) if streams.len() == 1 => match streams.pop() {
            Some(Value::Array(mut stream)) if stream.len() == 2 => stream.pop(),
            _ => None,
        },
        _ => None,
    };
    entries.ok_or_else(|| (ErrorKind::Parse, "XREAD has an unexpected reply").into())
}

fn evalsha<T: AsRef<[u8]>>(script: &Script, keys: &[&str], args: &[T]) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(&script.hash).arg(keys.len()).arg(keys);
    for arg in args {
        command.arg(arg.as_ref());
    }
    command
}

pub(super) fn is_no_script(error: &ScriptError) -> bool {
    matches!(error, ScriptError::Refused(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}
