//! Reads `/metrics`.

use super::{Node, Request};
use std::collections::BTreeMap;

/// One reading: samples by their name and labels, as they are written.
pub struct Metrics {
    pub text: String,
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    pub async fn of(node: &Node) -> Metrics {
        Metrics::try_of(node).await.expect("/metrics")
    }

    /// Reads the metrics of a node that may be gone.
    pub async fn try_of(node: &Node) -> Option<Metrics> {
        let answer = Request::get("/metrics").try_send(node.http).await?;
        assert_eq!(answer.status, 200);
        let text = answer.text();
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        });
        Some(Metrics { samples: samples.collect(), text })
    }

    /// Returns the value of a sample, or 0 if there is no such sample. `name` includes the labels:
    /// `name{label="value"}`.
    pub fn value(&self, name: &str) -> f64 {
        self.samples.get(name).copied().unwrap_or_default()
    }

    /// The sum over all labels.
    pub fn sum(&self, name: &str) -> f64 {
        let is_of =
            |sample: &str| sample == name || sample.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
        self.samples.iter().filter(|(sample, _)| is_of(sample)).map(|(_, value)| value).sum()
    }

    /// The names of all samples, without labels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(|sample| sample.split('{').next().unwrap_or_default())
    }
}
