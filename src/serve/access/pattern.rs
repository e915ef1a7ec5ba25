//! Names of channels as permissions write them: whole, or with a `*` at the end.

use crate::message::Channel;

/// A channel, or all channels that begin in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    beginning: String,
    is_open: bool,
}

impl Pattern {
    /// Reads one. What is neither a channel nor a beginning of one matches nothing: names are compared byte
    /// for byte and never decoded, folded or normalized, so that none can be made to look like another.
    pub fn new(text: &str) -> Pattern {
        let (beginning, is_open) = text.strip_suffix('*').map_or((text, false), |beginning| (beginning, true));
        Pattern { beginning: beginning.to_owned(), is_open }
    }

    /// Whether some channel can match.
    pub fn is_sound(&self) -> bool {
        (self.is_open && self.beginning.is_empty()) || self.beginning.parse::<Channel>().is_ok()
    }

    /// Whether a channel is meant.
    pub fn matches(&self, channel: &Channel) -> bool {
        let name = channel.as_str();
        if self.is_open { name.starts_with(&self.beginning) } else { name == self.beginning }
    }
}

/// Those of the channels that no pattern means.
pub fn unmatched<'a>(patterns: &[Pattern], channels: &'a [Channel]) -> Vec<&'a Channel> {
    channels.iter().filter(|channel| !patterns.iter().any(|pattern| pattern.matches(channel))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_at_the_end_and_nowhere_else() {
        let channel = |name: &str| name.parse::<Channel>().expect("a channel");
        for (pattern, name, matches) in [
            ("a", "a", true),
            ("a", "A", false),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*", "ab", true),
            ("a*", "b", false),
            ("*", "anything/at:all", true),
            ("user:1/*", "user:1/x", true),
            ("user:1/*", "user:1", false),
            ("user:1/*", "user:10/x", false),
            ("user:1/*", "user:1/../2", true),
            ("user:1/x", "user:1/./x", false),
            ("a*b", "a1b", false),
            ("**", "a", false),
            ("", "a", false),
            ("%61", "a", false),
            ("a ", "a", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(&channel(name)), matches, "{pattern} {name}");
        }
        for bad in ["", "a*b", "**", "a b", "a,b", "é*"] {
            assert!(!Pattern::new(bad).is_sound(), "{bad}");
        }
    }
}
