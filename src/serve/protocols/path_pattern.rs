//! Paths of pages, which may name a channel: `/chat/{channel}`.

use crate::message::{BadChannel, Channel, Channels, escape};
use form_urlencoded::parse;
use std::borrow::Cow;

/// The place of a channel's name in a path and in a channel.
const PLACE: &str = "{channel}";

/// A path that pages connect to. One of its parts may be the name of a channel.
pub struct PathPattern {
    before: String,
    /// What follows the name; `None` if the path does not have a name.
    after: Option<String>,
}

impl PathPattern {
    /// The pattern that a text describes.
    pub fn new(text: &str) -> PathPattern {
        match text.split_once(PLACE) {
            Some((before, after)) => PathPattern { before: before.to_owned(), after: Some(after.to_owned()) },
            None => PathPattern { before: text.to_owned(), after: None },
        }
    }

    /// The name in a path, as the path has it, or an empty name for a path without one; `None` if the path does not fit
    /// the pattern.
    pub fn name<'a>(&self, path: &'a str) -> Option<&'a str> {
        let Some(after) = &self.after else { return (path == self.before).then_some("") };
        let name = path.strip_prefix(&*self.before)?.strip_suffix(&**after)?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
    }
}

/// The channels of a page: each is a name of a channel, or has a place for the name in the path.
///
/// # Errors
///
/// A name is too long.
pub fn channels(templates: &[String], name: &str) -> Result<Channels, BadChannel> {
    let decoded = decode(name);
    let named = escape(decoded.as_bytes());
    let mut channels = Vec::with_capacity(templates.len());
    for template in templates {
        let channel = Channel::of_server(&template.replace(PLACE, &named))?;
        // The name is escaped, but a channel must not be reserved in any way.
        if channel.is_reserved() {
            return Err(BadChannel::Reserved);
        }
        channels.push(channel);
    }
    Channels::of(channels).ok_or(BadChannel::Malformed)
}

/// A part of a path without its percent-encoding.
fn decode(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    // In a path, a plus sign and the separators of a query stand for themselves.
    let name = name.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    parse(name.as_bytes()).next().map_or(Cow::Borrowed(""), |(name, _)| Cow::Owned(name.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, path: &str) -> Option<String> {
        PathPattern::new(pattern).name(path).map(str::to_owned)
    }

    #[test]
    fn a_path_fits_its_pattern() {
        for (pattern, path, name) in [
            ("/", "/", Some("")),
            ("/chat", "/chat", Some("")),
            ("/chat", "/chat/", None),
            ("/chat/{channel}", "/chat/a", Some("a")),
            ("/chat/{channel}", "/chat/", None),
            ("/chat/{channel}", "/chat/a/b", None),
            ("/{channel}/ws", "/a%2Fb/ws", Some("a%2Fb")),
            ("/{channel}/ws", "/ws", None),
        ] {
            assert_eq!(found(pattern, path).as_deref(), name, "{pattern} {path}");
        }
    }

    #[test]
    fn a_name_in_a_path_cannot_leave_its_place() {
        for (template, name, channel) in [
            ("{channel}", "a", "a"),
            ("room-{channel}", "a%20b", "room-a=20b"),
            ("{channel}", "%7Es/1", "=7Es/1"),
            ("{channel}", "a+b&c=d%21", "a=2Bb=26c=3Dd=21"),
            ("{channel}", "%C3%A9", "=C3=A9"),
            ("todo", "", "todo"),
        ] {
            let (first, _) = channels(&[template.to_owned()], name).expect("channels").split();
            assert_eq!(first.as_str(), channel, "{template} {name}");
        }
        assert!(channels(&["{channel}".to_owned()], &"x".repeat(701)).is_err());
    }
}
