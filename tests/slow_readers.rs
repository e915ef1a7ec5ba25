//! Many readers that never read, while many messages are published: the cost in the server's memory, and for the
//! readers that do read.
//!
//! With `LONGTAIL_LONG` the test uses a thousand readers and 1 GiB; by default a hundred and 40 MiB. It prints the
//! figures.

use crate::support;

use std::time::{Instant, SystemTime, UNIX_EPOCH};
use support::websocket::handshake;
use support::{Node, Request, Response, eventually, within};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

const MIB: usize = 1 << 20;
const PAYLOAD: usize = 16 << 10;
const READERS: usize = 100;
const BUDGET: usize = 64 * MIB;
const RETAINED: usize = 64 * MIB;

fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_micros() as u64
}

/// A client that sends a request and reads nothing of the answer.
async fn never_reads(node: &Node, n: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let (at, request) = match n % 5 {
        0 => (node.tcp, "{\"type\":\"subscribe\",\"channels\":[\"flood\"]}\n".to_owned()),
        1 => (node.http, "GET /sse?channel=flood HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        2 => (node.http, "GET /ndjson?channel=flood HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        3 => {
            // The client sends one poll after the other and reads no answer.
            let poll = "GET /long-poll?channel=flood&cursor=earliest&limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
            (node.http, poll.repeat(20))
        }
        _ => {
            let answer = handshake("/ws?channel=flood").open(node.http).await;
            return answer.into_stream().0.into_plain();
        }
    };
    let mut stream = socket.connect(at).await.expect("connect");
    stream.write_all(request.as_bytes()).await.expect("write");
    stream
}

/// A healthy reader, which returns the time that each message took, in microseconds.
fn healthy(mut response: Response, count: usize) -> JoinHandle<Vec<u64>> {
    tokio::spawn(async move {
        let (mut took, mut text) = (Vec::new(), String::new());
        while took.len() < count {
            let part = response.read_some().await.expect("a part, not the end");
            text.push_str(&String::from_utf8_lossy(&part));
            while let Some(end) = text.find('\n') {
                let line: String = text.drain(..=end).collect();
                if let Some((_, rest)) = line.split_once("\"data\":") {
                    let sent: u64 = rest.trim_end().trim_end_matches('}').parse().expect("a time");
                    took.push(micros().saturating_sub(sent));
                }
            }
        }
        took
    })
}

struct Figures {
    before: usize,
    peak: usize,
    after: usize,
    p50: u64,
    p99: u64,
    seconds: f64,
    /// The maximum memory of all TCP sockets on this machine.
    kernel: usize,
}

/// The memory that the kernel holds for TCP sockets.
fn kernel() -> usize {
    let text = std::fs::read_to_string("/proc/net/sockstat").expect("sockstat");
    let line = text.lines().find(|line| line.starts_with("TCP:")).expect("a line");
    let pages = line.rsplit(' ').next().and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("a number") * 4096
}

/// Publishes this number of bytes to the readers that never read, and a time now and then to the healthy readers.
async fn run(never: usize, bytes: usize) -> Figures {
    let (budget, retained) = (BUDGET.to_string(), RETAINED.to_string());
    let args = ["--max-buffer-bytes", &budget, "--retain-bytes", &retained, "--write-timeout", "600", "--log", "error"];
    // The node logs its addresses at level info.
    let node = Node::start(&[&args[..6], &["--log", "info"]].concat()).await;
    let pulses = 200;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(healthy(Request::get("/ndjson?channel=pulse").open(node.http).await, pulses));
    }
    let mut idle = Vec::new();
    for n in 0..never {
        idle.push(never_reads(&node, n).await);
    }
    let all = READERS + never - never / 5;
    eventually("all to be there", async || {
        let channels = node.get("/channels").await.json();
        let total: u64 = channels["channels"].as_array()?.iter().filter_map(|c| c["readers"]["total"].as_u64()).sum();
        (total as usize >= all).then_some(())
    })
    .await;
    let before = node.resident();
    let payload = "x".repeat(PAYLOAD);
    let array = format!("[{}]", vec![format!("{{\"channel\":\"flood\",\"data\":\"{payload}\"}}"); 60].join(","));
    let rounds = bytes / (60 * PAYLOAD);
    let (mut peak, mut kernel_peak, begun, mut said) = (before, 0, Instant::now(), 0);
    for round in 0..rounds {
        assert_eq!(node.publish_json(&array).await.status, 200);
        peak = peak.max(node.resident());
        kernel_peak = kernel_peak.max(kernel());
        while said < pulses * (round + 1) / rounds {
            said += 1;
            node.publish("pulse", &micros().to_string()).await;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let mut took: Vec<u64> = Vec::new();
    for reader in readers {
        took.extend(within(support::LONG, "a healthy reader to have all", reader).await.expect("a reader"));
    }
    assert_eq!(took.len(), READERS * pulses, "nothing is lost or doubled");
    took.sort_unstable();
    let held = node.metric("longtail_buffered_bytes").await;
    assert!(held <= BUDGET as f64, "{held}");
    println!(
        "  held {:.1} MiB, let go for memory: {}",
        held / MIB as f64,
        node.metric("longtail_refused_total{reason=\"memory\"}").await
    );
    drop(idle);
    eventually("nothing to be held", async || (node.metric("longtail_buffered_bytes").await == 0.0).then_some(()))
        .await;
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    Figures { before, peak, after: node.resident(), p50, p99, seconds, kernel: kernel_peak }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_never_read_cost_what_was_allowed() {
    let long = std::env::var_os("LONGTAIL_LONG").is_some();
    let (never, bytes) = if long { (1000, 1024 * MIB) } else { (100, 40 * MIB) };
    let without = run(0, bytes).await;
    let with = run(never, bytes).await;
    for (name, figures) in [("without", &without), (&format!("with {never}"), &with)] {
        let mib = |bytes: usize| bytes as f64 / MIB as f64;
        println!(
            "{name}: resident {:.1} MiB before, {:.1} peak, {:.1} after; {READERS} healthy readers p50 {:.1} ms, p99 {:.1} ms; {:.1} s; the kernel's sockets {:.0} MiB",
            mib(figures.before),
            mib(figures.peak),
            mib(figures.after),
            figures.p50 as f64 / 1000.0,
            figures.p99 as f64 / 1000.0,
            figures.seconds,
            mib(figures.kernel),
        );
    }
    // The memory beyond that of a run without them is at most the budget and a margin for the allocator.
    let beyond = with.peak.saturating_sub(with.before).saturating_sub(without.peak.saturating_sub(without.before));
    assert!(beyond < BUDGET + BUDGET / 2 + 32 * MIB, "{} MiB", beyond / MIB);
    // Other programs also use the two cores, so this bound detects a fault and is not a target.
    assert!(
        with.p99 < without.p99 * 20 + 5_000_000,
        "p99 {} us without, {} us with those that never read",
        without.p99,
        with.p99
    );
}
