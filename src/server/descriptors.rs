//! File descriptors: what the process may have, into what clients may take of it.

use super::StartError;
use crate::config::Config;
use crate::serve::{MAX_IN_FLIGHT, Room};
use tracing::{info, warn};

/// For connections to Redis: the log's, the bridge's and the census's, each of them once more while it is made anew, and
/// those to sentinels and name servers.
const REDIS: u64 = 24;

/// For all else that comes after the start: signals, files that are read again, `/proc` for the metrics, and one connection
/// a listener that is accepted only to be closed.
const OTHERS: u64 = 12;

/// What is open at the start, where the system does not tell.
const OPEN: u64 = 32;

/// How many descriptors the process may have.
fn limit() -> u64 {
    rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// How many it has.
fn open() -> u64 {
    // Linux's name for it, and that of the others.
    let list = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd"));
    list.map_or(OPEN, |entries| entries.count() as u64)
}

/// Questions that the application may be asked at once: each is a connection, and they leave most of a small limit to others.
pub fn questions() -> usize {
    questions_of(limit())
}

fn questions_of(limit: u64) -> usize {
    usize::try_from(limit / 4).unwrap_or(usize::MAX).clamp(1, MAX_IN_FLIGHT)
}

/// What is kept back from clients under this limit.
fn kept_back(config: &Config, demo: u64, limit: u64) -> u64 {
    let redis = if config.redis.is_some() { REDIS } else { 0 };
    let application = match &config.access.authorize_url {
        Some(_) => questions_of(limit) as u64,
        None => 0,
    };
    // Never most of them: the demo's clients come through its proxy.
    OTHERS + redis + application + demo.min(limit / 2)
}

/// What clients may take. To be called when all that a server opens at its start is open. Says so where it is less than
/// `--max-connections`.
///
/// # Errors
///
/// The limit leaves nothing.
pub fn room(config: &Config, demo: u64) -> Result<Room, StartError> {
    let (limit, open) = (limit(), open());
    let own = open + kept_back(config, demo, limit);
    let Some(room) = Room::of(limit.saturating_sub(own), config.access.admin_listen.is_some()) else {
        return Err(StartError::Descriptors { limit, own });
    };
    if config.max_connections > room.places as u64 {
        let (asked, places) = (config.max_connections, room.places);
        let line = format!(
            "--max-connections {asked}: the limit of {limit} file descriptors allows {places} connections, and no more are \
             served; raise it (LimitNOFILE= in the unit, `ulimit -n` in a shell), or set --max-connections {places}"
        );
        // Nobody has asked for the default.
        if asked == Config::MAX_CONNECTIONS { info!("{line}") } else { warn!("{line}") }
    }
    Ok(room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Cli;
    use clap::Parser;

    #[test]
    fn what_the_server_needs_is_kept_back() {
        let (redis, application) = ("--redis redis://a", "--authorize-url http://a/");
        for (flags, limit, expected) in [
            (String::new(), 1024, OTHERS),
            (redis.to_owned(), 1024, OTHERS + REDIS),
            (application.to_owned(), 1024, OTHERS + 64),
            (application.to_owned(), 100, OTHERS + 25),
            (format!("{redis} {application}"), u64::MAX, OTHERS + REDIS + 64),
        ] {
            let flags = std::iter::once("longtail").chain(flags.split_whitespace());
            let config = Cli::try_parse_from(flags).expect("flags").config;
            assert_eq!(kept_back(&config, 0, limit), expected, "of {limit} with {config:?}");
        }
    }
}
