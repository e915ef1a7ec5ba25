//! Reloads files while the server runs.

use crate::serve::{Hook, Tls};
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tracing::{info, warn};

/// Reloads the files of a running server: the certificate, and the secret of the hook.
pub struct Reloader {
    tls: Option<Arc<Tls>>,
    hook: Option<Arc<Hook>>,
}

impl Reloader {
    /// A reloader for this certificate and the secret of this hook, if there are any.
    pub(super) fn new(tls: Option<Arc<Tls>>, hook: Option<Arc<Hook>>) -> Reloader {
        Reloader { tls, hook }
    }

    /// Reloads at each signal, until the process ends.
    pub async fn reload_at(self, mut signal: Signal) {
        let this = Arc::new(self);
        while signal.recv().await.is_some() {
            let this = this.clone();
            let _ = tokio::task::spawn_blocking(move || this.reload()).await;
        }
    }

    /// Reloads the files, and blocks while it reads them. If a new file is invalid, it logs the reason, and the old
    /// content stays in use.
    pub fn reload(&self) {
        let secret = self.hook.as_ref().and_then(|hook| hook.secret());
        match self.tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => info!("the certificate was reloaded; new connections use it"),
            Some(Err(error)) => {
                warn!("the old certificate stays in use: {error}; fix the file and send SIGHUP again");
            }
            None if secret.is_some() => {}
            None => info!("nothing to reload: --tls-cert and --hook-secret-file are not set"),
        }
        match secret.map(|secret| secret.reload()) {
            Some(Ok(())) => info!("the secret of --hook-secret-file was reloaded; it signs all new calls"),
            Some(Err(error)) => {
                warn!("the old secret of --hook-secret-file stays in use: {error}; fix the file and send SIGHUP again");
            }
            None => {}
        }
    }
}
