//! What all requests of Pusher share.

use super::apps::Apps;
use super::metrics::PusherMetrics;

/// What all requests of Pusher share.
pub struct PusherState {
    /// The apps.
    pub apps: Apps,
    /// The metrics.
    pub metrics: PusherMetrics,
}
