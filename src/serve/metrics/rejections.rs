//! What was refused and who was let go, by reason, for `/metrics`.

use crate::transport::Code;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::io;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Counts refusals.
#[derive(Clone, Default)]
pub struct Refused(Family<Reason, Counter>);

impl Refused {
    /// Told under this name.
    pub fn register(registry: &mut Registry) -> Refused {
        let refused = Refused::default();
        let help = "Requests, commands and connections that were refused, and readers that were let go, by reason";
        registry.register("refused", help, refused.0.clone());
        refused
    }

    /// A request or a command.
    pub fn count(&self, code: Code) {
        self.because(code.as_str());
    }

    /// What has no code: a connection that was closed.
    pub fn because(&self, reason: &'static str) {
        self.0.get_or_create(&Reason { reason }).inc();
    }

    /// A connection whose writes failed.
    pub fn writer(&self, error: &io::Error) {
        // What was cut for want of memory was counted there.
        if error.kind() == io::ErrorKind::TimedOut {
            self.because("slow_reader");
        }
    }

    /// A request whose head hyper did not take.
    pub fn head(&self, error: &hyper::Error) {
        let reason = match error {
            error if error.is_timeout() => "request_timeout",
            error if error.is_parse_too_large() => "head_too_large",
            error if error.is_parse() => "bad_head",
            _ => return,
        };
        self.because(reason);
    }
}
