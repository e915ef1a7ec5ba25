//! What all Socket.IO connections of a node share.

use super::encodings::Encodings;
use super::metrics::SocketIoMetrics;
use super::settings::SocketIoSettings;
use crate::log::connections::ConnectionStore;
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// What all connections share.
pub struct Shared {
    /// The settings.
    pub settings: SocketIoSettings,
    /// The metrics.
    pub metrics: SocketIoMetrics,
    /// The encodings of messages.
    pub encodings: Encodings,
    /// The records of connections that poll.
    pub store: Arc<dyn ConnectionStore>,
}

impl Shared {
    /// The shared state, with metrics in this registry.
    pub fn new(settings: SocketIoSettings, store: Arc<dyn ConnectionStore>, registry: &mut Registry) -> Shared {
        let metrics = SocketIoMetrics::register(registry);
        let encodings = Encodings::new(metrics.skipped_messages.clone());
        Shared { settings, metrics, encodings, store }
    }
}
