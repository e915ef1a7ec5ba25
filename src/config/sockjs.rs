//! The flags of SockJS.

use super::error::BadConfig;
use super::page_path::{OnMessage, PagePath, Parts, split_options};
use super::values::size;
use clap::{ArgAction, Args};

/// The flags of SockJS.
#[derive(Args, Clone, Debug, Default)]
pub struct SockJsFlags {
    /// Serves pages that use sockjs-client: 'PREFIX=CHANNEL[,CHANNEL…] [OPTION=VALUE…]'. The clients read the channels.
    /// Options: on-message (publish, broadcast, echo, hook or ignore), on-open (close:CODE:REASON), origins, websocket,
    /// cookie, response-limit, sockjs-url, last. Repeatable; in the environment, one per line
    #[arg(long, env = "LONGTAIL_SOCKJS", value_name = "SPEC", help_heading = "SockJS")]
    #[arg(value_delimiter = '\n', value_parser = prefix, action = ArgAction::Append)]
    pub sockjs: Vec<SockJsPrefix>,
}

/// A value of `--sockjs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SockJsPrefix {
    /// The path, and the options that every path of pages has.
    pub page: PagePath,
    /// Whether clients may use a WebSocket.
    pub websocket: bool,
    /// Whether answers set the cookie that some balancers need.
    pub cookie: bool,
    /// After how many bytes a streaming response ends.
    pub response_limit: usize,
    /// The address of the library for hidden frames.
    pub library: String,
}

/// The names of the options.
const OPTIONS: [&str; 8] =
    ["on-message", "on-open", "origins", "websocket", "cookie", "response-limit", "sockjs-url", "last"];

/// The default of `response-limit`.
const RESPONSE_LIMIT: usize = 131_072;

/// The default of `sockjs-url`.
const LIBRARY: &str = "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js";

fn prefix(text: &str) -> Result<SockJsPrefix, String> {
    let Parts { main, options } = split_options(text.trim(), &OPTIONS)?;
    let page = PagePath::of_main(main)?;
    let path = &page.path;
    if path.ends_with('/') || path.contains("//") || path.contains(['{', '%']) {
        return Err(format!("{path:?} is not a prefix: write a path such as /chat, without a slash at its end"));
    }
    let (response_limit, library) = (RESPONSE_LIMIT, LIBRARY.to_owned());
    let mut prefix = SockJsPrefix { page, websocket: true, cookie: false, response_limit, library };
    for (name, value) in options {
        prefix.set(name, value.trim_end()).map_err(|rule| format!("{name}={value}: {rule}"))?;
    }
    Ok(prefix)
}

impl SockJsPrefix {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "websocket" => self.websocket = on_off(value)?,
            "cookie" => self.cookie = on_off(value)?,
            "response-limit" => self.response_limit = size(value)?,
            "sockjs-url" => {
                if !value.starts_with('/') && !value.starts_with("http://") && !value.starts_with("https://") {
                    return Err("use an address that begins with https://, http:// or /".into());
                }
                value.clone_into(&mut self.library);
            }
            _ => self.page.set(name, value)?,
        }
        Ok(())
    }
}

fn on_off(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("use on or off".into()),
    }
}

impl SockJsFlags {
    /// Checks rules that involve more than one value or flag.
    pub(super) fn check(&self, has_hook: bool) -> Result<(), BadConfig> {
        for (index, prefix) in self.sockjs.iter().enumerate() {
            let path = &prefix.page.path;
            if self.sockjs[..index].iter().any(|other| other.page.path == *path) {
                return Err(BadConfig::new(format!("--sockjs: the prefix {path} is there twice")));
            }
            if prefix.page.on_message == OnMessage::Hook && !has_hook {
                let text = format!("--sockjs {path}: on-message=hook needs --hook-url or --hook-stream");
                return Err(BadConfig::new(text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_names_channels_and_options() {
        let plain = prefix("/chat=room").expect("a prefix");
        assert!(plain.websocket && !plain.cookie && plain.response_limit == 131_072);
        let text = "/a/b=one,two on-open=close:3000:Go away! now on-message=broadcast origins=https://a.example,* \
                    websocket=off cookie=on response-limit=4KiB last=7 sockjs-url=/s.js?a=b c";
        let full = prefix(text).expect("a prefix");
        assert_eq!((&*full.page.path, full.page.channels.len(), full.page.last), ("/a/b", 2, 7));
        assert_eq!(full.page.closes, Some((3000, "Go away! now".into())));
        assert_eq!((full.response_limit, &*full.library), (4096, "/s.js?a=b c"));
        assert!(!full.websocket && full.cookie && full.page.on_message == OnMessage::Broadcast);
    }

    #[test]
    fn a_mistake_says_how_to_mend_it() {
        for (text, part) in [
            ("", "PATH=CHANNEL"),
            ("chat=room", "begin with a slash"),
            ("/=room", "is not a prefix"),
            ("/chat/=room", "is not a prefix"),
            ("/{channel}={channel}", "is not a prefix"),
            ("/a%20b=room", "is not a prefix"),
            ("/chat=room other=1", "is not an option"),
            ("/chat=room on-message=send", "publish, broadcast, echo, hook or ignore"),
            ("/chat=room websocket=yes", "on or off"),
            ("/chat=room sockjs-url=s.js", "https://"),
            ("/chat=room response-limit=0", "above 0"),
        ] {
            let error = prefix(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn flags_fit_together() {
        let flags =
            |texts: &[&str]| SockJsFlags { sockjs: texts.iter().map(|text| prefix(text).expect("a prefix")).collect() };
        assert!(flags(&["/a=x", "/b=x on-message=hook"]).check(true).is_ok());
        assert!(flags(&["/a=x", "/a=y"]).check(true).is_err());
        assert!(flags(&["/b=x on-message=hook"]).check(false).is_err());
    }
}
