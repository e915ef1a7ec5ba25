//! Metrics of this process, under the names that the Prometheus client libraries use.

use super::exporter::MetricWriter;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use std::fmt;
use std::fs;

/// Clock ticks per second in `/proc` (`USER_HZ`), the same on every Linux system.
const TICKS: f64 = 100.0;

/// The collector of process metrics from `/proc/self`. Systems without `/proc` do not get these metrics.
#[derive(Debug)]
pub struct ProcessMetrics;

/// A reading of the process metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Bytes of memory in use.
    pub resident: u64,
    /// Seconds of CPU time, in user and kernel mode.
    pub cpu: f64,
    /// Open descriptors.
    pub descriptors: u64,
    /// The limit on open descriptors.
    pub most_descriptors: u64,
}

impl Usage {
    /// Reads the metrics; `None` if the system does not provide them.
    pub fn now() -> Option<Usage> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident: u64 = resident.trim().trim_end_matches(" kB").parse().ok()?;
        // The 14th and the 15th field. The fields are counted from the bracket after the process's name, because the
        // name may contain any character.
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        let descriptors = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        let most_descriptors = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(0, |(soft, _)| soft);
        Some(Usage { resident: resident * 1024, cpu: ticks / TICKS, descriptors, most_descriptors })
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(usage) = Usage::now() else { return Ok(()) };
        let mut out = MetricWriter(encoder);
        out.gauge_of("process_resident_memory", "Memory in use", &Unit::Bytes, usage.resident as f64)?;
        out.counter_of("process_cpu", "Processor time", &Unit::Seconds, usage.cpu)?;
        out.gauge("process_open_fds", "Open descriptors", usage.descriptors)?;
        out.gauge("process_max_fds", "Limit on open descriptors", usage.most_descriptors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::now().expect("/proc");
        assert!(usage.resident > 1 << 20 && usage.descriptors > 2 && usage.most_descriptors > 2, "{usage:?}");
    }
}
