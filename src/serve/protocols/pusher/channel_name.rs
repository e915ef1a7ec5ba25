//! The names of channels in an app.

use crate::message::{Channel, unescape};

/// The name of a channel of the log in the app with this prefix; `None` if the channel is not one of the app.
pub fn channel_name(prefix: &str, channel: &Channel) -> Option<String> {
    channel.as_str().strip_prefix(prefix).and_then(unescape)
}
