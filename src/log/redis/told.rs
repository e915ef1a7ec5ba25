//! The record of what consumers of transitions were told, in the log's Redis. The script `lua/told.lua` has the rules.

use super::connection::{ANSWER_TIMEOUT, Connection, TOLD};
use super::{RedisLog, ScriptError, text};
use crate::log::told::{CHUNK, HeldLease, LIFE, Lease, LeaseRequest, ToldStore, ToldWrite};
use crate::log::{BoxFuture, Unreachable};
use redis::Value;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A [`ToldStore`] in the log's Redis.
pub struct RedisTold {
    log: Arc<RedisLog>,
    node: String,
    connection: Mutex<Option<Connection>>,
}

impl RedisTold {
    /// The record beside a log.
    pub fn new(log: Arc<RedisLog>) -> RedisTold {
        RedisTold { log, node: uuid::Uuid::new_v4().simple().to_string(), connection: Mutex::default() }
    }

    /// Runs the script. A connection that was open before may have been closed while it was idle, so an error on it is
    /// followed by one more attempt.
    async fn run(&self, what: &str, number: u64, args: Vec<String>) -> Result<Vec<Value>, Unreachable> {
        let mut slot = self.connection.lock().await;
        if slot.as_ref().is_some_and(|connection| self.log.has_moved(connection.server().1)) {
            *slot = None;
        }
        let mut is_fresh = slot.is_none();
        loop {
            let error = match self.run_on(&mut slot, what, number, &args).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            *slot = None;
            if is_fresh || error.is_timeout() {
                tracing::debug!(%error, "the record of what was told is not available");
                return Err(Unreachable);
            }
            is_fresh = true;
        }
    }

    async fn run_on(
        &self,
        slot: &mut Option<Connection>,
        what: &str,
        number: u64,
        args: &[String],
    ) -> Result<Vec<Value>, ScriptError> {
        let connection = match slot {
            Some(connection) => connection,
            empty => empty.insert(self.log.connect(ANSWER_TIMEOUT).await?),
        };
        let (candidate, number, life) = (connection.candidate(), number.to_string(), LIFE.as_millis().to_string());
        let first = [candidate.as_str(), what, &self.node, &number, &life];
        let args: Vec<&str> = first.into_iter().chain(args.iter().map(String::as_str)).collect();
        let keys = self.log.keys();
        let keys = [&keys.log, &keys.beside("transitions"), &keys.beside("transitions:told")];
        match connection.run(&TOLD, &keys.map(String::as_str), &args).await? {
            Value::Array(answer) => Ok(answer),
            _ => Err(ScriptError::Unexpected),
        }
    }
}

fn number(value: &Value) -> Result<u64, Unreachable> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| Unreachable),
        _ => Err(Unreachable),
    }
}

/// Whether the lease is still valid. Without a record, the next renewal of the lease decides.
fn is_lease(answer: &[Value]) -> Result<bool, Unreachable> {
    match answer.first() {
        Some(Value::Int(1)) => Ok(true),
        Some(Value::Int(0)) => Ok(false),
        _ => Err(Unreachable),
    }
}

impl ToldStore for RedisTold {
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Lease, Unreachable>> {
        Box::pin(async move {
            let args = vec![u8::from(request.may_begin).to_string()];
            let answer = self.run("lease", request.number, args).await?;
            match answer.as_slice() {
                [Value::Int(0)] => Ok(Lease::Other),
                [Value::Int(-1)] => Ok(Lease::Missing),
                [lease, position, version, count] => Ok(Lease::Held(HeldLease {
                    number: number(lease)?,
                    position: text(position).unwrap_or_default().to_owned(),
                    version: number(version)?,
                    count: usize::try_from(number(count)?).unwrap_or(usize::MAX),
                })),
                _ => Err(Unreachable),
            }
        })
    }

    fn read<'a>(&'a self, lease: u64, after: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, Unreachable>> {
        Box::pin(async move {
            let answer = self.run("read", lease, vec![after.to_owned(), CHUNK.to_string()]).await?;
            let texts = answer.iter().skip(1).map(|value| text(value).map(str::to_owned).ok_or(Unreachable));
            if is_lease(&answer)? { texts.collect::<Result<_, _>>().map(Some) } else { Ok(None) }
        })
    }

    fn write<'a>(&'a self, write: &'a ToldWrite) -> BoxFuture<'a, Result<bool, Unreachable>> {
        Box::pin(async move {
            let ToldWrite { number: lease, version, position, replaces, add, remove } = write;
            let mut args = vec![position.clone(), version.to_string(), u8::from(*replaces).to_string()];
            args.push(add.len().to_string());
            args.extend(add.iter().chain(remove).cloned());
            is_lease(&self.run("write", *lease, args).await?)
        })
    }
}
