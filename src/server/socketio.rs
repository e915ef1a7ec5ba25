//! Builds the protocol Socket.IO from the flags.

use super::bad_flag;
use crate::config::{BadConfig, Config, Emitters, OnAction};
use crate::log::bridge::ForeignPublishes;
use crate::log::connections::ConnectionStore;
use crate::message::Pattern;
use crate::serve::{
    BrowserClient, EMITTER_PATTERNS, EmitterIntake, Protocol, SocketIo, SocketIoAction, SocketIoRule, SocketIoSettings,
};
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// The library of `--socketio-client`, if it is set.
///
/// # Errors
///
/// It cannot be read.
pub fn browser_client(config: &Config) -> Result<Option<BrowserClient>, BadConfig> {
    let Some(value) = &config.socketio.socketio_client else { return Ok(None) };
    BrowserClient::open(value).map(Some).map_err(|error| bad_flag("--socketio-client", &error))
}

/// The PUBLISHes of emitters, if `--socketio-emitters` is set.
///
/// # Errors
///
/// A pattern of `--redis-subscribe` also takes them, so each would count twice.
pub fn emitters(config: &Config) -> Result<Option<ForeignPublishes>, BadConfig> {
    let Some(emitters) = config.socketio.socketio_emitters else { return Ok(None) };
    let patterns: Vec<Pattern> = EMITTER_PATTERNS.into_iter().map(Pattern::new).collect();
    for own in config.message_log.patterns().unwrap_or_default() {
        if let Some(pattern) = patterns.iter().find(|pattern| pattern.overlaps(&own)) {
            let error = format!("`{own}` of --redis-subscribe overlaps `{pattern}`, so a PUBLISH would arrive twice");
            return Err(bad_flag("--socketio-emitters", &error));
        }
    }
    let intake = EmitterIntake { takes_commands: emitters == Emitters::All, max_payload: config.max_message_bytes };
    let read = move |channel: &str, payload: &[u8]| intake.read(channel, payload).map_err(|error| error.to_string());
    Ok(Some(ForeignPublishes { patterns, read: Arc::new(read) }))
}

/// Socket.IO, if `--socketio` switches it on.
pub fn protocol(
    config: &Config,
    client: Option<BrowserClient>,
    store: Arc<dyn ConnectionStore>,
    metrics: &mut Registry,
) -> Option<Box<dyn Protocol>> {
    let flags = &config.socketio;
    if !flags.socketio {
        return None;
    }
    let joins = flags.socketio_join.iter().map(|join| (join.namespace.clone(), join.channel.clone()));
    let rules = flags.socketio_on.iter().map(|on| SocketIoRule {
        namespace: on.namespace.clone(),
        event: on.event.clone(),
        action: match on.action {
            OnAction::Join => SocketIoAction::Join,
            OnAction::Leave => SocketIoAction::Leave,
            OnAction::Publish => SocketIoAction::Publish,
            OnAction::Broadcast => SocketIoAction::Broadcast,
        },
    });
    let settings = SocketIoSettings {
        joins: joins.collect(),
        rules: rules.collect(),
        ping_interval: flags.socketio_ping_interval,
        ping_timeout: flags.socketio_ping_timeout,
        connect_timeout: flags.socketio_connect_timeout,
        max_payload: flags.socketio_max_payload,
        max_connections: config.max_sessions as usize,
        recovery: flags.socketio_recovery,
        client,
    };
    Some(Box::new(SocketIo::new(settings, store, metrics)))
}
