//! The steps of the nodes.

use super::*;

impl World {
    /// Updates the model after a script has begun an epoch, with the knowledge of the node that opened the log.
    pub(super) async fn note_epoch(&mut self, server: usize) -> Outcome {
        self.opened_with(server, None).await
    }

    async fn opened_with(&mut self, server: usize, seen: Option<((Epoch, Id, Id), Memory)>) -> Outcome {
        let reply = self.databases[server].run::<&str>(&connection::IDENTIFY, &[KEY], &[]).await;
        let Some(identity) = reply.ok().and_then(|reply| entry::identity(&reply)) else {
            return Err("the log has no identity after it was opened".into());
        };
        let groups = self.databases[server].send(redis::cmd("XINFO").arg("GROUPS").arg(KEY)).await;
        let groups = groups.unwrap_or(Value::Nil);
        let Server { stream, reign, .. } = &mut self.servers[server];
        if let Some((seen, memory)) = seen {
            stream.opened_by(floor(&groups), seen, &memory);
        }
        let epoch = identity.lineage.epoch;
        if stream.epoch.is_none_or(|(present, _)| present != epoch) {
            stream.begin(epoch, *reign);
            self.epochs.insert(epoch, stream.entries.clone());
            self.trace.push(format!("    epoch {epoch} begins on server {server} at {}", stream.last));
        }
        Ok(())
    }

    /// The node opens the log at a server.
    pub(super) async fn opened(&mut self, node: usize, server: usize, seen: Option<(Epoch, Id, Id)>) -> Outcome {
        self.servers[server].stream.opened_by_a_stranger();
        let it = &self.nodes[node];
        let seen = seen.filter(|(epoch, ..)| it.epoch == Some(*epoch)).map(|seen| (seen, it.memory.clone()));
        self.opened_with(server, seen).await
    }

    pub(super) fn seen(&self, node: usize) -> Option<(Epoch, Id, Id)> {
        let seen = self.nodes[node].log.seen.lock();
        seen.as_ref().map(|seen| (seen.epoch(), seen.from(), seen.at().id))
    }

    pub(super) async fn tail(&mut self, node: usize) -> Outcome<bool> {
        if !self.servers[self.nodes[node].home].is_primary {
            return Ok(false);
        }
        let seen = self.seen(node);
        let was_open = self.nodes[node].tail.is_open();
        let events = self.nodes[node].tail.step().await;
        let is_news = !events.is_empty();
        for event in events {
            match event {
                // The tail has found a hole.
                TailEvent::Opened(extent) if was_open => self.say(format!("    node {node} has found {extent:?}")),
                TailEvent::Opened(extent) => {
                    let home = self.nodes[node].home;
                    self.nodes[node].tail_at = home;
                    self.opened(node, home, seen).await?;
                    self.begins(node, &extent);
                }
                TailEvent::Entries { after, messages, upto } => self.entries(node, after, &messages, upto)?,
                TailEvent::Lost => return Err("the log was called lost".into()),
                TailEvent::CaughtUp | TailEvent::Volatile(_) => {}
            }
        }
        Ok(is_news)
    }

    pub(super) fn begins(&mut self, node: usize, extent: &Extent) {
        let epoch = extent.lineage.epoch;
        let line = format!("    node {node} opened server {}: {extent:?}", self.nodes[node].tail_at);
        self.say(line);
        let it = &mut self.nodes[node];
        if it.epoch.replace(epoch) != Some(epoch) {
            it.memory = Memory::default();
        }
        it.is_opened = true;
        let server = it.tail_at;
        self.place_upto(server, Cursor { id: extent.floor, epoch }, format!("floor at node {node}"));
    }

    pub(super) fn entries(&mut self, node: usize, after: Id, messages: &[Arc<Message>], upto: Id) -> Outcome {
        let tokens = messages.iter().map(|message| token(message)).collect::<Vec<_>>();
        self.say(format!("    node {node} has read {tokens:?} after {after} up to {upto}"));
        let it = &mut self.nodes[node];
        let Some(epoch) = it.epoch else { return Err("entries before the log was opened".into()) };
        let server = it.tail_at;
        let stream = &self.servers[server].stream;
        // When the node begins to read, or goes on after entries that it has not got, it does not deliver the entries up to
        // `after`. They count as seen: each reader is told of a gap, or reads them from its own cursor.
        if std::mem::take(&mut it.is_opened) {
            it.seen = stream.upto(after).map(|entry| entry.token).collect();
            it.is_misled = false;
        } else if after > it.at {
            it.seen.extend(stream.upto(after).map(|entry| entry.token));
        }
        // An older copy was put back. Since then, others have added and removed as many entries as the server has lost.
        let is_other = stream.entries.iter().zip(&it.memory.branch).any(|(there, its)| there.token != its.token);
        let count = stream.live().filter(|entry| entry.id > it.at && entry.id <= upto).count();
        it.is_misled |= is_other && it.memory.branch.len() + count == stream.upto(upto).count();
        it.at = upto;
        let others: Vec<Entry> = stream.upto(upto).filter(|entry| !entry.is_message).copied().collect();
        let read = |message: &Arc<Message>| {
            let id = message.cursor().map_or(Id::ZERO, |cursor| cursor.id);
            Entry { id, token: token(message), is_message: true, is_gone: false }
        };
        let read: Vec<Entry> = messages.iter().map(read).collect();
        if read.iter().all(|entry| stream.holds(entry.token)) {
            it.memory.branch = stream.upto(upto).copied().collect();
        } else {
            // The node itself appended these entries. Since then, the stream was replaced by an older copy.
            it.memory.branch.extend(&read);
        }
        it.memory.read.extend(tokens);
        if it.is_misled {
            return Ok(());
        }
        let from = format!("tail of node {node} at server {server}");
        for entry in read {
            let skipped = others.iter().filter(|other| other.id < entry.id).map(|other| other.token);
            self.nodes[node].seen.extend(skipped.chain([entry.token]));
            let seen = self.nodes[node].seen.clone();
            self.place(Cursor { id: entry.id, epoch }, seen, &from);
        }
        self.nodes[node].seen.extend(others.iter().map(|other| other.token));
        let seen = self.nodes[node].seen.clone();
        self.place(Cursor { id: upto, epoch }, seen, &from);
        Ok(())
    }

    /// Records a cursor that a client was given.
    pub(super) fn place(&mut self, cursor: Cursor, seen: BTreeSet<Token>, from: &str) {
        if !self.places.iter().any(|place| place.cursor == cursor && place.seen == seen) {
            self.places.push(Place { cursor, seen, from: from.to_owned() });
        }
    }

    /// Records a cursor that a client was given together with all entries of the server up to it.
    pub(super) fn place_upto(&mut self, server: usize, cursor: Cursor, from: String) {
        let seen = self.servers[server].stream.upto(cursor.id).map(|entry| entry.token).collect();
        self.place(cursor, seen, &from);
    }

    pub(super) async fn append(&mut self, node: usize, count: usize) -> Outcome {
        let first = self.tokens;
        self.tokens += count as Token;
        let draft =
            |token: Token| Draft::new("todo".parse().expect("a channel"), Payload::from_any(&token.to_string()));
        let drafts: Vec<Draft> = (first..self.tokens).map(draft).collect();
        for attempt in 0..6 {
            let seen = self.seen(node);
            let it = &mut self.nodes[node];
            let is_open = it.appender.is_connected(&it.log);
            if !is_open {
                it.append_at = it.home;
            }
            let server = it.append_at;
            if !self.servers[server].is_primary {
                it.appender.close();
                return Ok(());
            }
            let appended = it.appender.try_batch(&it.log, drafts.clone(), attempt == 0).await;
            if !is_open {
                self.opened(node, server, seen).await?;
            }
            match appended {
                Ok(cursors) => {
                    self.appended(node, server, first, &cursors);
                    return Ok(());
                }
                Err(error) => {
                    self.say(format!("    append of node {node} at server {server}: {error}"));
                    // A batch is sent again until its time is up. Between the attempts the tail checks the log.
                    self.tail(node).await?;
                }
            }
        }
        Err("an append was refused again and again".into())
    }

    pub(super) fn appended(&mut self, node: usize, server: usize, first: Token, cursors: &[Cursor]) {
        for (token, cursor) in (first..).zip(cursors) {
            self.add(server, cursor.id, token, true);
        }
        let kept = self.kept;
        let stream = &mut self.servers[server].stream;
        stream.mark_upto(stream.last);
        stream.trim(kept);
        self.say(format!("    node {node} has appended {first}.. at server {server}: {cursors:?}"));
        for cursor in cursors {
            self.place_upto(server, *cursor, format!("append of node {node} at server {server}"));
        }
    }

    pub(super) fn add(&mut self, server: usize, id: Id, token: Token, is_message: bool) {
        let Server { stream, reign, .. } = &mut self.servers[server];
        stream.add(id, token, is_message);
        // Entries that are written after another reign has begun do not belong to the epoch.
        if let Some((epoch, of)) = stream.epoch
            && of == *reign
            && let Some(entries) = self.epochs.get_mut(&epoch)
        {
            entries.push(Entry { id, token, is_message, is_gone: false });
        }
    }

    /// Another program appends entries.
    pub(super) async fn add_foreign(&mut self, server: usize, count: usize, other: usize, is_message: bool) {
        for _ in 0..count {
            let token = self.tokens;
            self.tokens += 1;
            // Another server may have given this id to another entry.
            let last = self.servers[server].stream.last;
            let is_equal = other.is_multiple_of(4) && !self.is_torn(server);
            let theirs =
                self.servers[other % SERVERS].stream.entries.iter().map(|entry| entry.id).find(|id| *id > last);
            let id = theirs.filter(|_| is_equal).map_or_else(|| "*".to_owned(), |id| id.to_string());
            let mut command = redis::cmd("XADD");
            command.arg(KEY).arg(id).arg("data").arg(token);
            if is_message {
                command.arg("channel").arg("todo");
            }
            let id = self.ask(server, &command).await;
            let id: Id = text(&id).and_then(|id| id.parse().ok()).expect("an id");
            self.add(server, id, token, is_message);
            self.say(format!("    {token}@{id}"));
        }
    }

    /// Whether the stream was put back to an earlier state of the present epoch. The server's clock is not put back, so
    /// ids do not repeat.
    pub(super) fn is_torn(&self, server: usize) -> bool {
        let stream = &self.servers[server].stream;
        let of = stream.epoch.and_then(|(epoch, _)| self.epochs.get(&epoch));
        of.is_some_and(|entries| entries.iter().any(|entry| entry.id > stream.last))
    }

    pub(super) async fn mark(&mut self, node: usize) -> Outcome {
        let it = &mut self.nodes[node];
        let server = it.append_at;
        it.appender.mark(&it.log).await;
        let Some((epoch, _, at)) = self.seen(node) else { return Ok(()) };
        let reply = self.databases[server].run::<&str>(&connection::IDENTIFY, &[KEY], &[]).await;
        let identity = reply.ok().and_then(|reply| entry::identity(&reply));
        let stream = &mut self.servers[server].stream;
        // A node that has lost its connection, or is in another epoch, does not move the mark.
        if identity.is_some_and(|it| it.mark == at) && stream.epoch.is_some_and(|(present, _)| present == epoch) {
            stream.mark_upto(at);
            self.say(format!("    node {node} has marked server {server} up to {at}"));
        }
        Ok(())
    }

    pub(super) async fn trim(&mut self, node: usize, kept: usize) -> Outcome {
        let home = self.nodes[node].home;
        if !self.servers[home].is_primary {
            return Ok(());
        }
        let mut connection = self.connection(home);
        let args = [connection.candidate(), kept.to_string(), YEAR.as_millis().to_string(), (1u64 << 30).to_string()];
        connection.run(&TRIM, &[KEY], &args).await.map_err(failed)?;
        self.note_epoch(home).await?;
        self.servers[home].stream.trim(kept);
        Ok(())
    }
}

/// Returns the log's floor from a reply of `XINFO GROUPS`.
fn floor(groups: &Value) -> Id {
    let groups = entry::array(groups).unwrap_or_default();
    let field = |group: &Value, name: &str| {
        let pairs = entry::array(group).unwrap_or_default().chunks_exact(2);
        let value = pairs.filter(|pair| text(&pair[0]) == Some(name)).find_map(|pair| text(&pair[1]));
        value.unwrap_or_default().to_owned()
    };
    let epoch = groups.iter().find(|group| field(group, "name").starts_with("epoch:"));
    epoch.and_then(|group| field(group, "last-delivered-id").parse().ok()).unwrap_or(Id::ZERO)
}
