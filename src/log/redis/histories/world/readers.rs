//! The steps of the readers, and the check of the messages and gaps that they receive.

use super::*;

impl World {
    /// Reads page by page from this cursor at a node, as a subscription does.
    pub(super) async fn told(&mut self, node: usize, mut at: Cursor) -> Outcome<(Told, Cursor)> {
        self.open_reader(node).await?;
        let mut told = Told::default();
        let mut gap_upto = Id::ZERO;
        for _ in 0..200 {
            let page = self.nodes[node].log.read_page(at, 3).await.map_err(failed)?;
            let Extent { lineage, deleted, floor, .. } = &page.extent;
            told.floor = *floor;
            let resolved = page.extent.resolve(at);
            let mut epoch = lineage.epoch;
            match resolved {
                Resolved::Gap(id) if id != at.id || epoch != at.epoch || gap_upto < *deleted => {
                    told.is_gap = true;
                    gap_upto = if id < *deleted { *deleted } else { Id::ZERO };
                    at = Cursor { id, epoch };
                    continue;
                }
                Resolved::Until(_) => epoch = at.epoch,
                Resolved::Gap(_) | Resolved::At(_) => {}
            }
            let news = page.messages.iter().filter(|message| message.cursor().is_some_and(|cursor| cursor.id > at.id));
            told.messages.extend(news.map(|message| token(message)));
            let next = Cursor { id: page.upto, epoch };
            if next == at {
                return Ok((told, at));
            }
            at = next;
        }
        Err("a reader does not reach the end of the log".into())
    }

    pub(super) async fn has_reader(log: Arc<RedisLog>) -> bool {
        let reader = log.ranges.lock().await;
        reader.connection.as_ref().is_some_and(|connection| !log.has_moved(connection.server().1))
    }

    /// Opens the node's connection for ranges, like a reader that asks again.
    pub(super) async fn open_reader(&mut self, node: usize) -> Outcome {
        let nowhere = Cursor { id: Id::ZERO, epoch: Epoch::random() };
        for _ in 0..3 {
            let log = self.nodes[node].log.clone();
            if World::has_reader(log.clone()).await && log.read_page(nowhere, 1).await.is_ok() {
                return Ok(());
            }
            let seen = self.seen(node);
            let server = self.nodes[node].home;
            self.nodes[node].read_at = server;
            drop(log.range_connection().await.map_err(failed)?);
            self.opened(node, server, seen).await?;
        }
        Err("a reader is refused again and again".into())
    }

    /// A reader with some cursor reads at a node. The cursor that it reaches is also recorded.
    pub(super) async fn read(&mut self, node: usize, choice: usize) -> Outcome {
        if self.places.is_empty() {
            return Ok(());
        }
        let at = self.places[choice % self.places.len()].cursor;
        let it = &self.nodes[node];
        let (log, read_at, home) = (it.log.clone(), it.read_at, it.home);
        let server = if World::has_reader(log.clone()).await { read_at } else { home };
        if !self.servers[server].is_primary {
            *log.ranges.lock().await = RangeConnection::default();
            return Ok(());
        }
        let (told, to) = self.told(node, at).await?;
        self.say(format!("    a reader at node {node}, server {server}, goes from {at} to {to}: {told:?}"));
        self.place_upto(server, to, format!("page of node {node} at server {server}"));
        Ok(())
    }

    /// All nodes connect to one server and read it, and every cursor that was ever given is checked.
    pub(in crate::log::redis::histories) async fn join(&mut self, choice: usize) -> Outcome {
        let server = self.primary(choice);
        self.say(format!("all join at server {server}"));
        for node in 0..NODES {
            let cut = if self.nodes[node].tail_at == server { 6 } else { 7 };
            self.move_node(node, server, cut).await;
        }
        self.open_reader(choice % NODES).await?;
        let mut quiet = 0;
        for round in 0.. {
            let mut is_news = false;
            for node in 0..NODES {
                is_news |= self.tail(node).await?;
            }
            // If a step only finds that the log has changed, there is no result yet.
            quiet = if is_news { 0 } else { quiet + 1 };
            if quiet > 2 {
                break;
            }
            if round > 50 {
                return Err("the nodes do not stop finding changes of the log".into());
            }
        }
        let log = &self.servers[server].stream;
        for (index, node) in self.nodes.iter().enumerate() {
            let is_behind = log.live().any(|entry| entry.id > node.at);
            if is_behind || node.at > log.last || node.epoch != log.epoch.map(|(epoch, _)| epoch) {
                return Err(format!(
                    "STUCK: node {index} stands at {} in {:?}, the log ends at {}",
                    node.at, node.epoch, log.last
                ));
            }
        }
        for place in self.places.clone() {
            self.judged += 1;
            let (told, _) = self.told(choice % NODES, place.cursor).await?;
            let log = self.servers[server].stream.clone();
            self.gaps += usize::from(told.is_gap);
            if let Err(fault) = judge(&place, &told, &log, &self.epochs) {
                let seen: BTreeSet<_> = place.seen.iter().collect();
                return Err(format!(
                    "{fault}\n  a reader with {} ({}) that has seen {seen:?} was told {told:?}\n  the log: {log:?}",
                    place.cursor, place.from
                ));
            }
        }
        Ok(())
    }
}
