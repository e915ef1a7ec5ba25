//! The metrics of transitions.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics.
#[derive(Clone, Default)]
pub struct TransitionMetrics {
    /// Whether this node is the sender.
    pub is_sender: Gauge,
    /// The transitions that were not told yet.
    pub waiting: Gauge,
    /// Attempts to tell a transition that have failed and are repeated.
    pub repeats: Counter,
    /// How often the members were compared, because entries of the log were missing.
    pub comparisons: Counter,
    /// Transitions that were left out, because the record is full.
    pub omitted: Counter,
}

impl TransitionMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> TransitionMetrics {
        let metrics = TransitionMetrics::default();
        let help = "Whether this node tells the application about channels and members";
        registry.register("transitions_sender", help, metrics.is_sender.clone());
        let help = "Changes of channels and members that wait for the application";
        registry.register("transitions_waiting", help, metrics.waiting.clone());
        let help = "Calls about a channel or a member that have failed and are repeated";
        registry.register("transitions_repeats", help, metrics.repeats.clone());
        let help = "Comparisons of all members with those that were told, because the log had a gap";
        registry.register("transitions_comparisons", help, metrics.comparisons.clone());
        let help = "Changes of channels and members that were left out, because the record of what was told is full";
        registry.register("transitions_omitted", help, metrics.omitted.clone());
        metrics
    }
}
