//! The function library for programs in any language: publishers call `FCALL longtail_publish`, and workers answer the
//! calls of `--hook-stream` with `FCALL longtail_answer`.
//!
//! The library is stored in Redis (also in its append-only file and its replicas). So a program can publish to the log
//! even if no node is running.

use super::{Connection, ScriptError};
use crate::log::idempotency::{KEY_BYTES, KEY_LIFE};
use redis::Value;
use sha1::{Digest, Sha1};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// The version is raised with each change of the library's behaviour. A node does not replace a newer library, because
/// an older node may start beside newer nodes.
const VERSION: u64 = 10;

static BODY: LazyLock<String> = LazyLock::new(|| {
    let common = concat!(include_str!("lua/common.lua"), include_str!("lua/keys.lua"));
    let publish = include_str!("lua/publish.lua");
    let keys = format!("local KEY_LIFE, KEY_BYTES = {}, {KEY_BYTES}", KEY_LIFE.as_millis());
    // The common part of the scripts reads KEYS when it is loaded, but in a library KEYS exists only within a call.
    let texts = concat!(include_str!("lua/utf8.lua"), include_str!("lua/json.lua"));
    let answer = include_str!("lua/answer.lua");
    format!(
        "{texts}\nlocal function publish(KEYS, ARGV)\n{common}\n{keys}\n{publish}\nend\n\
         local function answer(KEYS, ARGV)\n{answer}\nend\n"
    )
});

/// The description of the functions. Redis can return it without the code of the library, which is long. No other
/// library has the same description.
static DESCRIPTION: LazyLock<String> = LazyLock::new(|| {
    let sum: String = Sha1::digest(BODY.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("version {VERSION} {sum}")
});

static LIBRARY: LazyLock<String> = LazyLock::new(|| {
    let register = |name: &str, callback: &str| {
        let description = &*DESCRIPTION;
        format!(
            "redis.register_function{{ function_name = '{name}', callback = {callback}, description = '{description}' }}\n"
        )
    };
    let (publish, answer) = (register("longtail_publish", "publish"), register("longtail_answer", "answer"));
    format!("#!lua name=longtail\n-- version {VERSION}\n{}{publish}{answer}", *BODY)
});

/// The time after an error until the node tries again to load the library.
const OBSTRUCTED: Duration = Duration::from_secs(30);

/// The state of the library in Redis, as one node knows it.
#[derive(Default)]
pub(super) struct Functions {
    /// The error that keeps the library from being loaded, as it was logged, and its time.
    obstacle: Option<(String, Instant)>,
}

impl Functions {
    /// Loads the library if it is missing or older: a deployment of another application may have removed all functions.
    /// An error is logged once, and the node continues without the library.
    ///
    /// `is_new`: whether the connection is new.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub(super) async fn look_after(&mut self, connection: &mut Connection, is_new: bool) -> Result<(), ScriptError> {
        if !is_new && self.obstacle.as_ref().is_some_and(|(_, at)| at.elapsed() < OBSTRUCTED) {
            return Ok(());
        }
        let obstacle = match load(connection, is_new).await {
            Ok(obstacle) => obstacle.map(str::to_owned),
            Err(ScriptError::Refused(error)) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        if let Some(reason) = &obstacle
            && self.obstacle.as_ref().is_none_or(|(said, _)| said != reason)
        {
            warn!(
                reason,
                "FCALL longtail_publish and FCALL longtail_answer are not available in Redis; all other ways to publish \
                 still work"
            );
        }
        self.obstacle = obstacle.map(|reason| (reason, Instant::now()));
        Ok(())
    }
}

async fn load(connection: &mut Connection, is_new: bool) -> Result<Option<&'static str>, ScriptError> {
    let mut list = redis::cmd("FUNCTION");
    list.arg("LIST").arg("LIBRARYNAME").arg("longtail");
    if is_current(&connection.send(&list).await?, is_new) {
        return Ok(None);
    }
    match installed(&connection.send(list.arg("WITHCODE")).await?) {
        Installed::Foreign => Ok(Some("another function library has the name longtail")),
        Installed::Version(version) if version > VERSION => Ok(None),
        Installed::Code(code) if code == *LIBRARY => Ok(None),
        _ => {
            connection.send(redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(&*LIBRARY)).await?;
            Ok(None)
        }
    }
}

/// Whether the list has a suitable library. On a new connection only this build's library or a newer version is
/// suitable. Later any library of the same version is suitable: otherwise two builds of one version would replace each
/// other's library forever.
fn is_current(list: &Value, is_new: bool) -> bool {
    match list {
        Value::Array(items) => items.iter().any(|item| is_current(item, is_new)),
        value => super::text(value).is_some_and(|text| {
            let version = text.strip_prefix("version ").and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
            version.is_some_and(|version| version > VERSION || (version == VERSION && !is_new)) || text == *DESCRIPTION
        }),
    }
}

enum Installed {
    Nothing,
    Foreign,
    Version(u64),
    Code(String),
}

fn installed(list: &Value) -> Installed {
    let Some([library, ..]) = super::entry::array(list) else { return Installed::Nothing };
    let fields = super::entry::array(library).unwrap_or_default().chunks_exact(2);
    let code =
        fields.filter(|pair| super::text(&pair[0]) == Some("library_code")).find_map(|pair| super::text(&pair[1]));
    let code = code.unwrap_or_default();
    let version = code.lines().nth(1).and_then(|line| line.strip_prefix("-- version ")?.parse().ok());
    match version {
        None => Installed::Foreign,
        Some(VERSION) => Installed::Code(code.to_owned()),
        Some(version) => Installed::Version(version),
    }
}
