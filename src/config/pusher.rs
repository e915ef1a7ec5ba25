//! The flags of Pusher apps, and the file with apps.

use super::access::{Secret, application};
use super::error::BadConfig;
use clap::{ArgAction, Args};
use hyper::Uri;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::HashSet;
use std::path::PathBuf;

/// The flags of Pusher apps.
#[derive(Args, Clone, Debug)]
pub struct PusherFlags {
    /// File with the apps whose Pusher clients and server SDKs may use the server: a JSON array such as
    /// `[{"id":"1","key":"app-key","secret":"app-secret"}]`
    #[arg(long, env = "LONGTAIL_PUSHER_APPS", value_name = "FILE", help_heading = "Pusher")]
    pub pusher_apps: Option<PathBuf>,

    /// A Pusher app without options, to try it out. Other programs on this machine can read the secret from the process
    /// list: prefer --pusher-apps. Repeatable
    #[arg(long, env = "LONGTAIL_PUSHER_APP", value_name = "ID:KEY:SECRET", hide_env_values = true)]
    #[arg(value_parser = app, value_delimiter = ' ', action = ArgAction::Append, help_heading = "Pusher")]
    pub pusher_app: Vec<PusherApp>,
}

/// An app: a name space of channels with a key for clients and a secret for the application.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PusherApp {
    /// The id, which is a part of the paths of the REST API.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// The key, which clients know.
    pub key: String,
    /// The secret, which signs requests and subscriptions.
    #[serde(deserialize_with = "secret")]
    pub secret: Secret,
    /// The beginning of the names of the app's channels in the log. By default this is the id and a slash.
    #[serde(default)]
    prefix: Option<String>,
    /// The path in front of `/apps` that SDKs sign, if a proxy removes it.
    #[serde(default)]
    pub path: String,
    /// Whether clients may send events.
    #[serde(default)]
    pub client_events: bool,
    /// The maximum number of connections of the app at this node; 0 means no maximum.
    #[serde(default)]
    pub max_connections: usize,
    /// Whether the app may be used.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// The URLs that get events of the app.
    #[serde(default)]
    pub webhooks: Vec<PusherWebhookConfig>,
    /// The pattern of the PUBLISH channels of Laravel's `redis` broadcaster.
    #[serde(default)]
    pub redis_pattern: Option<String>,
}

/// A URL that gets events of an app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PusherWebhookConfig {
    /// The URL.
    #[serde(deserialize_with = "webhook_url")]
    pub url: Uri,
    /// The types of the events. By default these are all types about channels and members.
    #[serde(default)]
    events: Option<Vec<String>>,
}

/// The most webhooks of an app.
const MAX_WEBHOOKS: usize = 10;

/// The types of events that a webhook may get. The first four are those that it gets by default.
pub const WEBHOOK_EVENTS: [&str; 6] =
    ["channel_occupied", "channel_vacated", "member_added", "member_removed", "client_event", "cache_miss"];

impl PusherWebhookConfig {
    /// Whether the webhook gets events of the type with this name.
    pub fn takes(&self, name: &str) -> bool {
        match &self.events {
            Some(names) => names.iter().any(|known| known == name),
            None => WEBHOOK_EVENTS[..4].contains(&name),
        }
    }

    fn check(&self) -> Result<(), String> {
        let list = WEBHOOK_EVENTS.join(", ");
        match &self.events {
            Some(names) if names.is_empty() => Err(format!("webhooks: events is empty: use {list}")),
            Some(names) => match names.iter().find(|name| !WEBHOOK_EVENTS.contains(&name.as_str())) {
                Some(name) => Err(format!("webhooks: there are no events {name:?}: use {list}")),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

fn webhook_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uri, D::Error> {
    application(&String::deserialize(deserializer)?, "https://www.example.com/webhook.php").map_err(D::Error::custom)
}

fn enabled() -> bool {
    true
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        _ => Err(D::Error::custom("id must be a text or a number")),
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => Ok(Secret(text)),
        // The error of serde would repeat the value.
        _ => Err(D::Error::custom("secret must be a text")),
    }
}

/// Reads `ID:KEY:SECRET`.
fn app(text: &str) -> Result<PusherApp, String> {
    let mut parts = text.splitn(3, ':').map(str::to_owned);
    let (Some(id), Some(key), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("use the id, the key and the secret of the app, with colons between them".into());
    };
    let app = PusherApp {
        id,
        key,
        secret: Secret(secret),
        prefix: None,
        path: String::new(),
        client_events: false,
        max_connections: 0,
        enabled: true,
        webhooks: Vec::new(),
        redis_pattern: None,
    };
    app.check()?;
    Ok(app)
}

impl PusherApp {
    /// The beginning of the names of the app's channels in the log.
    pub fn prefix(&self) -> String {
        self.prefix.clone().unwrap_or_else(|| format!("{}/", self.id))
    }

    /// Checks each field. The error names the field and its rule.
    fn check(&self) -> Result<(), String> {
        let is_word = |text: &str| {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            (1..=100).contains(&text.len()) && text.bytes().all(is_allowed)
        };
        if !is_word(&self.id) {
            return Err("the id must be 1 to 100 of A-Z a-z 0-9 _ - .".into());
        }
        if !is_word(&self.key) {
            return Err("the key must be 1 to 100 of A-Z a-z 0-9 _ - .".into());
        }
        if self.secret.0.is_empty() {
            return Err("the secret is empty; `openssl rand -hex 32` makes one".into());
        }
        let (prefix, path) = (self.prefix(), &self.path);
        let is_prefix = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/@".contains(&byte);
        if prefix.len() > 100 || !prefix.bytes().all(is_prefix) {
            return Err("the prefix must be at most 100 of A-Z a-z 0-9 _ - . : / @".into());
        }
        if !path.is_empty() && (!path.starts_with('/') || path.ends_with('/')) {
            return Err("the path must begin with a slash and end without one, such as /push".into());
        }
        if self.webhooks.len() > MAX_WEBHOOKS {
            return Err(format!("webhooks: an app may have at most {MAX_WEBHOOKS}"));
        }
        self.webhooks.iter().try_for_each(PusherWebhookConfig::check)?;
        Ok(())
    }
}

impl PusherFlags {
    /// Whether there are apps.
    pub fn has_apps(&self) -> bool {
        self.pusher_apps.is_some() || !self.pusher_app.is_empty()
    }

    /// The apps of the flags, and those of the file of `--pusher-apps`. `text` is its content.
    ///
    /// # Errors
    ///
    /// A mistake in the file, with its place and its correction, or two apps that contradict each other.
    pub fn apps(&self, text: Option<&str>) -> Result<Vec<PusherApp>, BadConfig> {
        let mut apps = self.pusher_app.clone();
        if let (Some(path), Some(text)) = (&self.pusher_apps, text) {
            let bad = |error: String| BadConfig::new(format!("--pusher-apps: {}: {error}", path.display()));
            let of_file: Vec<PusherApp> = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
            if of_file.is_empty() {
                return Err(bad("the array has no app: write [{\"id\":\"1\",\"key\":\"…\",\"secret\":\"…\"}]".into()));
            }
            for (index, app) in of_file.iter().enumerate() {
                app.check().map_err(|error| bad(format!("app {} of the array: {error}", index + 1)))?;
            }
            apps.extend(of_file);
        }
        check_together(&apps).map_err(BadConfig::new)?;
        Ok(apps)
    }
}

/// Checks rules that involve several apps.
fn check_together(apps: &[PusherApp]) -> Result<(), String> {
    let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
    for app in apps {
        if !ids.insert(&app.id) {
            return Err(format!("two Pusher apps have the id {}: give each app an id of its own", app.id));
        }
        if !keys.insert(&app.key) {
            return Err(format!("two Pusher apps have the key of the app {}: give each app a key of its own", app.id));
        }
    }
    for (index, app) in apps.iter().enumerate() {
        let overlaps = |other: &&PusherApp| {
            let (one, other) = (app.prefix(), other.prefix());
            one.starts_with(&other) || other.starts_with(&one)
        };
        if let Some(other) = apps[index + 1..].iter().find(overlaps) {
            return Err(format!(
                "the Pusher apps {} and {} share channels, because one prefix is the beginning of the other: set another \
                 prefix",
                app.id, other.id
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps(flags: &[&str], file: Option<&str>) -> Result<Vec<PusherApp>, String> {
        let pusher_app = flags.iter().map(|text| app(text)).collect::<Result<_, _>>()?;
        let flags = PusherFlags { pusher_apps: file.map(|_| "apps.json".into()), pusher_app };
        flags.apps(file).map_err(|error| error.to_string())
    }

    #[test]
    fn apps_of_flags_and_of_the_file() {
        let file =
            r#"[{"id":2,"key":"b","secret":"t","prefix":"","path":"/push","client_events":true,"enabled":false}]"#;
        assert!(apps(&["1:a:s"], Some(file)).expect_err("refused").contains("share channels"));
        let found = apps(&[], Some(file)).expect("apps");
        assert_eq!((&*found[0].id, &*found[0].prefix(), &*found[0].path), ("2", "", "/push"));
        assert!(found[0].client_events && !found[0].enabled);
        let file = r#"[{"id":1,"key":"a","secret":"s","webhooks":[{"url":"https://a/b"},{"url":"http://a","events":["client_event"]}]}]"#;
        let found = apps(&[], Some(file)).expect("apps");
        let taken = |index: usize| WEBHOOK_EVENTS.map(|name| found[0].webhooks[index].takes(name));
        assert_eq!(taken(0), [true, true, true, true, false, false]);
        assert_eq!(taken(1), [false, false, false, false, true, false]);
        let found = apps(&["1:a:s:e:c"], None).expect("apps");
        assert_eq!((&*found[0].prefix(), &*found[0].secret.0), ("1/", "s:e:c"));
        assert!(found[0].enabled && !found[0].client_events);
        assert!(!format!("{found:?}").contains("s:e:c"), "{found:?}");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (file, text) in [
            ("", "apps.json: EOF"),
            ("{}", "line 1"),
            ("[]", "has no app"),
            (r#"[{"id":"1","key":"a"}]"#, "missing field `secret`"),
            (r#"[{"id":"1","key":"a","secret":"s","client_event":true}]"#, "unknown field `client_event`"),
            (r#"[{"id":"1","key":"a","secret":""}]"#, "app 1 of the array: the secret is empty"),
            (r#"[{"id":"1","key":"a","secret":12345}]"#, "secret must be a text"),
            (r#"[{"id":"a b","key":"a","secret":"s"}]"#, "the id must be"),
            (r#"[{"id":"1","key":"","secret":"s"}]"#, "the key must be"),
            (r#"[{"id":"1","key":"a","secret":"s","prefix":"~"}]"#, "the prefix must be"),
            (r#"[{"id":"1","key":"a","secret":"s","path":"push"}]"#, "the path must begin with a slash"),
            (
                r#"[{"id":"1","key":"a","secret":"s","webhooks":[{"url":"x"}]}]"#,
                "use a URL such as https://www.example.com",
            ),
            (
                r#"[{"id":"1","key":"a","secret":"s","webhooks":[{"url":"http://a/","events":["joined"]}]}]"#,
                "there are no events \"joined\": use channel_occupied, channel_vacated,",
            ),
            (r#"[{"id":"1","key":"a","secret":"s","webhooks":[{"url":"http://a/","events":[]}]}]"#, "events is empty"),
            (r#"[{"id":"1","key":"a","secret":"s"},{"id":"1","key":"b","secret":"s"}]"#, "have the id 1"),
            (r#"[{"id":"1","key":"a","secret":"s"},{"id":"2","key":"a","secret":"s"}]"#, "have the key of the app 2"),
        ] {
            let error = apps(&[], Some(file)).expect_err("refused");
            assert!(error.contains(text) && !error.contains('\n'), "{file}: {error}");
        }
        for bad in ["", "1", "1:a", "1:a:", ":a:s", "1::s"] {
            assert!(app(bad).is_err(), "{bad}");
        }
    }
}
