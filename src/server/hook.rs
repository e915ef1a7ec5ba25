//! Builds the hook from the flags.

use super::access::warn_if_short;
use super::{StartError, bad_flag, descriptors};
use crate::config::{BadConfig, HookFlags};
use crate::serve::{Hook, HookSecret, HookSettings};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;

/// The hook of `--hook-url`, if it is set.
pub fn hook(flags: &HookFlags, metrics: &mut Registry) -> Result<Option<Arc<Hook>>, StartError> {
    let Some(uri) = flags.hook_url.clone() else { return Ok(None) };
    let settings = HookSettings {
        uri,
        secret: secret(flags)?,
        timeout: Duration::from_secs(flags.hook_timeout),
        max_in_flight: descriptors::questions(),
        takes_events: flags.hook_notify.event,
    };
    let hook = Hook::new(settings, metrics)
        .map_err(|error| bad_flag("--hook-url", &format!("https needs the system's certificates: {error}")))?;
    Ok(Some(Arc::new(hook)))
}

/// The secret of `--hook-secret-file`, if it is set.
fn secret(flags: &HookFlags) -> Result<Option<HookSecret>, BadConfig> {
    let Some(path) = flags.hook_secret_file.clone() else { return Ok(None) };
    let (secret, length) = HookSecret::open(path).map_err(|error| bad_flag("--hook-secret-file", &error))?;
    warn_if_short("--hook-secret-file", length);
    Ok(Some(secret))
}
