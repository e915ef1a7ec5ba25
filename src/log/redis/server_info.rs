//! Reads a Redis server's `INFO` at each connect, and gives advice if the server's settings break the log's promises.

use redis::Value;

/// The part of a server's `INFO` that the node uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// The server's address.
    pub(super) address: String,
    /// The id of the server's process. It is unique to the process.
    pub(super) run_id: String,
    /// The replication offset of its last promotion; `None` for a server that was never a replica.
    promoted_at: Option<u64>,
    /// The major and minor version of Redis, or the version of Redis that a compatible server reports.
    pub(super) version: (u32, u32),
    pub(super) is_primary: bool,
    pub(super) is_cluster: bool,
    /// Whether the server is loading its data from disk. Until the server has loaded all data, its report about the
    /// append-only file is wrong: the server switches the file off while it reads the data.
    pub(super) is_loading: bool,
    max_memory: u64,
    policy: String,
    has_append_file: bool,
}

impl ServerInfo {
    pub(super) fn of(address: String, info: &Value) -> Option<ServerInfo> {
        let info = super::text(info)?;
        let fields = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
        };
        let mut version = fields("redis_version")?.split('.').map(|part| part.parse().unwrap_or(0));
        Some(ServerInfo {
            address,
            run_id: fields("run_id")?.to_owned(),
            // This is not the replication id: that also changes when the first replica connects.
            promoted_at: fields("second_repl_offset").and_then(|offset| offset.parse().ok()),
            version: (version.next()?, version.next().unwrap_or(0)),
            is_primary: fields("role").is_none_or(|role| role == "master"),
            is_cluster: fields("cluster_enabled") == Some("1"),
            is_loading: fields("loading") == Some("1"),
            max_memory: fields("maxmemory").and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
            policy: fields("maxmemory_policy").unwrap_or("noeviction").to_owned(),
            has_append_file: fields("aof_enabled") != Some("0"),
        })
    }

    /// Returns a name of `a-z0-9` for the process in its present reign as a primary. A log that is opened in another
    /// reign may lack entries from the previous reign.
    pub(super) fn reign(&self) -> String {
        let process = self.run_id.chars().filter(char::is_ascii_alphanumeric).take(20).collect::<String>();
        let promoted = self.promoted_at.map_or_else(String::new, |offset| format!("p{offset}"));
        format!("{process}{promoted}").to_ascii_lowercase()
    }

    #[cfg(test)]
    pub(super) fn in_reign(&self, run_id: &str, promoted_at: u64) -> ServerInfo {
        ServerInfo { run_id: run_id.to_owned(), promoted_at: Some(promoted_at), ..self.clone() }
    }

    /// Lists the settings of the server that are wrong, with their fix.
    pub(super) fn advice(&self, retain_bytes: usize) -> Vec<String> {
        let mut advice = Vec::new();
        if self.max_memory > 0 && self.policy != "noeviction" {
            let may =
                if self.policy.starts_with("allkeys") { "the log itself" } else { "the keys that avoid duplicates" };
            let policy = &self.policy;
            advice.push(format!(
                "Redis evicts keys when its memory is full (maxmemory-policy {policy}), including {may}: \
                 CONFIG SET maxmemory-policy noeviction"
            ));
        }
        if self.max_memory > 0 && self.max_memory < 2 * retain_bytes as u64 {
            let max_memory = self.max_memory;
            advice.push(format!(
                "Redis stores at most {max_memory} bytes (maxmemory), less than twice the {retain_bytes} of \
                 --retain-bytes: raise the first or lower the second, or publishing will fail"
            ));
        }
        if !self.has_append_file && !self.is_loading {
            advice.push(
                "Redis does not write an append-only file: messages since its last snapshot are lost when it \
                 stops, and readers are told of a gap: CONFIG SET appendonly yes"
                    .into(),
            );
        }
        advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> ServerInfo {
        let info = format!("# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n{}", text.replace(' ', "\r\n"));
        ServerInfo::of("h:1".into(), &Value::BulkString(info.into_bytes())).expect("INFO")
    }

    #[test]
    fn it_is_read_from_info() {
        let found = server("role:slave cluster_enabled:1 aof_enabled:1");
        assert_eq!((found.version, found.run_id.as_str()), ((7, 0), "abc"));
        assert!(!found.is_primary && found.is_cluster);
        assert!(ServerInfo::of(String::new(), &Value::BulkString(b"run_id:x".to_vec())).is_none());
    }

    #[test]
    fn a_promotion_begins_a_reign_and_a_first_replica_does_not() {
        let alone = server("master_replid:aa second_repl_offset:-1").reign();
        assert_eq!(server("master_replid:bb second_repl_offset:-1").reign(), alone);
        let promoted = server("master_replid:cc second_repl_offset:815").reign();
        assert_ne!(promoted, alone);
        assert_ne!(server("master_replid:dd second_repl_offset:1630").reign(), promoted);
    }

    #[test]
    fn advice_is_given_where_a_promise_breaks() {
        let cases = [
            ("aof_enabled:1 maxmemory:0 maxmemory_policy:allkeys-lru", [].as_slice()),
            ("aof_enabled:1 maxmemory:1000 maxmemory_policy:noeviction", &[]),
            ("aof_enabled:0 maxmemory:0", &["appendonly yes"]),
            ("loading:0 aof_enabled:0", &["appendonly yes"]),
            ("loading:1 aof_enabled:0", &[]),
            ("aof_enabled:1 maxmemory:1000 maxmemory_policy:allkeys-lru", &["the log itself"]),
            ("aof_enabled:1 maxmemory:100 maxmemory_policy:volatile-ttl", &["duplicates", "--retain-bytes"]),
        ];
        for (info, wanted) in cases {
            let advice = server(info).advice(500);
            assert_eq!(advice.len(), wanted.len(), "{info}: {advice:?}");
            assert!(advice.iter().zip(wanted).all(|(line, part)| line.contains(part)), "{advice:?}");
        }
    }
}
