//! Counts rejections and disconnected readers, by reason.

use crate::transport::Code;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::io;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Counts rejections.
#[derive(Clone, Default)]
pub struct Rejections(Family<ReasonLabel, Counter>);

impl Rejections {
    /// Registers the counter.
    pub fn register(registry: &mut Registry) -> Rejections {
        let rejections = Rejections::default();
        let help =
            "Requests, commands and connections that were rejected, and readers that were disconnected, by reason";
        registry.register("refused", help, rejections.0.clone());
        rejections
    }

    /// Returns the counter of a reason.
    pub fn counter(&self, reason: &'static str) -> Counter {
        self.0.get_or_create(&ReasonLabel { reason }).clone()
    }

    /// Counts a request or a command that was answered with an error code.
    pub fn count(&self, code: Code) {
        self.count_reason(code.as_str());
    }

    /// Counts a rejection without an error code, such as a connection that was closed.
    pub fn count_reason(&self, reason: &'static str) {
        self.0.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a connection whose write failed because the client did not read.
    pub fn write_failed(&self, error: &io::Error) {
        // A write that was cut for lack of memory was already counted when it was cut.
        if error.kind() == io::ErrorKind::TimedOut {
            self.count_reason("slow_reader");
        }
    }

    /// Counts a request whose head hyper rejected.
    pub fn bad_head(&self, error: &hyper::Error) {
        let reason = match error {
            error if error.is_timeout() => "request_timeout",
            error if error.is_parse_too_large() => "head_too_large",
            error if error.is_parse() => "bad_head",
            _ => return,
        };
        self.count_reason(reason);
    }
}
