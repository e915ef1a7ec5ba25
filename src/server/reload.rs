//! What is read from files again while the server runs.

use crate::serve::Tls;
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tracing::{info, warn};

/// Reads files again while the server runs.
pub struct Reloader(Option<Arc<Tls>>);

impl Reloader {
    /// Of this certificate, where there is one.
    pub(super) fn new(tls: Option<Arc<Tls>>) -> Reloader {
        Reloader(tls)
    }

    /// Reads them at each signal, for as long as the process lives.
    pub async fn reload_at(self, mut signal: Signal) {
        let this = Arc::new(self);
        while signal.recv().await.is_some() {
            let this = this.clone();
            let _ = tokio::task::spawn_blocking(move || this.reload()).await;
        }
    }

    /// Reads them. What cannot be used is said in the log, and what there was stays in use. Blocks.
    pub fn reload(&self) {
        match self.0.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => info!("the certificate was read again; new connections get it"),
            Some(Err(error)) => {
                warn!("the certificate stays as it was: {error}; see to it, and send SIGHUP again");
            }
            None => info!("there is nothing to read again: --tls-cert is not set"),
        }
    }
}
