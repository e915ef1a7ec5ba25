//! Builds the source of the calls about channels and members.

use crate::log::presence::PresenceStore;
use crate::log::told::ToldStore;
use crate::serve::{HookNotifications, ServerState, TransitionConsumer, TransitionMetrics, TransitionSource};
use std::sync::Arc;
use tracing::warn;

/// The source, if a consumer wants to be told anything. `presence` has the members of channels, and `webhooks` are
/// further consumers.
pub fn source(
    state: &Arc<ServerState>,
    presence: Option<Arc<dyn PresenceStore>>,
    store: Arc<dyn ToldStore>,
    webhooks: Vec<Arc<dyn TransitionConsumer>>,
    metrics: TransitionMetrics,
) -> Option<TransitionSource> {
    let application = HookNotifications::of(state);
    if presence.is_none() && application.as_ref().is_some_and(HookNotifications::wants_members) {
        warn!("--hook-notify: there are no members without --presence, so the application is not told of any");
    }
    let application = application.map(|application| Arc::new(application) as Arc<dyn TransitionConsumer>);
    let consumers: Vec<_> = application.into_iter().chain(webhooks).collect();
    if consumers.is_empty() {
        return None;
    }
    Some(TransitionSource {
        hub: state.hub.clone(),
        counts: state.remote_counts.clone(),
        presence,
        store,
        consumers,
        metrics,
    })
}
