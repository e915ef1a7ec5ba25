//! Builds the protocol Socket.IO from the flags.

use super::bad_flag;
use crate::config::{BadConfig, Config, OnAction};
use crate::log::connections::ConnectionStore;
use crate::serve::{BrowserClient, Protocol, SocketIo, SocketIoAction, SocketIoRule, SocketIoSettings};
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
