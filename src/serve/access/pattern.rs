//! Channel patterns in permissions: a whole name, or a prefix with a `*` at the end.

use crate::message::Channel;

/// One channel, or all channels with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    prefix: String,
    is_prefix: bool,
}

impl Pattern {
    /// Parses a pattern. A text that is neither a channel nor a prefix of one matches nothing. Names are compared byte for
    /// byte and never decoded, folded or normalized, so that no name can pass for another.
    pub fn new(text: &str) -> Pattern {
        let (prefix, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        Pattern { prefix: prefix.to_owned(), is_prefix }
    }

    /// Whether any channel can match.
    pub fn is_valid(&self) -> bool {
        (self.is_prefix && self.prefix.is_empty()) || self.prefix.parse::<Channel>().is_ok()
    }

    /// Whether a channel matches.
    pub fn matches(&self, channel: &Channel) -> bool {
        let name = channel.as_str();
        if self.is_prefix { name.starts_with(&self.prefix) } else { name == self.prefix }
    }
}

/// Those of the channels that match no pattern.
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
            assert!(!Pattern::new(bad).is_valid(), "{bad}");
        }
    }
}
