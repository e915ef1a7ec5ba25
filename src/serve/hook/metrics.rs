//! The metrics of the hook.

use super::call_type::CallType;
use super::queue::CallQueue;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    r#type: &'static str,
    outcome: &'static str,
}

/// The metrics.
pub struct HookMetrics {
    calls: Family<Outcome, Counter>,
    repeats: Counter,
    seconds: Histogram,
}

impl HookMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry, queue: &CallQueue) -> HookMetrics {
        let metrics = HookMetrics {
            calls: Family::default(),
            repeats: Counter::default(),
            seconds: Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0]),
        };
        registry.register("hook_calls", "Calls to the application, by type and outcome", metrics.calls.clone());
        registry.register("hook_repeats", "Calls that were sent once more", metrics.repeats.clone());
        registry.register("hook_seconds", "Time that a call took, with its repetition", metrics.seconds.clone());
        registry.register("hook_waiting", "Calls that wait for their turn or their answer", queue.waiting());
        metrics
    }

    /// Counts a call by its type and outcome.
    pub fn count(&self, kind: CallType, outcome: &'static str) {
        self.calls.get_or_create(&Outcome { r#type: kind.as_str(), outcome }).inc();
    }

    /// Counts a call that is sent once more.
    pub fn repeated(&self) {
        self.repeats.inc();
    }

    /// Notes the time that a call took.
    pub fn took(&self, time: Duration) {
        self.seconds.observe(time.as_secs_f64());
    }
}
