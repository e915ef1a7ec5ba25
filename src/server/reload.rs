//! Reloads files while the server runs.

use crate::serve::Tls;
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tracing::{info, warn};

/// Reloads the files of a running server. The only such file is the certificate.
pub struct Reloader(Option<Arc<Tls>>);

impl Reloader {
    /// A reloader for this certificate, if there is one.
    pub(super) fn new(tls: Option<Arc<Tls>>) -> Reloader {
        Reloader(tls)
    }

    /// Reloads at each signal, until the process ends.
    pub async fn reload_at(self, mut signal: Signal) {
        let this = Arc::new(self);
        while signal.recv().await.is_some() {
            let this = this.clone();
            let _ = tokio::task::spawn_blocking(move || this.reload()).await;
        }
    }

    /// Reloads the files, and blocks while it reads them. If the new files are invalid, it logs the reason, and the old
    /// certificate stays in use.
    pub fn reload(&self) {
        match self.0.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => info!("the certificate was reloaded; new connections use it"),
            Some(Err(error)) => {
                warn!("the old certificate stays in use: {error}; fix the file and send SIGHUP again");
            }
            None => info!("nothing to reload: --tls-cert is not set"),
        }
    }
}
