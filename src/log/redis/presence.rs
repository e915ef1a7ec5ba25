//! Presence in the log's Redis. The scripts `lua/presence*.lua` have the rules.

#[cfg(test)]
mod histories;

use super::connection::{
    ANSWER_TIMEOUT, Connection, PRESENCE_CHANNELS, PRESENCE_JOIN, PRESENCE_MEMBERS, PRESENCE_RENEW, Script,
};
use super::{RedisLog, ScriptError, text};
use crate::cursor::Cursor;
use crate::log::presence::{Call, Deadline, Join, Joined, Members, PresenceStore, Renewed, SWEEP};
use crate::log::{BoxFuture, Unreachable};
use crate::message::{Channel, User};
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The format of the entries about members. A node writes them only when every node reads it.
const FORMAT: u32 = 2;

/// The bytes of a member apart from its info: its id, in which each byte may be escaped, and the frame around both.
const FRAME: usize = 6 * User::MAX_ID + 100;

/// The bytes of a list that are always read.
const LIST: usize = 4 << 20;

/// The scripts.
#[derive(Clone, Copy)]
struct Scripts {
    join: &'static Script,
    renew: &'static Script,
    members: &'static Script,
    /// Whether the node may write entries about members, whatever it knows about other nodes.
    #[cfg(test)]
    always_append: bool,
}

impl Scripts {
    fn new() -> Scripts {
        Scripts {
            join: &PRESENCE_JOIN,
            renew: &PRESENCE_RENEW,
            members: &PRESENCE_MEMBERS,
            #[cfg(test)]
            always_append: false,
        }
    }

    /// The same scripts with a clock that a test sets.
    #[cfg(test)]
    fn with_clock() -> Scripts {
        let Scripts { join, renew, members, .. } = Scripts::new();
        let patched = |script: &'static Script| -> &'static Script { Box::leak(Box::new(script.with_clock())) };
        Scripts { join: patched(join), renew: patched(renew), members: patched(members), always_append: true }
    }
}

/// A [`PresenceStore`] in the log's Redis.
pub struct RedisPresence {
    log: Arc<RedisLog>,
    most: usize,
    /// The limit on a user's info.
    info_bytes: usize,
    scripts: Scripts,
    /// The connection for joins and renewals.
    connection: Mutex<Option<Connection>>,
    /// The connection for lists, which clients ask for: they must not delay a renewal.
    list_connection: Mutex<Option<Connection>>,
}

impl RedisPresence {
    /// The presence beside a log. A channel may have `most` members, whose info has at most `info_bytes`.
    pub fn new(log: Arc<RedisLog>, most: usize, info_bytes: usize) -> RedisPresence {
        RedisPresence {
            log,
            most,
            info_bytes,
            scripts: Scripts::new(),
            connection: Mutex::default(),
            list_connection: Mutex::default(),
        }
    }

    async fn run(
        &self,
        connection: &Mutex<Option<Connection>>,
        script: &Script,
        args: &[String],
    ) -> Result<Vec<Value>, Unreachable> {
        let mut slot = connection.lock().await;
        if slot.as_ref().is_some_and(|connection| self.log.has_moved(connection.server().1)) {
            *slot = None;
        }
        let answer = async {
            let connection = match &mut *slot {
                Some(connection) => connection,
                empty => empty.insert(self.log.connect(ANSWER_TIMEOUT).await?),
            };
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let candidate = connection.candidate();
            let args: Vec<&str> = std::iter::once(candidate.as_str()).chain(args).collect();
            match connection.run(script, &[&self.log.keys().log], &args).await? {
                Value::Array(answer) => Ok(answer),
                _ => Err(ScriptError::Unexpected),
            }
        };
        let answer: Result<_, ScriptError> = answer.await;
        answer.map_err(|error| {
            *slot = None;
            tracing::debug!(%error, "the record of the members is not available");
            Unreachable
        })
    }

    /// The bytes of a list. Nodes that repeat what Redis has lost may exceed the limit on the members, and other nodes
    /// may have a larger one.
    fn list_bytes(&self) -> usize {
        (2 * self.most).saturating_mul(self.info_bytes.saturating_add(FRAME)).max(LIST)
    }

    fn may_append(&self) -> String {
        #[cfg(test)]
        if self.scripts.always_append {
            return "1".to_owned();
        }
        u8::from(self.log.peers.write_format() >= FORMAT).to_string()
    }
}

/// The arguments that every call of a node begins with.
fn call_args<T>(call: &Call<T>) -> Vec<String> {
    vec![call.lease.to_string(), call.number.to_string(), call.answered.to_string()]
}

fn ms(time: Duration) -> String {
    time.as_millis().to_string()
}

fn number(value: &Value) -> Result<i64, Unreachable> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(Unreachable),
    }
}

impl PresenceStore for RedisPresence {
    fn join<'a>(&'a self, joins: &'a Call<Join>) -> BoxFuture<'a, Result<Vec<Joined>, Unreachable>> {
        Box::pin(async move {
            let mut args = call_args(joins);
            args.extend([self.most.to_string(), self.may_append()]);
            for join in &joins.items {
                let user = &join.user;
                args.extend([
                    join.channel.to_string(),
                    join.connection.to_string(),
                    user.id().to_owned(),
                    user.data().to_owned(),
                    join.ends_in.map(ms).unwrap_or_default(),
                    u8::from(join.is_again).to_string(),
                    join.replaces.as_deref().unwrap_or_default().to_owned(),
                    ms(join.age),
                ]);
            }
            let answer = self.run(&self.connection, self.scripts.join, &args).await?;
            let outcome = |value: &Value| match number(value)? {
                0 => Ok(Joined::Full),
                1 => Ok(Joined::Member),
                3 => Ok(Joined::Gone),
                _ => Ok(Joined::Later),
            };
            let outcomes: Vec<Joined> = answer.iter().map(outcome).collect::<Result<_, _>>()?;
            if outcomes.len() == joins.items.len() { Ok(outcomes) } else { Err(Unreachable) }
        })
    }

    fn writable(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.log.peers.may_write(FORMAT))
    }

    fn renew<'a>(&'a self, renewal: &'a Call<Deadline>) -> BoxFuture<'a, Result<Renewed, Unreachable>> {
        Box::pin(async move {
            let mut args = call_args(renewal);
            args.extend([self.may_append(), SWEEP.to_string()]);
            for deadline in &renewal.items {
                let (ends_in, age) = (ms(deadline.ends_in), ms(deadline.age));
                args.extend([deadline.channel.to_string(), deadline.connection.to_string(), ends_in, age]);
            }
            let answer = self.run(&self.connection, self.scripts.renew, &args).await?;
            let [is_complete, has_more, unknown @ ..] = answer.as_slice() else { return Err(Unreachable) };
            let index = |value: &Value| usize::try_from(number(value)?).map_err(|_| Unreachable);
            Ok(Renewed {
                is_complete: number(is_complete)? == 1,
                has_more: number(has_more)? == 1,
                unknown: unknown.iter().map(index).collect::<Result<_, _>>()?,
            })
        })
    }

    fn members<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Members, Unreachable>> {
        Box::pin(async move {
            let [longest, total] = self.log.reply_limits(self.list_bytes()).args();
            let args = [channel.to_string(), longest, total];
            let answer = self.run(&self.list_connection, self.scripts.members, &args).await?;
            let [cursor, members @ ..] = answer.as_slice() else { return Err(Unreachable) };
            let cursor: Cursor = text(cursor).and_then(|text| text.parse().ok()).ok_or(Unreachable)?;
            let member = |value: &Value| text(value).map(str::to_owned).ok_or(Unreachable);
            let mut members: Vec<String> = members.iter().map(member).collect::<Result<_, _>>()?;
            members.sort_unstable();
            Ok(Members { members, cursor })
        })
    }

    fn channels<'a>(&'a self, after: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Channel>, Unreachable>> {
        Box::pin(async move {
            let args = [after.to_owned(), limit.to_string()];
            let names = self.run(&self.list_connection, &PRESENCE_CHANNELS, &args).await?;
            Ok(names.iter().filter_map(|name| text(name)?.parse().ok()).collect())
        })
    }
}
