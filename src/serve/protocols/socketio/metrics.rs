//! Counts what happens to Socket.IO clients on this node.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The metrics.
#[derive(Default)]
pub struct SocketIoMetrics {
    /// Events of clients that no rule and no application takes.
    pub ignored_events: Counter,
    /// Events of clients that were refused, because they are too long, for example.
    pub refused_events: Counter,
    /// Messages that the clients cannot get, because their library uses the name of the event itself.
    pub skipped_messages: Counter,
}

impl SocketIoMetrics {
    /// Metrics that are registered here.
    pub fn register(registry: &mut Registry) -> SocketIoMetrics {
        let metrics = SocketIoMetrics::default();
        let SocketIoMetrics { ignored_events, refused_events, skipped_messages } = &metrics;
        for (name, help, counter) in [
            (
                "socketio_ignored_events",
                "Events of Socket.IO clients that no rule and no application takes",
                ignored_events,
            ),
            ("socketio_refused_events", "Events of Socket.IO clients that were refused", refused_events),
            (
                "socketio_skipped_messages",
                "Messages that Socket.IO clients do not get, because their library uses the name of the event itself",
                skipped_messages,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }
}
