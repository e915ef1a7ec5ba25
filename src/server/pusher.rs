//! Builds the protocol Pusher from its flags.

use super::access::warn_if_short;
use super::bad_flag;
use crate::config::{BadConfig, PusherApp, PusherFlags};
use crate::message::Pattern;
use crate::serve::{Protocol, Pusher, PusherAppSettings};
use prometheus_client::registry::Registry;

/// Reads the apps of the flags.
///
/// # Errors
///
/// The file cannot be read, or has a mistake.
pub fn apps(flags: &PusherFlags) -> Result<Vec<PusherApp>, BadConfig> {
    let read = |path| std::fs::read_to_string(path).map_err(|error| (path, error));
    let text = flags.pusher_apps.as_ref().map(read).transpose();
    let text = text.map_err(|(path, error)| bad_flag("--pusher-apps", &format!("{}: {error}", path.display())))?;
    let apps = flags.apps(text.as_deref())?;
    for app in &apps {
        warn_if_short(&format!("the Pusher app {}", app.id), app.secret.0.len());
    }
    Ok(apps)
}

/// The beginnings of channels that a pattern matches only if it spells them: the channels of the apps, and among them
/// those that need a signature. `None` if there are no apps.
pub fn spelled_prefixes(apps: &[PusherApp]) -> Option<Vec<String>> {
    let of_app = |app: &PusherApp| ["", "private-", "presence-"].map(|part| format!("{}{part}", app.prefix()));
    (!apps.is_empty()).then(|| apps.iter().flat_map(of_app).collect())
}

/// The channels of the apps that have presence.
pub fn presence_patterns(apps: &[PusherApp]) -> impl Iterator<Item = Pattern> {
    apps.iter().map(|app| Pattern::new(&format!("{}presence-*", app.prefix())))
}

/// The protocol, if there are apps.
pub fn protocol(apps: Vec<PusherApp>, metrics: &mut Registry) -> Option<Box<dyn Protocol>> {
    if apps.is_empty() {
        return None;
    }
    let settings = apps.into_iter().map(|app| PusherAppSettings {
        prefix: app.prefix(),
        id: app.id,
        key: app.key,
        secret: app.secret.0,
        path: app.path,
        client_events: app.client_events,
        max_connections: app.max_connections,
        enabled: app.enabled,
    });
    Some(Box::new(Pusher::new(settings, metrics)))
}
