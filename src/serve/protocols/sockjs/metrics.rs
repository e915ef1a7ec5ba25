//! Counts what happens to SockJS clients on this node.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The metrics.
#[derive(Default)]
pub struct SockJsMetrics {
    /// Messages of clients that their prefix ignores.
    pub ignored_messages: Counter,
    /// Messages of clients that were refused.
    pub refused_messages: Counter,
    /// Requests that were refused because another one of their session still reads.
    pub conflicts: Counter,
    /// Sessions that have ended because their client has gone away in the middle of a response.
    pub interrupted: Counter,
}

impl SockJsMetrics {
    /// Metrics that are registered here.
    pub fn register(registry: &mut Registry) -> SockJsMetrics {
        let metrics = SockJsMetrics::default();
        let SockJsMetrics { ignored_messages, refused_messages, conflicts, interrupted } = &metrics;
        for (name, help, counter) in [
            ("sockjs_ignored_messages", "Messages of SockJS clients that their prefix ignores", ignored_messages),
            ("sockjs_refused_messages", "Messages of SockJS clients that were refused", refused_messages),
            (
                "sockjs_conflicts",
                "Requests of SockJS clients that were refused because another one of their session still reads",
                conflicts,
            ),
            (
                "sockjs_interrupted_sessions",
                "SockJS sessions whose client has gone away in the middle of a response",
                interrupted,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }
}
