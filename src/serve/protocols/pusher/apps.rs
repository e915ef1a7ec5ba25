//! The apps: their keys, their channels and their connections.

use super::channel_name::channel_name;
use super::transport;
use super::webhook::Webhook;
use crate::message::{BadChannel, Channel, Encoding, escape};
use crate::wire::pusher::signature::Secret;
use crate::wire::pusher::webhook::WebhookEvent;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The settings of an app.
pub struct PusherAppSettings {
    /// The id, which is a part of the paths of the REST API.
    pub id: String,
    /// The key, which clients know.
    pub key: String,
    /// The secret.
    pub secret: String,
    /// The beginning of the names of the app's channels in the log.
    pub prefix: String,
    /// The path in front of `/apps` that SDKs sign, if a proxy removes it.
    pub path: String,
    /// Whether clients may send events.
    pub client_events: bool,
    /// The maximum number of connections of the app at this node; 0 means no maximum.
    pub max_connections: usize,
    /// Whether the app may be used.
    pub enabled: bool,
    /// The webhooks of the app.
    pub webhooks: Vec<Arc<Webhook>>,
}

/// An app.
pub struct App {
    /// The id.
    pub id: String,
    /// The key.
    pub key: String,
    /// The secret.
    pub secret: Secret,
    /// The path in front of `/apps` that SDKs sign.
    pub path: String,
    /// The beginning of the names of its channels in the log.
    pub prefix: String,
    /// Whether clients may send events.
    pub client_events: bool,
    /// Whether the app may be used.
    pub enabled: bool,
    /// The encoding of messages for its clients. It depends on the prefix, so each app has its own.
    pub encoding: &'static Encoding,
    webhooks: Vec<Arc<Webhook>>,
    max_connections: usize,
    connections: AtomicUsize,
}

impl App {
    fn new(settings: PusherAppSettings) -> App {
        App {
            id: settings.id,
            key: settings.key,
            secret: Secret::new(&settings.secret),
            path: settings.path,
            encoding: transport::encoding(settings.prefix.clone()),
            prefix: settings.prefix,
            client_events: settings.client_events,
            enabled: settings.enabled,
            webhooks: settings.webhooks,
            max_connections: settings.max_connections,
            connections: AtomicUsize::new(0),
        }
    }

    /// The channel of the log that has this name in the app.
    ///
    /// # Errors
    ///
    /// The name is empty or too long.
    pub fn channel(&self, name: &str) -> Result<Channel, BadChannel> {
        Channel::of_server(&format!("{}{}", self.prefix, escape(name.as_bytes())))
    }

    /// The name in the app of a channel of the log; `None` if the channel is not one of the app.
    pub fn name(&self, channel: &Channel) -> Option<String> {
        channel_name(&self.prefix, channel)
    }

    /// The reserved channel of a user, whose control entries all connections of the user read.
    ///
    /// # Errors
    ///
    /// The id of the user is too long.
    pub fn user_channel(&self, user: &str) -> Result<Channel, BadChannel> {
        Channel::reserved(&format!("~u/{}/{}", self.id, escape(user.as_bytes())))
    }

    /// Sends an event to the webhooks that take it.
    pub fn notify(&self, kind: WebhookEvent, event: impl FnOnce() -> String) {
        let mut takers = self.webhooks.iter().filter(|webhook| webhook.takes_event(kind)).peekable();
        if takers.peek().is_none() {
            return;
        }
        let event = event();
        takers.for_each(|webhook| webhook.send(event.clone()));
    }

    /// The number of connections on this node.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection; `None` if the app has as many as it may have.
    pub fn admit(self: &Arc<App>) -> Option<AppPermit> {
        let most = if self.max_connections == 0 { usize::MAX } else { self.max_connections };
        let counted = self
            .connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then_some(count + 1));
        counted.ok().map(|_| AppPermit(self.clone()))
    }
}

/// A counted connection of an app.
pub struct AppPermit(Arc<App>);

impl Drop for AppPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All apps.
pub struct Apps(Vec<Arc<App>>);

impl Apps {
    /// Makes the apps.
    pub fn new(settings: impl Iterator<Item = PusherAppSettings>) -> Apps {
        Apps(settings.map(|settings| Arc::new(App::new(settings))).collect())
    }

    /// The app with this key. Keys are public.
    pub fn with_key(&self, key: &str) -> Option<&Arc<App>> {
        self.0.iter().find(|app| app.key == key)
    }

    /// The app with this id.
    pub fn with_id(&self, id: &str) -> Option<&Arc<App>> {
        self.0.iter().find(|app| app.id == id)
    }

    /// Each app.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<App>> {
        self.0.iter()
    }
}
