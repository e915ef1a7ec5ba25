//! A node's metrics of its log: counters and gauges for `/metrics`.
//!
//! Clones share their values. Every value describes only this node.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

/// Upper bounds of the buckets for appends, in seconds: from a fast local Redis to the longest wait of a publish.
pub const APPEND_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// The purpose of a connection to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Purpose {
    /// One of `tail`, `append`, `read`, `subscription` and `hook`.
    pub purpose: &'static str,
}

/// The metrics of a log in Redis.
#[derive(Clone, Debug)]
pub struct LogMetrics {
    /// Connections that were lost, by purpose.
    pub connections_lost: Family<Purpose, Counter>,
    /// Whether the tail can reach the log: 1 or 0.
    pub reachable: Gauge,
    /// The age of the newest entry when this node read it.
    pub lag: Gauge<f64, AtomicU64>,
    /// Entries that are not messages.
    pub skipped: Counter,
    /// Entries in a format that this node does not read.
    pub unreadable: Counter,
    /// The format that entries are written in.
    pub format: Gauge,
    /// Messages appended by publishing through this node.
    pub appended: Counter,
    /// The time from sending a batch to its answer.
    pub append_seconds: Histogram,
    /// Messages whose append has an unknown outcome.
    pub unsettled: Counter,
    /// Entries that this node's trimming and appends have dropped.
    pub trimmed: Counter,
    /// Bytes that trimming has freed, by Redis's measure of the stream's memory.
    pub trimmed_bytes: Counter,
    /// PUBLISHes that this node has appended.
    pub bridged: Counter,
    /// PUBLISHes that this node has received and dropped, because another node had appended them.
    pub already_appended: Counter,
    /// PUBLISHes that are not messages.
    pub refused: Counter,
    /// PUBLISHes whose idempotency key is not remembered, because there was no room for it.
    pub forgotten_keys: Counter,
    /// PUBLISHes and entries whose `exclude` is not a client id.
    pub ignored_excludes: Counter,
    /// PUBLISHes that were received and lost, because too many waited or they waited too long.
    pub overflowed: Counter,
    /// PUBLISHes that wait until this node or another node appends them.
    pub waiting: Gauge,
    /// The number of times that this node's subscription was lost. The node does not receive PUBLISHes until it
    /// subscribes again.
    pub lost_subscriptions: Counter,
    /// The number of changes of the lease holder that this node has seen.
    pub lease_changes: Counter,
    /// Whether this node holds the lease: 1 or 0.
    pub holds_lease: Gauge,
}

impl Default for LogMetrics {
    fn default() -> LogMetrics {
        LogMetrics {
            connections_lost: Family::default(),
            reachable: Gauge::default(),
            lag: Gauge::default(),
            skipped: Counter::default(),
            unreadable: Counter::default(),
            format: Gauge::default(),
            appended: Counter::default(),
            append_seconds: Histogram::new(APPEND_BUCKETS),
            unsettled: Counter::default(),
            trimmed: Counter::default(),
            trimmed_bytes: Counter::default(),
            bridged: Counter::default(),
            already_appended: Counter::default(),
            refused: Counter::default(),
            forgotten_keys: Counter::default(),
            ignored_excludes: Counter::default(),
            overflowed: Counter::default(),
            waiting: Gauge::default(),
            lost_subscriptions: Counter::default(),
            lease_changes: Counter::default(),
            holds_lease: Gauge::default(),
        }
    }
}

impl LogMetrics {
    /// Registers the metrics. The registry puts `longtail_` in front of names, and `_total` at the end of counters'
    /// names.
    pub fn register(&self, registry: &mut Registry) {
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("log_skipped_entries", "Entries of the log that are not messages", &self.skipped);
        let help = "Entries of the log in a format that this node does not read; its readers get a gap";
        counter("log_unreadable_entries", help, &self.unreadable);
        counter("log_appended_messages", "Messages appended by publishing through this node", &self.appended);
        counter("log_unsettled_messages", "Messages whose append had an unknown outcome", &self.unsettled);
        counter("log_trimmed_entries", "Entries that this node has dropped from the log", &self.trimmed);
        counter("bridge_bridged_messages", "PUBLISHes that this node has appended", &self.bridged);
        counter("bridge_struck_out_messages", "PUBLISHes that another node had appended", &self.already_appended);
        counter("bridge_refused_messages", "PUBLISHes that are not messages", &self.refused);
        let help = "PUBLISHes whose idempotency key was not remembered, because the keys of publishers through Redis had used up their share";
        counter("bridge_forgotten_keys", help, &self.forgotten_keys);
        let help =
            "PUBLISHes and entries with an exclude or an item of except that is not a name and leaves out nobody";
        counter("log_ignored_excludes", help, &self.ignored_excludes);
        counter(
            "bridge_overflowed_messages",
            "PUBLISHes that were received and lost, because too many waited or they waited too long",
            &self.overflowed,
        );
        counter(
            "bridge_deaf",
            "Lost subscriptions; the node may have missed PUBLISHes after each of them",
            &self.lost_subscriptions,
        );
        counter("bridge_lease_changes", "Observed changes of the lease holder", &self.lease_changes);
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("log_reachable", "Whether the log can be reached", &self.reachable);
        gauge("log_format", "The format of the entries that this node writes", &self.format);
        gauge("bridge_waiting_messages", "PUBLISHes received and not yet known to be in the log", &self.waiting);
        gauge("bridge_holds_lease", "Whether this node appends PUBLISHes", &self.holds_lease);
        let (lag, append) = (self.lag.clone(), self.append_seconds.clone());
        registry.register_with_unit("log_lag", "Age of the newest entry when it was read", Unit::Seconds, lag);
        registry.register_with_unit(
            "log_append",
            "Time from sending a batch of appends to Redis's answer",
            Unit::Seconds,
            append,
        );
        // The counters are created at the start: a rate over a counter that appears only with the first loss would miss
        // that loss.
        for purpose in ["tail", "append", "read", "subscription", "hook"] {
            drop(self.connections_lost.get_or_create(&Purpose { purpose }));
        }
        let (lost, bytes) = (self.connections_lost.clone(), self.trimmed_bytes.clone());
        registry.register("log_connections_lost", "Connections to Redis that were lost", lost);
        registry.register_with_unit("log_trimmed", "Memory of the log that trimming has freed", Unit::Bytes, bytes);
    }

    /// Counts a connection that was lost.
    pub fn lost(&self, purpose: &'static str) {
        self.connections_lost.get_or_create(&Purpose { purpose }).inc();
    }
}

/// The metrics of calls to the application through a stream.
#[derive(Clone, Debug, Default)]
pub struct CallStreamMetrics {
    /// Answers to calls whose time is over, to calls with an answer and to unknown calls, on all nodes of the log.
    pub late: Gauge,
    /// Answers that longtail_answer has refused, on all nodes of the log.
    pub refused: Gauge,
    /// Calls of this node that were sent again, because the log has moved to another server.
    pub resent: Counter,
}

impl CallStreamMetrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Answers of workers that are too late, not the first, or without a call, on all nodes of the log";
        registry.register("hook_stream_late_answers", help, self.late.clone());
        let help = "Answers of workers that longtail_answer has refused, on all nodes of the log";
        registry.register("hook_stream_refused_answers", help, self.refused.clone());
        let help = "Calls that were sent to the stream again, because the log has moved to another server";
        registry.register("hook_stream_resent_calls", help, self.resent.clone());
    }
}
