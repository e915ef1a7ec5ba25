//! Builds the hook from the flags.

use super::{StartError, bad_flag, descriptors};
use crate::config::{BadConfig, HookFlags, Notify};
use crate::log::redis::CallStream;
use crate::serve::{CallType, Hook, HookSecret, HookSettings, HookTransport, HttpTransport, StreamTransport};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// The server warns if the secret has fewer bytes than this: the length of its hash.
const SHORT_SECRET: usize = 32;

/// The hook of `--hook-url` or `--hook-stream`, if one of them is set. `stream` is the stream of the latter.
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
        notify: notify(&flags.hook_notify),
    };
    Ok(Some(Arc::new(Hook::new(settings, metrics))))
}

/// The types of calls that the flags name.
fn notify(names: &Notify) -> Vec<CallType> {
    CallType::ALL.into_iter().filter(|kind| names.has(kind.as_str())).collect()
}

/// The secret of `--hook-secret-file`, if it is set.
fn secret(flags: &HookFlags) -> Result<Option<HookSecret>, BadConfig> {
    let Some(path) = flags.hook_secret_file.clone() else { return Ok(None) };
    let (secret, length) = HookSecret::open(path).map_err(|error| bad_flag("--hook-secret-file", &error))?;
    if length < SHORT_SECRET {
        warn!(
            "--hook-secret-file: a secret of less than {SHORT_SECRET} bytes can be guessed; `openssl rand -hex 32` makes one"
        );
    }
    Ok(Some(secret))
}
