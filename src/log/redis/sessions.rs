//! The records of sessions in the log's Redis. The scripts `lua/sessions*.lua` have the rules.

use super::connection::{
    ANSWER_TIMEOUT, Connection, SESSIONS_BEGIN, SESSIONS_CREATE, SESSIONS_END, SESSIONS_LIST, SESSIONS_RENEW, Script,
};
use super::{RedisLog, ScriptError, text};
use crate::log::sessions::{ListedSession, SessionStore, SessionWrite, SessionsRenewed, StoredSession};
use crate::log::{BoxFuture, Unreachable};
use crate::message::Channel;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A [`SessionStore`] in the log's Redis.
pub struct RedisSessions {
    log: Arc<RedisLog>,
    /// The name under which this node gives deadlines.
    node: String,
    /// The connection for requests of clients.
    requests: SharedConnection,
    /// The connection for renewals, which must not wait for clients.
    renewals: SharedConnection,
}

/// A connection that is opened when it is needed. Calls do not wait for the answers of earlier ones.
#[derive(Default)]
struct SharedConnection {
    /// The connection, and its number.
    open: parking_lot::Mutex<Option<(u64, Connection)>>,
    /// One call opens the connection, and the others wait for it.
    opening: tokio::sync::Mutex<u64>,
}

impl SharedConnection {
    fn current(&self, log: &RedisLog) -> Option<(u64, Connection)> {
        let mut open = self.open.lock();
        if open.as_ref().is_some_and(|(_, connection)| log.has_moved(connection.server().1)) {
            *open = None;
        }
        open.clone()
    }

    async fn get(&self, log: &RedisLog) -> Result<(u64, Connection), ScriptError> {
        if let Some(open) = self.current(log) {
            return Ok(open);
        }
        let mut number = self.opening.lock().await;
        if let Some(open) = self.current(log) {
            return Ok(open);
        }
        let connection = log.connect(ANSWER_TIMEOUT).await?;
        *number += 1;
        *self.open.lock() = Some((*number, connection.clone()));
        Ok((*number, connection))
    }

    /// Drops the connection after an error, unless there is another one by now.
    fn drop(&self, number: u64) {
        let mut open = self.open.lock();
        if open.as_ref().is_some_and(|(other, _)| *other == number) {
            *open = None;
        }
    }
}

impl RedisSessions {
    /// The sessions beside a log.
    pub fn new(log: Arc<RedisLog>) -> RedisSessions {
        let node = uuid::Uuid::new_v4().simple().to_string();
        RedisSessions { log, node, requests: SharedConnection::default(), renewals: SharedConnection::default() }
    }

    /// Runs a script on behalf of a client.
    pub(super) async fn ask(&self, script: &Script, args: &[String]) -> Result<Vec<Value>, Unreachable> {
        self.run(&self.requests, script, args).await
    }

    /// Runs a script. The time limit includes the connection, so that many calls do not add up their waits.
    async fn run(
        &self,
        shared: &SharedConnection,
        script: &Script,
        args: &[String],
    ) -> Result<Vec<Value>, Unreachable> {
        let until = Instant::now() + ANSWER_TIMEOUT;
        let opened = timeout_at(until, shared.get(&self.log)).await.map_err(|_| Unreachable)?;
        let (number, mut connection) = opened.map_err(|error| unreachable(&error))?;
        let candidate = connection.candidate();
        let args: Vec<&str> = [&candidate, &self.node].into_iter().chain(args).map(String::as_str).collect();
        let keys = [self.log.keys().log.as_str()];
        match timeout_at(until, connection.run(script, &keys, &args)).await {
            Ok(Ok(Value::Array(answer))) => Ok(answer),
            other => {
                shared.drop(number);
                let error = other.ok().and_then(Result::err).unwrap_or(ScriptError::Unexpected);
                Err(unreachable(&error))
            }
        }
    }
}

fn unreachable(error: &ScriptError) -> Unreachable {
    tracing::debug!(%error, "the record of sessions is not available");
    Unreachable
}

/// The bookmark, its position, the deadline and the channels, as the scripts read them.
fn write_args(write: &SessionWrite) -> [String; 5] {
    let (bookmark, channels) = match &write.bookmark {
        Some((bookmark, channels)) => (bookmark.to_string(), channels.iter().map(Channel::as_str).collect::<Vec<_>>()),
        None => (String::new(), Vec::new()),
    };
    let ends_in = write.ends_in.as_millis().to_string();
    [write.id.to_string(), bookmark, write.cursor.to_string(), ends_in, channels.join(",")]
}

fn stored(bookmark: &Value, cursor: &Value) -> Result<StoredSession, Unreachable> {
    let bookmark = text(bookmark).ok_or(Unreachable)?.into();
    let cursor = text(cursor).and_then(|cursor| cursor.parse().ok()).ok_or(Unreachable)?;
    Ok(StoredSession { bookmark, cursor })
}

fn found(answer: &[Value]) -> Result<Option<StoredSession>, Unreachable> {
    match answer {
        [] => Ok(None),
        [bookmark, cursor] => stored(bookmark, cursor).map(Some),
        _ => Err(Unreachable),
    }
}

impl SessionStore for RedisSessions {
    fn create<'a>(&'a self, session: &'a SessionWrite, most: usize) -> BoxFuture<'a, Result<bool, Unreachable>> {
        Box::pin(async move {
            let args: Vec<String> = std::iter::once(most.to_string()).chain(write_args(session)).collect();
            match self.ask(&SESSIONS_CREATE, &args).await?.as_slice() {
                [Value::Int(created)] => Ok(*created == 1),
                _ => Err(Unreachable),
            }
        })
    }

    fn begin<'a>(
        &'a self,
        id: &'a str,
        ends_in: Duration,
    ) -> BoxFuture<'a, Result<Option<StoredSession>, Unreachable>> {
        Box::pin(async move {
            let args = [id.to_owned(), ends_in.as_millis().to_string()];
            found(&self.ask(&SESSIONS_BEGIN, &args).await?)
        })
    }

    fn renew<'a>(
        &'a self,
        sessions: &'a [SessionWrite],
        sweep: usize,
    ) -> BoxFuture<'a, Result<SessionsRenewed, Unreachable>> {
        Box::pin(async move {
            let writes = sessions.iter().flat_map(write_args);
            let args: Vec<String> = std::iter::once(sweep.to_string()).chain(writes).collect();
            let answer = match sweep {
                0 => self.ask(&SESSIONS_RENEW, &args).await?,
                _ => self.run(&self.renewals, &SESSIONS_RENEW, &args).await?,
            };
            let [Value::Int(has_more), Value::Array(unknown), ended @ ..] = answer.as_slice() else {
                return Err(Unreachable);
            };
            let id = |value: &Value| text(value).map(Arc::<str>::from).ok_or(Unreachable);
            let ended = ended.chunks_exact(3).map(|one| Ok((id(&one[0])?, stored(&one[1], &one[2])?)));
            Ok(SessionsRenewed {
                has_more: *has_more == 1,
                unknown: unknown.iter().map(id).collect::<Result<_, _>>()?,
                ended: ended.collect::<Result<_, _>>()?,
            })
        })
    }

    fn end<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredSession>, Unreachable>> {
        Box::pin(async move { found(&self.ask(&SESSIONS_END, &[id.to_owned()]).await?) })
    }

    fn list<'a>(
        &'a self,
        channel: &'a Channel,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ListedSession>, Unreachable>> {
        Box::pin(async move {
            let args = [channel.to_string(), after.to_owned(), limit.to_string()];
            let answer = self.ask(&SESSIONS_LIST, &args).await?;
            let sessions = answer.get(1..).ok_or(Unreachable)?.chunks_exact(3);
            let listed = sessions.map(|one| {
                let place = text(&one[0]).ok_or(Unreachable)?.to_owned();
                Ok(ListedSession { place, session: stored(&one[1], &one[2])? })
            });
            listed.collect()
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, Unreachable>> {
        Box::pin(async move {
            let args = ["-".to_owned(), String::new(), "0".to_owned()];
            match self.ask(&SESSIONS_LIST, &args).await?.first() {
                Some(Value::Int(count)) => usize::try_from(*count).map_err(|_| Unreachable),
                _ => Err(Unreachable),
            }
        })
    }
}
