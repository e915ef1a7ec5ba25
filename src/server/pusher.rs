//! Builds the protocol Pusher from its flags.

use super::access::warn_if_short;
use super::bad_flag;
use crate::config::{BadConfig, MessageLogFlags, PusherApp, PusherFlags, PusherWebhookConfig};
use crate::log::bridge::{PublishPattern, parse_patterns};
use crate::message::{Pattern, escape};
use crate::serve::{
    Protocol, Pusher, PusherAppSettings, PusherMetrics, PusherWebhook, PusherWebhookEvent, PusherWebhookQueue,
    TransitionConsumer,
};
use prometheus_client::registry::Registry;
use std::sync::Arc;

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
/// those that need a signature or a sign-in. `None` if there are no apps.
pub fn spelled_prefixes(apps: &[PusherApp]) -> Option<Vec<String>> {
    let parts = ["", "private-", "presence-", "#"].map(|part| escape(part.as_bytes()));
    let of_app = |app: &PusherApp| parts.each_ref().map(|part| format!("{}{part}", app.prefix()));
    (!apps.is_empty()).then(|| apps.iter().flat_map(of_app).collect())
}

/// The patterns of PUBLISH channels whose messages belong to apps.
///
/// # Errors
///
/// A pattern is malformed or overlaps another one, or there is no Redis.
pub fn publish_patterns(apps: &[PusherApp], flags: &MessageLogFlags) -> Result<Vec<PublishPattern>, BadConfig> {
    let named: Vec<(&PusherApp, &str)> =
        apps.iter().filter_map(|app| Some((app, app.redis_pattern.as_deref()?))).collect();
    if !named.is_empty() && flags.redis.is_none() {
        return Err(bad_flag("--pusher-apps", &"redis_pattern needs --redis, the Redis that Laravel PUBLISHes to"));
    }
    let of_flags = flags.patterns().unwrap_or_default();
    let texts = of_flags.iter().map(ToString::to_string).chain(named.iter().map(|(_, text)| (*text).to_owned()));
    let patterns = parse_patterns(&texts.collect::<Vec<_>>());
    let patterns = patterns.map_err(|error| bad_flag("--pusher-apps", &format!("redis_pattern: {error}")))?;
    let of_apps = named.iter().zip(patterns.into_iter().skip(of_flags.len()));
    Ok(of_apps.map(|((app, _), pattern)| PublishPattern { pattern, below: Some(app.prefix()) }).collect())
}

/// What the apps need of the server.
#[derive(Default)]
pub struct OpenPusher {
    /// The protocol, if there are apps.
    pub protocol: Option<Box<dyn Protocol>>,
    /// The channels that have presence.
    pub presence: Vec<Pattern>,
}

/// Makes the protocol of the apps, and their webhooks, as consumers of transitions.
///
/// # Errors
///
/// A webhook has the scheme `https:`, and the system's certificates cannot be read.
pub fn open(
    apps: Vec<PusherApp>,
    registry: &mut Registry,
) -> Result<(OpenPusher, Vec<Arc<dyn TransitionConsumer>>), BadConfig> {
    let (mut open, mut consumers) = (OpenPusher::default(), Vec::new());
    if apps.is_empty() {
        return Ok((open, consumers));
    }
    let metrics = PusherMetrics::register(registry);
    let mut settings = Vec::with_capacity(apps.len());
    for app in apps {
        open.presence.push(Pattern::new(&format!("{}presence-*", app.prefix())));
        let webhooks = webhooks(&app, &metrics)?;
        consumers.extend(webhooks.iter().map(|webhook| webhook.clone() as Arc<dyn TransitionConsumer>));
        settings.push(PusherAppSettings {
            prefix: app.prefix(),
            id: app.id,
            key: app.key,
            secret: app.secret.0,
            path: app.path,
            client_events: app.client_events,
            max_connections: app.max_connections,
            enabled: app.enabled,
            webhooks,
        });
    }
    open.protocol = Some(Box::new(Pusher::new(settings.into_iter(), metrics)));
    Ok((open, consumers))
}

/// Starts the webhooks of an app.
fn webhooks(app: &PusherApp, metrics: &PusherMetrics) -> Result<Vec<Arc<PusherWebhook>>, BadConfig> {
    let start = |webhook: &PusherWebhookConfig| {
        let queue = PusherWebhookQueue::start(webhook.url.clone(), &app.key, &app.secret.0, metrics.clone());
        let queue = queue
            .map_err(|error| bad_flag("--pusher-apps", &format!("https needs the system's certificates: {error}")))?;
        let events = PusherWebhookEvent::ALL.into_iter().filter(|kind| webhook.takes(kind.as_str())).collect();
        Ok(Arc::new(PusherWebhook::new(app.prefix(), events, queue)))
    };
    app.webhooks.iter().map(start).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WEBHOOK_EVENTS;

    #[test]
    fn the_events_of_the_file_are_those_of_webhooks() {
        assert_eq!(PusherWebhookEvent::ALL.map(PusherWebhookEvent::as_str), WEBHOOK_EVENTS);
    }
}
