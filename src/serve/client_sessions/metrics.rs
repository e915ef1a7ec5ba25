//! Counts what happens to sessions on this node.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// The metrics of sessions.
#[derive(Default)]
pub struct SessionMetrics {
    /// Sessions with an open connection to this node.
    pub connected: Gauge,
    opened: Family<Outcome, Counter>,
    ended: Family<Reason, Counter>,
    /// Calls that the store did not answer.
    pub failures: Counter,
    /// Joins of the application that had no effect.
    pub refused_joins: Counter,
    /// Answers of clients that the application does not wait for.
    pub unknown_acks: Counter,
}

/// The outcomes of a request that names a session or wants a new one.
const OUTCOMES: [&str; 6] = ["opened", "resumed", "unknown", "refused", "full", "unavailable"];

/// Why sessions end.
pub const ENDS: [&str; 3] = ["gone", "disconnected", "gap"];

/// The metrics of sealed bookmarks.
#[derive(Default)]
pub struct SealedMetrics {
    refused: Family<Reason, Counter>,
    moved: Family<Reason, Counter>,
    /// Calls for the keys that got no answer.
    pub key_failures: Counter,
}

/// Why sessions move to the record.
const MOVES: [&str; 5] = ["disconnect", "presence", "size", "stream", "ttl"];

/// Why tokens are not honoured.
const REFUSALS: [&str; 6] = ["malformed", "unknown_key", "forged", "expired", "ended", "lost"];

impl SealedMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Arc<SealedMetrics> {
        let metrics = SealedMetrics::default();
        REFUSALS.iter().for_each(|reason| drop(metrics.refused.get_or_create(&Reason { reason })));
        MOVES.iter().for_each(|reason| drop(metrics.moved.get_or_create(&Reason { reason })));
        let help = "Sealed tokens that were not honoured, by reason";
        registry.register("sealed_tokens_refused", help, metrics.refused.clone());
        let help = "Client sessions that needed the record instead of a sealed token, by reason";
        registry.register("sealed_sessions_moved", help, metrics.moved.clone());
        let help = "Calls for the keys of sealed tokens that got no answer";
        registry.register("sealed_key_failures", help, metrics.key_failures.clone());
        Arc::new(metrics)
    }

    /// Counts a token that is not honoured.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a session that needs the record.
    pub fn moved(&self, reason: &'static str) {
        self.moved.get_or_create(&Reason { reason }).inc();
    }
}

impl SessionMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> SessionMetrics {
        let metrics = SessionMetrics::default();
        let help = "Client sessions with an open connection to this node";
        registry.register("sessions_connected", help, metrics.connected.clone());
        // The counters are created at the start: a rate over a counter that appears only with the first event would
        // miss that event.
        OUTCOMES.iter().for_each(|outcome| drop(metrics.opened.get_or_create(&Outcome { outcome })));
        ENDS.iter().for_each(|reason| drop(metrics.ended.get_or_create(&Reason { reason })));
        let help = "Requests that name a client session or want a new one, by outcome";
        registry.register("sessions_opened", help, metrics.opened.clone());
        registry.register(
            "sessions_ended",
            "Client sessions that this node has ended, by reason",
            metrics.ended.clone(),
        );
        let help = "Calls to the record of client sessions that got no answer";
        registry.register("sessions_failures", help, metrics.failures.clone());
        let help = "Joins of client sessions that had no effect, because of the name or the number of channels";
        registry.register("sessions_refused_joins", help, metrics.refused_joins.clone());
        let help = "Answers of clients that the application does not wait for";
        registry.register("sessions_unknown_acks", help, metrics.unknown_acks.clone());
        metrics
    }

    /// Counts a request that names a session or wants a new one.
    pub fn opened(&self, outcome: &'static str) {
        self.opened.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a session that has ended.
    pub fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&Reason { reason }).inc();
    }
}
