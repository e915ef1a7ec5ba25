//! Direct fan-out gives every reader the messages that its own task would give it: those of its channels, in the log's
//! order, each once, without messages that exclude the reader. A message may have several channels, and may exclude the
//! readers of a channel.

use longtail::internals::cursor::{Cursor, Start};
use longtail::internals::hub::{Allowance, Encoded, Format, Hub, LIMIT, Layout, Outlet, Step, Subscription};
use longtail::internals::log::memory::MemoryLog;
use longtail::internals::log::{MessageLog, Retention};
use longtail::internals::message::{Channel, ClientId, Draft, ExceptItem, Extras, Message, Payload};
use longtail::internals::transport::encoding;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const MESSAGES: usize = 900;

/// A socket that is sometimes full, and sometimes accepts only a part.
#[derive(Clone)]
struct Pipe {
    taken: Arc<Mutex<Vec<u8>>>,
    writes: Arc<AtomicU64>,
    /// One write out of this number is cut or refused; 0 means that every write succeeds.
    trouble: u64,
}

/// A socket whose writes the test controls.
struct Socket<W>(W);

impl<W: Fn(&[u8]) -> io::Result<usize> + Send + Sync> Outlet for Socket<W> {
    fn format(&self) -> Format<'_> {
        Format { encoding: &encoding::LINE, layout: Layout::Sequence, prefix: b"", suffix: b"" }
    }

    fn transport(&self) -> usize {
        0
    }

    fn encode(&self, messages: &[Arc<Message>], _upto: Cursor) -> Encoded {
        let bytes = encode(messages);
        Encoded { weight: bytes.len(), bytes: bytes.into() }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes)
    }
}

impl Pipe {
    fn outlet(&self) -> Box<dyn Outlet> {
        let pipe = self.clone();
        Box::new(Socket(move |bytes: &[u8]| pipe.write(bytes)))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.writes.fetch_add(1, Ordering::Relaxed);
        let size = match n.checked_rem(self.trouble) {
            Some(0) => return Err(io::ErrorKind::WouldBlock.into()),
            Some(1) => bytes.len() / 2,
            Some(2) => return Err(io::ErrorKind::BrokenPipe.into()),
            _ => bytes.len(),
        };
        self.taken.lock().expect("lock").extend_from_slice(&bytes[..size]);
        Ok(size)
    }
}

fn encode(messages: &[Arc<Message>]) -> Vec<u8> {
    messages.iter().flat_map(|message| [message.object(), &b"\n"[..]].concat()).collect()
}

/// Does the work of a stream's task, with `left` bytes until the task has to check its bounds itself.
async fn read(mut subscription: Subscription, pipe: Pipe, left: usize) {
    loop {
        let bytes = poll_fn(|cx| {
            let written = subscription.unpark();
            if !written.remainder.is_empty() {
                return Poll::Ready(written.remainder.bytes().to_vec());
            }
            let mut batch = Vec::new();
            match subscription.poll_step(cx, LIMIT, &mut batch) {
                Poll::Ready(Step::Gap(gap)) => panic!("{gap:?}"),
                _ if !batch.is_empty() => Poll::Ready(encode(&batch)),
                _ => {
                    subscription.park(Allowance::Bytes(left));
                    Poll::Pending
                }
            }
        })
        .await;
        pipe.taken.lock().expect("lock").extend_from_slice(&bytes);
    }
}

/// A message that was published.
struct Sent {
    n: usize,
    channels: Vec<&'static str>,
    exclude: Option<ClientId>,
    /// Clients and channels.
    except: Option<String>,
}

impl Sent {
    fn draft(&self, volatile: bool) -> Draft {
        let channel = |name: &str| name.parse::<Channel>().expect("a channel");
        let several = if self.channels.len() > 1 { self.channels.as_slice() } else { &[] };
        draft(self.n, self.channels[0], self.exclude.clone(), volatile).with_extras(Extras {
            channels: several.iter().map(|name| channel(name)).collect(),
            except: self.except.iter().map(|name| ExceptItem::new(channel(name))).collect(),
            ..Extras::default()
        })
    }

    /// The channel under which a reader of these channels gets the message; `None` if it does not get it.
    fn channel_for(&self, names: &[&str], client: &ClientId) -> Option<&'static str> {
        let is_excepted = |name: &String| names.contains(&name.as_str()) || name.parse().as_ref() == Ok(client);
        let is_for_client = self.exclude.as_ref() != Some(client) && !self.except.as_ref().is_some_and(is_excepted);
        self.channels.iter().copied().find(|channel| is_for_client && names.contains(channel))
    }
}

fn draft(n: usize, channel: &str, exclude: Option<ClientId>, volatile: bool) -> Draft {
    let (channel, payload) = (channel.parse().expect("valid"), Payload::from_any(&n.to_string()));
    Draft { exclude, volatile, ..Draft::new(channel, payload) }
}

/// The numbers that a reader has received, with the channel of each, without volatile messages, which have no order
/// among the others.
fn taken_by(taken: &[u8]) -> Vec<(usize, String)> {
    let text = std::str::from_utf8(taken).expect("UTF-8");
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("whole lines"));
    let object = |object: serde_json::Value| {
        (object["data"].as_u64().expect("n") as usize, object["channel"].as_str().expect("a channel").to_owned())
    };
    lines.filter(|object| object["id"].is_string()).map(object).collect()
}

fn numbers(taken: &[u8]) -> Vec<usize> {
    taken_by(taken).into_iter().map(|(n, _)| n).collect()
}

async fn everybody_gets_the_log() {
    let retention = Retention { age: Duration::from_secs(600), messages: 100_000, bytes: 1 << 30, control: 10 };
    let log = Arc::new(MemoryLog::new(retention));
    let hub = Hub::new(log.clone(), retention, Duration::from_secs(30));
    tokio::spawn(hub.clone().follow());
    hub.ready().await;

    let mut readers = Vec::new();
    for index in 0..120 {
        let names: Vec<&str> = CHANNELS.into_iter().skip(index % 3).take(1 + index % 2).collect();
        let client: ClientId = format!("client-{}", index % 4).parse().expect("valid");
        let channels: Vec<Channel> = names.iter().map(|name| name.parse().expect("valid")).collect();
        let mut subscription = hub.subscribe(Some("test"), &channels, Start::Latest, None, Some(client.clone()));
        let trouble = [0, 7, 50][index % 3];
        let pipe = Pipe { taken: Arc::default(), writes: Arc::default(), trouble };
        subscription.set_outlet(pipe.outlet());
        // Some readers have a bound that every message exceeds: their task writes all their messages.
        let left = if index % 10 == 9 { 1 } else { usize::MAX };
        let task = tokio::spawn(read(subscription, pipe.clone(), left));
        readers.push((names, client, pipe, task));
    }

    let mut published: Vec<Sent> = Vec::new();
    let mut n = 0;
    while n < MESSAGES {
        let mut drafts = Vec::new();
        for _ in 0..fastrand::usize(1..6) {
            let (first, count) = (fastrand::usize(0..3), if n % 5 == 0 { fastrand::usize(1..4) } else { 1 });
            let channels = (first..first + count).map(|index| CHANNELS[index % 3]).collect();
            let exclude = (n % 11 == 0).then(|| format!("client-{}", n % 4).parse().expect("valid"));
            let except = [CHANNELS[n % 3].to_owned(), format!("client-{}", n % 4)][n % 2].clone();
            let sent = Sent { n, channels, exclude, except: (n % 7 == 0).then_some(except) };
            let volatile = n % 29 == 0;
            drafts.push(sent.draft(volatile));
            if !volatile {
                published.push(sent);
            }
            n += 1;
        }
        log.append(drafts).await.expect("appended");
        // The publisher or the tail takes the messages in, many at once.
        match n % 3 {
            0 => hub.advance(),
            1 => tokio::task::yield_now().await,
            _ => {}
        }
        // Now and then all readers have all messages, and park.
        if n % 4 == 0 {
            let pipes: Vec<_> = readers.iter().map(|(names, client, pipe, _)| (names, client, pipe)).collect();
            for (names, client, pipe) in pipes {
                let all = wanted(&published, names, client).len();
                while numbers_so_far(pipe) < all {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            }
        }
    }

    for (index, (names, client, pipe, task)) in readers.into_iter().enumerate() {
        let wanted = wanted(&published, &names, &client);
        let all = tokio::time::timeout(Duration::from_secs(300), async {
            while numbers_so_far(&pipe) < wanted.len() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let in_time = all.await.is_ok();
        assert!(!task.is_finished(), "reader {index} panicked");
        task.abort();
        let taken = pipe.taken.lock().expect("lock").clone();
        assert!(in_time, "reader {index} of {names:?} has {} of {}", numbers(&taken).len(), wanted.len());
        assert_eq!(taken_by(&taken), wanted, "reader {index} of {names:?}");
    }
    let traffic = hub.fan_out_counts();
    assert!(traffic.deliveries > 2_000, "the fast path was taken: {traffic:?}");
    assert!(traffic.left_to_tasks > 500, "and so was the slow one: {traffic:?}");
    assert!(traffic.encoded < traffic.writes / 2, "encoded once for many: {traffic:?}");
}

/// The numbers of the messages that a reader has to get, with the channel of each.
fn wanted(published: &[Sent], names: &[&str], client: &ClientId) -> Vec<(usize, String)> {
    published.iter().filter_map(|sent| Some((sent.n, sent.channel_for(names, client)?.to_owned()))).collect()
}

/// The number of complete lines with an id.
fn numbers_so_far(pipe: &Pipe) -> usize {
    let taken = pipe.taken.lock().expect("lock");
    let end = taken.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    taken[..end].split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"id\"")).count()
}

/// Readers that stopped at different places of one write share it, and it can be counted once.
#[tokio::test]
async fn a_rest_knows_its_whole() {
    let retention = Retention { age: Duration::from_secs(600), messages: 100, bytes: 1 << 20, control: 10 };
    let log = Arc::new(MemoryLog::new(retention));
    let hub = Hub::new(log.clone(), retention, Duration::from_secs(30));
    tokio::spawn(hub.clone().follow());
    hub.ready().await;
    let (mut readers, mut counts) = (Vec::new(), Vec::new());
    for taken in 1..=3 {
        let mut reader = hub.subscribe(None, &["a".parse().expect("valid")], Start::Latest, None, None);
        let writes = Arc::<AtomicU64>::default();
        counts.push(writes.clone());
        // The socket takes `taken` bytes of message 9, and all bytes of the others.
        reader.set_outlet(Box::new(Socket(move |bytes: &[u8]| {
            writes.fetch_add(1, Ordering::Relaxed);
            Ok(if numbers(bytes).last() == Some(&9) { taken } else { bytes.len() })
        })));
        readers.push(tokio::spawn(poll_fn(move |cx| {
            let rest = reader.unpark().remainder;
            if !rest.is_empty() {
                return Poll::Ready(rest);
            }
            // Its task is also woken for other reasons.
            while reader.poll_step(cx, LIMIT, &mut Vec::new()) == Poll::Ready(Step::Messages) {}
            reader.park(Allowance::Bytes(usize::MAX));
            Poll::Pending
        })));
    }
    let all = async {
        // Waits until all of them are parked and written to.
        while counts.iter().any(|writes| writes.load(Ordering::Relaxed) == 0) {
            log.append(vec![draft(7, "a", None, false)]).await.expect("appended");
            tokio::task::yield_now().await;
        }
        log.append(vec![draft(9, "a", None, false)]).await.expect("appended");
        futures_util::future::join_all(readers).await
    };
    let rests = tokio::time::timeout(Duration::from_secs(60), all).await.expect("all to be woken");
    let rests: Vec<_> = rests.into_iter().map(|rest| rest.expect("a rest")).collect();
    for (rest, taken) in rests.iter().zip(1..) {
        assert_eq!(rest.whole().as_ptr_range(), rests[0].whole().as_ptr_range());
        assert_eq!(rest.bytes(), &rest.whole()[taken..]);
    }
}

#[tokio::test]
async fn on_one_thread() {
    everybody_gets_the_log().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_four_threads() {
    everybody_gets_the_log().await;
}
