//! The world of one fault, and the fate of the messages.

use super::flow::{Sent, Targets, WAYS, send};
use crate::support::{
    Answer, Kind, LONG, Metrics, Node, Reader, RedisServer, Request, Subscription, eventually, within,
};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// The requirements of a row, besides those of every row: no acknowledged message is doubled by a way with a key or by
/// PUBLISH, no message is out of order without a gap, and no loss is silent.
#[derive(Clone, Copy, Default)]
pub struct Expectation {
    /// The log itself is lost or emptied: messages that were acknowledged before may be lost.
    pub log_is_lost: bool,
    /// PUBLISHes may reach no node: every subscription is cut.
    pub all_deaf: bool,
    /// Messages published by HTTP wait for a replica, and are not lost with the others.
    pub is_waited_for: bool,
}

/// The messages and gaps that one reader got.
struct Story {
    name: String,
    seen: Vec<String>,
    gaps: usize,
}

/// Reads to the message `"end"`.
async fn follow(mut reader: Reader) -> Story {
    let (mut seen, mut gaps) = (Vec::new(), 0);
    loop {
        let item = reader.next_wherever().await;
        if item.kind == Kind::Gap {
            gaps += 1;
            continue;
        }
        let data = item.data().trim_matches('"').to_owned();
        if data == "end" {
            return Story { name: reader.transport.name.clone(), seen, gaps };
        }
        seen.push(data);
    }
}

/// The number of messages of each way that must be taken before the fault, and again after it. The clock alone does not
/// decide, because a busy machine publishes few messages in a second.
const ENOUGH: usize = 20;

/// Waits until Redis has accepted enough further messages of each way.
async fn each_has_sent(counts: &[AtomicUsize; 4], when: &str) {
    let now = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
    let before = now();
    within(LONG, &format!("{ENOUGH} more messages by each way {when}"), async {
        while now().iter().zip(&before).any(|(now, before)| now - before < ENOUGH) {
            Err::<(), _>(format!("{WAYS:?}: {:?}, at first {before:?}", now())).wanted();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// Waits until all PUBLISHes are in the log: in several checks one after the other, no node has a pending PUBLISH, and
/// the log does not grow in the meantime.
async fn bridged(nodes: &[Node], log: &impl AsyncFn() -> Vec<String>) {
    within(LONG, "all that the nodes have heard to be in the log", async {
        let (mut looks, mut length) = (0, 0);
        while looks < 4 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let mut waiting = Vec::new();
            for node in nodes {
                let metrics = Metrics::try_of(node).await;
                waiting.push(metrics.map(|metrics| metrics.value("longtail_bridge_waiting_messages")));
            }
            let now = log().await.len();
            let is_quiet = waiting.iter().all(|waiting| *waiting == Some(0.0)) && now == length;
            Err::<(), _>(format!("{now} in the log, {length} before; waiting at the nodes: {waiting:?}")).wanted();
            looks = if is_quiet { looks + 1 } else { 0 };
            length = now;
        }
    })
    .await;
}

/// Runs the four flows over three nodes with readers on every transport, causes the fault in the middle, and judges the
/// result.
pub async fn judge(
    name: &str,
    expectation: Expectation,
    nodes: &mut Vec<Node>,
    targets: Targets,
    happens: impl AsyncFnOnce(&mut Vec<Node>),
    log: impl AsyncFn() -> Vec<String>,
) {
    for node in nodes.iter() {
        eventually("the node to be ready", async || {
            (Request::get("/readyz").try_send(node.http).await?.status == 200).then_some(())
        })
        .await;
    }
    let transports = nodes[0].transports().await;
    let start = nodes[0].latest("flow").await;
    let mut reading = Vec::new();
    for node in nodes.iter().take(2) {
        for transport in &transports {
            let subscription = Subscription::to(&["flow"]).from(&start).with("timeout", "3");
            reading.push(tokio::spawn(follow(Reader::follow(node.http, node.tcp, transport, subscription))));
        }
    }
    let (stop, counts) = (AtomicBool::new(false), [(); 4].map(|()| AtomicUsize::new(0)));
    let sending = WAYS.iter().zip(&counts).map(|(way, count)| send(way, &targets, &stop, count));
    let flows = futures_util::future::join_all(sending);
    let strike = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        each_has_sent(&counts, "before the fault").await;
        happens(nodes).await;
        // Everything works again: each way continues for a while.
        tokio::time::sleep(Duration::from_millis(3000)).await;
        each_has_sent(&counts, "after the fault").await;
        stop.store(true, Ordering::Relaxed);
    };
    let (sent, ()) = within(LONG * 2, "the flows", async { tokio::join!(flows, strike) }).await;
    // Messages that the nodes still hold must come before the end: otherwise readers would not wait for them.
    bridged(nodes, &log).await;
    eventually("the end to be published", async || {
        let post = Request::post("/publish?channel=flow&key=end", b"\"end\"");
        (post.try_send(targets.http[0]).await?.status == 200).then_some(())
    })
    .await;
    let all = futures_util::future::join_all(reading);
    let stories: Vec<Story> = within(LONG, "the readers to come to the end", all)
        .await
        .into_iter()
        .map(|story| story.expect("a reader"))
        .collect();
    let mut deaf = 0;
    for node in nodes.iter() {
        let text = node.get("/metrics").await.text();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        deaf += value("longtail_bridge_deaf_total").unwrap_or(0);
    }
    // A node that was started again has lost its counters, but its log has the line.
    write(name, expectation, &sent, &log().await, &stories, deaf);
}

fn counts(list: &[String]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    list.iter().for_each(|data| *counts.entry(data.as_str()).or_default() += 1);
    counts
}

/// The number of messages of one way that come after a message with a higher number.
fn out_of_order(way: &str, list: &[String]) -> usize {
    let number = |data: &String| data.strip_prefix(way)?.strip_prefix('-')?.parse::<u64>().ok();
    let (mut highest, mut late) = (None, 0);
    for number in list.iter().filter_map(number) {
        late += usize::from(highest.is_some_and(|highest| number < highest));
        highest = highest.max(Some(number));
    }
    late
}

fn write(name: &str, expectation: Expectation, sent: &[Sent], log: &[String], stories: &[Story], deaf: u64) {
    let in_log = counts(log);
    let gaps = stories.iter().map(|story| story.gaps).max().unwrap_or(0);
    let (mut row, mut broken) = (format!("| {name} "), Vec::new());
    for (way, sent) in WAYS.iter().zip(sent) {
        let all: HashSet<&str> = sent.good.iter().chain(&sent.unknown).map(String::as_str).collect();
        let absent = sent.good.iter().filter(|data| !in_log.contains_key(data.as_str())).count();
        let doubled = all.iter().filter(|data| in_log.get(*data).is_some_and(|times| *times > 1)).count();
        let reordered = out_of_order(way, log);
        let (mut lost, mut twice, mut is_announced) = (0, 0, true);
        for story in stories {
            let seen = counts(&story.seen);
            let missed = sent.good.iter().filter(|data| !seen.contains_key(data.as_str())).count();
            let repeated = all.iter().filter(|data| seen.get(*data).is_some_and(|times| *times > 1)).count();
            let is_told = story.gaps > 0 || (*way == "PUBLISH" && deaf > 0 && missed <= absent);
            if missed > 0 && !is_told {
                is_announced = false;
                broken.push(format!("{}: {missed} of {way} missed in silence", story.name));
            }
            if story.gaps == 0 && (repeated > 0 || out_of_order(way, &story.seen) > reordered) {
                broken.push(format!("{}: {repeated} of {way} repeated or out of order, and no gap", story.name));
            }
            lost = lost.max(missed);
            twice = twice.max(repeated);
        }
        let is_safe = *way == "HTTP" && expectation.is_waited_for;
        let may_lose = (expectation.log_is_lost && !is_safe) || (*way == "PUBLISH" && expectation.all_deaf);
        if absent > 0 && !may_lose {
            broken.push(format!("{absent} of {way} are not in the log"));
        }
        if doubled > 0 && (*way != "XADD") {
            broken.push(format!("{doubled} of {way} doubled in the log"));
        }
        if reordered > 0 && *way == "HTTP" {
            broken.push(format!("{reordered} of {way} out of order"));
        }
        let announced =
            if lost == 0 { String::new() } else { format!(", {}", if is_announced { "announced" } else { "silent" }) };
        row += &format!("| {} / {} / {} / {}{announced} ", sent.good.len(), lost, doubled.max(twice), reordered);
    }
    row += &format!("| {gaps} |");
    println!("{row}");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fault-table");
    std::fs::create_dir_all(&dir).expect("a directory");
    let file: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    std::fs::write(dir.join(file), format!("{row}\n")).expect("a row");
    assert!(broken.is_empty(), "{name}: {row}\n{}", broken.join("\n"));
}

/// The payloads of the log's entries in Redis, in their order, without the end message.
pub async fn log_of(redis: &RedisServer) -> Vec<String> {
    let entries = redis.command(&["XRANGE", "longtail:log", "-", "+"]).await;
    let entries: Vec<(String, HashMap<String, String>)> = redis::from_redis_value(entries).expect("entries");
    let data = entries.into_iter().filter_map(|(_, mut fields)| fields.remove("data"));
    data.map(|data| data.trim_matches('"').to_owned()).filter(|data| data != "end").collect()
}
