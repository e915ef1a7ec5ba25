//! Builds the protocol Socket.IO from the flags.

use crate::config::{Config, OnAction};
use crate::log::connections::ConnectionStore;
use crate::serve::{Protocol, SocketIo, SocketIoAction, SocketIoRule, SocketIoSettings};
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// Socket.IO, if `--socketio` switches it on.
pub fn protocol(config: &Config, store: Arc<dyn ConnectionStore>, metrics: &mut Registry) -> Option<Box<dyn Protocol>> {
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
    };
    Some(Box::new(SocketIo::new(settings, store, metrics)))
}
