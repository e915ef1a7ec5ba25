//! The hub alone: one subscription type, wake-ups that cannot be lost, and readers that fall off the ring.

use bytes::Bytes;
use longtail::internals::cursor::{Cursor, Start};
use longtail::internals::hub::{Allowance, Encoded, Format, Gap, Hub, Layout, Limit, Outlet, Step, Subscription};
use longtail::internals::log::Retention;
use longtail::internals::log::memory::MemoryLog;
use longtail::internals::message::{Channel, ClientId, Draft, Message, Payload};
use longtail::internals::transport::encoding;
use proptest::prelude::*;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

const KEEP: Retention = Retention { age: Duration::from_secs(600), messages: 10_000, bytes: 64 << 20 };
const LIMIT: Limit = Limit { messages: 100, bytes: 1 << 20 };

async fn hub(retention: Retention) -> Arc<Hub> {
    let hub = Hub::new(Arc::new(MemoryLog::new(retention)), retention, Duration::from_secs(30));
    tokio::spawn(hub.clone().follow());
    hub.ready().await;
    hub
}

fn channel(name: &str) -> Channel {
    name.parse().expect("a channel")
}

fn draft(name: &str, data: &str) -> Draft {
    Draft::new(channel(name), Payload::from_any(data))
}

/// Appends a message, and waits until the hub has it.
async fn publish(hub: &Hub, draft: Draft) -> Option<Cursor> {
    let cursor = hub.log().append(vec![draft]).await.expect("appended")[0];
    if let Some(cursor) = cursor {
        hub.reached(cursor).await;
    }
    cursor
}

fn subscribe(hub: &Arc<Hub>, names: &[&str], start: Start) -> Subscription {
    let channels: Vec<_> = names.iter().map(|name| channel(name)).collect();
    hub.subscribe(Some("test"), &channels, start, None, None)
}

/// Takes one step, which may return nothing.
async fn step(subscription: &mut Subscription, limit: Limit) -> (Step, Vec<Arc<Message>>) {
    let mut out = Vec::new();
    let step = poll_fn(|cx| subscription.poll_step(cx, limit, &mut out)).await;
    (step, out)
}

/// Waits for the next messages or gap.
async fn next(subscription: &mut Subscription) -> (Step, Vec<Arc<Message>>) {
    let mut out = Vec::new();
    let step = poll_fn(|cx| match subscription.poll_step(cx, LIMIT, &mut out) {
        Poll::Ready(Step::Idle | Step::Ahead) => Poll::Pending,
        other => other,
    });
    let step = tokio::time::timeout(Duration::from_secs(60), step).await.expect("woken in time");
    (step, out)
}

fn payloads(messages: &[Arc<Message>]) -> String {
    messages.iter().map(|message| message.payload()).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn several_channels_come_out_in_log_order() {
    let hub = hub(KEEP).await;
    for n in 0..20 {
        publish(&hub, draft(["a", "b", "c", "d"][n % 4], &n.to_string())).await;
    }
    let mut reader = subscribe(&hub, &["c", "a", "b"], Start::Earliest);
    let (_, messages) = step(&mut reader, LIMIT).await;
    assert_eq!(payloads(&messages), "0,1,2,4,5,6,8,9,10,12,13,14,16,17,18");
    assert_eq!(Some(reader.cursor()), hub.head(), "the cursor is behind what other channels had, too");
}

#[tokio::test]
async fn a_limit_leaves_the_cursor_behind_what_was_handed_out() {
    let hub = hub(KEEP).await;
    let mut cursors = Vec::new();
    for n in 0..5 {
        cursors.extend(publish(&hub, draft("a", &n.to_string())).await);
    }
    let mut reader = subscribe(&hub, &["a"], Start::Earliest);
    let two = Limit { messages: 2, ..LIMIT };
    for (expected, cursor) in [("0,1", cursors[1]), ("2,3", cursors[3]), ("4", cursors[4])] {
        let (_, messages) = step(&mut reader, two).await;
        assert_eq!((payloads(&messages), reader.cursor()), (expected.into(), cursor));
    }
    // The first message is taken however large it is; the second one waits.
    let mut reader = subscribe(&hub, &["a"], Start::Earliest);
    assert_eq!(payloads(&step(&mut reader, Limit { bytes: 1, ..LIMIT }).await.1), "0");
}

#[tokio::test]
async fn a_quiet_channels_cursor_moves_on_with_the_log() {
    let hub = hub(Retention { messages: 10, ..KEEP }).await;
    let mut reader = subscribe(&hub, &["quiet"], Start::Latest);
    for n in 0..100 {
        let head = publish(&hub, draft("busy", &n.to_string())).await;
        assert_eq!(step(&mut reader, LIMIT).await.0, Step::Idle, "and no gap");
        assert_eq!(Some(reader.cursor()), head);
    }
}

#[tokio::test]
async fn falling_off_the_ring_is_a_gap_and_reading_goes_on_at_the_oldest_retained() {
    let hub = hub(Retention { messages: 3, ..KEEP }).await;
    let mut cursors = Vec::new();
    cursors.extend(publish(&hub, draft("a", "0")).await);
    let mut reader = subscribe(&hub, &["a"], Start::After(cursors[0]));
    for n in 1..8 {
        cursors.extend(publish(&hub, draft("a", &n.to_string())).await);
    }
    assert_eq!(step(&mut reader, LIMIT).await.0, Step::Gap(Gap { from: cursors[0], cursor: cursors[4] }));
    assert_eq!(payloads(&step(&mut reader, LIMIT).await.1), "5,6,7");
    // A reader with a cursor right before the oldest retained message has missed nothing.
    let mut reader = subscribe(&hub, &["a"], Start::After(cursors[4]));
    assert_eq!(payloads(&step(&mut reader, LIMIT).await.1), "5,6,7");
}

#[tokio::test]
async fn last_begins_with_the_newest_of_the_channels_and_bounds_a_replay() {
    let hub = hub(Retention { messages: 6, ..KEEP }).await;
    let mut first = None;
    for n in 0..10 {
        let cursor = publish(&hub, draft(["a", "b"][n % 2], &n.to_string())).await;
        first = first.or(cursor);
    }
    let read = async |names: &[&str], start, last| {
        let channels: Vec<_> = names.iter().map(|name| channel(name)).collect();
        let mut reader = hub.subscribe(Some("test"), &channels, start, Some(last), None);
        let (mut result, mut messages) = step(&mut reader, LIMIT).await;
        let is_gap = matches!(result, Step::Gap(_));
        if is_gap {
            (result, messages) = step(&mut reader, LIMIT).await;
        }
        let _ = result;
        (is_gap, payloads(&messages))
    };
    assert_eq!(read(&["a", "b"], Start::Latest, 3).await, (false, "7,8,9".into()));
    assert_eq!(read(&["a"], Start::Latest, 2).await, (false, "6,8".into()));
    assert_eq!(read(&["a"], Start::Latest, 0).await, (false, String::new()));
    assert_eq!(read(&["a"], Start::Latest, 1000).await, (false, "4,6,8".into()), "no gap before latest");
    let old = Start::After(first.expect("a cursor"));
    assert_eq!(read(&["b"], old, 2).await, (true, "7,9".into()));
}

#[tokio::test]
async fn volatile_messages_reach_those_who_wait_and_move_nothing() {
    let hub = hub(KEEP).await;
    let (mut here, mut elsewhere) = (subscribe(&hub, &["a"], Start::Latest), subscribe(&hub, &["b"], Start::Latest));
    let before = here.cursor();
    let waiting = tokio::spawn(async move {
        let (_, messages) = next(&mut here).await;
        (payloads(&messages), messages[0].cursor(), here.cursor())
    });
    tokio::task::yield_now().await;
    assert_eq!(publish(&hub, Draft { volatile: true, ..draft("a", "1") }).await, None);
    assert_eq!(waiting.await.expect("no panic"), ("1".into(), None, before));
    assert_eq!(step(&mut elsewhere, LIMIT).await.0, Step::Idle);
    let mut late = subscribe(&hub, &["a"], Start::Earliest);
    assert_eq!(step(&mut late, LIMIT).await.0, Step::Idle, "it was not kept");
}

/// A socket that counts what is written to it.
struct Counter(Arc<AtomicUsize>);

impl Outlet for Counter {
    fn format(&self) -> Format<'_> {
        Format { encoding: &encoding::LINE, layout: Layout::Sequence, prefix: b"", suffix: b"" }
    }

    fn transport(&self) -> usize {
        0
    }

    fn encode(&self, messages: &[Arc<Message>], _upto: Cursor) -> Encoded {
        Encoded { bytes: Bytes::from(vec![0; messages.len()]), weight: messages.len() }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        Ok(bytes.len())
    }
}

#[tokio::test]
async fn who_waits_until_it_is_handed_out_finds_it_written() {
    let hub = hub(KEEP).await;
    let written = Arc::new(AtomicUsize::new(0));
    let mut reader = subscribe(&hub, &["a"], Start::Latest);
    reader.set_outlet(Box::new(Counter(written.clone())));
    // Every reader is woken when the log becomes available.
    hub.handed_out().await;
    reader.unpark();
    assert_eq!(step(&mut reader, LIMIT).await.0, Step::Idle);
    reader.park(Allowance::Bytes(usize::MAX));
    let append = async |drafts| {
        hub.log().append(drafts).await.expect("appended");
        hub.advance();
    };
    let handed_out = async || {
        let waiting = tokio::time::timeout(Duration::from_secs(60), hub.handed_out());
        waiting.await.expect("handed out in time");
        written.load(Ordering::Relaxed)
    };
    assert_eq!(handed_out().await, 0, "there is nothing to wait for");
    append(vec![draft("a", "1"), draft("b", "1")]).await;
    assert_eq!(written.load(Ordering::Relaxed), 0, "it is taken in and not handed out");
    assert_eq!(handed_out().await, 1);
    append(vec![draft("b", "2")]).await;
    assert_eq!(handed_out().await, 1, "nobody reads it, and it is handed out");
    append(vec![Draft { volatile: true, ..draft("b", "3") }]).await;
    assert_eq!(handed_out().await, 1, "a volatile message has been told when it is taken in");
    append(vec![draft("a", "2"), draft("a", "3")]).await;
    assert_eq!(handed_out().await, 1, "what goes out together is not waited for: more may come");
    let _reads_b = subscribe(&hub, &["b"], Start::Latest);
    append(vec![draft("b", "4")]).await;
    assert_eq!(handed_out().await, 3, "the message of another channel ends what goes out together");
}

/// No budget counts the messages that wait for a reader that reads nothing, so the hub keeps only few of them.
#[tokio::test]
async fn volatile_messages_wait_for_a_reader_up_to_so_many_bytes() {
    let hub = hub(KEEP).await;
    let mut reader = subscribe(&hub, &["a"], Start::Latest);
    for (bytes, count, wanted) in [(100, 50, 32), (20_000, 9, 3), (200_000, 2, 1)] {
        for _ in 0..count {
            publish(&hub, Draft { volatile: true, ..draft("a", &"x".repeat(bytes)) }).await;
        }
        // This publish waits for the tail's turn, which has brought the messages.
        publish(&hub, draft("b", "1")).await;
        assert_eq!(step(&mut reader, LIMIT).await.1.len(), wanted, "of {count} of {bytes} bytes");
    }
}

/// Returns this number of parked readers of a channel.
async fn parked(hub: &Arc<Hub>, name: &str, readers: usize, outlet: impl Fn() -> Box<dyn Outlet>) -> Vec<Subscription> {
    let mut all = Vec::new();
    for _ in 0..readers {
        let mut reader = subscribe(hub, &[name], Start::Latest);
        reader.set_outlet(outlet());
        reader.unpark();
        assert_eq!(step(&mut reader, LIMIT).await.0, Step::Idle);
        reader.park(Allowance::Bytes(usize::MAX));
        all.push(reader);
    }
    all
}

/// Returns how many readers were written to, with `readers` on each channel, when publishers no longer had to wait.
async fn written_when_handed_out(channels: &[&str], readers: usize, pause: Duration) -> usize {
    let hub = hub(KEEP).await;
    hub.handed_out().await;
    let written = Arc::new(AtomicUsize::new(0));
    let mut all = Vec::new();
    for channel in channels {
        all.extend(parked(&hub, channel, readers, || Box::new(Slow(Counter(written.clone()), pause))).await);
    }
    hub.log().append(channels.iter().map(|channel| draft(channel, "1")).collect()).await.expect("appended");
    hub.advance();
    hub.handed_out().await;
    let by_then = written.load(Ordering::Relaxed);
    while written.load(Ordering::Relaxed) < all.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    by_then
}

/// A socket whose writes are slow.
struct Slow(Counter, Duration);

impl Outlet for Slow {
    fn format(&self) -> Format<'_> {
        self.0.format()
    }

    fn transport(&self) -> usize {
        self.0.transport()
    }

    fn encode(&self, messages: &[Arc<Message>], upto: Cursor) -> Encoded {
        self.0.encode(messages, upto)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        std::thread::sleep(self.1);
        self.0.write(bytes)
    }
}

#[tokio::test]
async fn nobody_waits_for_all_of_very_many() {
    let written = written_when_handed_out(&["a"], 3_000, Duration::ZERO).await;
    assert!((1_000..2_000).contains(&written), "{written}");
}

/// Each of four messages is written to about six hundred readers of either channel, in the time of one message to all
/// readers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_waits_for_several_channels_of_very_many() {
    let written = written_when_handed_out(&["a", "b"], 2_500, Duration::from_micros(50)).await;
    assert!((2_500..4_500).contains(&written), "{written}");
}

/// Messages of several channels have one order, which the reader's task keeps. Messages of one of its channels are
/// written directly, even if other channels have messages at the same time.
#[tokio::test]
async fn who_reads_several_channels_is_written_to_where_one_of_them_has_news() {
    let hub = hub(KEEP).await;
    let written = Arc::new(AtomicUsize::new(0));
    let mut reader = subscribe(&hub, &["a", "b"], Start::Latest);
    reader.set_outlet(Box::new(Counter(written.clone())));
    hub.handed_out().await;
    let append = async |channels: &[&str]| {
        let drafts = channels.iter().map(|channel| draft(channel, "1")).collect();
        hub.log().append(drafts).await.expect("appended");
        hub.advance();
        hub.handed_out().await;
    };
    let park = async |reader: &mut Subscription| {
        reader.unpark();
        while step(reader, LIMIT).await.0 != Step::Idle {}
        reader.park(Allowance::Bytes(usize::MAX));
    };
    park(&mut reader).await;
    append(&["x", "a", "y"]).await;
    assert_eq!(written.load(Ordering::Relaxed), 1);
    append(&["b", "x"]).await;
    assert_eq!(written.load(Ordering::Relaxed), 2, "it need not park anew");
    append(&["a", "b"]).await;
    assert_eq!(written.load(Ordering::Relaxed), 2, "they are the task's");
    reader.unpark();
    let (last, messages) = step(&mut reader, LIMIT).await;
    assert_eq!((last, messages.len()), (Step::Messages, 2));
    // After a change of the reader's channels, the hub knows the new ones.
    reader.remove(&channel("b"));
    reader.add(&channel("x"));
    park(&mut reader).await;
    append(&["a", "b"]).await;
    assert_eq!(written.load(Ordering::Relaxed), 3);
    append(&["a", "x"]).await;
    assert_eq!(written.load(Ordering::Relaxed), 3);
    reader.remove(&channel("a"));
    park(&mut reader).await;
    append(&["a", "x"]).await;
    assert_eq!(written.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn who_is_excluded_gets_the_cursor_and_not_the_message() {
    let hub = hub(KEEP).await;
    let me: ClientId = "me".parse().expect("an id");
    let mut mine = hub.subscribe(Some("test"), &[channel("a")], Start::Latest, None, Some(me.clone()));
    let mut others = subscribe(&hub, &["a"], Start::Latest);
    let head = publish(&hub, Draft { exclude: Some(me), ..draft("a", "1") }).await;
    assert_eq!(step(&mut mine, LIMIT).await.0, Step::Idle);
    assert_eq!(Some(mine.cursor()), head);
    assert_eq!(payloads(&step(&mut others, LIMIT).await.1), "1");
}

#[tokio::test]
async fn a_channel_that_nobody_reads_and_that_retains_nothing_is_forgotten() {
    let hub = hub(Retention { messages: 1, ..KEEP }).await;
    let reader = subscribe(&hub, &["a"], Start::Latest);
    assert_eq!(hub.counts(&channel("a")).readers.get("test"), Some(&1));
    publish(&hub, draft("a", "1")).await;
    drop(reader);
    assert_eq!((hub.counts(&channel("a")).retained, hub.counts(&channel("a")).readers.len()), (1, 0));
    publish(&hub, draft("b", "2")).await;
    assert_eq!(hub.counts(&channel("a")).retained, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost() {
    // Readers park and are woken on two threads while messages arrive one by one: one lost wake-up would leave a reader
    // waiting forever.
    const MESSAGES: usize = 2_000;
    let hub = hub(KEEP).await;
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let mut reader = subscribe(&hub, &["a"], Start::Latest);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while seen.len() < MESSAGES {
                    seen.extend(next(&mut reader).await.1.iter().map(|message| message.payload().to_owned()));
                }
                seen
            })
        })
        .collect();
    for n in 0..MESSAGES {
        hub.log().append(vec![draft("a", &n.to_string())]).await.expect("appended");
        if n % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let all: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
    for reader in readers {
        assert_eq!(reader.await.expect("no panic"), all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the channels, the limits, the retention and the moments of its reads, a reader gets the log's sequence
    /// of its channels. Where messages are missing, it gets a gap.
    #[test]
    fn a_reader_gets_the_logs_sequence_or_a_gap(
        plan in proptest::collection::vec((0usize..4, any::<bool>()), 1..120),
        wanted in proptest::sample::subsequence(vec!["a", "b", "c", "d"], 1..4),
        messages in 1usize..5,
        retained in prop_oneof![Just(5usize), Just(1000)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let hub = hub(Retention { messages: retained, ..KEEP }).await;
            let mut reader = subscribe(&hub, &wanted, Start::Latest);
            let limit = Limit { messages, ..LIMIT };
            let (mut sent, mut seen, mut gaps) = (Vec::new(), Vec::new(), 0);
            let mut look = async |until_idle: bool, seen: &mut Vec<String>, gaps: &mut usize| loop {
                let (step, out) = step(&mut reader, limit).await;
                seen.extend(out.iter().map(|message| message.payload().to_owned()));
                *gaps += usize::from(matches!(step, Step::Gap(_)));
                if step == Step::Idle || !until_idle {
                    return;
                }
            };
            let total = plan.len();
            for (n, (index, looks)) in plan.into_iter().enumerate() {
                let name = ["a", "b", "c", "d"][index];
                publish(&hub, draft(name, &n.to_string())).await;
                if wanted.contains(&name) {
                    sent.push(n.to_string());
                }
                if looks {
                    look(false, &mut seen, &mut gaps).await;
                }
            }
            look(true, &mut seen, &mut gaps).await;
            if gaps == 0 {
                assert_eq!(seen, sent);
            } else {
                assert!(retained == 5, "five are retained, not {retained}");
                let mut rest = sent.iter();
                assert!(seen.iter().all(|message| rest.any(|other| other == message)), "in order, none twice: {seen:?}");
                // The reader has certainly not missed retained messages.
                let retained = sent.iter().filter(|n| n.parse::<usize>().is_ok_and(|n| n + 5 >= total));
                assert!(retained.clone().all(|message| seen.contains(message)), "the last five of {total}: {seen:?}");
            }
        });
    }
}
