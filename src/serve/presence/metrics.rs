//! Counts what happens to presence on this node.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The metrics of presence.
#[derive(Default)]
pub struct PresenceMetrics {
    /// The connections of users in channels with presence.
    pub connections: Gauge,
    joins: Family<Outcome, Counter>,
    /// Calls that the store did not answer.
    pub failures: Counter,
    /// How often the store had lost what this node had told it.
    pub repairs: Counter,
}

impl PresenceMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> PresenceMetrics {
        let metrics = PresenceMetrics::default();
        let help = "Connections of users in channels with presence, on this node";
        registry.register("presence_connections", help, metrics.connections.clone());
        // The counters are created at the start: a rate over a counter that appears only with the first event would
        // miss that event.
        for outcome in ["member", "full", "later", "gone", "info_too_large"] {
            drop(metrics.joins.get_or_create(&Outcome { outcome }));
        }
        let help = "Users that came to a channel with presence, by outcome";
        registry.register("presence_joins", help, metrics.joins.clone());
        let help = "Changes of members that could not be written: they are written when the log is back";
        registry.register("presence_failures", help, metrics.failures.clone());
        let help = "How often this node had to tell all its members again, since some were lost";
        registry.register("presence_repairs", help, metrics.repairs.clone());
        metrics
    }

    /// Counts a join.
    pub fn joined(&self, outcome: &'static str) {
        self.joins.get_or_create(&Outcome { outcome }).inc();
    }
}
