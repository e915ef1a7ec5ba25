//! The settings of the bridge.

use crate::message::Pattern;

/// The settings of the bridge.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// The patterns of PUBLISH channels.
    pub patterns: Vec<Pattern>,
    /// How many messages may wait to be appended.
    pub queue: usize,
}

/// How many bytes may wait to be appended.
pub(super) const QUEUE_BYTES: usize = 64 << 20;
