//! Metrics of HTTP/2 connections.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::sync::Arc;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Counters over all HTTP/2 connections.
#[derive(Default)]
pub struct Http2Metrics {
    closed: Family<ReasonLabel, Counter>,
    streams: Family<KindLabel, Counter>,
}

impl Http2Metrics {
    /// Registers the counters.
    pub fn new(registry: &mut Registry) -> Arc<Http2Metrics> {
        let metrics = Http2Metrics::default();
        registry.register(
            "http2_let_go",
            "HTTP/2 connections that the server closed because of their clients, by reason",
            metrics.closed.clone(),
        );
        registry.register("http2_streams", "HTTP/2 streams opened, by purpose", metrics.streams.clone());
        Arc::new(metrics)
    }

    /// Counts a connection that the server closes because of its client's behaviour.
    pub fn closed(&self, reason: &'static str) {
        self.closed.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a stream by its purpose.
    pub fn stream_opened(&self, kind: &'static str) {
        self.streams.get_or_create(&KindLabel { kind }).inc();
    }
}
