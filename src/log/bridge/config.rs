//! The settings of the bridge.

use crate::log::publish_payload::PublishPattern;
use crate::message::{Draft, Pattern};
use std::fmt;
use std::sync::Arc;

/// The settings of the bridge.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// The patterns of PUBLISH channels.
    pub patterns: Vec<PublishPattern>,
    /// The PUBLISHes of another program's publishers, if the log takes them.
    pub foreign: Option<ForeignPublishes>,
    /// How many messages may wait to be appended.
    pub queue: usize,
}

impl BridgeConfig {
    /// The patterns of all PUBLISH channels.
    pub fn globs(&self) -> Vec<String> {
        let foreign = self.foreign.iter().flat_map(|foreign| &foreign.patterns);
        self.patterns.iter().map(|it| &it.pattern).chain(foreign).map(Pattern::to_string).collect()
    }

    /// What the members of a bridge have in common: the patterns, and the channels of the log that they stand for.
    pub(super) fn group(&self) -> String {
        let below = self.patterns.iter().filter_map(|it| Some(format!(" {} {}", it.pattern, it.below.as_ref()?)));
        self.globs().join(" ") + &below.collect::<String>()
    }
}

/// PUBLISHes of publishers that were written for another program.
#[derive(Clone)]
pub struct ForeignPublishes {
    /// The patterns of their channels.
    pub patterns: Vec<Pattern>,
    /// Reads one of them.
    pub read: Arc<ReadForeign>,
}

/// Reads a PUBLISH from the name of its channel and its payload: drafts, which may be none, or why it cannot be read.
pub type ReadForeign = dyn Fn(&str, &[u8]) -> Result<Vec<Draft>, String> + Send + Sync;

impl fmt::Debug for ForeignPublishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.patterns.fmt(f)
    }
}

/// How many bytes may wait to be appended.
pub(super) const QUEUE_BYTES: usize = 64 << 20;
