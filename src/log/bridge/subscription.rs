//! One subscription's life: what is heard goes to the [`Member`], what it wants to say goes to the script.

use super::member::{JITTER, Marker, Member, Moved, PATIENCE, Request, Want};
use super::queue::{Bounds, Place};
use super::script::{self, Server};
use super::{BridgeConfig, QUEUE_BYTES};
use crate::log::BoxFuture;
use crate::log::publish_payload;
use crate::log::redis::{BRIDGE, Connection, RedisLog, ScriptError, draft_fields, volatile_from_json};
use crate::message::{Channel, Pattern};
use futures_util::FutureExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, Value};
use sha1::{Digest, Sha1};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::StreamExt;
use tracing::{debug, info, warn};

/// How often the holder beats at least, and the others look.
const TICK: Duration = Duration::from_millis(800);

/// How long after an answer that did not come, or was of no use, it is asked again.
const RETRY: Duration = Duration::from_millis(150);

/// A subscription that does not hear its own ping for so long is dead.
const PING: Duration = Duration::from_secs(5);

/// How long members in a Cluster may give no sign of life before the server that they listen to, which does not answer
/// this node, is taken for gone.
const SILENCE: Duration = Duration::from_secs(2);

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
    /// In a Cluster: others listen to a server that this node does not reach.
    #[error("the server that the other nodes listen to is not reached: {0}")]
    Apart(ScriptError),
    /// It was away for so long that its numbers are forgotten.
    #[error("the bridge's numbers in Redis are not those that it knew")]
    LostTrack,
}

impl From<Moved> for Ended {
    fn from(_: Moved) -> Ended {
        Ended::Moved
    }
}

/// Of a Cluster: the server that members listen to and this node does not reach, the last sign of life of those members,
/// and since when there was no other.
pub(super) type Apart = Option<(String, String, Instant)>;

pub(super) struct Subscription {
    log: Arc<RedisLog>,
    member: Member,
    /// The channel of markers.
    markers: String,
    /// The keys of the bridge's state.
    keys: [String; 2],
    /// To where the log is. Without a Cluster that is the server that is subscribed to, and no other.
    control: Option<Connection>,
    server: Server,
    /// Messages that it has added to the gauge of those that wait.
    waiting: i64,
    is_finishing: bool,
    /// Nothing is asked before, since the last answer was none, or was of no use.
    rests_until: Instant,
}

type Answer = (Option<Connection>, Request, Result<Value, ScriptError>);

impl Subscription {
    pub(super) fn new(log: Arc<RedisLog>, config: &BridgeConfig) -> Subscription {
        let id = uuid::Uuid::new_v4().to_string();
        let names = log.keys();
        // Members with other patterns hear another order and cannot count with us.
        let globs: Vec<_> = config.patterns.iter().map(Pattern::to_string).collect();
        let group: String = Sha1::digest(globs.join(" ")).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let markers = names.beside(&format!("bridge:{group}"));
        let keys = [markers.clone(), names.beside(&format!("bridge:{group}:taken"))];
        let bounds = Bounds { messages: config.queue, bytes: QUEUE_BYTES };
        let now = Instant::now();
        let member = Member::new(id, bounds, PATIENCE + JITTER.mul_f64(fastrand::f64()), now);
        let (control, server) = (None, Server::default());
        Subscription { log, member, markers, keys, control, server, waiting: 0, is_finishing: false, rests_until: now }
    }

    pub(super) fn has_joined(&self) -> bool {
        self.member.has_joined()
    }

    /// Listens for as long as it can.
    pub(super) async fn listen(
        &mut self,
        patterns: &[Pattern],
        apart: &mut Apart,
        listening: &watch::Sender<bool>,
    ) -> Ended {
        let listened = async {
            let client = self.choose_server(apart).await?;
            self.subscribe_and_listen(client, patterns, listening).await
        };
        match listened.await {
            Ok(never) => match never {},
            Err(ended) => {
                self.log.metrics().lost("subscription");
                ended
            }
        }
    }

    /// Where to subscribe. Without a Cluster that is where the log is.
    ///
    /// In a Cluster each server delivers what is PUBLISHed at any, in an order of its own, so members count
    /// together at one, and stay there while it lives, also when another owns the log's slot.
    async fn choose_server(&mut self, apart: &mut Apart) -> Result<Client, Ended> {
        let mut control = self.log.connect(ANSWER_TIMEOUT).await.map_err(Ended::Deaf)?;
        // A Redis that is loading its data takes subscribers and PUBLISHes, and no script: what is heard before the join
        // has no number. And the join is one round trip then.
        control.load(&BRIDGE).await.map_err(Ended::Deaf)?;
        let (client, run_id) = control.server();
        let client = client.clone();
        let (is_cluster, address) = (control.is_cluster(), control.address().to_owned());
        self.server = Server { run_id: run_id.to_owned(), address, is_cluster, instead_of: String::new() };
        if !is_cluster {
            self.control = Some(control);
            return Ok(client);
        }
        let look = Request { want: Want::Finish, ..Request::default() };
        let args = self.args(&look);
        let keys = [&self.log.keys().log, &self.keys[0], &self.keys[1]].map(String::as_str);
        let reply = control.run(&BRIDGE, &keys, &args).await.map_err(Ended::Deaf)?;
        self.control = Some(control);
        let state = script::state(&reply).ok_or(Ended::Deaf(ScriptError::Unexpected))?;
        if state.server.is_empty() || state.server == self.server.run_id {
            *apart = None;
            return Ok(client);
        }
        let (why, is_silent) = match self.log.connect_to(&state.address, ANSWER_TIMEOUT).await {
            Ok(connection) if connection.server().1 == state.server => {
                *apart = None;
                self.server.address.clone_from(&state.address);
                self.server.run_id = state.server;
                return Ok(connection.server().0.clone());
            }
            // Another process has its place: it is gone.
            Ok(_) => (ScriptError::Unexpected, false),
            Err(error) => {
                let is_silent = error.is_timeout();
                (error, is_silent)
            }
        };
        // Where it refuses, nobody is there. Where it is silent it may be this node alone that does not reach it.
        let now = Instant::now();
        let (server, alive, since) = apart.get_or_insert((state.server.clone(), state.alive.clone(), now));
        if *server != state.server || *alive != state.alive {
            (*server, *alive, *since) = (state.server.clone(), state.alive.clone(), now);
        }
        if is_silent && now - *since < SILENCE {
            return Err(Ended::Apart(why));
        }
        *apart = None;
        self.server.instead_of = state.server;
        Ok(client)
    }

    async fn subscribe(&self, client: &Client, patterns: &[Pattern]) -> Result<(PubSubSink, PubSubStream), Ended> {
        let volatile = self.log.keys().volatile();
        let opening = tokio::time::timeout(ANSWER_TIMEOUT, client.get_async_pubsub()).await;
        let unconnected = |error| Ended::Deaf(ScriptError::Unconnected(error));
        let (sink, stream) = opening.map_err(|_| timed_out())?.map_err(unconnected)?.split();
        if self.server.is_cluster {
            // Without a Cluster the join goes to the server itself. Here another process could have its address by now.
            let again = self.log.connect_to(&self.server.address, ANSWER_TIMEOUT).await.map_err(Ended::Deaf)?;
            if again.server().1 != self.server.run_id {
                return Err(Ended::Moved);
            }
        }
        // What is heard from here up to the marker has no number: all goes out at once. Markers last, since what
        // follows one that is heard, from any member, must be heard completely.
        let globs: Vec<String> = patterns.iter().map(Pattern::to_string).collect();
        let (mut sink, mut last) = (sink.clone(), sink);
        let channels = [volatile, self.markers.clone()];
        let to_patterns = async { if globs.is_empty() { Ok(()) } else { sink.psubscribe(&globs).await } };
        let subscribing = futures_util::future::try_join(to_patterns, last.subscribe(&channels));
        let subscribed = tokio::time::timeout(ANSWER_TIMEOUT, subscribing).await;
        subscribed.map_err(|_| timed_out())?.map_err(unconnected)?;
        Ok((last, stream))
    }

    async fn subscribe_and_listen(
        &mut self,
        client: Client,
        patterns: &[Pattern],
        listening: &watch::Sender<bool>,
    ) -> Result<Never, Ended> {
        let (mut sink, mut stream) = self.subscribe(&client, patterns).await?;
        let join = self.member.next_request(Instant::now());
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
            let due = self.member.due().map(|due| due.max(self.rests_until));
            let waiting = tokio::time::sleep_until(due.unwrap_or_else(Instant::now));
            tokio::select! {
                heard = stream.next() => {
                    let gone = || redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                    let heard = heard.ok_or_else(|| Ended::Deaf(ScriptError::Unanswered(gone())))?;
                    self.hear(&heard, patterns)?;
                    // What has come with it goes with it.
                    for _ in 0..EARFUL {
                        let Some(Some(heard)) = stream.next().now_or_never() else { break };
                        self.hear(&heard, patterns)?;
                    }
                    if self.member.has_joined() && !*listening.borrow() {
                        listening.send_replace(true);
                    }
                    self.tell_waiting();
                }
                answer = &mut asking, if is_asking => {
                    is_asking = false;
                    is_due |= !self.take_answer(answer)? && !self.member.has_joined();
                }
                _ = tick.tick() => {
                    is_due = true;
                    let control = self.control.as_ref().filter(|_| !self.server.is_cluster);
                    if control.is_some_and(|control| self.log.has_moved(control.server().1)) {
                        return Err(Ended::Moved);
                    }
                }
                () = waiting, if !is_asking && due.is_some() => is_due = true,
                () = tokio::time::sleep_until(self.rests_until), if !is_asking && is_due => {}
                ended = &mut pinging => return Err(ended),
            }
            let now = Instant::now();
            if !is_asking && is_due && now >= self.rests_until {
                let request = self.member.next_request(now);
                asking = self.ask(request);
                (is_asking, is_due) = (true, false);
            }
        }
    }

    /// Hears no more. Gives the lease back and brings what was heard to the log, wherever that is now, unless another
    /// member does.
    pub(super) async fn finish(mut self, time: Duration) {
        if self.member.holds() {
            self.log.metrics().holds_lease.set(0);
        }
        self.is_finishing = true;
        self.member.finish();
        self.rests_until = Instant::now();
        let deadline = Instant::now() + time;
        while (self.member.waiting() > 0 || self.member.holds()) && Instant::now() < deadline {
            let due = self.member.due().unwrap_or(self.rests_until).max(self.rests_until);
            tokio::time::sleep_until(due.min(deadline)).await;
            let request = self.member.next_request(Instant::now());
            let answer = self.ask(request).await;
            if self.take_answer(answer).is_err() {
                break;
            }
        }
        if self.member.waiting() > 0 {
            let lost = self.member.waiting() as u64;
            self.log.metrics().overflowed.inc_by(lost);
            warn!(lost, "PUBLISHes that were heard could not be brought to the log");
        }
        if self.member.holds() {
            debug!("the lease could not be given back; it will be missed");
        }
    }

    /// Runs the script in a future of its own, so that what comes meanwhile is heard.
    fn ask(&mut self, request: Request) -> BoxFuture<'static, Answer> {
        let mut args = self.args(&request);
        let keys = [self.log.keys().log.clone(), self.keys[0].clone(), self.keys[1].clone()];
        let (log, control) = (self.log.clone(), self.control.take());
        Box::pin(async move {
            let mut control = match control {
                Some(control) => control,
                None => match log.connect(ANSWER_TIMEOUT).await {
                    Ok(control) => control,
                    Err(error) => return (None, request, Err(error)),
                },
            };
            // The server that the script runs at, which is known only now.
            args[0] = control.candidate();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let answer = control.run(&BRIDGE, &keys, &args).await;
            (Some(control), request, answer)
        })
    }

    fn args(&self, request: &Request) -> Vec<String> {
        script::args(self.log.config().retention, self.member.id(), &self.markers, &self.server, request)
    }

    /// Takes in what came of it; false where nothing did.
    fn take_answer(&mut self, (control, request, answer): Answer) -> Result<bool, Ended> {
        // Without a Cluster, what is PUBLISHed on another server is not what we hear.
        if let (Some(control), false, false) = (&control, self.is_finishing, self.server.is_cluster)
            && control.server().1 != self.server.run_id
        {
            return Err(Ended::Moved);
        }
        let now = Instant::now();
        let state = match answer.and_then(|reply| script::state(&reply).ok_or(ScriptError::Unexpected)) {
            Ok(state) => state,
            Err(error) => {
                debug!(%error, waiting = self.member.waiting(), "the bridge cannot reach the log");
                self.member.unanswered();
                self.rests_until = now + RETRY.mul_f64(0.7 + 0.6 * fastrand::f64());
                return Ok(false);
            }
        };
        self.control = control;
        if self.server.is_cluster
            && !self.is_finishing
            && state.server != self.server.run_id
            && !state.server.is_empty()
        {
            return Err(Ended::Moved);
        }
        let metrics = self.log.metrics();
        let learned = self.member.learn(&request, state, now);
        if learned.in_vain {
            self.rests_until = now + RETRY;
        }
        metrics.bridged.inc_by(learned.bridged as u64);
        metrics.struck_out.inc_by(learned.struck_out as u64);
        if learned.dropped > 0 {
            metrics.overflowed.inc_by(learned.dropped as u64);
            warn!(
                lost = learned.dropped,
                "PUBLISHes that were heard have waited for so long that their numbers are forgotten"
            );
        }
        self.tell_waiting();
        if !self.is_finishing {
            let metrics = self.log.metrics();
            if learned.changed_hands {
                metrics.lease_changes.inc();
                info!(holds = self.member.holds(), "the lease to append what is PUBLISHed has changed hands");
            }
            metrics.holds_lease.set(self.member.holds().into());
            if learned.has_lost_track {
                return Err(Ended::LostTrack);
            }
        }
        Ok(true)
    }

    /// Keeps the gauge, which all subscriptions of a node share.
    fn tell_waiting(&mut self) {
        let waiting = self.member.waiting() as i64;
        self.log.metrics().waiting.inc_by(waiting - self.waiting);
        self.waiting = waiting;
    }

    fn hear(&mut self, heard: &redis::Msg, patterns: &[Pattern]) -> Result<(), Ended> {
        let (name, payload) = (heard.get_channel_name(), heard.get_payload_bytes());
        let keys = self.log.keys();
        if name.starts_with(&keys.beside("")) {
            // A wide pattern hears our own channels a second time.
            if heard.from_pattern() {
                return Ok(());
            }
            if name == keys.volatile() {
                match volatile_from_json(payload, self.log.config().max_payload) {
                    Some(message) => self.log.deliver_volatile(message),
                    None => self.refuse(name, "it is not what a node sends"),
                }
                return Ok(());
            }
            match std::str::from_utf8(payload).ok().and_then(Marker::parse) {
                Some(marker) => {
                    let lost = self.member.hear_marker(marker, &self.server.run_id, self.server.is_cluster)?;
                    self.note_lost(lost);
                }
                None => self.refuse(name, "it is no marker"),
            }
            return Ok(());
        }
        let Some(channel) = patterns.iter().find_map(|pattern| pattern.matched(name)) else { return Ok(()) };
        let draft = channel
            .parse::<Channel>()
            .map_err(|_| "its channel is not a channel name")
            .and_then(|channel| publish_payload::draft(channel, payload, self.log.config().max_payload));
        let place = match draft {
            Err(reason) => {
                self.refuse(name, reason);
                Place::Nothing(1)
            }
            Ok(draft) if draft.volatile => {
                // Each node tells its own readers; nothing waits.
                self.log.deliver_volatile(draft.into_message(None));
                Place::Nothing(1)
            }
            Ok(draft) => {
                let key = draft.key.as_ref().map(|key| keys.idempotency(&key.scoped(&draft.channel)));
                let mut words = vec![key.unwrap_or_default()];
                words.extend(draft_fields(&draft));
                Place::Entry(words)
            }
        };
        let lost = self.member.hear(place, Instant::now());
        self.note_lost(lost);
        Ok(())
    }

    fn note_lost(&self, lost: usize) {
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
        self.log.metrics().waiting.dec_by(self.waiting);
        // A member that is no more holds nothing.
        if self.member.holds() && !self.is_finishing {
            self.log.metrics().holds_lease.set(0);
        }
    }
}

enum Never {}

fn timed_out() -> Ended {
    let silence = std::io::Error::from(std::io::ErrorKind::TimedOut);
    Ended::Deaf(ScriptError::Unanswered(silence.into()))
}
