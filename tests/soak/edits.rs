//! Other programs that edit the log. The entries that they delete are known exactly, because the same step reads them.

use super::faults::Fault;
use super::history::{Effects, Entry, Loss, Place, Sent, Told, Value};
use super::redis_side::{LOG, RedisSide, entries, pause};
use std::collections::HashSet;
use std::time::Instant;

/// The highest id of the log moves ahead by this many milliseconds.
const SET_ID: &str = "local info = redis.call('XINFO', 'STREAM', KEYS[1]) \
    for i = 1, #info, 2 do if info[i] == 'last-generated-id' then \
    local ms = tonumber(string.match(info[i + 1], '^(%d+)')) + tonumber(ARGV[1]) \
    return redis.call('XSETID', KEYS[1], string.format('%.0f-0', ms)) end end";

/// Deletes the newest entry and returns it.
const DELETE_NEWEST: &str = "local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1) \
    if newest[1] then redis.call('XDEL', KEYS[1], newest[1][1]) end return newest";

const DESTROY_GROUPS: &str = "for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
    redis.call('XGROUP', 'DESTROY', KEYS[1], group[2]) end return 1";

/// Edits the log. Returns `None` if the fault is not an edit.
pub async fn edit(side: &mut RedisSide, fault: &Fault) -> Option<Effects> {
    let mut effects = Effects::default();
    let run =
        async |side: &RedisSide, words: &[&str]| side.primary().try_command(words).await.unwrap_or(redis::Value::Nil);
    match fault {
        Fault::ScriptsFlushed => drop(run(side, &["SCRIPT", "FLUSH"]).await),
        Fault::FunctionsFlushed => drop(run(side, &["FUNCTION", "FLUSH"]).await),
        Fault::GroupsDestroyed => drop(run(side, &["EVAL", DESTROY_GROUPS, "1", LOG]).await),
        Fault::IdSet { ahead_ms } => {
            drop(run(side, &["EVAL", SET_ID, "1", LOG, &ahead_ms.to_string()]).await);
        }
        Fault::NewestDeleted => {
            let newest = run(side, &["EVAL", DELETE_NEWEST, "1", LOG]).await;
            if newest != redis::Value::Nil {
                effects.deleted = entries(&newest);
            }
        }
        Fault::DeletedWithin { count } => effects.deleted = delete_within(side, *count).await,
        Fault::Trimmed { keep } => change(side, &mut effects, 0, None, Some(*keep)).await,
        Fault::AddedWithMaxlen { count, keep } => change(side, &mut effects, *count, Some(*keep), None).await,
        Fault::AddedAndTrimmed { count, keep } => change(side, &mut effects, *count, None, Some(*keep)).await,
        Fault::Burst { count } => change(side, &mut effects, *count, None, None).await,
        Fault::Flushed => replaced(&mut effects, run(side, &["FLUSHALL"]).await),
        Fault::LogDeleted => replaced(&mut effects, run(side, &["DEL", LOG]).await),
        Fault::LogRenamed { and_back } => {
            replaced(&mut effects, run(side, &["RENAME", LOG, "elsewhere"]).await);
            pause(1500).await;
            if *and_back {
                replaced(&mut effects, run(side, &["RENAME", "elsewhere", LOG]).await);
            } else {
                run(side, &["DEL", "elsewhere"]).await;
            }
        }
        Fault::OlderCopyRestored { after_ms } => {
            let mut connection = side.primary().connect().await.ok()?;
            let copy: redis::RedisResult<Vec<u8>> = redis::cmd("DUMP").arg(LOG).query_async(&mut connection).await;
            let Ok(copy) = copy else { return Some(effects) };
            pause(*after_ms).await;
            let mut restore = redis::cmd("RESTORE");
            restore.arg(LOG).arg(0).arg(copy).arg("REPLACE");
            let restored: redis::RedisResult<redis::Value> = restore.query_async(&mut connection).await;
            replaced(&mut effects, restored.unwrap_or(redis::Value::Nil));
        }
        _ => return None,
    }
    Some(effects)
}

/// Records that the log is another one from now on.
fn replaced(effects: &mut Effects, _answer: redis::Value) {
    effects.losses.push((Instant::now(), Loss::Replaced, false));
}

async fn delete_within(side: &mut RedisSide, count: usize) -> Vec<Entry> {
    let Ok(newest) = side.primary().try_command(&["XREVRANGE", LOG, "+", "-", "COUNT", "300"]).await else {
        return Vec::new();
    };
    // This does not delete the newest entry, which is a fault of its own.
    let mut some: Vec<Entry> = entries(&newest).into_iter().skip(1).collect();
    side.rng.shuffle(&mut some);
    some.truncate(count);
    let ids: Vec<String> = some.iter().map(|(place, _)| format!("{place:?}")).collect();
    if !ids.is_empty() {
        let words: Vec<&str> = ["XDEL", LOG].into_iter().chain(ids.iter().map(String::as_str)).collect();
        side.primary().try_command(&words).await.ok();
    }
    some
}

/// Adds and trims in one step, by `MAXLEN` of each `XADD` or by an `XTRIM` after them.
async fn change(side: &mut RedisSide, effects: &mut Effects, count: usize, maxlen: Option<usize>, trim: Option<usize>) {
    let tried = Instant::now();
    let mut pipe = redis::pipe();
    pipe.atomic();
    pipe.cmd("XRANGE").arg(LOG).arg("-").arg("+");
    let values: Vec<Value> = (0..count).map(|n| Value { way: 'F', number: side.foreign + n as u32 + 1 }).collect();
    side.foreign += count as u32;
    for value in &values {
        let add = pipe.cmd("XADD").arg(LOG);
        if let Some(keep) = maxlen {
            add.arg("MAXLEN").arg(keep);
        }
        add.arg("*").arg("channel").arg("flow").arg("data").arg(format!("{value:?}"));
    }
    if let Some(keep) = trim {
        pipe.cmd("XTRIM").arg(LOG).arg("MAXLEN").arg(keep).ignore();
    }
    pipe.cmd("XRANGE").arg(LOG).arg("-").arg("+");
    let Ok(mut connection) = side.primary().connect().await else { return };
    let answers: redis::RedisResult<Vec<redis::Value>> = pipe.query_async(&mut connection).await;
    let Ok(answers) = answers else { return };
    let (Some(before), Some(after)) = (answers.first(), answers.last()) else { return };
    let ids = answers[1..].iter().filter_map(|id| Place::of(&redis::from_redis_value::<String>(id.clone()).ok()?));
    let added: Vec<Entry> = ids.zip(values).collect();
    let after: HashSet<Entry> = entries(after).into_iter().collect();
    let were = entries(before).into_iter().chain(added.iter().copied());
    effects.deleted.extend(were.filter(|entry| !after.contains(entry)));
    let ended = Instant::now();
    let sent = added.into_iter().map(|(place, value)| {
        let words = "added by foreign hands".to_owned();
        Sent { value, began: tried, tried, ended, told: Told::Good(Some(place)), words }
    });
    effects.added.extend(sent);
}
