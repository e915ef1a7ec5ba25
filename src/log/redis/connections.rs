//! The records of connections in the log's Redis. The script `lua/connections.lua` has the rules.

use super::connection::CONNECTIONS;
use super::sessions::RedisSessions;
use super::text;
use crate::log::connections::{ConnectionRecord, ConnectionStore, Part, Swapped, Versioned};
use crate::log::{BoxFuture, Unreachable};
use redis::Value;
use std::time::Duration;

fn name(part: Part) -> &'static str {
    match part {
        Part::Reader => "reader",
        Part::Writer => "writer",
        Part::Mode => "mode",
    }
}

fn record(answer: &[Value]) -> Result<Option<ConnectionRecord>, Unreachable> {
    let field = |index: usize| answer.get(index).and_then(text).map(str::to_owned).ok_or(Unreachable);
    let version = |index: usize| field(index)?.parse().map_err(|_| Unreachable);
    let part = |index: usize| Ok(Versioned { text: field(index)?, version: version(index + 1)? });
    match answer {
        [] => Ok(None),
        _ => Ok(Some(ConnectionRecord { info: field(0)?, reader: part(1)?, writer: part(3)?, mode: part(5)? })),
    }
}

impl ConnectionStore for RedisSessions {
    fn create<'a>(
        &'a self,
        id: &'a str,
        record: &'a ConnectionRecord,
        ends_in: Duration,
        most: usize,
    ) -> BoxFuture<'a, Result<bool, Unreachable>> {
        Box::pin(async move {
            let ConnectionRecord { info, reader, writer, mode } = record;
            let (most, ends_in) = (most.to_string(), ends_in.as_millis().to_string());
            let args = ["create", id, &most, &ends_in, info, &reader.text, &writer.text, &mode.text];
            match self.ask(&CONNECTIONS, &args.map(str::to_owned)).await?.as_slice() {
                [Value::Int(created)] => Ok(*created == 1),
                _ => Err(Unreachable),
            }
        })
    }

    fn load<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ConnectionRecord>, Unreachable>> {
        Box::pin(async move { record(&self.ask(&CONNECTIONS, &["load", id].map(str::to_owned)).await?) })
    }

    fn swap<'a>(
        &'a self,
        id: &'a str,
        part: Part,
        next: &'a Versioned,
        ends_in: Duration,
    ) -> BoxFuture<'a, Result<Swapped, Unreachable>> {
        Box::pin(async move {
            let (version, ends_in) = (next.version.to_string(), ends_in.as_millis().to_string());
            let args = ["swap", id, name(part), &version, &next.text, &ends_in];
            match self.ask(&CONNECTIONS, &args.map(str::to_owned)).await?.as_slice() {
                [Value::Int(1)] => Ok(Swapped::Done),
                [Value::Int(_)] => Ok(Swapped::Stale),
                [] => Ok(Swapped::Gone),
                _ => Err(Unreachable),
            }
        })
    }

    fn end<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ConnectionRecord>, Unreachable>> {
        Box::pin(async move { record(&self.ask(&CONNECTIONS, &["end", id].map(str::to_owned)).await?) })
    }
}
