//! Builds the hook from the flags.

use super::access::warn_if_short;
use super::{StartError, bad_flag, descriptors};
use crate::config::{BadConfig, HookFlags};
use crate::log::redis::CallStream;
use crate::serve::{Hook, HookSecret, HookSettings, HookTransport, HttpTransport, StreamTransport};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;

/// The hook of `--hook-url` or `--hook-stream`, if one of them is set. `stream` is the stream of `--hook-stream`.
pub fn hook(
    flags: &HookFlags,
    stream: Option<Arc<CallStream>>,
    metrics: &mut Registry,
) -> Result<Option<Arc<Hook>>, StartError> {
    let timeout = Duration::from_secs(flags.hook_timeout);
    let transport =
        match (stream, flags.hook_url.clone()) {
            (Some(stream), _) => {
                stream.metrics().register(metrics);
                HookTransport::Stream(StreamTransport::new(stream, timeout))
            }
            (None, Some(uri)) => {
                let http = HttpTransport::new(uri, secret(flags)?, timeout);
                HookTransport::Http(Box::new(http.map_err(|error| {
                    bad_flag("--hook-url", &format!("https needs the system's certificates: {error}"))
                })?))
            }
            (None, None) => return Ok(None),
        };
    let settings = HookSettings {
        transport,
        timeout,
        max_in_flight: descriptors::questions(),
        takes_events: flags.hook_notify.event,
    };
    Ok(Some(Arc::new(Hook::new(settings, metrics))))
}

/// The secret of `--hook-secret-file`, if it is set.
fn secret(flags: &HookFlags) -> Result<Option<HookSecret>, BadConfig> {
    let Some(path) = flags.hook_secret_file.clone() else { return Ok(None) };
    let (secret, length) = HookSecret::open(path).map_err(|error| bad_flag("--hook-secret-file", &error))?;
    warn_if_short("--hook-secret-file", length);
    Ok(Some(secret))
}
