//! Opens the pump of a stream or a duplex session.

use super::pump::Pump;
use super::record::SessionRecord;
use super::stream_settings::{Rollover, StreamSettings};
use crate::cursor::Start;
use crate::serve::state::ServerState;
use crate::transport::{Accepted, Params, Transport};
use std::time::Duration;

/// Makes a pump that reads the channels of `params` from their position. The pump has not sent its hello yet.
pub fn open_pump(
    state: &ServerState,
    transport: &'static dyn Transport,
    params: &Params,
    opening: Accepted,
    rollover: Option<Rollover>,
) -> Pump {
    let start = params.cursor.unwrap_or(Start::Latest);
    let (name, client) = (transport.name(), params.client.clone());
    if let Some(client) = &client {
        state.hub.left_polling(&params.channels, client);
    }
    // Without channels, `last` has no effect until the first `subscribe` command.
    let last = params.last.filter(|_| !(params.channels.is_empty() && params.begins_later()));
    let mut subscription = state.hub.subscribe(Some(name), &params.channels, start, last, client);
    subscription.read_members(params.presence);
    // If the path of a client drops silent connections, the client may ask for more heartbeats, but never for fewer.
    let heartbeat = params.heartbeat.unwrap_or(Duration::MAX).min(state.settings.heartbeat);
    let heartbeat_ms = u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX);
    let settings = StreamSettings { heartbeat_ms, probe: params.probe, rollover: rollover.map(Box::new) };
    let record = SessionRecord::new(state.delivery.open(name));
    Pump::new(subscription, opening.envelope, settings, record, state.drain.clone(), &state.timers)
}
