//! Settings that must be the same on all nodes of a log. A node logs the settings in which another node differs.

use super::RedisConfig;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// The shortest time between two log lines about one setting, so that forged records cannot flood the log of the
/// process.
const QUIET: Duration = Duration::from_secs(10);

/// The maximum number of different values of other nodes that a log line names.
const NAMED: usize = 3;

/// The longest value in a record, in bytes. In place of a longer value the record has its hash.
const LONGEST: usize = 500;

/// The settings, each with the consequence of a difference.
const SETTINGS: [(&str, &str); 6] = [
    ("--max-message-bytes", "a node skips payloads that are longer than its own limit"),
    (
        "--redis-subscribe",
        "a PUBLISH that matches the patterns of both is appended twice (--socketio-emitters adds patterns)",
    ),
    ("--retain-seconds", "the log keeps only as much as the lowest of the values allows"),
    ("--retain-messages", "the log keeps only as much as the lowest of the values allows"),
    ("--retain-bytes", "the log keeps only as much as the lowest of the values allows"),
    ("--key-bytes", "each node accepts new idempotency keys up to its own value"),
];

/// The settings of a node, by flag.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(super) fn of(config: &RedisConfig) -> Settings {
        let retention = config.retention;
        let mut patterns = config.subscribe.clone();
        patterns.sort_unstable();
        let patterns = if patterns.is_empty() { "off".to_owned() } else { patterns.join(" ") };
        let values = [
            config.max_payload.to_string(),
            if patterns.len() <= LONGEST { patterns } else { format!("of the sum {:.12}", sum(&patterns)) },
            retention.age.as_secs().to_string(),
            retention.messages.to_string(),
            retention.bytes.to_string(),
            config.key_bytes.to_string(),
        ];
        Settings(SETTINGS.iter().map(|(flag, _)| (*flag).to_owned()).zip(values).collect())
    }

    fn get(&self, flag: &str) -> Option<&str> {
        self.0.get(flag).map(String::as_str)
    }
}

fn sum(text: &str) -> String {
    Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A difference in one setting, as this node logged it.
struct LoggedDifference {
    /// The values of the other nodes.
    values: Vec<String>,
    at: Instant,
}

/// The differences that this node has logged, by setting.
#[derive(Default)]
pub(super) struct SettingsCheck(BTreeMap<&'static str, LoggedDifference>);

impl SettingsCheck {
    /// Logs each setting in which live nodes differ from this node, with the names of those nodes. It logs each change
    /// once.
    pub(super) fn look(&mut self, own: &Settings, nodes: &[(&str, &Settings)]) {
        for (flag, consequence) in SETTINGS {
            let Some(ours) = own.get(flag) else { continue };
            let mut theirs = BTreeMap::<&str, (&str, usize)>::new();
            for (name, settings) in nodes {
                // A node that does not report the setting runs a version without this setting.
                let Some(value) = settings.get(flag).filter(|value| *value != ours) else { continue };
                theirs.entry(value).or_insert((name, 0)).1 += 1;
            }
            let values: Vec<String> = theirs.keys().take(NAMED + 1).map(|value| (*value).to_owned()).collect();
            let is_news = match self.0.get(flag) {
                None => !values.is_empty(),
                Some(said) => said.values != values && said.at.elapsed() >= QUIET,
            };
            if !is_news {
                continue;
            }
            if values.is_empty() {
                info!("all nodes of the log have the same {flag} again");
                self.0.remove(flag);
                continue;
            }
            let named = theirs.iter().take(NAMED).map(|(value, (name, count))| {
                let others = if *count > 1 { format!(" and {} others", count - 1) } else { String::new() };
                format!("{} on {name}{others}", printable(value))
            });
            let mut named: Vec<String> = named.collect();
            if theirs.len() > NAMED {
                named.push("other values on other nodes".into());
            }
            let named = named.join(", ");
            warn!(
                "{flag} is {ours} on this node and {named}: {consequence}; give all nodes of the log the same {flag}"
            );
            self.0.insert(flag, LoggedDifference { values, at: Instant::now() });
        }
    }
}

/// Returns the part of a record's text that is safe to log: printable ASCII, at most 100 characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(100).collect()
}
