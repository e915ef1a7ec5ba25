//! Appends: one task a node gathers what waits into a batch and has one batch under way.
//!
//! A batch has a number, and the script keeps the last one's answer. So a batch that was sent and not
//! answered is simply sent again; it runs once. A draft that was never sent can be taken back, which
//! proves that it will never be in the log. One that was sent and could not be settled in time has an
//! unknown outcome, and the next batch's number keeps it from running later.

use super::connection::{ANSWER_TIMEOUT, APPEND, Connection, MARK, TRIM};
use super::functions::Functions;
use super::own::Stretch;
use super::queue::{Job, Jobs};
use super::{RedisLog, ScriptError, entry, peers};
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::AppendError;
use crate::log::memory::KEY_LIFE;
use crate::message::{Message, Payload};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

/// How often the retention is looked after.
const TRIM_PERIOD: Duration = Duration::from_secs(5);

/// How long batches do not look for entries that have grown too old, once one has. With one message a batch
/// that would be a good part of the work.
const AGEING: Duration = Duration::from_millis(100);

/// How often sentinels, where there are any, are asked whether the primary is still the one.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The appender's task. It ends with the log.
pub(super) async fn run(log: Weak<RedisLog>, mut jobs: Jobs, timeout: Duration) {
    let mut node = Node::new(timeout);
    let mut look = tokio::time::interval(LOOK_PERIOD.mul_f64(0.8 + 0.4 * fastrand::f64()));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renew = tokio::time::interval(peers::PERIOD.mul_f64(0.8 + 0.4 * fastrand::f64()));
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trim = tokio::time::interval(TRIM_PERIOD.mul_f64(0.8 + 0.4 * fastrand::f64()));
    loop {
        tokio::select! {
            batch = jobs.batch() => {
                let Some(batch) = batch else { return };
                let Some(log) = log.upgrade() else { return };
                node.append(&log, batch).await;
            }
            _ = look.tick() => {
                let Some(log) = log.upgrade() else { return };
                node.look_for_the_primary(&log).await;
                node.mark(&log).await;
            }
            _ = renew.tick() => {
                let Some(log) = log.upgrade() else { return };
                node.renew(&log).await;
            }
            _ = trim.tick() => {
                let Some(log) = log.upgrade() else { return };
                if node.trim(&log).await {
                    // Not in a row: a round takes milliseconds, and appends have their turn between two of them.
                    trim.reset_immediately();
                }
            }
        }
    }
}

/// What Redis knows of this node.
pub(super) struct Node {
    /// The key of the last batch's record.
    record: Option<String>,
    batch: u64,
    connection: Option<Connection>,
    timeout: Duration,
    /// When a batch has looked for entries that are too old.
    aged_at: Option<Instant>,
    /// Why it could not be trimmed, as it was logged.
    untrimmed: Option<String>,
    functions: Functions,
}

impl Node {
    pub(super) fn new(timeout: Duration) -> Node {
        Node {
            record: None,
            batch: 0,
            connection: None,
            timeout,
            aged_at: None,
            untrimmed: None,
            functions: Functions::default(),
        }
    }

    async fn append(&mut self, log: &RedisLog, mut jobs: Vec<Job>) {
        let mut pause = FIRST_PAUSE;
        // Until there is a connection every draft can still be taken back.
        while let Err(error) = self.connected(log).await {
            jobs.retain(Job::is_wanted);
            if jobs.is_empty() {
                return;
            }
            tracing::debug!(%error, "no connection to append on");
            rest(&mut pause).await;
        }
        jobs.retain(Job::take);
        if jobs.is_empty() {
            return;
        }
        self.batch += 1;
        let began = Instant::now();
        let settled = self.settle(log, &jobs).await;
        let messages = jobs.iter().map(|job| job.drafts().len()).sum::<usize>();
        log.metrics.append_seconds.observe(began.elapsed().as_secs_f64());
        match settled {
            Ok(appended) => {
                log.metrics.appended.inc_by(messages as u64);
                // Before anybody is answered: a publisher that has its answer finds its message read.
                log.own.push(appended.stretch(&jobs, log.config.max_payload));
                let mut cursors = appended.places.into_iter().map(|(cursor, _)| cursor);
                for job in jobs {
                    let count = job.drafts().len();
                    job.answer(Ok(cursors.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                warn!(%error, messages, "an append failed");
                if error == AppendError::OutcomeUnknown {
                    log.metrics.unsettled.inc_by(messages as u64);
                }
                for job in jobs {
                    job.answer(Err(error.clone()));
                }
            }
        }
    }

    /// Sends the batch until its outcome is known or the time is up.
    async fn settle(&mut self, log: &RedisLog, jobs: &[Job]) -> Result<Appended, AppendError> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = FIRST_PAUSE;
        // Whether a copy is under way that Redis may still run.
        let mut unanswered = false;
        let mut reason = String::new();
        while Instant::now() < deadline {
            match self.attempt(log, jobs).await {
                Ok(appended) => return Ok(appended),
                Err(ScriptError::Refused(error)) if unanswered => {
                    // The refusal is of this copy; the other may have run, or may run yet.
                    warn!(%error, "Redis refused a batch of which it has another copy");
                    return Err(AppendError::OutcomeUnknown);
                }
                Err(error @ ScriptError::Refused(_)) => return Err(AppendError::Unavailable(error.to_string())),
                Err(error) => {
                    unanswered |= error.is_unsettled();
                    reason = error.to_string();
                    // Also where too few replicas have it: the primary may be one no longer.
                    self.lose(log);
                }
            }
            rest(&mut pause).await;
        }
        Err(if unanswered { AppendError::OutcomeUnknown } else { AppendError::Unavailable(reason) })
    }

    async fn attempt(&mut self, log: &RedisLog, jobs: &[Job]) -> Result<Appended, ScriptError> {
        self.connected(log).await?;
        let record = self.record.get_or_insert_with(|| log.keys.beside(&format!("node:{}", uuid::Uuid::new_v4())));
        let retention = log.config.retention;
        let looks_at_ages = self.aged_at.is_none_or(|at| at.elapsed() >= AGEING);
        let position = log.own.position();
        let mut keys = vec![log.keys.log.clone(), record.clone()];
        let Some(connection) = &mut self.connection else { return Err(ScriptError::Unexpected) };
        let mut args = vec![
            connection.candidate(),
            self.batch.to_string(),
            retention.messages.to_string(),
            if looks_at_ages { retention.age.as_millis().to_string() } else { String::new() },
            KEY_LIFE.as_millis().to_string(),
            position.map_or_else(String::new, |(_, added)| added.to_string()),
            position.map_or_else(String::new, |(at, _)| at.epoch.to_string()),
        ];
        let (mut messages, format) = (0, log.peers.write_format());
        for draft in jobs.iter().flat_map(Job::drafts) {
            messages += 1;
            let mut index = 0;
            if let Some(key) = &draft.key {
                keys.push(log.keys.idempotency(&key.scoped(&draft.channel)));
                index = keys.len();
            }
            let fields = entry::fields_in(format, draft);
            args.push(index.to_string());
            args.push(fields.len().to_string());
            args.extend(fields);
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let reply = match log.config.wait_replicas {
            0 => connection.run(&APPEND, &keys, &args).await?,
            replicas => connection.run_and_wait(&APPEND, &keys, &args, replicas).await?,
        };
        if looks_at_ages {
            self.aged_at = Some(Instant::now());
        }
        // Readers may see a message before replicas have it, but need not wait for them: XREAD is faster then.
        let behind = position.filter(|_| log.config.wait_replicas == 0);
        let appended = super::text(&reply).and_then(|text| Appended::parse(text, behind));
        appended.filter(|it| it.places.len() == messages).ok_or(ScriptError::Unexpected)
    }

    async fn connected(&mut self, log: &RedisLog) -> Result<(), ScriptError> {
        // The old primary may take appends for a while, and nobody reads there any more.
        if self.connection.as_ref().is_some_and(|connection| log.has_moved(connection.server().1)) {
            self.connection = None;
        }
        if self.connection.is_none() {
            let mut connection = log.connect(ANSWER_TIMEOUT).await?;
            // Before anything is appended: a log that has lost its end must not go on as if it had
            // not, or what comes next would be taken for what readers have seen.
            log.open(&mut connection).await.map_err(not_sent)?;
            log.peers.renew(log, &mut connection).await.map_err(not_sent)?;
            self.functions.look_after(&mut connection, true).await.map_err(not_sent)?;
            self.connection = Some(connection);
        }
        Ok(())
    }

    /// Moves the log's mark to what the tail has read, where others append.
    pub(super) async fn mark(&mut self, log: &RedisLog) {
        let (Some(connection), Some((at, added))) = (&mut self.connection, log.unmarked()) else { return };
        let args = [connection.candidate(), at.epoch.to_string(), at.id.to_string(), added.to_string()];
        if let Err(error) = connection.run(&MARK, &[&log.keys.log], &args).await {
            tracing::debug!(%error, "the mark could not be moved");
            self.lose(log);
        }
    }

    /// Tells the other nodes of this one, learns of them, and looks after what `longtail_publish` needs.
    async fn renew(&mut self, log: &RedisLog) {
        if let Err(error) = self.connected(log).await {
            tracing::debug!(%error, "no connection to tell the other nodes on");
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        let renewed = async {
            log.peers.renew(log, connection).await?;
            self.functions.look_after(connection, false).await
        };
        if let Err(error) = renewed.await {
            tracing::debug!(%error, "the other nodes could not be told");
            self.lose(log);
        }
    }

    /// Finds out that sentinels name another primary while this one still answers.
    async fn look_for_the_primary(&mut self, log: &RedisLog) {
        if let Some(connection) = &self.connection
            && log.endpoint.has_moved(connection.server().0).await
        {
            self.connection = None;
            if let Err(error) = self.connected(log).await {
                tracing::debug!(%error, "the new primary cannot be reached yet");
            }
        }
    }

    fn lose(&mut self, log: &RedisLog) {
        if self.connection.take().is_some() {
            log.metrics.lost("append");
        }
    }

    /// One round of trimming. Answers whether there is more to do.
    async fn trim(&mut self, log: &RedisLog) -> bool {
        let retention = log.config.retention;
        if self.connected(log).await.is_err() {
            return false;
        }
        let Some(connection) = &mut self.connection else { return false };
        let args = [
            connection.candidate(),
            retention.messages.to_string(),
            retention.age.as_millis().to_string(),
            retention.bytes.to_string(),
        ];
        let reply = match connection.run(&TRIM, &[&log.keys.log], &args).await {
            Ok(reply) => reply,
            Err(error) => {
                if self.untrimmed.replace(error.to_string()) != self.untrimmed {
                    warn!(%error, "the log could not be trimmed");
                }
                self.lose(log);
                return false;
            }
        };
        self.untrimmed = None;
        let Some([redis::Value::Int(dropped), redis::Value::Int(more), redis::Value::Int(bytes), now]) =
            entry::array(&reply)
        else {
            return false;
        };
        if let Some(now_ms) = super::text(now).and_then(|now| now.parse().ok()) {
            log.clock.set(now_ms);
        }
        log.metrics.trimmed.inc_by((*dropped).try_into().unwrap_or(0));
        log.metrics.trimmed_bytes.inc_by((*bytes).try_into().unwrap_or(0));
        *more != 0
    }
}

#[cfg(test)]
impl Node {
    /// Whether its next step goes by the connection that it has.
    pub(super) fn is_connected(&self, log: &RedisLog) -> bool {
        self.connection.as_ref().is_some_and(|connection| !log.has_moved(connection.server().1))
    }

    /// Its connection breaks.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }

    /// One attempt at a new batch, or at the same one again.
    pub(super) async fn try_batch(
        &mut self,
        log: &RedisLog,
        drafts: Vec<crate::message::Draft>,
        is_new: bool,
    ) -> Result<Vec<Cursor>, ScriptError> {
        self.batch += u64::from(is_new);
        let jobs = [Job::of(drafts)];
        let appended = self.attempt(log, &jobs).await.inspect_err(|_| self.connection = None)?;
        log.own.push(appended.stretch(&jobs, log.config.max_payload));
        Ok(appended.places.into_iter().map(|(cursor, _)| cursor).collect())
    }
}

/// The script's answer.
#[derive(Debug, PartialEq)]
struct Appended {
    epoch: Epoch,
    /// The position behind which there is nothing but this batch.
    after: Option<Id>,
    /// Where each draft is, and whether it is an entry of this batch: the others had their key before.
    places: Vec<(Cursor, bool)>,
}

impl Appended {
    /// `position` is the tail's, and its number.
    fn parse(text: &str, position: Option<(Cursor, u64)>) -> Option<Appended> {
        let mut words = text.split(' ');
        let epoch = words.next()?.parse().ok()?;
        let after = match words.next()? {
            "-" => None,
            // A repeated batch is answered as it was at first, when the tail stood elsewhere.
            number => {
                let number: u64 = number.parse().ok()?;
                position.filter(|(at, added)| *added == number && at.epoch == epoch).map(|(at, _)| at.id)
            }
        };
        let place = |word: &str| match word.contains('.') {
            true => Some((word.parse().ok()?, false)),
            false => Some((Cursor { id: word.parse().ok()?, epoch }, true)),
        };
        let places = words.map(place).collect::<Option<_>>()?;
        Some(Appended { epoch, after, places })
    }

    /// The batch as what its entries say, if they are all there is behind what the tail has read.
    fn stretch(&self, jobs: &[Job], max_payload: usize) -> Option<Stretch> {
        let after = self.after?;
        let mut messages = Vec::with_capacity(self.places.len());
        let mut last = after;
        for (draft, (cursor, is_new)) in jobs.iter().flat_map(Job::drafts).zip(&self.places) {
            if !is_new {
                continue;
            }
            // Whoever reads the entry skips it where it is too long for him; so do we.
            if cursor.id <= last || !Payload::fits(draft.payload.as_str(), max_payload) {
                return None;
            }
            last = cursor.id;
            let (channel, event) = (draft.channel.clone(), draft.event.clone());
            messages.push(Arc::new(Message::new(Some(*cursor), channel, event, &draft.payload, draft.exclude.clone())));
        }
        Some(Stretch { epoch: self.epoch, after, messages })
    }
}

/// What went wrong before the batch was sent says nothing about the batch.
fn not_sent(error: ScriptError) -> ScriptError {
    match error {
        ScriptError::Unanswered(error) => ScriptError::Unconnected(error),
        ScriptError::Unexpected => ScriptError::Unconnected(std::io::Error::other("an answer without sense").into()),
        other => other,
    }
}

async fn rest(pause: &mut Duration) {
    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let id = |text: &str| text.parse::<Id>().expect("an id");
        let cursor = |text: &str| text.parse::<Cursor>().expect("a cursor");
        let position = Some((cursor("4-2.k3"), 7));
        let parsed = Appended::parse("k3 7 5-0 2-1.j1 5-1", position).expect("an answer");
        let places = vec![(cursor("5-0.k3"), true), (cursor("2-1.j1"), false), (cursor("5-1.k3"), true)];
        assert_eq!((parsed.after, parsed.places), (Some(id("4-2")), places));
        // Somebody else's entries are between, or the tail has gone on since.
        for text in ["k3 - 5-0", "k3 6 5-0", "k4 7 5-0"] {
            assert_eq!(Appended::parse(text, position).map(|parsed| parsed.after), Some(None), "{text}");
        }
        for text in ["", "k3", "k3 x", "k3 - ", "k3 - 5", "K3 - 5-0", "k3 - 5-0.K"] {
            assert_eq!(Appended::parse(text, position), None, "{text}");
        }
    }
}
