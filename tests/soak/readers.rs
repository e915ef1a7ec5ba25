//! Readers: some stay, some change transports and nodes, some go away and come back. Each records every object that it
//! gets.

use super::history::{Event, History, Place, Seen, Value};
use crate::support::{Item, Kind, Reader, Subscription, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The addresses of a node, for the whole soak.
#[derive(Clone, Copy)]
pub struct Address {
    pub http: SocketAddr,
    pub tcp: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    Stays,
    /// Changes transport and node again and again.
    Hops,
    /// Goes away for seconds and comes back with its cursor. A probe makes it come back.
    Lags,
}

/// The parameters of a reader's task.
pub struct Errand {
    pub manner: Manner,
    /// The node and transport of a reader that stays.
    pub at: (usize, usize),
    pub transports: Vec<Transport>,
    pub nodes: Vec<Address>,
    pub start: String,
    pub rng: fastrand::Rng,
    /// The number of the newest probe.
    pub called: watch::Receiver<u32>,
}

/// Reads forever.
pub async fn read(history: Arc<History>, mut errand: Errand) {
    let mut cursor = errand.start.clone();
    loop {
        let (transport, node) = match errand.manner {
            Manner::Stays => errand.at,
            _ => (errand.rng.usize(..errand.transports.len()), errand.rng.usize(..errand.nodes.len())),
        };
        let transport = &errand.transports[transport];
        let subscription = Subscription::to(&["flow"]).from(&cursor).with("timeout", "3").with("limit", "1000");
        let address = errand.nodes[node];
        let mut reader = Reader::follow(address.http, address.tcp, transport, subscription);
        let by = format!("{} at node {node}", transport.name);
        let stays = match errand.manner {
            Manner::Stays => Duration::MAX,
            Manner::Hops => Duration::from_millis(errand.rng.u64(300..3000)),
            Manner::Lags => Duration::from_millis(errand.rng.u64(1000..4000)),
        };
        let begun = Instant::now();
        let mut last = None;
        while let Some(rest) = stays.checked_sub(begun.elapsed()) {
            // If this is dropped within an item, the reader is closed, and its cursor is that of the last complete
            // item.
            let Ok(item) = tokio::time::timeout(rest, reader.any_wherever()).await else { break };
            if let Some(event) = event(&item, &by, &mut last) {
                history.add(event);
            }
        }
        cursor = reader.cursor();
        drop(reader);
        if errand.manner == Manner::Lags {
            let away = Duration::from_millis(errand.rng.u64(3000..12_000));
            let behind = |probe: &u32| *probe > history.probe();
            tokio::time::timeout(away, errand.called.wait_for(behind)).await.ok();
        }
    }
}

/// Returns the item in the form of the history. A cursor that equals the last one is left out.
fn event(item: &Item, by: &str, last: &mut Option<String>) -> Option<Event> {
    let place = |field: &str| Place::of(&item.str(field)?);
    let seen = match item.kind {
        Kind::Message => match Value::of(item.data()) {
            Some(value) => Seen::Message((place("id")?, value)),
            None => Seen::Stranger,
        },
        Kind::Gap => Seen::Gap(place("from").unwrap_or_default(), place("cursor")),
        Kind::Hello | Kind::Heartbeat | Kind::Batch => Seen::Cursor(place("cursor")?),
        _ => return None,
    };
    let cursor = if item.kind == Kind::Message { item.id() } else { item.str("cursor") };
    let is_old = matches!(seen, Seen::Cursor(_)) && *last == cursor;
    *last = cursor.or_else(|| last.take());
    if is_old {
        return None;
    }
    let text = match item.kind {
        Kind::Message => item.id().unwrap_or_default(),
        Kind::Gap => format!("from {:?} to {:?}", item.str("from"), item.str("cursor")),
        _ => format!("{:?} {}", item.kind, item.str("cursor").unwrap_or_default()),
    };
    Some(Event { at: Instant::now(), by: by.to_owned(), seen, text })
}
