//! Sends one batch after the other, each until its outcome is known.

use super::answer::{Appended, Place};
use crate::log::AppendError;
use crate::log::idempotency::KEY_LIFE;
use crate::log::redis::connection::{ANSWER_TIMEOUT, APPEND, Connection};
use crate::log::redis::functions::Functions;
use crate::log::redis::queue::{Job, Jobs};
use crate::log::redis::{RedisLog, ScriptError, entry_fields, text};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// The shortest time between two batches that drop entries which are too old. With one message in each batch, this
/// would otherwise be a large part of the work.
const AGEING: Duration = Duration::from_millis(100);

const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A node's appender, with the state that it shares with Redis.
pub(in crate::log::redis) struct Appender {
    /// The key of the last batch's record.
    record: Option<String>,
    batch: u64,
    pub(super) connection: Option<Connection>,
    /// The value of [`RedisLog::tail_breaks`] when the connection was opened.
    tail_breaks: u64,
    /// The time at which a batch last dropped entries that were too old.
    aged_at: Option<Instant>,
    /// The error of the last trimming, as it was logged.
    pub(super) untrimmed: Option<String>,
    /// The error of the last attempt to connect for an append, as it was logged.
    unconnected: Option<String>,
    pub(super) functions: Functions,
}

impl Appender {
    pub(in crate::log::redis) fn new() -> Appender {
        Appender {
            record: None,
            batch: 0,
            connection: None,
            tail_breaks: 0,
            aged_at: None,
            untrimmed: None,
            unconnected: None,
            functions: Functions::default(),
        }
    }

    pub(super) async fn append(&mut self, log: &RedisLog, queue: &Jobs, mut jobs: Vec<Job>) {
        let mut pause = FIRST_PAUSE;
        // Until there is a connection, every draft can still be withdrawn.
        while let Err(error) = self.connected(log).await {
            jobs.retain(Job::is_wanted);
            if jobs.is_empty() {
                return;
            }
            if self.unconnected.replace(error.to_string()) != self.unconnected {
                warn!(%error, "there is no connection for appends");
            }
            queue.note_obstacle(Some(error.public_text()));
            rest(&mut pause).await;
        }
        self.unconnected = None;
        queue.note_obstacle(None);
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
                // This happens before any answer is sent: when a publisher gets its answer, the node has already read
                // its message.
                log.local_appends.push(appended.run(&jobs, log.config.max_payload));
                let mut places = appended.places.into_iter();
                for job in jobs {
                    let count = job.drafts().len();
                    job.answer(places.by_ref().take(count).map(Place::cursor).collect());
                }
            }
            Err((error, reason)) => {
                warn!(%error, reason, messages, "an append failed");
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
    ///
    /// # Errors
    ///
    /// The error for the publishers, and the reason for the log lines.
    async fn settle(&mut self, log: &RedisLog, jobs: &[Job]) -> Result<Appended, (AppendError, String)> {
        // No publisher waits longer than its own time limit, and each time limit leaves some time for this.
        let deadline = jobs.iter().map(Job::give_up_at).min().unwrap_or_else(Instant::now);
        let mut pause = FIRST_PAUSE;
        // Whether Redis may still run an earlier copy of the batch.
        let mut unanswered = false;
        let (mut text, mut reason) = ("Redis does not answer", String::new());
        while Instant::now() < deadline {
            match self.attempt(log, jobs).await {
                Ok(appended) => return Ok(appended),
                Err(ScriptError::Refused(error)) if unanswered => {
                    // Redis refused this copy of the batch. An earlier copy may have run, or may still run.
                    return Err((AppendError::OutcomeUnknown, format!("an earlier copy of it may have run; {error}")));
                }
                Err(ref error @ ScriptError::Refused(_)) => {
                    return Err((AppendError::Unavailable(error.public_text()), error.to_string()));
                }
                Err(error) => {
                    unanswered |= error.is_unsettled();
                    (text, reason) = (error.public_text(), error.to_string());
                    // The connection is also given up if too few replicas have the batch: the server may no longer be
                    // the primary.
                    self.lose(log);
                }
            }
            rest(&mut pause).await;
        }
        Err((if unanswered { AppendError::OutcomeUnknown } else { AppendError::Unavailable(text) }, reason))
    }

    async fn attempt(&mut self, log: &RedisLog, jobs: &[Job]) -> Result<Appended, ScriptError> {
        self.connected(log).await?;
        let record = self.record.get_or_insert_with(|| log.keys.beside(&format!("node:{}", uuid::Uuid::new_v4())));
        let retention = log.retention();
        let looks_at_ages = self.aged_at.is_none_or(|at| at.elapsed() >= AGEING);
        let position = log.local_appends.position();
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
            log.config.key_bytes.to_string(),
        ];
        for drafts in jobs.iter().map(Job::drafts) {
            // Drafts that are appended together come from one publisher.
            let owner = drafts.iter().find_map(|draft| draft.key.as_ref()).map_or("", |key| match key.owner.as_str() {
                // The script looks for keys only in appends that name a publisher.
                "" => "anonymous",
                owner => owner,
            });
            args.extend([owner.to_owned(), drafts.len().to_string()]);
            for draft in drafts {
                let mut index = 0;
                if let Some(key) = draft.scoped_key() {
                    keys.push(log.keys.idempotency(&key));
                    index = keys.len();
                }
                let fields = entry_fields::draft_fields(draft);
                args.push(index.to_string());
                args.push(fields.len().to_string());
                args.extend(fields);
            }
        }
        let messages = jobs.iter().map(|job| job.drafts().len()).sum::<usize>();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let reply = match log.config.wait_replicas {
            0 => connection.run(&APPEND, &keys, &args).await?,
            replicas => connection.run_and_wait(&APPEND, &keys, &args, replicas).await?,
        };
        if looks_at_ages {
            self.aged_at = Some(Instant::now());
        }
        // Readers may see a message before replicas have it, and should not wait for the replicas. So if there are
        // replicas to wait for, the tail reads with XREAD, which is faster.
        let behind = position.filter(|_| log.config.wait_replicas == 0);
        let appended = text(&reply).and_then(|text| Appended::parse(text, behind));
        appended.filter(|it| it.places.len() == messages).ok_or(ScriptError::Unexpected)
    }

    pub(super) async fn connected(&mut self, log: &RedisLog) -> Result<(), ScriptError> {
        if self.tail_breaks != log.tail_breaks() {
            self.lose(log);
        }
        if !self.has_connection(log) {
            // This value is read before the connection is opened: if the tail sees the end of its connection in the
            // meantime, the new connection counts as too old.
            self.tail_breaks = log.tail_breaks();
            let mut connection = log.connect(ANSWER_TIMEOUT).await?;
            // The log is opened before anything is appended. If the log has lost its end, appending must not continue
            // as if the log were complete: readers would mistake new entries for entries that they have already seen.
            log.open(&mut connection).await.map_err(not_sent)?;
            log.peers.renew(&mut connection).await.map_err(not_sent)?;
            self.functions.look_after(&mut connection, true).await.map_err(not_sent)?;
            self.connection = Some(connection);
        }
        Ok(())
    }

    /// Whether there is a connection on which a batch may be sent.
    fn has_connection(&self, log: &RedisLog) -> bool {
        // The old primary may still accept appends for a while, but nodes no longer read from it.
        let is_at_the_log = |connection: &Connection| !log.has_moved(connection.server().1);
        // If a batch is sent to a Redis that has ended, its outcome is unknown, and its publishers wait for their whole
        // timeout.
        self.connection.as_ref().is_some_and(is_at_the_log) && self.tail_breaks == log.tail_breaks()
    }

    pub(super) fn lose(&mut self, log: &RedisLog) {
        if self.connection.take().is_some() {
            log.metrics.lost("append");
        }
    }
}

#[cfg(test)]
impl Appender {
    /// Whether the next step can use the present connection.
    pub(in crate::log::redis) fn is_connected(&self, log: &RedisLog) -> bool {
        self.has_connection(log)
    }

    /// Simulates a broken connection of the appender.
    pub(in crate::log::redis) fn close(&mut self) {
        self.connection = None;
    }

    /// One attempt to send a new batch, or to send the same batch again.
    pub(in crate::log::redis) async fn try_batch(
        &mut self,
        log: &RedisLog,
        drafts: Vec<crate::message::Draft>,
        is_new: bool,
    ) -> Result<Vec<crate::cursor::Cursor>, ScriptError> {
        self.batch += u64::from(is_new);
        let jobs = [Job::of(drafts)];
        let appended = self.attempt(log, &jobs).await.inspect_err(|_| self.connection = None)?;
        log.local_appends.push(appended.run(&jobs, log.config.max_payload));
        appended.places.into_iter().map(|place| place.cursor().map_err(|_| ScriptError::Unexpected)).collect()
    }
}

/// An error that came before the batch was sent does not concern the batch.
fn not_sent(error: ScriptError) -> ScriptError {
    match error {
        ScriptError::Unanswered(error) => ScriptError::Unconnected(error),
        ScriptError::Unexpected => ScriptError::Unconnected(std::io::Error::other("an unexpected answer").into()),
        other => other,
    }
}

async fn rest(pause: &mut Duration) {
    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}
