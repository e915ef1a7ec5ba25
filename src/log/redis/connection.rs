//! A connection to Redis, and the scripts.

use redis::{AsyncConnectionConfig, Cmd, ErrorKind, ServerErrorKind, Value};
use std::sync::LazyLock;
use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer that waits for nothing may take. A Redis that takes longer is taken for gone.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A script as Redis knows it.
pub struct Script {
    source: &'static str,
    hash: String,
}

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| {
            let source = concat!(include_str!("lua/common.lua"), include_str!($file));
            Script { source, hash: redis::Script::new(source).get_hash().to_owned() }
        })
    };
}

pub(super) static OPEN: LazyLock<Script> = script!("lua/open.lua");
pub(super) static READ: LazyLock<Script> = script!("lua/read.lua");
pub(super) static APPEND: LazyLock<Script> = script!("lua/append.lua");
pub(super) static TRIM: LazyLock<Script> = script!("lua/trim.lua");
pub(in crate::log) static BRIDGE: LazyLock<Script> = script!("lua/bridge.lua");

/// Why a command gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// There is no connection. Nothing was sent.
    #[error("no connection to Redis: {0}")]
    Unconnected(#[source] redis::RedisError),
    /// Redis answered that it did not do it, and may do it later (it is loading, say).
    #[error("Redis is not ready: {0}")]
    NotNow(#[source] redis::RedisError),
    /// Redis answered that it did not do it, and would say so again.
    #[error("Redis refused: {0}")]
    Refused(#[source] redis::RedisError),
    /// It was sent, and no answer came.
    #[error("no answer from Redis: {0}")]
    Unanswered(#[source] redis::RedisError),
    /// An answer that our scripts do not give.
    #[error("an answer from Redis that makes no sense")]
    Unexpected,
}

impl ScriptError {
    fn of(error: redis::RedisError) -> ScriptError {
        match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask,
            ) => ScriptError::NotNow(error),
            ErrorKind::Extension if error.code() == Some("BUSY") => ScriptError::NotNow(error),
            // With a code it is Redis that has spoken; anything else happened on the way.
            ErrorKind::Server(_) | ErrorKind::Extension => ScriptError::Refused(error),
            _ => ScriptError::Unanswered(error),
        }
    }
}

/// One connection. After an error that is not [`ScriptError::Refused`] it is to be dropped.
pub struct Connection {
    inner: redis::aio::MultiplexedConnection,
    client: redis::Client,
    run_id: String,
}

impl Connection {
    pub(super) async fn open(client: &redis::Client, answer_within: Duration) -> Result<Connection, ScriptError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // The crate's own default of 500 ms would end every blocking XREAD.
            .set_response_timeout(Some(answer_within));
        // The handshake is within the time-out, too: a stopped Redis accepts connections.
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        let opened = tokio::time::timeout(CONNECT_TIMEOUT * 2, opening).await;
        let inner = opened.map_err(|_| ScriptError::Unconnected(timed_out()))?.map_err(ScriptError::Unconnected)?;
        let mut connection = Connection { inner, client: client.clone(), run_id: String::new() };
        let info = connection.send(redis::cmd("INFO").arg("server")).await?;
        let run_id = super::text(&info).and_then(|info| info.lines().find_map(|line| line.strip_prefix("run_id:")));
        connection.run_id = run_id.ok_or(ScriptError::Unexpected)?.trim().to_owned();
        Ok(connection)
    }

    /// The server process behind it: its client, and its `run_id`, which no other process has.
    pub fn server(&self) -> (&redis::Client, &str) {
        (&self.client, &self.run_id)
    }

    /// Runs a script, which Redis is given where it does not know it.
    pub async fn run<T: AsRef<[u8]>>(
        &mut self,
        script: &Script,
        keys: &[&str],
        args: &[T],
    ) -> Result<Value, ScriptError> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.hash).arg(keys.len()).arg(keys);
        for arg in args {
            command.arg(arg.as_ref());
        }
        match self.send(&command).await {
            Err(ScriptError::Refused(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(redis::cmd("SCRIPT").arg("LOAD").arg(script.source)).await?;
                self.send(&command).await
            }
            outcome => outcome,
        }
    }

    /// Sends a PUBLISH.
    pub async fn publish(&mut self, channel: &str, payload: &[u8]) -> Result<Value, ScriptError> {
        self.send(redis::cmd("PUBLISH").arg(channel).arg(payload)).await
    }

    async fn send(&mut self, command: &Cmd) -> Result<Value, ScriptError> {
        self.inner.send_packed_command(command).await.and_then(Value::extract_error).map_err(ScriptError::of)
    }

    /// Waits for entries behind a position, then looks at the log's groups: both replies as they come.
    pub(super) async fn read_and_identify(
        &mut self,
        log: &str,
        after: &str,
        count: usize,
        block: Duration,
    ) -> Result<[Value; 2], ScriptError> {
        let mut pipeline = redis::pipe();
        let read = pipeline.cmd("XREAD").arg("COUNT").arg(count);
        read.arg("BLOCK").arg(block.as_millis() as u64).arg("STREAMS").arg(log).arg(after);
        pipeline.cmd("XINFO").arg("GROUPS").arg(log);
        let replies = self.inner.send_packed_commands(&pipeline, 0, 2).await.map_err(ScriptError::of)?;
        replies.try_into().map_err(|_| ScriptError::Unexpected)
    }
}

fn timed_out() -> redis::RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
