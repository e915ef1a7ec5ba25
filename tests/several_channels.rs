//! A message to several channels reaches each reader once and in order, whether the tail writes it or the reader's task
//! reads it, from the node's memory or from the log, while readers change their channels.

use crate::support;

use bytes::Bytes;
use longtail::internals::cursor::{Cursor, Start};
use longtail::internals::hub::{Allowance, Encoded, Format, Hub, LIMIT, Layout, Limit, Outlet, Step, Subscription};
use longtail::internals::log::memory::MemoryLog;
use longtail::internals::log::{MessageLog, Retention};
use longtail::internals::message::{Channel, ClientId, Draft, ExceptItem, Extras, Kind, Message, Payload};
use longtail::internals::transport::encoding;
use proptest::prelude::*;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Node, Reader};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const READERS: usize = 3;

fn channel(index: usize) -> Channel {
    NAMES[index].parse().expect("a channel")
}

fn client(reader: usize) -> ClientId {
    format!("client-{reader}").parse().expect("a client id")
}

/// A message: its channels in order, and the channels and clients that it excludes.
#[derive(Clone, Debug)]
struct Plan {
    channels: Vec<usize>,
    except: Vec<usize>,
    client: Option<usize>,
    volatile: bool,
}

impl Plan {
    fn draft(&self, n: usize) -> Draft {
        let several = if self.channels.len() > 1 { self.channels.as_slice() } else { &[] };
        let clients = self.client.iter().map(|reader| client(*reader).to_string().parse().expect("a name"));
        let except = self.except.iter().map(|index| channel(*index)).chain(clients);
        let draft = Draft::new(channel(self.channels[0]), Payload::from_any(&n.to_string()));
        Draft { volatile: self.volatile, ..draft }.with_extras(Extras {
            channels: several.iter().map(|index| channel(*index)).collect(),
            except: except.map(ExceptItem::new).collect(),
            ..Extras::default()
        })
    }

    /// The channel under which a reader of these channels gets the message.
    fn channel_for(&self, reader: usize, reads: &[bool; 4]) -> Option<usize> {
        let is_excepted = self.client == Some(reader) || self.except.iter().any(|index| reads[*index]);
        self.channels.iter().copied().find(|index| !is_excepted && reads[*index])
    }
}

#[derive(Clone, Debug)]
enum Action {
    /// Appends messages, which the tail has then read but not written.
    Publish(Vec<Plan>),
    /// Lets the tail write.
    Deliver,
    /// A reader begins or stops reading a channel.
    Toggle(usize, usize),
    /// A reader takes a step, of one message or of all.
    Look(usize, bool),
}

fn plan() -> impl Strategy<Value = Plan> {
    let order = Just(vec![0, 1, 2, 3]).prop_shuffle();
    let except = prop_oneof![3 => Just(Vec::new()), 1 => proptest::sample::subsequence(vec![0, 1, 2, 3], 1..3)];
    let client = prop_oneof![3 => Just(None), 1 => (0..READERS).prop_map(Some)];
    let count = prop_oneof![2 => Just(1usize), 3 => 2usize..5];
    (order, count, except, client).prop_map(|(mut channels, count, except, client)| {
        channels.truncate(count);
        Plan { channels, except, client, volatile: false }
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => proptest::collection::vec(plan(), 1..4).prop_map(Action::Publish),
        3 => Just(Action::Deliver),
        2 => (0..READERS, 0..NAMES.len()).prop_map(|(reader, channel)| Action::Toggle(reader, channel)),
        2 => (0..READERS, any::<bool>()).prop_map(|(reader, all)| Action::Look(reader, all)),
    ]
}

/// A socket that keeps the lines that it is sent. Now and then it is full.
struct Lines {
    taken: Arc<Mutex<Vec<String>>>,
    writes: AtomicUsize,
    full_at: usize,
}

impl Outlet for Lines {
    fn format(&self) -> Format<'_> {
        Format { encoding: &encoding::LINE, layout: Layout::Sequence, prefix: b"", suffix: b"" }
    }

    fn transport(&self) -> usize {
        0
    }

    fn encode(&self, messages: &[Arc<Message>], _upto: Cursor) -> Encoded {
        let lines: Vec<u8> = messages.iter().flat_map(|message| [message.object(), &b"\n"[..]].concat()).collect();
        Encoded { weight: lines.len(), bytes: Bytes::from(lines) }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.writes.fetch_add(1, Ordering::Relaxed) % self.full_at == self.full_at - 1 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let text = std::str::from_utf8(bytes).expect("UTF-8");
        self.taken.lock().expect("lock").extend(text.lines().map(str::to_owned));
        Ok(bytes.len())
    }
}

struct TestReader {
    subscription: Subscription,
    taken: Arc<Mutex<Vec<String>>>,
    reads: [bool; 4],
    wanted: Vec<(usize, usize)>,
}

impl TestReader {
    fn new(hub: &Arc<Hub>, index: usize) -> TestReader {
        let reads = [[true, true, false, false], [false, true, false, false], [true, false, true, true]][index];
        let channels: Vec<Channel> = (0..4).filter(|index| reads[*index]).map(channel).collect();
        let mut subscription = hub.subscribe(Some("test"), &channels, Start::Latest, None, Some(client(index)));
        let taken = Arc::<Mutex<Vec<String>>>::default();
        let lines = Lines { taken: taken.clone(), writes: AtomicUsize::new(0), full_at: 5 };
        subscription.set_outlet(Box::new(lines));
        TestReader { subscription, taken, reads, wanted: Vec::new() }
    }

    /// Reads as the reader's task does, and parks if there is nothing more.
    async fn look(&mut self, limit: Limit, until_idle: bool) {
        loop {
            self.subscription.unpark();
            let mut out = Vec::new();
            let step = poll_fn(|cx| self.subscription.poll_step(cx, limit, &mut out)).await;
            let mut taken = self.taken.lock().expect("lock");
            taken.extend(out.iter().map(|message| String::from_utf8_lossy(message.object()).into_owned()));
            drop(taken);
            match step {
                Step::Messages if until_idle => {}
                Step::Messages => return,
                Step::Idle => return self.subscription.park(Allowance::Bytes(usize::MAX)),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn toggle(&mut self, index: usize) {
        // The channels count for messages that come after the reader has read all present messages.
        self.look(LIMIT, true).await;
        self.subscription.unpark();
        self.reads[index] = !self.reads[index];
        match self.reads[index] {
            true => self.subscription.add(&channel(index)),
            false => self.subscription.remove(&channel(index)),
        }
        self.look(LIMIT, true).await;
    }

    fn seen(&self) -> Vec<(usize, usize)> {
        let one = |line: &String| {
            let object: serde_json::Value = serde_json::from_str(line).expect("an object");
            let name = object["channel"].as_str().expect("a channel");
            (
                object["data"].as_u64().expect("n") as usize,
                NAMES.iter().position(|known| *known == name).expect("known"),
            )
        };
        self.taken.lock().expect("lock").iter().map(one).collect()
    }
}

async fn hub(retained: usize) -> (Arc<MemoryLog>, Arc<Hub>) {
    let keep = Retention { age: Duration::from_secs(600), messages: 10_000, bytes: 64 << 20 };
    let log = Arc::new(MemoryLog::new(keep));
    // A node that keeps less than the log reads the rest from the log.
    let hub = Hub::new(log.clone(), Retention { messages: retained, ..keep }, Duration::from_secs(30));
    tokio::spawn(hub.clone().follow());
    hub.ready().await;
    (log, hub)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn each_reader_gets_each_message_once_and_in_order(
        actions in proptest::collection::vec(action(), 1..60),
        retained in prop_oneof![Just(2usize), Just(1000)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (log, hub) = hub(retained).await;
            let mut readers: Vec<_> = (0..READERS).map(|index| TestReader::new(&hub, index)).collect();
            hub.handed_out().await;
            for reader in &mut readers {
                reader.look(LIMIT, true).await;
            }
            let mut n = 0;
            for action in &actions {
                match action {
                    Action::Publish(plans) => {
                        let mut drafts = Vec::new();
                        for plan in plans {
                            for (index, reader) in readers.iter_mut().enumerate() {
                                reader.wanted.extend(plan.channel_for(index, &reader.reads).map(|channel| (n, channel)));
                            }
                            drafts.push(plan.draft(n));
                            n += 1;
                        }
                        log.append(drafts).await.expect("appended");
                        hub.advance();
                    }
                    Action::Deliver => {
                        for _ in 0..5 {
                            tokio::task::yield_now().await;
                        }
                    }
                    Action::Toggle(reader, channel) => readers[*reader].toggle(*channel).await,
                    Action::Look(reader, all) => {
                        readers[*reader].look(Limit { messages: if *all { 256 } else { 1 }, ..LIMIT }, *all).await;
                    }
                }
            }
            hub.handed_out().await;
            for (index, reader) in readers.iter_mut().enumerate() {
                reader.look(LIMIT, true).await;
                assert_eq!(reader.seen(), reader.wanted, "reader {index}: (message, channel)");
            }
        });
    }
}

/// (the channels of the message, the channels and the client that it excludes, the channel under which a reader of `a`
/// and `b` gets it)
#[tokio::test]
async fn a_volatile_message_comes_once_too() {
    let (log, hub) = hub(1000).await;
    let mut reader = TestReader::new(&hub, 0);
    type Row<'a> = (&'a [usize], &'a [usize], Option<usize>, Option<usize>);
    let table: [Row<'_>; 7] = [
        (&[0, 1], &[], None, Some(0)),
        (&[1, 0], &[], None, Some(1)),
        (&[2, 1, 0], &[], None, Some(1)),
        (&[2, 3], &[], None, None),
        (&[0, 2], &[2], None, Some(0)),
        (&[0, 2], &[1], None, None),
        (&[0, 1], &[], Some(0), None),
    ];
    let mut wanted = Vec::new();
    for (n, (channels, except, client, expected)) in table.into_iter().enumerate() {
        let plan = Plan { channels: channels.to_vec(), except: except.to_vec(), client, volatile: true };
        log.append(vec![plan.draft(n)]).await.expect("appended");
        hub.advance();
        reader.look(LIMIT, true).await;
        wanted.extend(expected.map(|channel| (n, channel)));
    }
    assert_eq!(reader.seen(), wanted);
}

/// A control entry moves the position, and is not a message. Entries about members that join or leave are kept for
/// readers that ask for them.
#[tokio::test]
async fn control_entries_are_not_delivered() {
    let (log, hub) = hub(1000).await;
    let mut reader = TestReader::new(&hub, 0);
    reader.look(LIMIT, true).await;
    let before = hub.retained();
    for kind in [Kind::MemberAdded, Kind::MemberRemoved, Kind::Session] {
        for volatile in [false, true] {
            let draft = Draft { volatile, ..Draft::new(channel(0), Payload::from_any("1")) };
            log.append(vec![draft.with_extras(Extras { kind, ..Extras::default() })]).await.expect("appended");
        }
    }
    hub.advance();
    reader.look(LIMIT, true).await;
    let after = hub.retained();
    assert_eq!((reader.seen(), after.messages, after.read), (Vec::new(), before.messages + 2, before.read));
    assert_eq!(Some(reader.subscription.cursor()), hub.head(), "the position has moved");
    // A reader that has the log behind it does not get them either.
    let mut late = hub.subscribe(Some("test"), &[channel(0)], Start::Earliest, None, None);
    let mut out = Vec::new();
    assert_eq!(poll_fn(|cx| late.poll_step(cx, LIMIT, &mut out)).await, Step::Idle);
    let mut asks = hub.subscribe(Some("test"), &[channel(0)], Start::Earliest, None, None);
    asks.read_members(true);
    assert_eq!(poll_fn(|cx| asks.poll_step(cx, LIMIT, &mut out)).await, Step::Messages);
    let kinds: Vec<Kind> = out.iter().map(|message| message.kind()).collect();
    assert_eq!(kinds, [Kind::MemberAdded, Kind::MemberRemoved]);
}

/// A message counts once against the number of messages that a node keeps, and is dropped with all its variants.
#[tokio::test]
async fn a_message_counts_once_against_the_retention() {
    let (log, hub) = hub(2).await;
    let plan = Plan { channels: vec![0, 1, 2], except: Vec::new(), client: None, volatile: false };
    for (n, (messages, channels)) in [(1, 3), (2, 3), (2, 3), (2, 3)].into_iter().enumerate() {
        log.append(vec![plan.draft(n)]).await.expect("appended");
        hub.advance();
        let retained = hub.retained();
        assert_eq!((retained.messages, retained.channels), (messages, channels), "after message {n}");
        assert_eq!(hub.counts(&channel(1)).retained, messages);
    }
}

/// The channels of a message share its payload. Each publication here would be 93 MiB if each channel had a copy.
#[tokio::test]
async fn many_channels_take_the_memory_of_one() {
    let node = Node::start(&["--retain-bytes", "8MiB"]).await;
    let names: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
    let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let one = |n: usize| format!(r#"{{"channels":[{}],"data":"{n} {}"}}"#, list.join(","), "x".repeat(64_000));
    // One channel has a reader, and the others do not.
    let mut reader = Reader::open(&node, &node.transport("sse").await, support::Subscription::to(&[&names[99]])).await;
    node.publish("c99", "0").await;
    assert_eq!(reader.next_message().await.data(), "0");
    let before = node.peak_resident();
    for turn in 0..4 {
        let body: Vec<String> = (0..15).map(|n| one(turn * 15 + n)).collect();
        let answer = node.publish_json(&format!("[{}]", body.join(","))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for n in 0..15 {
            let message = reader.next_message().await;
            assert!(message.data().starts_with(&format!("\"{} x", turn * 15 + n)), "message {n} of turn {turn}");
        }
    }
    let grown = node.peak_resident().saturating_sub(before) >> 20;
    println!("four publications of 15 payloads of 64,000 bytes to 100 channels: {grown} MiB");
    assert!(grown <= 32, "expected at most 32 MiB, came {grown} MiB");
}
