//! Counts what happens to Pusher clients and SDKs on this node.

use super::apps::App;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AppLabel {
    app: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A connection.
    Connection,
    /// A subscription.
    Subscription,
    /// An event of a client.
    ClientEvent,
    /// A sign-in.
    Signin,
    /// A frame that is not one of the protocol.
    Frame,
    /// A request to the REST API.
    Request,
}

impl Refused {
    const ALL: [(Refused, &'static str); 6] = [
        (Refused::Connection, "connection"),
        (Refused::Subscription, "subscription"),
        (Refused::ClientEvent, "client_event"),
        (Refused::Signin, "signin"),
        (Refused::Frame, "frame"),
        (Refused::Request, "request"),
    ];
}

/// The metrics.
#[derive(Clone, Default)]
pub struct PusherMetrics {
    refused: Family<Reason, Counter>,
    connections: Family<AppLabel, Gauge>,
}

impl PusherMetrics {
    /// Registers the metrics.
    pub fn register<'a>(registry: &mut Registry, apps: impl Iterator<Item = &'a Arc<App>>) -> PusherMetrics {
        let metrics = PusherMetrics::default();
        // The counters are created at the start: a rate over a counter that appears only with the first event would
        // miss that event.
        for (_, reason) in Refused::ALL {
            drop(metrics.refused.get_or_create(&Reason { reason }));
        }
        apps.for_each(|app| drop(metrics.connections(app)));
        let help = "What was refused to Pusher clients and SDKs";
        registry.register("pusher_refused", help, metrics.refused.clone());
        let help = "Connections of Pusher clients on this node, by app";
        registry.register("pusher_connections", help, metrics.connections.clone());
        metrics
    }

    /// Counts a refusal.
    pub fn refused(&self, what: Refused) {
        let (_, reason) = Refused::ALL[what as usize];
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// The number of connections of an app.
    pub fn connections(&self, app: &App) -> Gauge {
        self.connections.get_or_create(&AppLabel { app: app.id.clone() }).clone()
    }
}
