//! Counts what happens to Pusher clients and SDKs on this node.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// What has happened to an event of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// The application has taken it.
    Sent,
    /// The application has not taken it, and it is repeated.
    Repeated,
    /// Too many events wait, or it has waited for too long.
    Dropped,
}

impl WebhookOutcome {
    const ALL: [(WebhookOutcome, &'static str); 3] =
        [(WebhookOutcome::Sent, "sent"), (WebhookOutcome::Repeated, "repeated"), (WebhookOutcome::Dropped, "dropped")];
}

/// The metrics.
#[derive(Clone, Default)]
pub struct PusherMetrics {
    refused: Family<Reason, Counter>,
    connections: Family<AppLabel, Gauge>,
    webhooks: Family<Outcome, Counter>,
}

impl PusherMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> PusherMetrics {
        let metrics = PusherMetrics::default();
        // The counters are created at the start: a rate over a counter that appears only with the first event would
        // miss that event.
        for (_, reason) in Refused::ALL {
            drop(metrics.refused.get_or_create(&Reason { reason }));
        }
        for (_, outcome) in WebhookOutcome::ALL {
            drop(metrics.webhooks.get_or_create(&Outcome { outcome }));
        }
        let help = "What was refused to Pusher clients and SDKs";
        registry.register("pusher_refused", help, metrics.refused.clone());
        let help = "Connections of Pusher clients on this node, by app";
        registry.register("pusher_connections", help, metrics.connections.clone());
        let help = "Events for the webhooks of Pusher apps: sent, not taken and repeated, or dropped";
        registry.register("pusher_webhook_events", help, metrics.webhooks.clone());
        metrics
    }

    /// Counts an event of a webhook.
    pub fn webhook(&self, outcome: WebhookOutcome) {
        let (_, outcome) = WebhookOutcome::ALL[outcome as usize];
        self.webhooks.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a refusal.
    pub fn refused(&self, what: Refused) {
        let (_, reason) = Refused::ALL[what as usize];
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// The number of connections of the app with this id.
    pub fn connections(&self, app: &str) -> Gauge {
        self.connections.get_or_create(&AppLabel { app: app.to_owned() }).clone()
    }
}
