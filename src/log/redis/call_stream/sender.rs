//! Sends calls to the stream. All calls that come during a round trip are sent together in the next one.

use super::stream::{CallStream, FIRST_PAUSE, StreamCall, Unanswered, rest};
use crate::log::redis::connection::{ANSWER_TIMEOUT, CALLS, Connection};
use crate::log::redis::{RedisLog, ScriptError};
use redis::Value;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// How many entries and how many bytes the stream may have. Beyond these limits the oldest entries are dropped.
const MAX_ENTRIES: usize = 100_000;
const MAX_BYTES: usize = 128 << 20;

/// How many calls are sent together.
const BATCH: usize = 64;

/// How long Redis knows that a call waits for an answer: longer than the longest `--hook-timeout`.
const RECORD_LIFE: Duration = Duration::from_secs(120);

/// How often the connection is checked while there are no calls, and how often the node looks whether Redis still has
/// the calls that wait. `FLUSHALL` does not end the connection.
const CHECK: Duration = Duration::from_secs(1);

/// The task that sends calls. It ends with the last user of the stream.
pub(super) async fn run(stream: Weak<CallStream>) {
    let mut sender = Sender { connection: None, tail_breaks: 0, pause: FIRST_PAUSE, checked: Instant::now() };
    while let Some(stream) = stream.upgrade() {
        sender.round(&stream).await;
    }
}

struct Sender {
    connection: Option<Connection>,
    /// The value of [`RedisLog::tail_breaks`] when the connection was opened.
    tail_breaks: u64,
    pause: Duration,
    /// When the node last looked whether Redis still has its calls.
    checked: Instant,
}

/// A call that is to be sent: the number of its attempt, the call and the time that it has left.
type Unsent = (u64, Arc<StreamCall>, Duration);

impl Sender {
    /// Waits for calls, and sends them.
    async fn round(&mut self, stream: &CallStream) {
        let _ = tokio::time::timeout(CHECK, stream.news.notified()).await;
        while let Err(error) = self.send_all(stream).await {
            tracing::debug!(%error, "calls to the application could not be sent to Redis");
            if self.connection.take().is_some() {
                stream.log.metrics().lost("hook");
            }
            stream.waiting.lock().obstacle = Some(error.to_string());
            rest(&mut self.pause).await;
        }
        self.pause = FIRST_PAUSE;
    }

    /// Sends all calls that the present server does not have.
    async fn send_all(&mut self, stream: &CallStream) -> Result<(), ScriptError> {
        if self.checked.elapsed() >= CHECK {
            self.find_lost(stream).await?;
            self.checked = Instant::now();
        }
        loop {
            let connection = self.connected(&stream.log).await?;
            let server = connection.server().1.to_owned();
            let batch = stream.unsent(&server);
            if batch.is_empty() {
                return Ok(());
            }
            let keys = [stream.log.keys().log.as_str(), &stream.stream];
            match connection.run(&CALLS, &keys, &args(&stream.node, &batch)).await {
                Ok(_) => stream.note_sent(&batch, &server),
                Err(ScriptError::Refused(error)) => stream.refuse(&batch, &ScriptError::Refused(error)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds the calls that Redis has lost, so that they are sent again. A record stays until its call has an answer that
    /// the node has read.
    async fn find_lost(&mut self, stream: &CallStream) -> Result<(), ScriptError> {
        let connection = self.connected(&stream.log).await?;
        let sent = stream.sent(connection.server().1);
        if sent.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("EXISTS").arg(&stream.stream);
        for (attempt, call) in &sent {
            let record = stream.log.keys().beside(&format!("call:{}", call.id));
            pipeline.cmd("HGET").arg(record).arg(format!("{} {attempt}", stream.node));
        }
        let mut replies = connection.send_pipeline(&pipeline, sent.len() + 1).await?.into_iter();
        let is_gone = replies.next() == Some(Value::Int(0));
        let lost = sent.iter().zip(replies).filter(|(_, record)| is_gone || *record == Value::Nil);
        stream.note_lost(lost.map(|((attempt, _), _)| *attempt));
        Ok(())
    }

    async fn connected(&mut self, log: &RedisLog) -> Result<&mut Connection, ScriptError> {
        let is_outdated = |connection: &mut Connection| log.has_moved(connection.server().1);
        // A connection that was opened before the tail's connection ended has probably ended, too.
        if self.tail_breaks != log.tail_breaks() || self.connection.as_mut().is_some_and(is_outdated) {
            self.connection = None;
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            empty => {
                self.tail_breaks = log.tail_breaks();
                Ok(empty.insert(log.connect(ANSWER_TIMEOUT).await?))
            }
        }
    }
}

/// The arguments of the script.
fn args(node: &str, batch: &[Unsent]) -> Vec<Vec<u8>> {
    let number = |number: u128| number.to_string().into_bytes();
    let mut args = vec![
        node.as_bytes().to_vec(),
        number(MAX_ENTRIES as u128),
        number(MAX_BYTES as u128),
        number(RECORD_LIFE.as_millis()),
    ];
    for (attempt, call, left) in batch {
        args.extend([number(u128::from(*attempt)), call.id.clone().into_bytes(), number(left.as_millis())]);
        args.push(number(call.fields.len() as u128 * 2));
        args.extend(call.fields.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.clone()]));
    }
    args
}

impl CallStream {
    /// The oldest calls that this server does not have and whose time is not over.
    fn unsent(&self, server: &str) -> Vec<Unsent> {
        let now = Instant::now();
        let waiting = self.waiting.lock();
        let unsent = waiting.attempts.iter().filter(|(_, attempt)| attempt.sent_to.as_deref() != Some(server));
        let unsent = unsent.map(|(number, attempt)| (*number, attempt.call.clone(), attempt.until - now));
        unsent.filter(|(.., left)| !left.is_zero()).take(BATCH).collect()
    }

    /// The calls that this server has. The hook has a limit on the calls that wait.
    fn sent(&self, server: &str) -> Vec<(u64, Arc<StreamCall>)> {
        let waiting = self.waiting.lock();
        let sent = waiting.attempts.iter().filter(|(_, attempt)| attempt.sent_to.as_deref() == Some(server));
        sent.map(|(number, attempt)| (*number, attempt.call.clone())).collect()
    }

    fn note_lost(&self, lost: impl Iterator<Item = u64>) {
        let mut waiting = self.waiting.lock();
        for number in lost {
            // The answer may have come in the meantime.
            if let Some(attempt) = waiting.attempts.get_mut(&number) {
                attempt.sent_to = None;
                self.metrics.resent.inc();
            }
        }
    }

    fn note_sent(&self, batch: &[Unsent], server: &str) {
        let mut waiting = self.waiting.lock();
        waiting.obstacle = None;
        for (number, ..) in batch {
            if let Some(attempt) = waiting.attempts.get_mut(number)
                && attempt.sent_to.replace(server.to_owned()).is_some()
            {
                self.metrics.resent.inc();
            }
        }
    }

    /// Ends the calls of a batch that Redis has refused: it would give the same answer again.
    fn refuse(&self, batch: &[Unsent], error: &ScriptError) {
        for (number, ..) in batch {
            self.answer(*number, Err(Unanswered::NotSent(error.to_string())));
        }
    }
}
