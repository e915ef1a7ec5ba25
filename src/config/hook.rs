//! The flags of the application hook.

use super::access::application;
use super::error::BadConfig;
use clap::Args;
use hyper::Uri;
use std::path::PathBuf;
use std::str::FromStr;

/// The types of calls.
const TYPES: [&str; 8] =
    ["connect", "event", "ack", "disconnect", "occupied", "vacated", "member_added", "member_removed"];

/// The types of calls that the application gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notify(Vec<&'static str>);

impl Notify {
    /// Whether the application gets calls of this type.
    pub fn has(&self, kind: &str) -> bool {
        self.0.contains(&kind)
    }

    /// Whether the application gets calls about the members of channels.
    pub fn has_members(&self) -> bool {
        self.has("member_added") || self.has("member_removed")
    }

    /// Whether the application gets calls about channels or members, which no request of a client causes.
    pub fn has_transitions(&self) -> bool {
        self.has_members() || self.has("occupied") || self.has("vacated")
    }
}

/// The flags of the hook.
#[derive(Args, Clone, Debug)]
pub struct HookFlags {
    /// URL of the application that gets the events of clients, such as `https://www.example.com/hook.php`. The server
    /// sends it each event and the user's cookies by POST. The answer says what the server does next
    #[arg(long, env = "LONGTAIL_HOOK_URL", value_name = "URL", help_heading = "Application")]
    #[arg(value_parser = hook_url, hide_env_values = true)]
    pub hook_url: Option<Uri>,

    /// Name of a stream in Redis that gets the events of clients, instead of a URL: the stream `{P:log}:hook:NAME`, with
    /// the P of `--redis-prefix`. Workers read it with consumer groups, and answer with `FCALL longtail_answer`
    #[arg(long, env = "LONGTAIL_HOOK_STREAM", value_name = "NAME", help_heading = "Application")]
    #[arg(value_parser = stream_name)]
    pub hook_stream: Option<String>,

    /// File with the secret that signs calls to the application (`Longtail-Signature`). A line end at the end of the
    /// file is ignored. SIGHUP reloads the file
    #[arg(long, env = "LONGTAIL_HOOK_SECRET_FILE", value_name = "FILE", help_heading = "Application")]
    pub hook_secret_file: Option<PathBuf>,

    /// Seconds that the application may take for a call, with its repetition. After that, the event fails
    #[arg(long, env = "LONGTAIL_HOOK_TIMEOUT", value_name = "S", default_value_t = 2, help_heading = "Application")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60))]
    pub hook_timeout: u64,

    /// Types of calls that the application gets, with commas between them: connect, event, ack, disconnect; and
    /// occupied, vacated (a channel gets its first reader, or loses its last one), member_added, member_removed
    #[arg(long, env = "LONGTAIL_HOOK_NOTIFY", value_name = "TYPES", default_value = "connect,event")]
    #[arg(help_heading = "Application")]
    pub hook_notify: Notify,

    /// Limit on events per second from one client. 0 means that there is no limit
    #[arg(long, env = "LONGTAIL_EVENT_RATE", value_name = "N", default_value_t = 0, help_heading = "Limits")]
    pub event_rate: u32,
}

fn hook_url(text: &str) -> Result<Uri, String> {
    application(text, "https://www.example.com/hook.php")
}

fn stream_name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if (1..=100).contains(&text.len()) && text.bytes().all(is_allowed) {
        return Ok(text.to_owned());
    }
    Err("use 1 to 100 of A-Z a-z 0-9 _ - . :".into())
}

fn notify(text: &str) -> Result<Notify, String> {
    let mut types = Vec::new();
    for name in text.split([',', ' ']).filter(|name| !name.is_empty()) {
        let known = TYPES.into_iter().find(|known| *known == name);
        types.push(known.ok_or_else(|| format!("use {}, with commas between them", TYPES.join(", ")))?);
    }
    Ok(Notify(types))
}

impl FromStr for Notify {
    type Err = String;

    fn from_str(text: &str) -> Result<Notify, String> {
        notify(text)
    }
}

impl HookFlags {
    /// Whether there is an application.
    pub fn is_on(&self) -> bool {
        self.hook_url.is_some() || self.hook_stream.is_some()
    }

    /// Whether an application gets calls about channels or members.
    pub fn notifies_transitions(&self) -> bool {
        self.is_on() && self.hook_notify.has_transitions()
    }

    /// Checks rules that involve more than one flag.
    pub(super) fn check(&self, has_redis: bool) -> Result<(), BadConfig> {
        let bad = |text: &str| Err(BadConfig::new(text.into()));
        if self.hook_stream.is_some() {
            if self.hook_url.is_some() {
                return bad("--hook-url and --hook-stream are two ways to one application: set only one of them");
            }
            if !has_redis {
                return bad(
                    "--hook-stream needs --redis: the events go to a stream in Redis, and this log is in memory",
                );
            }
            if self.hook_secret_file.is_some() {
                return bad(
                    "--hook-secret-file signs calls over HTTP: with --hook-stream, the permissions of Redis protect calls",
                );
            }
        }
        if self.hook_url.is_none() && self.hook_secret_file.is_some() {
            return bad("--hook-secret-file has no effect alone: name the application with --hook-url");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_words_with_commas_between_them() {
        for (text, types) in [
            ("connect,event", &["connect", "event"][..]),
            ("event", &["event"]),
            ("ack disconnect", &["ack", "disconnect"]),
            ("occupied,vacated", &["occupied", "vacated"]),
            ("member_added,member_removed", &["member_added", "member_removed"]),
            ("", &[]),
        ] {
            assert_eq!(notify(text), Ok(Notify(types.to_vec())), "{text}");
        }
        assert!(
            notify("events").expect_err("refused").contains("use connect, event, ack, disconnect, occupied, vacated")
        );
    }

    #[test]
    fn a_url_has_a_scheme_and_a_host_and_no_secrets_in_front_of_it() {
        for good in ["http://a/", "https://a:1/hook.php?key=x", "http://127.0.0.1:1"] {
            assert!(hook_url(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "/hook.php", "ftp://a/", "http://user:password@a/", "http://"] {
            assert!(hook_url(bad).expect_err("refused").contains("hook.php"), "{bad}");
        }
    }
}
