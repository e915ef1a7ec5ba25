//! Finds the log's Redis: one server, the primary that sentinels name, or the member of a Cluster that owns the log's
//! slot.

use super::ScriptError;
use super::server_info::ServerInfo;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates, Value};
use std::time::Duration;

/// The time limit for the answer of a sentinel or of a member of a Cluster. After this time, the node asks the next
/// server.
const ASK_TIMEOUT: Duration = Duration::from_millis(700);

/// The address of Redis and how to connect to it. The type holds passwords, so it has no `Debug`.
pub struct Endpoint {
    topology: Topology,
    /// The addresses to ask, or to connect to.
    seeds: Vec<ConnectionAddr>,
    /// User, password and database of the servers that hold data.
    settings: RedisConnectionInfo,
    /// User and password of the sentinels.
    sentinel_settings: RedisConnectionInfo,
    is_tls: bool,
    certificates: Option<TlsCertificates>,
}

enum Topology {
    Single,
    Sentinel { service: String },
    Cluster,
}

/// The URL is not a valid address of Redis. The error says how to fix the URL. It does not repeat the URL, because the
/// URL may contain a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(String);

/// The forms that a URL may have, for error texts.
const FORMS: &str = "use redis://HOST:PORT, rediss://HOST:PORT, redis+unix:///PATH, \
    redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or redis+cluster://HOST:PORT,HOST:PORT";

impl Endpoint {
    /// Parses a URL. `certificates` are for TLS. The certificates are used in addition to the system's roots, or in
    /// place of them.
    ///
    /// # Errors
    ///
    /// The URL is not a valid address of Redis.
    pub fn parse(url: &str, certificates: Option<TlsCertificates>) -> Result<Endpoint, BadUrl> {
        let bad = |what: &str| BadUrl(format!("{what}; {FORMS}"));
        if url.contains('#') {
            return Err(bad("a fragment is not allowed (certificates are always checked; see --redis-tls-ca)"));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it is not a URL"))?;
        let (data_scheme, kind) = match scheme.split_once('+') {
            Some((data @ ("redis" | "rediss"), kind @ ("sentinel" | "cluster"))) => (data, kind),
            _ => (scheme, ""),
        };
        if kind.is_empty() {
            let info =
                url.into_connection_info().map_err(|error| bad(error.detail().unwrap_or("it is not a Redis URL")))?;
            let (seed, settings) = (info.addr().clone(), info.redis_settings().clone());
            let is_tls = matches!(seed, ConnectionAddr::TcpTls { .. });
            let sentinel_settings = RedisConnectionInfo::default();
            return Ok(Endpoint {
                topology: Topology::Single,
                seeds: vec![seed],
                settings,
                sentinel_settings,
                is_tls,
                certificates,
            });
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let mut path = path.trim_end_matches('/').split('/');
        let service = if kind == "sentinel" { path.next().unwrap_or_default() } else { "" };
        let database = path.next().unwrap_or_default();
        if kind == "sentinel" && service.is_empty() {
            return Err(bad("the service's name is missing after the sentinels"));
        }
        if path.next().is_some() || (kind == "cluster" && !matches!(database, "" | "0")) {
            return Err(bad("its path is too long (a Cluster has one database)"));
        }
        let one = |host: &str| {
            // The redis crate's parser handles ports, brackets and escapes.
            let url = format!("{data_scheme}://{user}{host}/{database}");
            url.into_connection_info().map_err(|error| bad(error.detail().unwrap_or("a host or the user is malformed")))
        };
        let infos = hosts.split(',').map(one).collect::<Result<Vec<_>, _>>()?;
        let seeds: Vec<_> = infos.iter().map(|info| info.addr().clone()).collect();
        let Some(first) = infos.first() else { return Err(bad("it does not name a host")) };
        let mut sentinel_settings = RedisConnectionInfo::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            sentinel_settings = match &*name {
                "sentinel-username" if kind == "sentinel" => sentinel_settings.set_username(value),
                "sentinel-password" if kind == "sentinel" => sentinel_settings.set_password(value),
                _ => return Err(bad("its query may have only sentinel-username and sentinel-password")),
            };
        }
        let settings = first.redis_settings().clone();
        let topology = match kind {
            "sentinel" => Topology::Sentinel { service: service.to_owned() },
            _ => Topology::Cluster,
        };
        Ok(Endpoint { topology, seeds, settings, sentinel_settings, is_tls: data_scheme == "rediss", certificates })
    }

    /// Whether connections use TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The servers to ask or to connect to, for log lines and error texts.
    pub fn describe(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(ToString::to_string).collect();
        match &self.topology {
            Topology::Single => seeds.join(", "),
            Topology::Sentinel { service } => format!("{service} by the sentinels {}", seeds.join(", ")),
            Topology::Cluster => format!("the Cluster of {}", seeds.join(", ")),
        }
    }

    /// Returns the clients that may lead to the log, in the order in which to try them. It asks the sentinels each
    /// time, since the primary may have changed.
    ///
    /// # Errors
    ///
    /// None of the sentinels has named the primary.
    pub(super) async fn candidates(&self) -> Result<Vec<Client>, ScriptError> {
        match &self.topology {
            Topology::Single | Topology::Cluster => self.seeds.iter().map(|seed| self.client(seed.clone())).collect(),
            Topology::Sentinel { service } => {
                let mut last = ScriptError::NoPrimary(format!("the address does not name a sentinel for {service}"));
                for seed in &self.seeds {
                    match tokio::time::timeout(ASK_TIMEOUT, self.ask_sentinel(seed, service)).await {
                        Ok(Ok(client)) => return Ok(vec![client]),
                        Ok(Err(error)) => last = error,
                        Err(_) => last = ScriptError::NoPrimary(format!("the sentinel {seed} does not answer")),
                    }
                }
                Err(last)
            }
        }
    }

    /// Whether the sentinels name another primary than this one. Returns false if there are no sentinels, or if they do
    /// not answer.
    pub(super) async fn has_moved(&self, from: &Client) -> bool {
        if !matches!(self.topology, Topology::Sentinel { .. }) {
            return false;
        }
        let now = self.candidates().await;
        now.is_ok_and(|now| now.iter().all(|now| now.get_connection_info().addr() != from.get_connection_info().addr()))
    }

    async fn ask_sentinel(&self, seed: &ConnectionAddr, service: &str) -> Result<Client, ScriptError> {
        // Connections to sentinels do not use TLS, even if connections to Redis do: sentinels have a port of their own.
        let address = match seed {
            ConnectionAddr::TcpTls { host, port, .. } => ConnectionAddr::Tcp(host.clone(), *port),
            other => other.clone(),
        };
        let info = address.into_connection_info().map_err(ScriptError::Unconnected)?;
        let client = Client::open(info.set_redis_settings(self.sentinel_settings.clone()));
        let client = client.map_err(ScriptError::Unconnected)?;
        let mut connection = client.get_multiplexed_async_connection().await.map_err(ScriptError::Unconnected)?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(service);
        let answer: Option<(String, u16)> =
            command.query_async(&mut connection).await.map_err(ScriptError::Unconnected)?;
        let unknown = || ScriptError::NoPrimary(format!("the sentinel {seed} does not know the service {service}"));
        let (host, port) = answer.ok_or_else(unknown)?;
        self.client(self.address(host, port))
    }

    /// The member of a Cluster that owns the log's slot, according to another member; `None` if the member itself is
    /// the owner.
    pub(super) async fn owner(
        &self,
        member: &mut redis::aio::MultiplexedConnection,
        asked: &Client,
        log: &str,
    ) -> Result<Option<Client>, ScriptError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("CLUSTER").arg("KEYSLOT").arg(log);
        pipeline.cmd("CLUSTER").arg("MYID").cmd("CLUSTER").arg("SLOTS");
        let answer: redis::RedisResult<(i64, String, Value)> = pipeline.query_async(member).await;
        let (slot, me, slots) = answer.map_err(ScriptError::of)?;
        let ranges = super::entry::array(&slots).unwrap_or_default();
        let owner = ranges.iter().find_map(|range| {
            let [Value::Int(first), Value::Int(last), owner, ..] = super::entry::array(range)? else { return None };
            if slot < *first || slot > *last {
                return None;
            }
            let [host, Value::Int(port), id, ..] = super::entry::array(owner)? else { return None };
            Some((super::text(host).unwrap_or_default().to_owned(), u16::try_from(*port).ok()?, super::text(id)?))
        });
        let no_owner = || ScriptError::NoPrimary(format!("no member of the Cluster owns the slot of {log} ({slot})"));
        let (mut host, port, id) = owner.ok_or_else(no_owner)?;
        if id == me {
            return Ok(None);
        }
        if let (true, ConnectionAddr::Tcp(name, _) | ConnectionAddr::TcpTls { host: name, .. }) =
            (host.is_empty(), asked.get_connection_info().addr())
        {
            // The owner does not know its own address, and only the owner itself gives such an answer. So the owner is
            // the member that was asked.
            host.clone_from(name);
        }
        self.client(self.address(host, port)).map(Some)
    }

    /// Makes a client for one server. The address is one that a [`Client`] of this endpoint has reported.
    ///
    /// # Errors
    ///
    /// The text is not an address.
    pub(super) fn at(&self, address: &str) -> Result<Client, ScriptError> {
        let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
        let (host, port) = parts.ok_or(ScriptError::Unexpected)?;
        self.client(self.address(host, port))
    }

    fn address(&self, host: String, port: u16) -> ConnectionAddr {
        if self.is_tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }

    fn client(&self, address: ConnectionAddr) -> Result<Client, ScriptError> {
        let info = address.into_connection_info().map_err(ScriptError::Unconnected)?;
        let info = info.set_redis_settings(self.settings.clone());
        match &self.certificates {
            Some(certificates) if self.is_tls => Client::build_with_tls(info, certificates.clone()),
            _ => Client::open(info),
        }
        .map_err(ScriptError::Unconnected)
    }

    /// Checks that a server can hold the log.
    ///
    /// # Errors
    ///
    /// The reason why the server cannot hold the log.
    pub(super) fn check(facts: &ServerInfo) -> Result<(), ScriptError> {
        if facts.version < (7, 0) {
            let (major, minor) = facts.version;
            return Err(ScriptError::Unfit(format!("Redis {major}.{minor} is too old: the log needs 7.0 or later")));
        }
        if !facts.is_primary {
            return Err(ScriptError::NoPrimary(format!("{} is a replica, which cannot be written to", facts.address)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let cases = [
            ("redis://127.0.0.1:1/", "127.0.0.1:1"),
            ("redis://localhost", "localhost:6379"),
            ("rediss://u:p@h:2/3", "h:2"),
            ("valkey://h", "h:6379"),
            ("redis+unix:///run/redis.sock", "/run/redis.sock"),
            ("redis+sentinel://a,b:2/main", "main by the sentinels a:6379, b:2"),
            ("rediss+sentinel://u:p%40@[::1]:5,b:2/main/4?sentinel-password=x%26", "main by the sentinels ::1:5, b:2"),
            ("redis+cluster://a:1,b:2", "the Cluster of a:1, b:2"),
            ("redis+cluster://u@a:1/0", "the Cluster of a:1"),
        ];
        for (url, described) in cases {
            let endpoint = Endpoint::parse(url, None).map(|endpoint| endpoint.describe());
            assert_eq!(endpoint, Ok(described.to_owned()), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_repeated() {
        for url in [
            "",
            "secret",
            "http://secret@h",
            "redis://secret@",
            "redis://u:secret@h:port",
            "redis://h/secret",
            "rediss://secret@h/#insecure",
            "redis+sentinel://secret@h:1",
            "redis+sentinel://secret@h:1/",
            "redis+sentinel://secret@h:x/main",
            "redis+sentinel://h/main/0/secret",
            "redis+sentinel://h/main?secret=1",
            "redis+cluster://secret@h/1",
            "redis+cluster:///secret",
            "redis+other://secret@h",
        ] {
            let refused = Endpoint::parse(url, None).err().unwrap_or_else(|| panic!("{url} was taken")).to_string();
            assert!(!refused.contains("secret") && refused.contains("redis+sentinel://"), "{refused}");
        }
    }
}
