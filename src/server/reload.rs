//! Reloads files while the server runs.

use crate::serve::{AccessLogFile, Hook, Tls};
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tracing::{info, warn};

/// Reloads the files of a running server: the certificate, the secret of the hook, and the access log.
pub struct Reloader {
    tls: Option<Arc<Tls>>,
    hook: Option<Arc<Hook>>,
    access_log: Option<AccessLogFile>,
}

impl Reloader {
    /// A reloader for this certificate, the secret of this hook and the file of this access log, if there are any.
    pub(super) fn new(tls: Option<Arc<Tls>>, hook: Option<Arc<Hook>>, access_log: Option<AccessLogFile>) -> Reloader {
        Reloader { tls, hook, access_log }
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
        if self.tls.is_none() && secret.is_none() && self.access_log.is_none() {
            info!("nothing to reload: --tls-cert, --hook-secret-file and --access-log are not set");
        }
        match self.tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => info!("the certificate was reloaded; new connections use it"),
            Some(Err(error)) => {
                warn!("the old certificate stays in use: {error}; fix the file and send SIGHUP again");
            }
            None => {}
        }
        match secret.map(|secret| secret.reload()) {
            Some(Ok(())) => info!("the secret of --hook-secret-file was reloaded; it signs all new calls"),
            Some(Err(error)) => {
                warn!("the old secret of --hook-secret-file stays in use: {error}; fix the file and send SIGHUP again");
            }
            None => {}
        }
        // The last step, because it waits for a disk that is slow.
        match self.access_log.as_ref().map(AccessLogFile::reopen) {
            Some(Ok(())) => info!("the access log was opened again"),
            Some(Err(error)) => {
                warn!("lines go to the old file of the access log: {error}; fix the path and send SIGHUP again");
            }
            None => {}
        }
    }
}
