//! The wire tap: records the bytes that pass the proxy, for pages that display them. A page itself cannot see the bytes
//! on the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;

/// The maximum number of events that a watcher may lag behind. If it lags more, it misses events, and the tap reports
/// the number of missed events.
const MAX_LAG: usize = 1024;

/// Limit on the recorded bytes of a piece. All bytes are counted.
const MAX_RECORDED: usize = 2048;

/// An event on a connection.
#[derive(Debug)]
pub struct Event {
    /// The client id in the request.
    pub client: Arc<str>,
    /// The event as JSON.
    pub json: String,
}

/// The channel from connections to watchers.
#[derive(Clone)]
pub struct Tap {
    events: broadcast::Sender<Arc<Event>>,
    connections: Arc<AtomicU64>,
}

impl Tap {
    pub(super) fn new() -> Tap {
        Tap { events: broadcast::channel(MAX_LAG).0, connections: Arc::default() }
    }

    /// Returns the events from now on.
    pub fn watch(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    pub(super) fn connection(&self, lane: &'static str) -> Record {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        Record { tap: self.clone(), lane, number, opened: now(), client: Mutex::new(None) }
    }
}

/// The recorder of one connection.
pub(super) struct Record {
    tap: Tap,
    lane: &'static str,
    number: u64,
    opened: f64,
    client: Mutex<Option<Arc<str>>>,
}

impl Record {
    /// Looks for the client id in a request (a head or a line of raw TCP). The tabs of a browser share its connections,
    /// so the id may change from one request to the next.
    pub fn find_client(&self, request: &[u8]) {
        let Some(found) = client_in(request) else { return };
        let mut client = self.client.lock();
        if client.as_deref() == Some(found) {
            return;
        }
        *client = Some(found.into());
        drop(client);
        self.send(self.opened, "open", 0, None, None);
    }

    /// Records an event. `bytes`: the number of bytes; `data`: the bytes to show.
    pub fn note(&self, what: &'static str, bytes: usize, data: Option<&[u8]>, mark: Option<&'static str>) {
        self.send(now(), what, bytes, data, mark);
    }

    fn send(&self, at: f64, what: &'static str, bytes: usize, data: Option<&[u8]>, mark: Option<&'static str>) {
        if self.tap.events.receiver_count() == 0 {
            return;
        }
        let Some(client) = self.client.lock().clone() else { return };
        let mut event = json!({ "at": at, "lane": self.lane, "connection": self.number, "what": what, "bytes": bytes });
        if let Some(data) = data {
            event["data"] = STANDARD.encode(&data[..data.len().min(MAX_RECORDED)]).into();
        }
        if let Some(mark) = mark {
            event["mark"] = mark.into();
        }
        // The send fails if the last watcher has disconnected in the meantime.
        let _ = self.tap.events.send(Arc::new(Event { client, json: event.to_string() }));
    }
}

/// The time in milliseconds since 1970, as JavaScript counts it.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_micros() as f64 / 1000.0)
}

/// Returns the client id in a request's URL or command.
fn client_in(request: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(&request[..request.len().min(MAX_RECORDED)]).unwrap_or_default();
    let marks = ["&client=", "?client=", "\"client\":\""];
    let rest = marks.iter().find_map(|mark| text.split_once(mark)).map(|(_, rest)| rest)?;
    let id = rest.get(..36)?;
    id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-').then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d";

    #[test]
    fn the_client_of_a_request() {
        assert_eq!(client_in(format!("GET /sse?channel=a&client={ID}&x=1 HTTP/1.1\r\n").as_bytes()), Some(ID));
        assert_eq!(client_in(format!("{{\"type\":\"subscribe\",\"client\":\"{ID}\"}}\n").as_bytes()), Some(ID));
        for other in ["GET / HTTP/1.1", "GET /?client=short", "GET /?client=é56789012345678901234567890123456789"] {
            assert_eq!(client_in(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn an_event_is_bounded() {
        let tap = Tap::new();
        let mut watching = tap.watch();
        let record = tap.connection("sse");
        record.note("sent", 3, Some(b"abc"), None);
        assert!(watching.try_recv().is_err(), "nobody's");
        record.find_client(format!("?client={ID}").as_bytes());
        record.note("answered", 100_000, Some(&[b'a'; 100_000]), None);
        assert!(watching.try_recv().expect("open").json.contains("open"));
        let event = watching.try_recv().expect("answered");
        assert!(event.json.len() < 2 * MAX_RECORDED && event.json.contains("100000"), "{}", event.json);
    }
}
