//! File descriptors: divides the process's limit between clients and the server itself.

use super::StartError;
use crate::config::Config;
use crate::serve::{DescriptorAllowance, MAX_IN_FLIGHT};
use tracing::{info, warn};

/// The number of descriptors reserved for connections to Redis. The log, the bridge, the subscriber counts and the
/// stream of calls have such connections. Each connection may need a second descriptor during a reconnect. Some of
/// these descriptors are for connections to sentinels and name servers.
const REDIS: u64 = 24;

/// The number of descriptors reserved for all other files and sockets that the server opens after the start. These are
/// signals, reloaded files, `/proc` for the metrics, and one connection for each listener, which the listener accepts
/// only to close it.
const OTHERS: u64 = 12;

/// The assumed number of open descriptors, if the system does not report it.
const OPEN: u64 = 32;

/// The process's limit.
fn limit() -> u64 {
    rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Returns the number of open descriptors.
fn open() -> u64 {
    // The first directory exists on Linux, the second one on other systems.
    let list = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd"));
    list.map_or(OPEN, |entries| entries.count() as u64)
}

/// The limit on requests in flight to one URL of the application. Each request takes a connection, and a small
/// descriptor limit must leave most descriptors for other connections.
pub fn application_calls() -> usize {
    calls_of(limit())
}

fn calls_of(limit: u64) -> usize {
    usize::try_from(limit / 4).unwrap_or(usize::MAX).clamp(1, MAX_IN_FLIGHT)
}

/// Returns the number of descriptors that are reserved if the process has this limit.
fn reserved(config: &Config, demo: u64, limit: u64) -> u64 {
    let redis = if config.message_log.redis.is_some() { REDIS } else { 0 };
    let urls = [&config.access.authorize_url, &config.hook.hook_url].into_iter().flatten().count();
    let application = (urls * calls_of(limit)) as u64;
    // The demo gets at most half of the limit, because its clients also come through its proxy.
    OTHERS + redis + application + demo.min(limit / 2)
}

/// Returns how many descriptors clients may use. Call this function after the server has opened all its files and
/// sockets at the start. Logs a line if clients may use fewer than `--max-connections`.
///
/// # Errors
///
/// The limit does not leave descriptors for clients.
pub fn allowance(config: &Config, demo: u64) -> Result<DescriptorAllowance, StartError> {
    let (limit, open) = (limit(), open());
    let own = open + reserved(config, demo, limit);
    let Some(allowance) = DescriptorAllowance::of(limit.saturating_sub(own), config.access.admin_listen.is_some())
    else {
        return Err(StartError::Descriptors { limit, own });
    };
    if config.max_connections > allowance.connections as u64 {
        let (asked, connections) = (config.max_connections, allowance.connections);
        let line = format!(
            "--max-connections {asked}: the limit of {limit} file descriptors allows {connections} connections, and no more are \
             served; raise it (LimitNOFILE= in the unit, `ulimit -n` in a shell), or set --max-connections {connections}"
        );
        // The operator did not choose this number, because it is the default. So the line is not a warning.
        if asked == Config::MAX_CONNECTIONS { info!("{line}") } else { warn!("{line}") }
    }
    Ok(allowance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Cli;
    use clap::Parser;

    #[test]
    fn descriptors_of_the_server_are_reserved() {
        let (redis, application) = ("--redis redis://a", "--authorize-url http://a/");
        for (flags, limit, expected) in [
            (String::new(), 1024, OTHERS),
            (redis.to_owned(), 1024, OTHERS + REDIS),
            (application.to_owned(), 1024, OTHERS + 64),
            (application.to_owned(), 100, OTHERS + 25),
            (format!("{application} --hook-url http://a/"), 1024, OTHERS + 128),
            (format!("{redis} {application}"), u64::MAX, OTHERS + REDIS + 64),
        ] {
            let flags = std::iter::once("longtail").chain(flags.split_whitespace());
            let config = Cli::try_parse_from(flags).expect("flags").config;
            assert_eq!(reserved(&config, 0, limit), expected, "of {limit} with {config:?}");
        }
    }
}
