//! The flags of presence.

use super::error::BadConfig;
use super::values::size;
use crate::message::Pattern;
use clap::{ArgAction, Args};

/// The flags of presence.
#[derive(Args, Clone, Debug)]
pub struct PresenceFlags {
    /// Channels whose members the server knows, such as `room:*`. Members are the users that read the channel. The user
    /// comes from the token or from the application. Repeatable
    #[arg(long, env = "LONGTAIL_PRESENCE", value_name = "PATTERN", help_heading = "Presence")]
    #[arg(value_delimiter = ' ', action = ArgAction::Append)]
    pub presence: Vec<String>,

    /// Limit on the members of a channel
    #[arg(long, env = "LONGTAIL_PRESENCE_MEMBERS", value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000), help_heading = "Presence")]
    pub presence_members: u64,

    /// Size limit on a user's info, as JSON. A user with a larger info may not subscribe to a channel with presence
    #[arg(long, env = "LONGTAIL_PRESENCE_INFO_BYTES", value_name = "SIZE", default_value = "2048")]
    #[arg(value_parser = size, help_heading = "Presence")]
    pub presence_info_bytes: usize,
}

impl PresenceFlags {
    /// The patterns of the channels with presence.
    ///
    /// # Errors
    ///
    /// A pattern that does not match any channel.
    pub fn patterns(&self) -> Result<Vec<Pattern>, BadConfig> {
        let patterns: Vec<Pattern> = self.presence.iter().map(|text| Pattern::new(text)).collect();
        match patterns.iter().position(|pattern| !pattern.can_match()) {
            None => Ok(patterns),
            Some(index) => {
                let rule = "use a channel's name, or a prefix with a * at its end";
                Err(BadConfig::new(format!("--presence: {}: {rule}", self.presence[index])))
            }
        }
    }
}
