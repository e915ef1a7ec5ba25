//! Measures each step of a delivery separately: `cargo bench --bench micro`.

use bytes::BytesMut;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use longtail::internals::cursor::{Cursor, Start};
use longtail::internals::hub::{Allowance, Encoded, Format, Hub, LIMIT, Layout, Outlet, Step, Subscription};
use longtail::internals::log::memory::MemoryLog;
use longtail::internals::log::{MessageLog, Retention};
use longtail::internals::message::{Draft, Encoding, Event, Message, Payload};
use longtail::internals::transport::encoding;
use longtail::internals::wire::websocket::Decoder;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

fn text() -> String {
    "x".repeat(200)
}

fn draft() -> Draft {
    Draft::new("board".parse().expect("valid"), Payload::from_any(&text()))
}

const ENCODINGS: [&Encoding; 6] = [
    &encoding::LINE,
    &encoding::SCRIPT,
    &encoding::EVENT,
    &encoding::DATA_EVENT,
    &encoding::PART,
    &encoding::TEXT_FRAME,
];

/// The first frame of a message in an encoding; all others share it.
#[divan::bench(args = ENCODINGS)]
fn encode(bencher: Bencher<'_, '_>, encoding: &'static Encoding) {
    let cursor: Cursor = "1700000000000-0.abc".parse().expect("valid");
    let message =
        || Message::new(Some(cursor), "board".parse().expect("valid"), Event::default(), &draft().payload, None);
    bencher.with_inputs(message).bench_values(|message| encoding.frame(&message));
}

/// Converts a cursor to text and back.
#[divan::bench]
fn parse_cursor() -> Cursor {
    black_box("1700000000000-12.abcdefg").parse().expect("valid")
}

#[divan::bench]
fn write_cursor(bencher: Bencher<'_, '_>) {
    let cursor: Cursor = "1700000000000-12.abcdefg".parse().expect("valid");
    bencher.bench(|| black_box(cursor).to_string());
}

/// A payload that is not JSON becomes a JSON string.
#[divan::bench]
fn parse_payload(bencher: Bencher<'_, '_>) {
    let text = text();
    bencher.bench(|| Payload::from_any(black_box(&text)));
}

/// A masked text frame of a client (RFC 6455 §5.3).
#[divan::bench]
fn parse_frame(bencher: Bencher<'_, '_>) {
    let frame: Vec<u8> = [&[0x81, 0x80 | 126, 0, 200, 1, 2, 3, 4][..], &[b'x' ^ 1; 200]].concat();
    let fresh = || (Decoder::new(4096), BytesMut::from(&frame[..]));
    bencher.with_inputs(fresh).bench_refs(|(decoder, bytes)| decoder.decode(bytes).is_ok());
}

fn world() -> (Runtime, Arc<MemoryLog>, Arc<Hub>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let retention = Retention { age: Duration::from_secs(600), messages: 10_000, bytes: 64 << 20 };
    let log = Arc::new(MemoryLog::new(retention));
    let hub = Hub::new(log.clone(), retention, Duration::from_secs(30));
    runtime.block_on(async {
        tokio::spawn(hub.clone().follow());
        hub.ready().await;
    });
    (runtime, log, hub)
}

/// From a draft to the node's memory, without readers.
#[divan::bench]
fn append(bencher: Bencher<'_, '_>) {
    let (runtime, log, hub) = world();
    bencher.with_inputs(|| vec![draft()]).bench_local_values(|drafts| {
        runtime.block_on(async {
            let cursors = log.append(drafts).await.expect("appended");
            hub.advance();
            cursors
        })
    });
}

/// A reader that copies the new messages from its channel's ring.
#[divan::bench(args = [1, 100])]
fn ring(bencher: Bencher<'_, '_>, messages: usize) {
    let (runtime, log, hub) = world();
    let from = runtime.block_on(async {
        let cursors = log.append(vec![draft(); messages + 1]).await.expect("appended");
        hub.advance();
        cursors[0].expect("a cursor")
    });
    let mut reader = hub.subscribe(None, &["board".parse().expect("valid")], Start::Latest, None, None);
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(messages)).bench_local(|| {
        reader.start(Start::After(from), None);
        out.clear();
        runtime.block_on(poll_fn(|cx| reader.poll_step(cx, LIMIT, &mut out)))
    });
}

/// Accepts all bytes at once.
struct Nowhere;

impl Outlet for Nowhere {
    fn format(&self) -> Format<'_> {
        Format { encoding: &encoding::LINE, layout: Layout::Sequence, prefix: b"", suffix: b"" }
    }

    fn transport(&self) -> usize {
        0
    }

    fn encode(&self, messages: &[Arc<Message>], _upto: Cursor) -> Encoded {
        let bytes = messages[0].object().clone();
        Encoded { weight: bytes.len(), bytes }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
}

/// A stream's task: parks, and is woken if the hub does not write for it.
async fn read(mut reader: Subscription) {
    let mut out = Vec::new();
    poll_fn(|cx| {
        reader.unpark();
        out.clear();
        while let Poll::Ready(Step::Messages) = reader.poll_step(cx, LIMIT, &mut out) {
            out.clear();
        }
        reader.park(Allowance::Bytes(usize::MAX));
        Poll::<()>::Pending
    })
    .await;
}

/// A message to 1,000 parked readers, without sockets: the hub writes for them, or wakes each reader.
#[divan::bench(args = [true, false])]
fn wake(bencher: Bencher<'_, '_>, directly: bool) {
    const READERS: usize = 1000;
    let (runtime, log, hub) = world();
    runtime.block_on(async {
        for _ in 0..READERS {
            let mut reader = hub.subscribe(None, &["board".parse().expect("valid")], Start::Latest, None, None);
            if directly {
                reader.set_outlet(Box::new(Nowhere));
            }
            tokio::spawn(read(reader));
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    });
    bencher.counter(ItemsCount::new(READERS)).with_inputs(|| vec![draft()]).bench_local_values(|drafts| {
        runtime.block_on(async {
            log.append(drafts).await.expect("appended");
            hub.advance();
            // The tail's turns, and then the readers'.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
    });
}
