//! The nodes of a log know each other: each keeps a record in Redis with the formats it reads and its settings.
//!
//! A record is renewed every [`PERIOD`] and expires [`LIFE`] after its last renewal, by Redis's clock. Each renewal
//! returns the records of the other nodes at the same moment. The records decide which format of entries a node may
//! write: the highest format that all nodes read. A node that has just started, or was silent for a while, may not know
//! the other nodes, and they may not know it. So it writes the lowest format until its record has existed for longer
//! than any node takes to renew a record. If a new node does not read the format that the other nodes write, the others
//! learn this one renewal later. The new node cannot read the entries that they write until then, and its readers get a
//! gap (see [`format`](super::format)).

use super::connection::{Connection, PEERS};
use super::settings::{Settings, SettingsCheck, printable};
use super::{Keys, RedisConfig, ScriptError, entry, format};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use redis::Value;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

/// The interval at which a node renews its record, plus or minus a fifth.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// The time after which a record without a renewal expires.
const LIFE: Duration = Duration::from_secs(10);

/// After this time every other node that renews its record has seen the record of this node. A node that takes longer
/// to renew its record treats its knowledge of the others as [stale](STALE).
const SETTLED: Duration = Duration::from_secs(4);

/// The time for which a node's knowledge of the other nodes is valid.
const STALE: Duration = Duration::from_secs(3);

/// The time after a refusal by Redis until the node tries the renewal again.
const REFUSED: Duration = Duration::from_secs(5);

/// The record of a node, for the other nodes. A record of another version of Longtail may have more or fewer fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// The host and the process, for log lines.
    pub(super) name: String,
    /// The version of Longtail.
    pub(super) version: String,
    /// The formats of entries that the node reads, for the renewal script, which interprets them.
    pub(super) reads: Vec<u32>,
    /// The settings that must be the same on all nodes.
    pub(super) settings: Settings,
}

impl Record {
    fn of(config: &RedisConfig) -> Record {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Record {
            name: format!("{} (process {})", host.trim(), std::process::id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            reads: format::READ.to_vec(),
            settings: Settings::of(config),
        }
    }

    /// The record of another node. `reads` are the formats that the script has found in it.
    fn parse(text: &str, reads: Vec<u32>) -> Record {
        let mut record: Record = serde_json::from_str(text).unwrap_or_default();
        record.reads = reads;
        record.name = printable(&record.name);
        record.version = printable(&record.version);
        record
    }
}

/// Another node, with its state at the last renewal.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) record: Record,
    /// Whether this node has seen the other node renew its record. If it has not, the other node may already have
    /// ended.
    pub(super) is_awake: bool,
}

/// The knowledge of this node about the others.
pub(super) struct Peers {
    node: String,
    record: Record,
    keys: Keys,
    /// The limits that the renewal script writes beside the records: the longest payload, and the bytes of keys.
    limits: [String; 2],
    state: Mutex<State>,
    /// Wakes the drafts that wait until a format may be written.
    renewed: Notify,
    /// The metric of the format that may be written.
    written: Gauge,
}

#[derive(Default)]
struct State {
    standing: Renewals,
    /// For each other node, the time of its last renewal when this node first saw it.
    first_seen: HashMap<String, String>,
    /// The format that the others read and this node does not, as it was logged.
    outgrown: Option<u32>,
    agreement: SettingsCheck,
    /// The error of the last attempt to renew the record, as it was logged, and its time.
    refused: Option<(String, Instant)>,
    /// Whether the node is ending, so that its record must not be written again.
    has_left: bool,
}

/// The renewals of this node's record. The renewals decide which format this node may write.
#[derive(Default)]
struct Renewals {
    /// The time since which this node's record has existed without a break.
    since: Option<Instant>,
    /// The time of the last renewal.
    renewed: Option<Instant>,
    /// The highest format that all nodes read; `None` before the first renewal.
    common: Option<u32>,
}

impl Renewals {
    /// `was_known`: whether the record still existed when it was renewed.
    fn renew(&mut self, was_known: bool, common: u32, now: Instant) {
        if !was_known {
            self.since = Some(now);
        }
        self.since.get_or_insert(now);
        self.renewed = Some(now);
        self.common = Some(common);
    }

    fn write_format(&self, now: Instant) -> u32 {
        let has_settled = self.since.is_some_and(|since| now.duration_since(since) >= SETTLED);
        let is_fresh = self.renewed.is_some_and(|renewed| now.duration_since(renewed) <= STALE);
        self.common.filter(|_| has_settled && is_fresh).unwrap_or(format::LOWEST)
    }

    /// The time from which the record has existed for long enough.
    fn settled_at(&self) -> Option<Instant> {
        self.since.map(|since| since + SETTLED)
    }

    /// The highest format that all nodes known to this node read. Before the first renewal it does not know an older
    /// node.
    fn known_format(&self) -> u32 {
        self.common.unwrap_or(format::EXTENDED)
    }
}

impl Peers {
    /// `written` is the metric of the format that may be written.
    pub(super) fn new(config: &RedisConfig, written: Gauge) -> Peers {
        Peers {
            node: uuid::Uuid::new_v4().to_string(),
            record: Record::of(config),
            keys: Keys::new(&config.prefix),
            limits: [config.max_payload, config.key_bytes].map(|limit| limit.to_string()),
            state: Mutex::default(),
            renewed: Notify::new(),
            written,
        }
    }

    /// Returns the format in which entries may be written now.
    pub(super) fn write_format(&self) -> u32 {
        self.state.lock().standing.write_format(Instant::now())
    }

    /// The highest format that all nodes known to this node read, even if some of them may not know this node yet.
    pub(super) fn known_format(&self) -> u32 {
        self.state.lock().standing.known_format()
    }

    /// Waits until a format may be written. Cancel safe.
    pub(super) async fn may_write(&self, format: u32) {
        loop {
            let mut renewed = std::pin::pin!(self.renewed.notified());
            // From here on a renewal wakes this task, even if it comes before the wait.
            renewed.as_mut().enable();
            let settled = {
                let standing = &self.state.lock().standing;
                if standing.write_format(Instant::now()) >= format {
                    return;
                }
                // If that time has passed, only a renewal changes the format.
                standing.settled_at().filter(|at| *at > Instant::now())
            };
            match settled {
                Some(at) => tokio::select! {
                    () = renewed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => renewed.await,
            }
        }
    }

    /// Ends the renewals. Returns the record's key and field, which the caller deletes.
    pub(super) fn leave(&self) -> (String, &str) {
        self.state.lock().has_left = true;
        (self.keys.beside("peers"), &self.node)
    }

    /// Renews this node's record, and reads the records of the other nodes.
    ///
    /// # Errors
    ///
    /// The connection is lost. A refusal by Redis is logged instead, and the renewal is tried again later.
    pub(super) async fn renew(&self, connection: &mut Connection) -> Result<(), ScriptError> {
        let is_refused = |(_, at): &(String, Instant)| at.elapsed() < REFUSED;
        {
            let state = self.state.lock();
            if state.has_left || state.refused.as_ref().is_some_and(is_refused) {
                return Ok(());
            }
        }
        let record = serde_json::to_string(&self.record).unwrap_or_default();
        let life = LIFE.as_millis().to_string();
        let keys = [&self.keys.log, &self.keys.beside("peers"), &self.keys.beside("settings")];
        let [max_payload, key_bytes] = &self.limits;
        let args = [&self.node, &record, &life, max_payload, key_bytes];
        let reply = connection.run(&PEERS, &keys.map(String::as_str), &args).await;
        let reply = match reply {
            Err(error @ ScriptError::Refused(_)) => {
                self.note_refused(&error);
                return Ok(());
            }
            reply => reply?,
        };
        let (was_known, common, others) = parse(&reply).ok_or(ScriptError::Unexpected)?;
        let mut state = self.state.lock();
        state.refused = None;
        let peers = state.meet(others);
        state.standing.renew(was_known, common, Instant::now());
        state.note_outgrown(&self.record, &peers);
        let awake = peers.iter().filter(|peer| peer.is_awake);
        let theirs: Vec<_> = awake.map(|peer| (peer.record.name.as_str(), &peer.record.settings)).collect();
        state.agreement.look(&self.record.settings, &theirs);
        self.written.set(i64::from(state.standing.write_format(Instant::now())));
        drop(state);
        self.renewed.notify_waiters();
        Ok(())
    }

    fn note_refused(&self, error: &ScriptError) {
        let text = error.to_string();
        let refused = &mut self.state.lock().refused;
        if refused.as_ref().is_none_or(|(said, _)| *said != text) {
            warn!(%error, "Redis refuses this node's record, so the other nodes of the log do not know of this node");
        }
        *refused = Some((text, Instant::now()));
    }
}

impl State {
    /// Stores the records of the other nodes, and returns the nodes that this node has seen renew their records.
    fn meet(&mut self, others: Vec<(String, String, Record)>) -> Vec<Peer> {
        let mut before = std::mem::take(&mut self.first_seen);
        let mut peers = Vec::with_capacity(others.len());
        for (node, seen, record) in others {
            let first = before.remove(&node).unwrap_or_else(|| seen.clone());
            peers.push(Peer { record, is_awake: first != seen });
            self.first_seen.insert(node, first);
        }
        peers
    }

    /// Logs once that the other nodes read a format that this node does not read. The other nodes may therefore write
    /// this format.
    fn note_outgrown(&mut self, own: &Record, peers: &[Peer]) {
        let mut awake = peers.iter().filter(|peer| peer.is_awake);
        let read_by_all = |format: &u32| awake.clone().all(|peer| peer.record.reads.contains(format));
        let first = awake.clone().next().map_or(&[][..], |peer| &peer.record.reads);
        let format = first.iter().copied().filter(read_by_all).max();
        let outgrown = format.filter(|format| !own.reads.contains(format));
        if outgrown == self.outgrown {
            return;
        }
        self.outgrown = outgrown;
        match (outgrown, awake.next()) {
            (Some(format), Some(newer)) => warn!(
                format, reads = ?own.reads, version = own.version, newer = newer.record.version, at = newer.record.name,
                "this node is older than the others: its readers get a gap for entries in a format that it does not \
                 read, and the other nodes write an older format while it runs; upgrade this node"
            ),
            _ => info!("this node reads the entries of the other nodes again"),
        }
    }
}

type Others = Vec<(String, String, Record)>;

/// The script's answer: whether this node's record was known, the format that all nodes read, and the other nodes.
fn parse(reply: &Value) -> Option<(bool, u32, Others)> {
    let [Value::Int(was_known), Value::Int(format), others] = entry::array(reply)? else { return None };
    // A record that is not a text counts as an empty one.
    let text = |value| super::text(value).unwrap_or_default().to_owned();
    let number = |value: &Value| match value {
        Value::Int(number) => u32::try_from(*number).ok(),
        _ => None,
    };
    let others = entry::array(others)?.chunks_exact(4).map(|other| {
        let reads = entry::array(&other[3])?.iter().filter_map(number).collect();
        Some((text(&other[0]), text(&other[1]), Record::parse(&text(&other[2]), reads)))
    });
    Some((*was_known == 1, u32::try_from(*format).ok()?, others.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_makes_no_sense_is_an_empty_one() {
        for text in ["", "{}", "[]", "nonsense", "{\"reads\":[]}", "{\"reads\":[-1]}", "{\"reads\":\"2\"}", "\u{0}"] {
            assert_eq!(Record::parse(text, vec![1]), Record { reads: vec![1], ..Record::default() }, "{text}");
        }
        let record = Record::parse("{\"reads\":[1,2],\"name\":\"a\\nb\\u001b[31m\",\"more\":{}}", vec![1, 2]);
        assert_eq!((record.reads.as_slice(), record.name.as_str()), (&[1, 2][..], "ab[31m"));
    }

    /// A PUBLISH is refused only if this node knows an older node.
    #[test]
    fn before_the_first_renewal_no_older_node_is_known() {
        let mut standing = Renewals::default();
        assert_eq!(
            (standing.known_format(), standing.write_format(Instant::now())),
            (format::EXTENDED, format::LOWEST)
        );
        for (common, known) in [(1, 1), (2, 2), (1, 1)] {
            standing.renew(true, common, Instant::now());
            assert_eq!(standing.known_format(), known);
        }
    }

    /// A wait ends with the renewal that brings the format, or with the time after which all nodes know this one.
    #[tokio::test(start_paused = true)]
    async fn a_wait_for_a_format_needs_no_polling() {
        let config = RedisConfig {
            prefix: "h".into(),
            retention: crate::log::Retention { age: LIFE, messages: 1, bytes: 1, control: 10 },
            timeout: LIFE,
            wait_replicas: 0,
            max_payload: 1,
            key_bytes: 1,
            subscribe: Vec::new(),
        };
        let peers = Peers::new(&config, Gauge::default());
        let renew = |common: u32| {
            peers.state.lock().standing.renew(true, common, Instant::now());
            peers.renewed.notify_waiters();
        };
        let begun = Instant::now();
        let renewals = async {
            for common in [2, 2, 1, 1, 1, 1, 2] {
                renew(common);
                tokio::time::sleep(PERIOD).await;
            }
        };
        tokio::join!(renewals, async {
            peers.may_write(format::EXTENDED).await;
            assert_eq!(begun.elapsed(), 6 * PERIOD, "the renewal after the older node has gone");
            peers.may_write(format::EXTENDED).await;
            assert_eq!(begun.elapsed(), 6 * PERIOD);
        });
        let (peers, begun) = (Peers::new(&config, Gauge::default()), Instant::now());
        peers.state.lock().standing.renew(false, 2, begun);
        tokio::time::advance(SETTLED - STALE).await;
        peers.state.lock().standing.renew(true, 2, Instant::now());
        peers.may_write(format::EXTENDED).await;
        assert_eq!(begun.elapsed(), SETTLED, "between two renewals");
    }

    /// For each renewal: the time in seconds, whether the record still existed, and the format that all nodes read.
    /// After the renewals follow a time, and the format that the node writes at that time.
    type Case = (&'static str, &'static [(u64, bool, u32)], u64, u32);

    const CASES: [Case; 8] = [
        ("before it has heard of anybody", &[], 9, 1),
        ("it has just started", &[(0, false, 2)], 0, 1),
        ("others may not have seen it", &[(0, false, 2), (1, true, 2), (2, true, 2), (3, true, 2)], 3, 1),
        ("all have seen it", &[(0, false, 2), (1, true, 2), (2, true, 2), (3, true, 2), (4, true, 2)], 4, 2),
        ("an older node joins", &[(0, false, 2), (1, true, 2), (3, true, 2), (5, true, 1)], 5, 1),
        ("the older node has gone", &[(0, false, 2), (3, true, 2), (5, true, 1), (6, true, 2)], 6, 2),
        ("it has not heard of the others for long", &[(0, false, 2), (3, true, 2), (5, true, 2)], 9, 1),
        ("the records were lost", &[(0, false, 2), (3, true, 2), (5, true, 2), (6, false, 2), (7, true, 2)], 7, 1),
    ];

    #[test]
    fn a_newer_format_is_written_once_all_nodes_are_known_to_read_it() {
        for (case, renewals, at, format) in CASES {
            let (mut standing, start) = (Renewals::default(), Instant::now());
            for (seconds, was_known, common) in renewals {
                standing.renew(*was_known, *common, start + Duration::from_secs(*seconds));
            }
            assert_eq!(standing.write_format(start + Duration::from_secs(at)), format, "{case}");
        }
    }
}
