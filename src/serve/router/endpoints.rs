//! The table of the endpoints.

#[cfg(test)]
use crate::serve::protocols::toy;
use crate::serve::protocols::{pusher, raw_websocket, socketio, sockjs, stomp};
use crate::serve::routes::context::Context;
#[cfg(feature = "demo")]
use crate::serve::routes::demo;
use crate::serve::routes::endpoint::{Endpoint, Route};
use crate::serve::routes::{
    assets, channels, diagnose, event, health, info, members, metrics, protocols, publish, sessions, transports,
};
use crate::transport::Transport;

/// The endpoints whose paths no protocol can have. A path belongs to the first endpoint that has a route for it. The most
/// frequent endpoints come first.
const OWN: &[&dyn Endpoint] = &[
    &transports::Transports,
    &publish::Publish,
    &event::Event,
    &health::Health,
    &metrics::Metrics,
    &info::Info,
    &sessions::Sessions,
    &members::MembersOfChannel,
    &channels::Channels,
    &diagnose::Diagnose,
    #[cfg(feature = "demo")]
    &demo::DemoApi,
];

/// The other endpoints. A protocol may have a path such as `/`, which is otherwise that of a page of the server.
const OTHERS: &[&dyn Endpoint] = &[
    &protocols::Protocols,
    &assets::Assets,
    #[cfg(test)]
    &toy::Toy,
];

/// Returns the endpoint and the route of a path.
pub fn find(context: &Context, path: &str) -> Option<(&'static dyn Endpoint, Route)> {
    all().find_map(|endpoint| Some((endpoint, endpoint.route(context, path)?)))
}

fn all() -> impl Iterator<Item = &'static dyn Endpoint> {
    OWN.iter().chain(OTHERS).copied()
}

/// Whether a path belongs to the server itself or to several protocols, so that a flag cannot give it to a protocol.
pub fn is_taken(context: &Context, path: &str) -> bool {
    OWN.iter().any(|endpoint| endpoint.route(context, path).is_some())
        || context.protocols.iter().filter(|protocol| protocol.route(path).is_some()).count() > 1
}

/// Returns the transports of all endpoints.
pub fn transports() -> impl Iterator<Item = &'static dyn Transport> {
    all()
        .flat_map(|endpoint| endpoint.transports())
        .chain(&socketio::TRANSPORTS)
        .chain(&pusher::TRANSPORTS)
        .chain(&raw_websocket::TRANSPORTS)
        .chain(&sockjs::TRANSPORTS)
        .chain(&stomp::TRANSPORTS)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::MAX_TRANSPORTS;
    use std::collections::HashSet;

    #[test]
    fn transports_have_names_of_their_own_and_the_hub_counts_them_all() {
        let names: Vec<_> = transports().map(|transport| transport.name()).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{names:?}");
        assert!(names.len() <= MAX_TRANSPORTS, "the hub counts fewer transports than there are");
    }
}
