//! What all SockJS sessions of a node share.

use super::metrics::SockJsMetrics;
use super::receivers::Receivers;
use super::settings::{Prefix, SockJsSettings};
use crate::log::connections::ConnectionStore;
use crate::wire::sockjs::path::Target;
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// What all sessions share.
pub struct Shared {
    /// The prefixes, the longest path first.
    pub prefixes: Vec<Arc<Prefix>>,
    /// The requests that read at this node.
    pub receivers: Arc<Receivers>,
    /// The metrics.
    pub metrics: SockJsMetrics,
}

impl Shared {
    /// The shared state, with metrics in this registry.
    pub fn new(settings: SockJsSettings, store: Arc<dyn ConnectionStore>, registry: &mut Registry) -> Shared {
        let mut prefixes: Vec<_> = settings.prefixes.into_iter().map(Arc::new).collect();
        prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.path.len()));
        let receivers = Receivers::new(store, settings.most);
        Shared { prefixes, receivers, metrics: SockJsMetrics::register(registry) }
    }

    /// The prefix of a path, and what the path asks for.
    pub fn find<'a>(&self, path: &'a str) -> Option<(&Arc<Prefix>, Target<'a>)> {
        self.prefixes.iter().find_map(|prefix| {
            let target = Target::parse(path.strip_prefix(&*prefix.path)?)?;
            Some((prefix, target))
        })
    }
}
