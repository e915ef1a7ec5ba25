//! Exports the metrics of a node for `/metrics`. Sums over shards are computed at each request.

use super::delivery::{BATCHES, DeliveryMetrics, LAGS, Summed, Totals};
use crate::hub::Hub;
use crate::log::metrics::APPEND_BUCKETS;
use crate::message::encoding;
use crate::serve::limits::connections::Connections;
use crate::serve::net::drain::Drain;
use crate::transport::Code;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The labels of a metric.
type Labels = Vec<(&'static str, String)>;

const NO_EXEMPLAR: Option<&Exemplar<Labels, f64>> = None;

/// The collector of metrics about readers, publishers and memory.
pub struct Exporter {
    /// The metrics of readers and publishers.
    pub delivery: Arc<DeliveryMetrics>,
    /// The connections.
    pub connections: Arc<Connections>,
    /// The hub, with its memory of the log.
    pub hub: Arc<Hub>,
    /// Whether the node is shutting down.
    pub drain: Drain,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

impl Collector for Exporter {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = MetricWriter(encoder);
        self.encode_readers(&mut out)?;
        self.encode_publishers(&mut out)?;
        self.encode_node(&mut out)
    }
}

impl Exporter {
    /// Writes the metrics of readers and of deliveries to them.
    fn encode_readers(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let totals = self.delivery.totals();
        let by_transport = |value: fn(&Totals) -> u64| {
            totals.iter().map(move |totals| (vec![("transport", totals.transport.to_owned())], value(totals)))
        };
        out.gauges(
            "connections",
            "Open streams, sockets and waiting polls, by transport",
            by_transport(|totals| totals.open.max(0) as u64),
        )?;
        out.counters("delivered_messages", "Messages written to readers", None, by_transport(|t| t.messages))?;
        out.counters(
            "delivered",
            "Bytes written to readers: bodies and frames, without heads",
            Some(&Unit::Bytes),
            by_transport(|totals| totals.bytes),
        )?;
        out.histograms(
            "batch_messages",
            "Messages in a write or a batch",
            None,
            &BATCHES,
            totals.iter().map(|totals| (totals.transport, &totals.batches)),
        )?;
        out.histograms(
            "delivery_lag",
            "Time from log to write, for messages that arrived while the reader was connected",
            Some(&Unit::Seconds),
            &LAGS,
            totals.iter().map(|totals| (totals.transport, &totals.lags)),
        )?;
        out.counters("gaps", "Gaps reported to readers", None, by_transport(|totals| totals.gaps))?;
        out.counters("rollovers", "Streams ended to limit the browser's memory", None, by_transport(|t| t.rollovers))?;
        let bye = |(bye, count): (crate::transport::CloseReason, u64)| {
            (vec![("code", bye.code().to_string()), ("reason", bye.reason().to_owned())], count)
        };
        out.counters("byes", "Farewells sent to readers, by code", None, self.delivery.byes().map(bye))?;
        let delivered: u64 = totals.iter().map(|totals| totals.messages).sum();
        let encoded = encoding::made();
        out.counters("encodings", "Times that a message was encoded, once for each encoding", None, one(encoded))?;
        // Each delivery uses an encoding that was made for this delivery or for an earlier one.
        let hits = delivered.saturating_sub(encoded);
        out.counters("encode_cache_hits", "Deliveries that reused an encoded message", None, one(hits))
    }

    /// Writes the metrics of publishers.
    fn encode_publishers(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let source = |(source, count): (&'static str, u64)| (vec![("way", source.to_owned())], count);
        out.counters(
            "published_messages",
            "Messages published to this node",
            None,
            self.delivery.sources().map(source),
        )?;
        let code = |(code, count): (Code, u64)| (vec![("code", code.to_string())], count);
        let failures = self.delivery.failures().map(code);
        out.counters("append_failures", "Publications that were not acknowledged", None, failures)?;
        let help = "Time from the start of a publication to its position in the log";
        out.histogram("append", help, Some(&Unit::Seconds), &APPEND_BUCKETS, &self.delivery.appends())
    }

    /// Writes the metrics of this node and of its memory.
    fn encode_node(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let retained = self.hub.retained();
        out.counters("read_messages", "Messages that this node has read from the log", None, one(retained.read))?;
        out.gauges("sockets", "Connections of clients, idle ones included", one(self.connections.count() as u64))?;
        let most = self.connections.most() as u64;
        out.gauges("sockets_limit", "Limit on connections, from the flag and the file descriptors", one(most))?;
        out.gauges(
            "channels",
            "Channels with readers or retained messages on this node",
            one(retained.channels as u64),
        )?;
        out.gauges("retained_messages", "Messages in this node's memory", one(retained.messages as u64))?;
        out.gauge_of("retained", "Size of this node's memory of the log", &Unit::Bytes, retained.bytes as f64)?;
        out.gauges("ready", "Whether the node has read the log and can reach it", one(self.hub.is_ready().into()))?;
        out.gauges(
            "draining",
            "Whether the node is draining or will drain soon",
            one(self.drain.is_announced().into()),
        )?;
        out.gauge_of(
            "uptime",
            "Time since the server started",
            &Unit::Seconds,
            self.delivery.began.elapsed().as_secs_f64(),
        )?;
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        out.gauges("build", "Always 1; the label is the version", [(version, 1)].into_iter())
    }
}

/// Writes one value without labels.
fn one(value: u64) -> impl Iterator<Item = (Labels, u64)> {
    [(Labels::new(), value)].into_iter()
}

/// Writes metrics.
pub struct MetricWriter<'a>(pub DescriptorEncoder<'a>);

impl MetricWriter<'_> {
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        members: impl Iterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in members {
            if labels.is_empty() {
                family.encode_counter(&value, NO_EXEMPLAR)?;
            } else {
                family.encode_family(&labels)?.encode_counter(&value, NO_EXEMPLAR)?;
            }
        }
        Ok(())
    }

    /// Writes a counter with a fraction.
    pub fn counter_of(&mut self, name: &str, help: &str, unit: &Unit, value: f64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(unit), MetricType::Counter)?;
        family.encode_counter(&value, NO_EXEMPLAR)
    }

    fn gauges(&mut self, name: &str, help: &str, members: impl Iterator<Item = (Labels, u64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in members {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// Writes a gauge without a unit.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauges(name, help, one(value))
    }

    /// Writes a gauge with a unit.
    pub fn gauge_of(&mut self, name: &str, help: &str, unit: &Unit, value: f64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(unit), MetricType::Gauge)?;
        family.encode_gauge(&value)
    }

    fn histograms<'s, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        bounds: &[f64; N],
        members: impl Iterator<Item = (&'static str, &'s Summed<N>)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for (transport, summed) in members {
            let labels = [("transport", transport)];
            let mut member = family.encode_family(&labels)?;
            member.encode_histogram(summed.sum, summed.count(), &buckets(bounds, summed), no_exemplars::<Labels>())?;
        }
        Ok(())
    }

    fn histogram<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        bounds: &[f64; N],
        summed: &Summed<N>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        family.encode_histogram(summed.sum, summed.count(), &buckets(bounds, summed), no_exemplars::<Labels>())
    }
}

fn no_exemplars<'a, S: EncodeLabelSet>() -> Option<&'a HashMap<usize, Exemplar<S, f64>>> {
    None
}

/// Returns the buckets as the encoder expects them, which are not cumulative: the encoder sums them up itself.
fn buckets<const N: usize>(bounds: &[f64; N], summed: &Summed<N>) -> Vec<(f64, u64)> {
    let beyond = [(f64::INFINITY, summed.beyond)];
    bounds.iter().copied().zip(summed.counts).chain(beyond).collect()
}
