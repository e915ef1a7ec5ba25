//! PUBLISH into the log: every node hears each PUBLISH, one appends it.
//!
//! One Redis delivers all PUBLISHes to all its subscribers in one order, so each has a number. A node
//! that joins publishes a *marker* on a channel that all nodes hear; whoever appends takes the marker
//! like everything else and notes its number, and from there the node counts by itself. The script
//! keeps the number of the last PUBLISH taken, in one step with its entry, and takes only what follows
//! it. So nodes need not look for equal payloads: what has a number up to the last one taken is struck
//! out, what has a higher one is kept for the case that this node has to go on.
//!
//! Who appends holds a lease, which the script checks in the same step: a holder that stalled and
//! wakes up finds another node in its place and its items taken.

use super::redis::{BRIDGE, Connection, RedisLog, ScriptError, draft_fields, text, volatile_from_json};
use crate::cursor::Epoch;
use crate::log::memory::KEY_LIFE;
use crate::message::Message;
use futures_util::FutureExt;
use sha1::{Digest, Sha1};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tracing::{debug, info, warn};

pub use super::pushed::{BadPattern, Pattern};

/// How long a holder may be silent before another node takes its place.
const LEASE: Duration = Duration::from_secs(3);

/// How often the lease is renewed, or looked at.
const TICK: Duration = Duration::from_millis(800);

/// How long a node that has not been given its number leaves a vacant lease to nodes that have one.
const GRACE: Duration = Duration::from_millis(2500);

/// What may wait to be appended: 20 s of 5,000 messages a second, or this many bytes.
const WAITING: usize = 100_000;
const WAITING_BYTES: usize = 64 << 20;

/// Items and bytes that are taken at a time.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

/// A subscription that hears nothing, not even its own ping, for so long is dead.
const PING: Duration = Duration::from_secs(5);

/// How long Redis may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Listens for ever. `listening` tells when it does for the first time.
pub async fn run(log: Arc<RedisLog>, patterns: Vec<Pattern>, listening: watch::Sender<bool>) {
    let mut pause = Duration::from_millis(50);
    let mut missed = 0u64;
    loop {
        let mut ear = Ear::new(log.clone(), patterns.clone());
        let error = match ear.listen(&listening).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if ear.has_listened {
            missed += 1;
            pause = Duration::from_millis(50);
            warn!(%error, times = missed, "the subscription in Redis is lost; what is PUBLISHed until it is back may be missed");
            ear.release().await;
        } else {
            debug!(%error, "no subscription in Redis");
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// What was heard and is not known to be taken.
enum Item {
    /// It has a place in the order and no entry (a volatile message, or none at all).
    Nothing,
    /// A node's marker: the key its number is noted under.
    Marker(String),
    /// An idempotency key, which may be empty, and an entry's fields.
    Entry(Vec<String>),
}

impl Item {
    fn words(&self) -> &[String] {
        match self {
            Item::Nothing => &[],
            Item::Marker(key) => std::slice::from_ref(key),
            Item::Entry(words) => words,
        }
    }

    fn size(&self) -> usize {
        self.words().iter().map(String::len).sum::<usize>() + 32
    }
}

/// One subscription's life. A new one is a new node to the others: it may have missed something.
struct Ear {
    log: Arc<RedisLog>,
    patterns: Vec<Pattern>,
    node: String,
    marker: String,
    keys: Vec<String>,
    items: VecDeque<Item>,
    bytes: usize,
    /// The generation of the numbers and the number of the first item, once they are known.
    anchor: Option<(String, u64)>,
    is_holder: bool,
    /// Since when nobody has held the lease.
    vacant: Option<Instant>,
    /// Whether the lease was found without any state: it may be taken at once.
    never_held: bool,
    control: Option<Connection>,
    has_listened: bool,
    overflowed: u64,
    refused: u64,
}

enum Never {}

impl Ear {
    fn new(log: Arc<RedisLog>, patterns: Vec<Pattern>) -> Ear {
        let node = uuid::Uuid::new_v4().to_string();
        let keys = log.keys();
        // Nodes with other patterns hear another order and cannot count with us.
        let globs: Vec<_> = patterns.iter().map(Pattern::glob).collect();
        let group: String = Sha1::digest(globs.join(" ")).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let marker = keys.beside(&format!("marker:{node}"));
        let lease = keys.beside(&format!("bridge:{group}:lease"));
        let state = keys.beside(&format!("bridge:{group}"));
        let keys = vec![keys.log.clone(), lease, state, marker.clone()];
        Ear {
            log,
            patterns,
            node,
            marker,
            keys,
            items: VecDeque::new(),
            bytes: 0,
            anchor: None,
            is_holder: false,
            vacant: None,
            never_held: false,
            control: None,
            has_listened: false,
            overflowed: 0,
            refused: 0,
        }
    }

    async fn listen(&mut self, listening: &watch::Sender<bool>) -> Result<Never, ScriptError> {
        let volatile = self.log.keys().volatile();
        let markers = self.log.keys().beside("bridge");
        let subscribing = async {
            let (mut sink, stream) = self.log.client().get_async_pubsub().await?.split();
            sink.subscribe(&[&volatile, &markers]).await?;
            for pattern in &self.patterns {
                sink.psubscribe(pattern.glob()).await?;
            }
            Ok::<_, redis::RedisError>((sink, stream))
        };
        let timed_out = || redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let (mut sink, mut stream) = tokio::time::timeout(ANSWER_TIMEOUT * 2, subscribing)
            .await
            .map_err(|_| ScriptError::Unconnected(timed_out()))?
            .map_err(ScriptError::Unconnected)?;
        let marker = self.marker.clone();
        self.control().await?.publish(&markers, marker.as_bytes()).await?;
        self.has_listened = true;
        listening.send_replace(true);

        let mut tick = tokio::time::interval(TICK.mul_f64(0.9 + 0.2 * fastrand::f64()));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ping = tokio::time::interval(PING);
        loop {
            tokio::select! {
                heard = stream.next() => {
                    let Some(heard) = heard else {
                        let gone = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                        return Err(ScriptError::Unanswered(gone.into()));
                    };
                    self.hear(&heard);
                    // What has come with it goes with it.
                    while let Some(Some(heard)) = stream.next().now_or_never() {
                        self.hear(&heard);
                        if self.items.len() >= BATCH {
                            break;
                        }
                    }
                    if self.is_holder {
                        self.step().await;
                    }
                }
                _ = tick.tick() => self.step().await,
                _ = ping.tick() => {
                    // A connection that was cut without a word hears nothing and says nothing.
                    let answer = tokio::time::timeout(PING, sink.ping::<redis::Value>()).await;
                    answer.map_err(|_| ScriptError::Unanswered(timed_out()))?.map_err(ScriptError::Unanswered)?;
                }
            }
        }
    }

    fn hear(&mut self, heard: &redis::Msg) {
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
            return self.keep(if is_marker { Item::Marker(marker.into()) } else { Item::Nothing });
        }
        let Some(channel) = self.patterns.iter().find_map(|pattern| pattern.channel(name)) else { return };
        let draft = channel
            .map_err(|_| "its channel is no channel name")
            .and_then(|channel| super::pushed::draft(channel, payload, self.log.config().max_payload));
        let item = match draft {
            Err(reason) => {
                self.refuse(name, reason);
                Item::Nothing
            }
            Ok(draft) if draft.volatile => {
                // Each node tells its own readers; nothing waits.
                let message = Message::new(None, draft.channel, draft.event, &draft.payload, draft.exclude);
                self.log.deliver_volatile(message);
                Item::Nothing
            }
            Ok(draft) => {
                let key = draft.key.as_ref().map(|key| keys.idempotency(&key.scoped(&draft.channel)));
                let mut words = vec![key.unwrap_or_default()];
                words.extend(draft_fields(&draft));
                Item::Entry(words)
            }
        };
        self.keep(item);
    }

    fn refuse(&mut self, name: &str, reason: &'static str) {
        self.refused += 1;
        if self.refused.is_power_of_two() || self.refused <= 16 {
            let name: String = name.chars().take(200).collect();
            warn!(channel = ?name, reason, refused = self.refused, "a PUBLISH is no message");
        }
    }

    fn keep(&mut self, item: Item) {
        self.bytes += item.size();
        self.items.push_back(item);
        let mut lost = 0;
        while self.items.len() > WAITING || self.bytes > WAITING_BYTES {
            // The oldest keep their places, so that the numbers of the others stay right.
            let Some(oldest) = self.items.iter_mut().find(|item| matches!(item, Item::Entry(_))) else { break };
            self.bytes -= oldest.size();
            *oldest = Item::Nothing;
            self.bytes += oldest.size();
            lost += 1;
            if self.items.len() > WAITING {
                self.pop();
                if let Some((_, first)) = &mut self.anchor {
                    *first += 1;
                }
            }
        }
        if lost > 0 {
            self.overflowed += lost;
            if self.overflowed.is_power_of_two() {
                warn!(lost = self.overflowed, "too many PUBLISHes wait for the log; the oldest are lost");
            }
        }
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.size();
        Some(item)
    }

    async fn control(&mut self) -> Result<&mut Connection, ScriptError> {
        match self.control.take() {
            Some(connection) => Ok(self.control.insert(connection)),
            None => {
                let connection = self.log.connect(ANSWER_TIMEOUT).await?;
                Ok(self.control.insert(connection))
            }
        }
    }

    /// Renews the lease or looks at it, strikes out what is taken, and, holding it, has taken what waits.
    async fn step(&mut self) {
        loop {
            // The first words of the script's reply decide what may be sent: nobody's numbers are known
            // before the first one.
            match self.exchange("").await {
                Ok(more) if more => {}
                Ok(_) => return,
                Err(error) => {
                    debug!(%error, waiting = self.items.len(), "the bridge cannot reach the log");
                    self.control = None;
                    return;
                }
            }
        }
    }

    async fn release(&mut self) {
        if self.is_holder && self.exchange("release").await.is_err() {
            debug!("the lease could not be given back; it will expire");
        }
    }

    /// Runs the script once; tells whether there is more to send.
    async fn exchange(&mut self, mode: &str) -> Result<bool, ScriptError> {
        let long_vacant = self.never_held || self.vacant.is_some_and(|since| since.elapsed() >= GRACE);
        let mode = if mode.is_empty() && (self.anchor.is_some() || long_vacant) { "take" } else { mode };
        let retention = self.log.config().retention;
        let mut args = vec![
            Epoch::random().to_string(),
            self.node.clone(),
            LEASE.as_millis().to_string(),
            mode.to_owned(),
            retention.messages.to_string(),
            retention.age.as_millis().to_string(),
        ];
        let (generation, first) = self.anchor.clone().unwrap_or_default();
        let sending = self.is_holder && !self.items.is_empty() && mode != "release";
        args.push(generation);
        args.push(if sending { first } else { 0 }.to_string());
        args.push(KEY_LIFE.as_millis().to_string());
        if sending {
            let mut bytes = 0;
            for item in self.items.iter().take(BATCH) {
                args.push(item.words().len().to_string());
                args.extend_from_slice(item.words());
                bytes += item.size();
                if bytes > BATCH_BYTES {
                    break;
                }
            }
        }
        let keys = self.keys.clone();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let reply = self.control().await?.run(&BRIDGE, &keys, &args).await?;
        let redis::Value::Array(reply) = reply else { return Err(ScriptError::Unexpected) };
        let [holder, generation, taken, marker] = reply.as_slice() else { return Err(ScriptError::Unexpected) };
        let taken = text(taken).and_then(|taken| taken.parse().ok());
        Ok(self.learn(text(holder), text(generation).zip(taken), text(marker)))
    }

    fn learn(&mut self, holder: Option<&str>, state: Option<(&str, u64)>, marker: Option<&str>) -> bool {
        let was_holder = std::mem::replace(&mut self.is_holder, holder == Some(&*self.node));
        if was_holder != self.is_holder {
            info!(holds = self.is_holder, "the lease to append what is PUBLISHed has changed hands");
        }
        if holder.is_some() {
            self.vacant = None;
        } else if self.vacant.is_none() {
            self.vacant = Some(Instant::now());
        }
        let Some((generation, taken)) = state else {
            // Nobody has ever held it, so there is nobody to leave it to.
            return !std::mem::replace(&mut self.never_held, true);
        };
        self.never_held = false;
        self.find_anchor(generation, taken, marker);
        self.strike_out(taken);
        self.is_holder && !self.items.is_empty()
    }

    fn find_anchor(&mut self, generation: &str, taken: u64, marker: Option<&str>) {
        if self.anchor.as_ref().is_some_and(|(ours, _)| ours != generation) {
            warn!("the state of the bridge was lost with the log");
            self.anchor = None;
        }
        let noted = marker.and_then(|noted| noted.split_once(' ')).filter(|(noted, _)| *noted == generation);
        let number: Option<u64> = noted.and_then(|(_, number)| number.parse().ok());
        // The number may be known before the marker is heard, since they come on two sockets.
        let ours = |item: &Item| matches!(item, Item::Marker(key) if *key == self.marker);
        if let (None, Some(number), Some(at)) = (&self.anchor, number, self.items.iter().position(ours)) {
            // Everything behind our own marker follows its number.
            for _ in 0..=at {
                self.pop();
            }
            self.anchor = Some((generation.into(), number + 1));
        }
        if !self.is_holder {
            return;
        }
        match &mut self.anchor {
            None => self.anchor = Some((generation.into(), taken + 1)),
            Some((_, first)) if *first > taken + 1 => {
                warn!(lost = *first - taken - 1, "Redis has lost PUBLISHes that it had taken");
                *first = taken + 1;
            }
            Some(_) => {}
        }
    }

    fn strike_out(&mut self, taken: u64) {
        while let Some((_, first)) = &mut self.anchor
            && *first <= taken
            && !self.items.is_empty()
        {
            *first += 1;
            self.pop();
        }
    }
}
