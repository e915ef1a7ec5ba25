//! The function library that publishers of any language may call: `FCALL longtail_publish`.
//!
//! It lives in Redis (and in its append-only file and its replicas), so a message that is published by it is
//! in the log also while no node is up.

use super::{Connection, ScriptError};
use redis::Value;
use std::sync::LazyLock;

/// Raised with each change of what the library does. A newer one is left alone: an older node may
/// come back beside newer ones.
const VERSION: u64 = 3;

static LIBRARY: LazyLock<String> = LazyLock::new(|| {
    let (common, publish) = (include_str!("lua/common.lua"), include_str!("lua/publish.lua"));
    // The scripts' common part looks at KEYS at once, which a library has within a call only.
    format!(
        "#!lua name=longtail\n-- version {VERSION}\nlocal function publish(KEYS, ARGV)\n{common}\n{publish}\nend\n\
         redis.register_function('longtail_publish', publish)\n"
    )
});

/// Loads the library where it is missing or older, and tells it how long a payload may be. What
/// stands against it is answered, for the log: serving goes on without it.
///
/// # Errors
///
/// The connection is lost.
pub(super) async fn load(
    connection: &mut Connection,
    settings: &str,
    max_payload: usize,
) -> Result<Option<String>, ScriptError> {
    match try_load(connection, settings, max_payload).await {
        Ok(obstacle) => Ok(obstacle.map(str::to_owned)),
        Err(ScriptError::Refused(error)) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

async fn try_load(
    connection: &mut Connection,
    settings: &str,
    max_payload: usize,
) -> Result<Option<&'static str>, ScriptError> {
    let mut list = redis::cmd("FUNCTION");
    list.arg("LIST").arg("LIBRARYNAME").arg("longtail").arg("WITHCODE");
    let obstacle = match installed(&connection.send(&list).await?) {
        Installed::Foreign => Some("there is another library of the name longtail"),
        Installed::Version(version) if version > VERSION => None,
        Installed::Code(code) if code == *LIBRARY => None,
        _ => {
            connection.send(redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(&*LIBRARY)).await?;
            None
        }
    };
    connection.send(redis::cmd("HSET").arg(settings).arg("max-message-bytes").arg(max_payload)).await?;
    Ok(obstacle)
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
