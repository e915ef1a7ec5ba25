//! The steps of the servers, and of other programs that change the log.

use super::*;

impl World {
    pub(super) async fn copy(&mut self, from: (usize, &str), to: (usize, &str)) {
        let target = self.database(to.0).await;
        self.ask(to.0, redis::cmd("DEL").arg(to.1)).await;
        self.ask(from.0, redis::cmd("COPY").arg(from.1).arg(to.1).arg("DB").arg(target)).await;
    }

    pub(super) async fn database(&mut self, server: usize) -> usize {
        let info = self.ask(server, redis::cmd("CLIENT").arg("INFO")).await;
        let info = match &info {
            Value::VerbatimString { text, .. } => text.as_str(),
            other => text(other).unwrap_or_default(),
        };
        let database = info.split(' ').find_map(|word| word.strip_prefix("db=")?.parse().ok());
        database.expect("a database")
    }

    pub(super) fn new_reign(&mut self, server: usize, is_new_process: bool) {
        self.reigns += 1;
        let reigns = self.reigns;
        let it = &mut self.servers[server];
        it.reign = reigns;
        it.is_primary = true;
        if is_new_process {
            it.process = reigns;
        }
    }

    /// Gives a server's reign to the nodes there, for the connections that they open from now on.
    pub(super) fn tell_reign(&mut self, server: usize) {
        let connection = self.connection(server);
        for node in self.nodes.iter().filter(|node| node.home == server) {
            *node.log.stand_in.lock() = Some(connection.clone());
        }
    }

    pub(super) async fn cut_connections(&mut self, server: usize) {
        for node in &mut self.nodes {
            if node.tail_at == server {
                node.tail.close();
            }
            if node.append_at == server {
                node.appender.close();
            }
            if node.read_at == server {
                *node.log.ranges.lock().await = RangeConnection::default();
            }
        }
    }

    pub(super) async fn move_node(&mut self, node: usize, to: usize, cut: usize) {
        let connection = self.connection(to);
        let it = &mut self.nodes[node];
        it.home = to;
        *it.log.stand_in.lock() = Some(connection);
        if cut & 1 > 0 {
            it.tail.close();
        }
        if cut & 2 > 0 {
            it.appender.close();
        }
        if cut & 4 > 0 {
            *it.log.ranges.lock().await = RangeConnection::default();
        }
    }

    /// A server becomes a replica of another server. The process continues, and clients that do not wait for an answer
    /// stay connected.
    pub(super) async fn resync(&mut self, server: usize, of: usize) {
        self.copy((of, KEY), (server, KEY)).await;
        self.ask(server, redis::cmd("DEL").arg(AWAY)).await;
        self.servers[server].away = None;
        self.servers[server].stream = self.servers[of].stream.clone();
        self.servers[server].is_primary = false;
        for node in 0..NODES {
            if self.nodes[node].tail_at == server {
                self.nodes[node].tail.close();
            }
            if self.nodes[node].home == server {
                self.move_node(node, of, 1).await;
            }
        }
    }

    pub(super) async fn put_back(&mut self, copy: usize) {
        let Copy { key, of, stream } = &self.copies[copy];
        let (key, of, stream) = (key.clone(), *of, stream.clone());
        let newest = self.epochs.values().flatten().map(|entry| entry.id.ms).max().unwrap_or(0);
        self.copy((of, &key), (of, KEY)).await;
        self.servers[of].stream = stream;
        // The clock of a server is never set back, so the server never gives an id twice.
        while crate::log::clock::LogClock::here().now_ms() <= newest {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn restart(&mut self, server: usize) {
        self.new_reign(server, true);
        self.tell_reign(server);
        self.cut_connections(server).await;
    }

    pub(super) async fn old_copy(&mut self, a: usize, b: usize, is_running: bool) {
        let copy = a % self.copies.len();
        let of = self.copies[copy].of;
        if !self.servers[of].is_primary {
            return;
        }
        self.say(format!("server {of} is put back to copy {copy}, running: {is_running}"));
        self.put_back(copy).await;
        if !is_running {
            self.restart(of).await;
            if b.is_multiple_of(4) {
                self.say("all nodes restart".into());
                for node in 0..NODES {
                    self.nodes[node] = self.node(self.nodes[node].home);
                }
            }
        }
    }

    pub(super) async fn foreign_trim(&mut self, server: usize, kept: usize) {
        self.say(format!("server {server}: others trim to {kept}"));
        self.ask(server, redis::cmd("XTRIM").arg(KEY).arg("MAXLEN").arg(kept)).await;
        let stream = &mut self.servers[server].stream;
        stream.is_foreign |= stream.trim(kept);
    }

    pub(super) async fn foreign_delete(&mut self, server: usize, b: usize, c: usize) {
        let live: Vec<Id> = self.servers[server].stream.live().map(|entry| entry.id).collect();
        if live.is_empty() {
            return;
        }
        let id = if c.is_multiple_of(2) { live[live.len() - 1] } else { live[b % live.len()] };
        self.say(format!("server {server}: others delete {id}"));
        self.ask(server, redis::cmd("XDEL").arg(KEY).arg(id.to_string())).await;
        self.servers[server].stream.delete(id);
    }

    /// The log is moved away, or back.
    pub(super) async fn rename(&mut self, server: usize) {
        let it = &mut self.servers[server];
        if let Some(stream) = it.away.take() {
            it.stream = stream;
            self.say(format!("server {server}: the log is moved back"));
            self.ask(server, redis::cmd("RENAME").arg(AWAY).arg(KEY)).await;
        } else if it.stream.exists {
            it.away = Some(std::mem::take(&mut it.stream));
            self.say(format!("server {server}: the log is moved away"));
            self.ask(server, redis::cmd("RENAME").arg(KEY).arg(AWAY)).await;
        }
    }
}
