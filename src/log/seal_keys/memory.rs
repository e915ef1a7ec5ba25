//! The keys of sealed bookmarks beside a log in memory, for one node.

use super::{ROTATE, SealKey, SealKeyStore, SealKeys};
use crate::log::{BoxFuture, Unreachable};
use parking_lot::Mutex;
use tokio::time::Instant;

/// A [`SealKeyStore`] in memory. A node that starts again has other keys.
#[derive(Default)]
pub struct MemorySealKeys {
    keys: Mutex<Option<(SealKeys, Instant)>>,
}

impl SealKeyStore for MemorySealKeys {
    fn keys<'a>(&'a self, new: &'a SealKey) -> BoxFuture<'a, Result<SealKeys, Unreachable>> {
        let mut held = self.keys.lock();
        let now = Instant::now();
        let is_young = |since: &Instant| now.duration_since(*since) < ROTATE;
        if !held.as_ref().is_some_and(|(_, since)| is_young(since)) {
            let previous = held.take().map(|(keys, _)| keys.present);
            *held = Some((SealKeys { present: new.clone(), previous }, now));
        }
        let keys = held.as_ref().map(|(keys, _)| keys.clone()).ok_or(Unreachable);
        Box::pin(std::future::ready(keys))
    }
}
