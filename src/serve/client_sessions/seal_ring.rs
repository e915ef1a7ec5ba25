//! The keys of sealed tokens that this node has. It asks for them rarely: whatever clients send, once a second at most. A
//! request that needs a newer key waits for the next call, because another node may just have made the key.

use super::metrics::SealedMetrics;
use crate::log::seal_keys::{SealKey, SealKeyId, SealKeyStore, SealKeys};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the node looks for newer keys.
const REFRESH: Duration = Duration::from_secs(60);

/// The time between two calls for the sake of clients.
const PAUSE: Duration = Duration::from_secs(1);

/// The keys that a node has.
pub struct SealRing {
    store: Arc<dyn SealKeyStore>,
    held: Mutex<Held>,
    /// One request asks, and the others wait for it.
    asking: tokio::sync::Mutex<()>,
    metrics: Arc<SealedMetrics>,
}

#[derive(Default)]
struct Held {
    keys: Option<SealKeys>,
    /// When the store was asked for the last time.
    asked: Option<Instant>,
    /// When the last call that was answered began.
    answered: Option<Instant>,
}

impl SealRing {
    /// Without keys. They are read when they are first needed.
    pub fn new(store: Arc<dyn SealKeyStore>, metrics: Arc<SealedMetrics>) -> SealRing {
        SealRing { store, held: Mutex::default(), asking: tokio::sync::Mutex::default(), metrics }
    }

    /// The keys. If they do not have the key with this id, newer ones are asked for. `None` if there are no keys, because
    /// the store is away.
    pub async fn keys(&self, wanted: Option<SealKeyId>) -> Option<SealKeys> {
        let is_enough = |keys: &SealKeys| wanted.is_none_or(|id| keys.find(id).is_some());
        if let Some(keys) = self.held.lock().keys.as_ref().filter(|keys| is_enough(keys)) {
            return Some(keys.clone());
        }
        let came = Instant::now();
        let _one = self.asking.lock().await;
        let (keys, asked, answered) = {
            let held = self.held.lock();
            (held.keys.clone(), held.asked, held.answered)
        };
        // A call that began after the request had come has found every key that its token may be sealed with.
        if answered.is_some_and(|began| began > came) || keys.as_ref().is_some_and(is_enough) {
            return keys;
        }
        let pause = asked.map_or(Duration::ZERO, |asked| PAUSE.saturating_sub(asked.elapsed()));
        if keys.is_none() && !pause.is_zero() {
            return None;
        }
        sleep(pause).await;
        self.ask().await;
        self.held.lock().keys.clone()
    }

    /// Looks for newer keys, if that is due. A node without sealed sessions has no keys, and does not ask for any.
    pub async fn refresh(&self) {
        let is_due = |held: &Held| held.keys.is_some() && held.asked.is_none_or(|asked| asked.elapsed() >= REFRESH);
        if is_due(&self.held.lock()) {
            let _one = self.asking.lock().await;
            self.ask().await;
        }
    }

    async fn ask(&self) {
        let began = Instant::now();
        self.held.lock().asked = Some(began);
        let Some(new) = SealKey::random() else { return };
        let answer = self.store.keys(&new).await;
        let mut held = self.held.lock();
        // The store may have taken long to answer. Requests that have waited meanwhile do not ask again.
        held.asked = Some(Instant::now());
        match answer {
            Ok(keys) => (held.keys, held.answered) = (Some(keys), Some(began)),
            // The known keys stay.
            Err(_) => drop(self.metrics.key_failures.inc()),
        }
    }
}
