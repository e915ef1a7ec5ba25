//! One subscription's life: what is heard goes to the [`Member`], what it wants to say goes to the script.

use super::member::{LostTrack, Member, Request, State, Want};
use super::queue::{Bounds, Place};
use super::{BridgeConfig, Pattern, QUEUE_BYTES};
use crate::log::BoxFuture;
use crate::log::memory::KEY_LIFE;
use crate::log::pushed;
use crate::log::redis::{BRIDGE, Connection, RedisLog, ScriptError, draft_fields, text, volatile_from_json};
use crate::message::Message;
use futures_util::FutureExt;
use redis::Value;
use sha1::{Digest, Sha1};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::StreamExt;
use tracing::{debug, info, warn};

/// How often the holder beats at least, and the others look.
const TICK: Duration = Duration::from_millis(800);

/// A subscription that does not hear its own ping for so long is dead.
const PING: Duration = Duration::from_secs(5);

/// How long Redis may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages heard at a time, before it is looked whether there is something to say.
const EARFUL: usize = 500;

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// It never began, or it hears no more.
    #[error("{0}")]
    Deaf(ScriptError),
    /// The log is on another server now (a failover): what is PUBLISHed there has another order.
    #[error("the log has moved to another server")]
    Moved,
    /// What it has heard has no place in the bridge's numbers.
    #[error("the bridge's numbers in Redis are not those that it knew")]
    LostTrack,
}

impl From<LostTrack> for Ended {
    fn from(_: LostTrack) -> Ended {
        Ended::LostTrack
    }
}

pub(super) struct Subscription {
    log: Arc<RedisLog>,
    member: Member,
    /// The channel of markers.
    markers: String,
    /// The key of the bridge's state.
    state: String,
    /// To the server that is subscribed to, and to no other.
    control: Option<Connection>,
    /// That server's process, while it is listened to.
    server: Option<String>,
}

type Answer = (Option<Connection>, Request, Result<Value, ScriptError>);

impl Subscription {
    pub(super) fn new(log: Arc<RedisLog>, config: &BridgeConfig) -> Subscription {
        let id = uuid::Uuid::new_v4().to_string();
        let keys = log.keys();
        // Members with other patterns hear another order and cannot count with us.
        let globs: Vec<_> = config.patterns.iter().map(Pattern::glob).collect();
        let group: String = Sha1::digest(globs.join(" ")).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let marker = keys.beside(&format!("marker:{id}"));
        let (markers, state) = (keys.beside("bridge"), keys.beside(&format!("bridge:{group}")));
        let bounds = Bounds { messages: config.queue, bytes: QUEUE_BYTES };
        let member = Member::new(id, marker, bounds, Instant::now());
        Subscription { log, member, markers, state, control: None, server: None }
    }

    pub(super) fn has_joined(&self) -> bool {
        self.member.has_joined()
    }

    /// Listens for as long as it can.
    pub(super) async fn listen(&mut self, patterns: &[Pattern], listening: &watch::Sender<bool>) -> Ended {
        match self.subscribe_and_listen(patterns, listening).await {
            Ok(never) => match never {},
            Err(ended) => {
                self.log.metrics().lost("subscription");
                ended
            }
        }
    }

    async fn subscribe_and_listen(
        &mut self,
        patterns: &[Pattern],
        listening: &watch::Sender<bool>,
    ) -> Result<Never, Ended> {
        let control = self.log.connect(ANSWER_TIMEOUT).await.map_err(Ended::Deaf)?;
        let (client, server) = control.server();
        self.server = Some(server.to_owned());
        let volatile = self.log.keys().volatile();
        let markers = self.markers.clone();
        let subscribing = async {
            let (mut sink, stream) = client.get_async_pubsub().await?.split();
            sink.subscribe(&[&volatile, &markers]).await?;
            for pattern in patterns {
                sink.psubscribe(pattern.glob()).await?;
            }
            Ok::<_, redis::RedisError>((sink, stream))
        };
        let subscribed = tokio::time::timeout(ANSWER_TIMEOUT * 2, subscribing).await;
        let (mut sink, mut stream) =
            subscribed.map_err(|_| timed_out())?.map_err(|error| Ended::Deaf(ScriptError::Unconnected(error)))?;
        self.control = Some(control);
        let join = self.member.join();
        let mut asking = self.ask(join);

        let mut tick = tokio::time::interval(TICK.mul_f64(0.9 + 0.2 * fastrand::f64()));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A connection that was cut without a word hears nothing and says nothing.
        let mut pinging = Box::pin(async {
            loop {
                tokio::time::sleep(PING).await;
                let answer = tokio::time::timeout(PING, sink.ping::<Value>()).await;
                match answer {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Ended::Deaf(ScriptError::Unanswered(error)),
                    Err(_) => return timed_out(),
                }
            }
        });
        let (mut is_asking, mut is_due) = (true, false);
        loop {
            tokio::select! {
                heard = stream.next() => {
                    let gone = || redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                    let heard = heard.ok_or_else(|| Ended::Deaf(ScriptError::Unanswered(gone())))?;
                    self.hear(&heard, patterns);
                    // What has come with it goes with it.
                    for _ in 0..EARFUL {
                        let Some(Some(heard)) = stream.next().now_or_never() else { break };
                        self.hear(&heard, patterns);
                    }
                    if self.member.has_joined() && !*listening.borrow() {
                        listening.send_replace(true);
                    }
                }
                answer = &mut asking, if is_asking => {
                    is_asking = false;
                    is_due = self.take_answer(answer)? && self.member.is_urgent();
                }
                _ = tick.tick() => {
                    is_due = true;
                    if self.control.as_ref().is_some_and(|control| self.log.has_moved(control.server().1)) {
                        return Err(Ended::Moved);
                    }
                }
                ended = &mut pinging => return Err(ended),
            }
            if !is_asking && (is_due || self.member.is_urgent() && self.control.is_some()) {
                let request = self.member.next_request(Instant::now());
                asking = self.ask(request);
                (is_asking, is_due) = (true, false);
            }
        }
    }

    /// Looks after what was heard, without hearing more, until it is taken by this member or another.
    /// Then gives the lease back, if it has it, so that another member need not wait to miss it.
    pub(super) async fn finish(mut self, time: Duration) {
        // Wherever the log is now: the numbers that went there with it are those of what we have heard.
        self.server = None;
        let deadline = Instant::now() + time;
        while self.member.waiting() > 0 && Instant::now() < deadline {
            let request = self.member.next_request(Instant::now());
            let answer = self.ask(request).await;
            let is_answered = match self.take_answer(answer) {
                Ok(is_answered) => is_answered,
                Err(_) => break,
            };
            if !is_answered || !self.member.is_urgent() {
                tokio::time::sleep(TICK.min(time / 4)).await;
            }
        }
        if self.member.waiting() > 0 {
            let lost = self.member.waiting() as u64;
            self.log.metrics().overflowed.inc_by(lost);
            warn!(lost, "PUBLISHes that were heard could not be brought to the log");
        }
        if self.member.holds() {
            let request = self.member.release();
            let answer = self.ask(request).await;
            if self.take_answer(answer).is_err() || self.member.holds() {
                debug!("the lease could not be given back; it will be missed");
            }
        }
    }

    /// Runs the script in a future of its own, so that what comes meanwhile is heard.
    fn ask(&mut self, request: Request) -> BoxFuture<'static, Answer> {
        let retention = self.log.config().retention;
        let want = match request.want {
            Want::Look => "look",
            Want::Join => "join",
            Want::Take => "take",
            Want::Begin => "begin",
            Want::Release => "release",
        };
        let mut args = vec![
            // Filled in once there is a connection.
            String::new(),
            self.member.id().to_owned(),
            want.to_owned(),
            request.holder.clone(),
            request.beat.clone(),
            self.markers.clone(),
            request.marker.clone(),
            retention.messages.to_string(),
            retention.age.as_millis().to_string(),
            KEY_LIFE.as_millis().to_string(),
            request.lost.0.clone(),
            request.lost.1.to_string(),
            request.generation.clone(),
            request.first.to_string(),
            request.last.to_string(),
        ];
        for place in &request.places {
            match place {
                Place::Nothing(run) => args.extend(["0".to_owned(), run.to_string()]),
                Place::Marker(key) => args.extend(["1".to_owned(), key.clone()]),
                Place::Entry(words) => {
                    args.push(words.len().to_string());
                    args.extend_from_slice(words);
                }
            }
        }
        let keys = [self.log.keys().log.clone(), self.state.clone(), self.member.marker().to_owned()];
        let (log, control) = (self.log.clone(), self.control.take());
        Box::pin(async move {
            let mut control = match control {
                Some(control) => control,
                None => match log.connect(ANSWER_TIMEOUT).await {
                    Ok(control) => control,
                    Err(error) => return (None, request, Err(error)),
                },
            };
            args[0] = control.candidate();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let answer = control.run(&BRIDGE, &keys, &args).await;
            (Some(control), request, answer)
        })
    }

    /// Takes in what came of it; false where nothing did.
    fn take_answer(&mut self, (control, request, answer): Answer) -> Result<bool, Ended> {
        // What is PUBLISHed on another server is not what we hear.
        if let (Some(control), Some(server)) = (&control, &self.server)
            && control.server().1 != server
        {
            return Err(Ended::Moved);
        }
        let state = match answer.and_then(|reply| state(&reply).ok_or(ScriptError::Unexpected)) {
            Ok(state) => state,
            Err(error) => {
                debug!(%error, waiting = self.member.waiting(), "the bridge cannot reach the log");
                return Ok(false);
            }
        };
        self.control = control;
        let metrics = self.log.metrics();
        let learned = self.member.learn(&request, state, Instant::now())?;
        metrics.bridged.inc_by(learned.bridged as u64);
        metrics.struck_out.inc_by(learned.struck_out as u64);
        metrics.waiting.set(self.member.waiting() as i64);
        if learned.changed_hands {
            metrics.lease_changes.inc();
            info!(holds = self.member.holds(), "the lease to append what is PUBLISHed has changed hands");
        }
        metrics.holds_lease.set(self.member.holds().into());
        Ok(true)
    }

    fn hear(&mut self, heard: &redis::Msg, patterns: &[Pattern]) {
        let (name, payload) = (heard.get_channel_name(), heard.get_payload_bytes());
        let keys = self.log.keys();
        if name.starts_with(&keys.beside("")) {
            // A wide pattern hears our own channels a second time.
            if heard.from_pattern() {
                return;
            }
            if name == keys.volatile() {
                match volatile_from_json(payload, self.log.config().max_payload) {
                    Some(message) => self.log.deliver_volatile(message),
                    None => self.refuse(name, "it is not what a node sends"),
                }
                return;
            }
            // It becomes a key that is written, so it must be a marker's.
            let marker = std::str::from_utf8(payload).unwrap_or_default();
            let id = marker.strip_prefix(&keys.beside("marker:")).map(uuid::Uuid::try_parse);
            let is_marker = matches!(id, Some(Ok(_)));
            return self.keep(if is_marker { Place::Marker(marker.into()) } else { Place::Nothing(1) });
        }
        let Some(channel) = patterns.iter().find_map(|pattern| pattern.channel(name)) else { return };
        let draft = channel
            .map_err(|_| "its channel is no channel name")
            .and_then(|channel| pushed::draft(channel, payload, self.log.config().max_payload));
        let place = match draft {
            Err(reason) => {
                self.refuse(name, reason);
                Place::Nothing(1)
            }
            Ok(draft) if draft.volatile => {
                // Each node tells its own readers; nothing waits.
                let message = Message::new(None, draft.channel, draft.event, &draft.payload, draft.exclude);
                self.log.deliver_volatile(message);
                Place::Nothing(1)
            }
            Ok(draft) => {
                let key = draft.key.as_ref().map(|key| keys.idempotency(&key.scoped(&draft.channel)));
                let mut words = vec![key.unwrap_or_default()];
                words.extend(draft_fields(&draft));
                Place::Entry(words)
            }
        };
        self.keep(place);
    }

    fn keep(&mut self, place: Place) {
        let lost = self.member.hear(place);
        if lost > 0 {
            let before = self.log.metrics().overflowed.inc_by(lost as u64);
            let all = before + lost as u64;
            // Each power of two: an overflow is a flood.
            if before.leading_zeros() != all.leading_zeros() {
                warn!(lost = all, "too many PUBLISHes wait for the log; the oldest are lost");
            }
        }
    }

    fn refuse(&self, name: &str, reason: &'static str) {
        let refused = self.log.metrics().refused.inc() + 1;
        if refused.is_power_of_two() || refused <= 16 {
            let name: String = name.chars().take(200).collect();
            warn!(channel = ?name, reason, refused, "a PUBLISH is no message");
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // A member that is no more holds nothing.
        if self.member.holds() {
            self.log.metrics().holds_lease.set(0);
        }
    }
}

enum Never {}

fn timed_out() -> Ended {
    let silence = std::io::Error::from(std::io::ErrorKind::TimedOut);
    Ended::Deaf(ScriptError::Unanswered(silence.into()))
}

/// The script's reply.
fn state(reply: &Value) -> Option<State> {
    let Value::Array(reply) = reply else { return None };
    let words: Vec<&str> = reply.iter().map(text).collect::<Option<_>>()?;
    let [holder, beat, generation, taken, low, origin, previous, previous_taken, previous_origin, note] =
        words.as_slice()
    else {
        return None;
    };
    let note = match note.split_once(' ') {
        Some((generation, number)) => Some((generation.to_owned(), number.parse().ok()?)),
        None => None,
    };
    Some(State {
        holder: (*holder).to_owned(),
        beat: (*beat).to_owned(),
        generation: (*generation).to_owned(),
        taken: taken.parse().ok()?,
        low: low.parse().ok()?,
        origin: (*origin).to_owned(),
        previous: (*previous).to_owned(),
        previous_taken: previous_taken.parse().ok()?,
        previous_origin: (*previous_origin).to_owned(),
        note,
    })
}
