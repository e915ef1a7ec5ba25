//! The values of flags for pages that only know a path: `PATH=CHANNEL[,CHANNEL…] [OPTION…]`.

use crate::message::Channel;

/// The place of a channel's name in a path and in a channel.
const PLACE: &str = "{channel}";

/// The options that every path of pages has.
const OPTIONS: [&str; 4] = ["on-message", "on-open", "origins", "last"];

/// The most messages that a newcomer gets.
const MAX_LAST: usize = 1000;

/// A path of pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagePath {
    /// The path, which may have a place for a channel: `/chat/{channel}`.
    pub path: String,
    /// The channels that its pages read. They may have the same place.
    pub channels: Vec<String>,
    /// What a text does that a page sends.
    pub on_message: OnMessage,
    /// The code and the reason with which the server closes a connection at once.
    pub closes: Option<(u16, String)>,
    /// The origins whose pages may connect; `None` for those that may use the server.
    pub origins: Option<Vec<String>>,
    /// The number of messages with which a page begins.
    pub last: usize,
}

/// What a text does that a page sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMessage {
    /// The readers of the channels get it.
    Publish,
    /// The readers of the channels get it, but not the sender.
    Broadcast,
    /// Only the sender gets it.
    Echo,
    /// The application gets it.
    Hook,
    /// Nobody gets it.
    #[default]
    Ignore,
}

/// The parts of a value.
pub struct Parts<'a> {
    /// The text before the options.
    pub main: &'a str,
    /// The name and the value of each option.
    pub options: Vec<(&'static str, String)>,
}

/// Splits `NAME=VALUE` options off a text. A word that does not begin with a known name belongs to the value before it.
///
/// # Errors
///
/// A word before the first option, or an option that comes twice.
pub fn split_options<'a>(text: &'a str, known: &[&'static str]) -> Result<Parts<'a>, String> {
    let option = |word: &str| {
        let (name, _) = word.split_once('=')?;
        known.iter().copied().find(|known| *known == name)
    };
    let (main, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut options: Vec<(&'static str, String)> = Vec::new();
    for word in rest.split(' ') {
        if let Some(name) = option(word) {
            if options.iter().any(|(other, _)| *other == name) {
                return Err(format!("{name} comes twice"));
            }
            options.push((name, word[name.len() + 1..].to_owned()));
            continue;
        }
        match options.last_mut() {
            Some((_, value)) => *value = format!("{value} {word}"),
            None if word.is_empty() => {}
            None => return Err(format!("{word:?} is not an option: use {}", known.join("=…, ") + "=…")),
        }
    }
    Ok(Parts { main, options })
}

impl PagePath {
    /// Reads a value whose options are those of every path of pages.
    ///
    /// # Errors
    ///
    /// The part that breaks its rule.
    pub fn parse(text: &str) -> Result<PagePath, String> {
        let Parts { main, options } = split_options(text, &OPTIONS)?;
        let mut page = PagePath::of_main(main)?;
        for (name, value) in options {
            page.set(name, value.trim_end())?;
        }
        Ok(page)
    }

    /// Reads the path and its channels.
    ///
    /// # Errors
    ///
    /// The part that breaks its rule.
    pub fn of_main(main: &str) -> Result<PagePath, String> {
        let form = "write PATH=CHANNEL[,CHANNEL…], such as /chat=chat or /chat/{channel}={channel}";
        let (path, channels) = main.split_once('=').ok_or(form)?;
        let is_path = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\".contains(&byte);
        if !path.starts_with('/') || !path.bytes().all(is_path) {
            return Err(format!("the path must begin with a slash and have no spaces, ? or #; {form}"));
        }
        let parts = path.split('/').filter(|part| part.contains(['{', '}']));
        let places: Vec<&str> = parts.collect();
        if !matches!(places[..], [] | [PLACE]) {
            return Err(format!("a path may have {PLACE} once, as a whole part between slashes"));
        }
        let channels: Vec<String> = channels.split(',').map(str::to_owned).collect();
        for channel in &channels {
            let sample = if places.is_empty() { channel.clone() } else { channel.replace(PLACE, "x") };
            if let Err(error) = sample.parse::<Channel>() {
                return Err(format!("{channel:?}: {error}; {form}"));
            }
        }
        let (on_message, path) = (OnMessage::default(), path.to_owned());
        Ok(PagePath { path, channels, on_message, closes: None, origins: None, last: 0 })
    }

    /// Sets an option.
    ///
    /// # Errors
    ///
    /// The value breaks its rule.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "on-message" => self.on_message = on_message(value)?,
            "on-open" => self.closes = Some(close(value)?),
            "origins" => self.origins = Some(value.split([',', ' ']).map(str::to_owned).collect()),
            "last" => {
                let last = value.parse().ok().filter(|last| *last <= MAX_LAST);
                self.last = last.ok_or_else(|| format!("last is a number from 0 to {MAX_LAST}"))?;
            }
            other => return Err(format!("{other} is not an option")),
        }
        Ok(())
    }
}

fn on_message(value: &str) -> Result<OnMessage, String> {
    Ok(match value {
        "publish" => OnMessage::Publish,
        "broadcast" => OnMessage::Broadcast,
        "echo" => OnMessage::Echo,
        "hook" => OnMessage::Hook,
        "ignore" => OnMessage::Ignore,
        _ => return Err("on-message is publish, broadcast, echo, hook or ignore".into()),
    })
}

/// Reads `close:CODE:REASON`.
fn close(value: &str) -> Result<(u16, String), String> {
    let form = "on-open is close:CODE:REASON, with a code from 3000 to 4999 or 1000, and at most 123 bytes of reason";
    let (code, reason) = value.strip_prefix("close:").and_then(|rest| rest.split_once(':')).ok_or(form)?;
    let code = code.parse().ok().filter(|code| matches!(code, 1000 | 3000..=4999)).ok_or(form)?;
    if reason.len() > 123 {
        return Err(form.into());
    }
    Ok((code, reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_their_options() {
        let page = PagePath::parse("/chat=chat").expect("a path");
        assert_eq!(
            (&*page.path, page.channels, page.on_message),
            ("/chat", vec!["chat".to_owned()], OnMessage::Ignore)
        );
        let page = PagePath::parse(
            "/r/{channel}=room-{channel},all on-open=close:3000:Go away! last=5 on-message=broadcast \
             origins=https://a.example,https://b.example",
        );
        let page = page.expect("a path");
        assert_eq!((&*page.path, page.channels.join(" ")), ("/r/{channel}", "room-{channel} all".into()));
        assert_eq!((page.on_message, page.last), (OnMessage::Broadcast, 5));
        assert_eq!(page.closes, Some((3000, "Go away!".into())));
        assert_eq!(page.origins, Some(vec!["https://a.example".into(), "https://b.example".into()]));
        assert_eq!(PagePath::parse("/=a").expect("a path").path, "/");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, mistake) in [
            ("", "write PATH=CHANNEL"),
            ("/chat", "write PATH=CHANNEL"),
            ("chat=a", "begin with a slash"),
            ("/a?b=c", "begin with a slash"),
            ("/a=", "channel name"),
            ("/a=b,,c", "channel name"),
            ("/a=~s/1", "reserved"),
            ("/a={channel}", "channel name"),
            ("/{channel}/{channel}=a", "once"),
            ("/x{channel}=a", "a whole part"),
            ("/a=b c", "is not an option"),
            ("/a=b on_message=echo", "is not an option"),
            ("/a=b on-message=Echo", "on-message is"),
            ("/a=b last=5 last=6", "comes twice"),
            ("/a=b last=1001", "last is a number"),
            ("/a=b on-open=close:1006:x", "on-open is"),
            ("/a=b on-open=3000", "on-open is"),
        ] {
            let error = PagePath::parse(text).expect_err("refused");
            assert!(error.contains(mistake) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
