//! A primary, its replicas and three sentinels of Redis.

use super::redis::{free_port, fresh_dir, patient};
use super::{RedisServer, SOON, came, eventually};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The silence after which the sentinels treat a primary as gone, in milliseconds.
const DOWN_AFTER: u32 = 3000;

pub struct Sentinels {
    sentinels: Vec<(Child, u16)>,
    dir: PathBuf,
    /// The server that was the primary at the start, and its replicas.
    pub servers: Vec<RedisServer>,
}

impl Sentinels {
    /// Starts a set and waits until it has settled. If a small machine stalls for longer than `DOWN_AFTER` while the
    /// sentinels find each other, they elect another primary at once. A port may also be taken between the check and
    /// the bind. No test is about these cases, so such a set is dropped and another one started.
    pub async fn start(replicas: usize) -> Sentinels {
        let mut missing = Vec::new();
        for _ in 0..4 {
            let sentinels = Sentinels::start_once(replicas).await;
            let settled = async {
                loop {
                    match sentinels.settled(replicas).await {
                        Ok(()) => return,
                        Err(what) => missing.push(what),
                    }
                    missing.dedup();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            if tokio::time::timeout(SOON, settled).await.is_ok() {
                return sentinels;
            }
        }
        panic!("four sets of sentinels did not settle: {missing:#?}")
    }

    async fn start_once(replicas: usize) -> Sentinels {
        let durable = ["--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--repl-timeout", "5"];
        let primary = RedisServer::start_with(&durable).await;
        let port = primary.port();
        let mut servers = vec![primary];
        for _ in 0..replicas {
            let replica = RedisServer::start_with(&durable).await;
            replica.command(&["REPLICAOF", "127.0.0.1", &port.to_string()]).await;
            servers.push(replica);
        }
        // Sentinels that find no replica when they first look, look again after ten seconds.
        for replica in &servers[1..] {
            eventually("the replica to be in step", async || {
                replica.text(&["INFO", "replication"]).await.contains("master_link_status:up").then_some(())
            })
            .await;
        }
        let dir = fresh_dir("sentinels");
        let sentinels = (0..3).map(|_| start_sentinel(&dir, port)).collect();
        Sentinels { sentinels, dir, servers }
    }

    /// Whether all sentinels know each other and the replicas; the error names the missing part.
    async fn settled(&self, replicas: usize) -> Result<(), String> {
        let wanted = [("num-other-sentinels", "2".to_owned()), ("num-slaves", replicas.to_string())];
        for (_, port) in &self.sentinels {
            let fields = ask(*port, &["SENTINEL", "MASTER", "main"]).await.ok_or("a sentinel does not answer")?;
            let fields: Vec<String> = redis::from_redis_value(fields).map_err(|error| error.to_string())?;
            for (name, value) in wanted.iter().chain(&[("flags", "master".to_owned())]) {
                let found = fields.chunks(2).find(|pair| pair[0] == *name).map_or("missing", |pair| &pair[1]);
                if found != value {
                    return Err(format!("{name}: {found}, not {value}"));
                }
            }
        }
        for server in &self.servers[1..] {
            if !server.text(&["INFO", "replication"]).await.contains("master_link_status:up") {
                return Err("a replica is not in step".into());
            }
        }
        Ok(())
    }

    /// The URL in the form that `--redis` accepts.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/main", hosts.join(","))
    }

    /// The server that the sentinels name.
    pub async fn primary(&self) -> &RedisServer {
        let ports: Vec<u16> = self.servers.iter().map(RedisServer::port).collect();
        let index = eventually("a sentinel to name the primary", async || {
            let mut named = Vec::new();
            for (_, port) in &self.sentinels {
                let answer = ask(*port, &["SENTINEL", "get-master-addr-by-name", "main"]).await?;
                let (_, port): (String, u16) = redis::from_redis_value(answer).ok()?;
                named.push(port);
            }
            named.dedup();
            ports.iter().position(|port| named == [*port])
        })
        .await;
        &self.servers[index]
    }

    /// Kills the server that the sentinels name, whichever that is by now.
    pub async fn kill_primary(&mut self) {
        let port = self.primary().await.port();
        self.servers.iter_mut().find(|server| server.port() == port).expect("a server of this set").kill();
    }

    /// Makes the sentinels promote the replica in an orderly way.
    pub async fn fail_over(&self) {
        let (_, port) = &self.sentinels[0];
        // The sentinels refuse while they still work on the previous failover.
        eventually("the sentinels to begin a failover", async || ask(*port, &["SENTINEL", "FAILOVER", "main"]).await)
            .await;
    }
}

async fn ask(port: u16, words: &[&str]) -> Option<redis::Value> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).ok()?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient()).await.ok()?;
    let answer = redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await;
    came(|| format!("the sentinel at {port}, {}: {answer:?}", words.join(" ")));
    answer.ok()
}

fn start_sentinel(dir: &std::path::Path, primary: u16) -> (Child, u16) {
    let port = free_port();
    let file = dir.join(format!("sentinel-{port}.conf"));
    let config = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {primary} 2\n\
         sentinel down-after-milliseconds main {DOWN_AFTER}\nsentinel failover-timeout main 4000\n",
        dir.display()
    );
    std::fs::write(&file, config).expect("a sentinel's file");
    let mut command = Command::new("redis-server");
    command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    (command.spawn().expect("redis-server is installed"), port)
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for (child, _) in &mut self.sentinels {
            child.kill().ok();
            child.wait().ok();
        }
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
