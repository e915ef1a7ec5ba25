//! Builds the hook from the flags.

use super::access::warn_if_short;
use super::{bad_flag, descriptors};
use crate::config::{BadConfig, HookFlags, Notify};
use crate::log::redis::CallStream;
use crate::serve::{CallType, Hook, HookSecret, HookSettings, HookTransport, HttpTransport, StreamTransport};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;

/// The application of `--hook-url`, if it is set, with the secret of `--hook-secret-file`.
///
/// # Errors
///
/// The secret cannot be used, or the system's certificates cannot be read.
pub fn http_transport(flags: &HookFlags) -> Result<Option<HttpTransport>, BadConfig> {
    let Some(uri) = flags.hook_url.clone() else { return Ok(None) };
    let http = HttpTransport::new(uri, secret(flags)?, Duration::from_secs(flags.hook_timeout));
    http.map(Some).map_err(|error| bad_flag("--hook-url", &format!("https needs the system's certificates: {error}")))
}

/// The hook of `--hook-url` or `--hook-stream`, if one of them is set. `stream` is the stream of `--hook-stream`.
pub fn hook(
    flags: &HookFlags,
    http: Option<HttpTransport>,
    stream: Option<Arc<CallStream>>,
    metrics: &mut Registry,
) -> Option<Arc<Hook>> {
    let timeout = Duration::from_secs(flags.hook_timeout);
    let transport = match (stream, http) {
        (Some(stream), _) => {
            stream.metrics().register(metrics);
            HookTransport::Stream(StreamTransport::new(stream, timeout))
        }
        (None, Some(http)) => HookTransport::Http(Box::new(http)),
        (None, None) => return None,
    };
    let settings = HookSettings {
        transport,
        timeout,
        max_in_flight: descriptors::application_calls(),
        notify: notify(&flags.hook_notify),
    };
    Some(Arc::new(Hook::new(settings, metrics)))
}

/// The types of calls that the flags name.
fn notify(names: &Notify) -> Vec<CallType> {
    CallType::ALL.into_iter().filter(|kind| names.has(kind.as_str())).collect()
}

/// The secret of `--hook-secret-file`, if it is set.
fn secret(flags: &HookFlags) -> Result<Option<HookSecret>, BadConfig> {
    let Some(path) = flags.hook_secret_file.clone() else { return Ok(None) };
    let (secret, length) = HookSecret::open(path).map_err(|error| bad_flag("--hook-secret-file", &error))?;
    warn_if_short("--hook-secret-file", length);
    Ok(Some(secret))
}
