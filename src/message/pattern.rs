//! Patterns: a whole name, or the beginning of a name followed by a `*`.

use super::Channel;
use std::fmt;

/// A name, or a prefix and a trailing `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    prefix: String,
    is_open: bool,
}

impl Pattern {
    /// Reads a pattern. Names are compared byte for byte and never decoded, folded or normalised, so that one name
    /// cannot pass for another. A text that is neither a name nor a prefix of a name does not match any channel.
    pub fn new(text: &str) -> Pattern {
        let (prefix, is_open) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        Pattern { prefix: prefix.to_owned(), is_open }
    }

    /// Whether any channel can match the pattern.
    pub fn can_match(&self) -> bool {
        (self.is_open && self.prefix.is_empty()) || self.prefix.parse::<Channel>().is_ok()
    }

    /// Whether a channel matches. A pattern never matches a reserved channel: `*` stands for the names that clients
    /// and publishers may choose.
    pub fn matches(&self, channel: &Channel) -> bool {
        self.matched(channel.as_str()).is_some() && !channel.is_reserved()
    }

    /// The part of a name that the `*` stands for, or the whole name if there is no `*`; `None` if the name does not
    /// match.
    pub fn matched<'a>(&self, name: &'a str) -> Option<&'a str> {
        if self.is_open { name.strip_prefix(&*self.prefix) } else { (name == self.prefix).then_some(name) }
    }

    /// The name, or the prefix before the `*`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether any name can match both patterns.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        match (self.is_open, other.is_open) {
            (false, false) => self.prefix == other.prefix,
            (true, false) => other.prefix.starts_with(&self.prefix),
            (false, true) => self.prefix.starts_with(&other.prefix),
            (true, true) => self.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&self.prefix),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, if self.is_open { "*" } else { "" })
    }
}

/// Returns the channels that do not match any of the patterns. `spelled` are beginnings of names: a pattern matches a
/// channel with such a beginning only if the pattern itself spells it.
pub fn unmatched<'a>(patterns: &[Pattern], spelled: &[String], channels: &'a [Channel]) -> Vec<&'a Channel> {
    let spells = |pattern: &Pattern, channel: &Channel| {
        let mut needed = spelled.iter().filter(|prefix| channel.as_str().starts_with(prefix.as_str()));
        needed.all(|prefix| pattern.prefix.starts_with(prefix.as_str()))
    };
    let is_matched =
        |channel: &&Channel| patterns.iter().any(|pattern| pattern.matches(channel) && spells(pattern, channel));
    channels.iter().filter(|channel| !is_matched(channel)).collect()
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
        let pattern = Pattern::new("push:*");
        assert_eq!(
            (pattern.matched("push:a"), pattern.matched("a"), pattern.to_string()),
            (Some("a"), None, "push:*".into())
        );
        assert_eq!(Pattern::new("news").matched("news"), Some("news"));
        for bad in ["", "a*b", "**", "a b", "a,b", "é*", "~", "~*", "~s/1", "~s/*"] {
            assert!(!Pattern::new(bad).can_match(), "{bad}");
        }
        let reserved = Channel::reserved("~s/1").expect("a channel");
        for pattern in ["*", "~*", "~s/*", "~s/1"] {
            assert!(!Pattern::new(pattern).matches(&reserved), "{pattern}");
        }
    }
}
