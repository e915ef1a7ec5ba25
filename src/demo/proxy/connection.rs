//! One connection through the proxy.

use super::faults::Faults;
use super::framing::{Progress, Requests, Responses, without_secrets};
use super::tap::Record;
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes per read.
const READ_BYTES: usize = 16 << 10;

/// Limit on the number of delayed bytes in one direction.
const MAX_DELAYED: usize = 256 << 10;

/// The time after which the fault that kills WebSockets cuts a WebSocket. The time is so long that the WebSocket seems
/// to work at first.
const WEBSOCKET_LIFE: Duration = Duration::from_millis(200);

/// Write timeout.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The reason why a connection ended.
type Why = &'static str;

const BROWSER: Why = "client";
const SERVER: Why = "server";

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.x, and protocols to which it switches.
    Http,
    /// Any other protocol: the proxy does not parse its bytes.
    Tcp,
}

/// The phase of a connection, and the time at which it began.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Idle,
    Request(Instant),
    /// The connection carries bytes that are not HTTP, from its start or after a switch.
    Socket(Instant),
}

struct Connection {
    protocol: Protocol,
    record: Record,
    faults: watch::Receiver<Faults>,
    phase: watch::Sender<Phase>,
    /// Whether the current request is a HEAD.
    is_head: AtomicBool,
}

/// Forwards a connection until it ends.
pub(super) async fn forward(
    client: TcpStream,
    upstream: SocketAddr,
    protocol: Protocol,
    record: Record,
    faults: watch::Receiver<Faults>,
) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    for stream in [&client, &server] {
        // Only the faults may delay bytes.
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let phase = if protocol == Protocol::Http { Phase::Idle } else { Phase::Socket(Instant::now()) };
    let (phase, is_head) = (watch::channel(phase).0, AtomicBool::new(false));
    let connection = Connection { protocol, record, faults, phase, is_head };
    let why = tokio::select! {
        why = connection.up(from_client, to_server) => why,
        why = connection.down(from_server, to_client) => why,
        why = connection.cut() => why,
    };
    connection.record.note("closed", 0, None, Some(why));
}

impl Connection {
    fn now(&self) -> Faults {
        *self.faults.borrow()
    }

    fn late(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.now().latency_ms)
    }

    /// Forwards from the browser to the server. A browser that has shut its sending side may still read.
    async fn up(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Why {
        let mut buffer = vec![0; READ_BYTES];
        let mut requests = Requests::default();
        let mut line = DelayLine::default();
        loop {
            tokio::select! {
                read = from.read(&mut buffer), if line.has_room() => {
                    let Ok(count) = read else { return BROWSER };
                    match self.sent(&mut requests, &buffer[..count]) {
                        Ok(bytes) if count == 0 || !bytes.is_empty() => line.push(self.late(), bytes),
                        Ok(_) => {}
                        Err(why) => return why,
                    }
                }
                bytes = line.next() => {
                    if bytes.is_empty() {
                        let _ = to.shutdown().await;
                        return pending().await;
                    }
                    self.record.note("forwarded", bytes.len(), None, None);
                    if write(&mut to, &bytes).await.is_err() {
                        return SERVER;
                    }
                }
            }
        }
    }

    /// Returns the part of the sent bytes that has to be forwarded.
    fn sent(&self, requests: &mut Requests, bytes: &[u8]) -> Result<Bytes, Why> {
        if bytes.is_empty() {
            return Ok(Bytes::new());
        }
        if matches!(*self.phase.borrow(), Phase::Socket(_)) {
            self.record.find_client(bytes);
            self.record.note("sent", bytes.len(), Some(bytes), None);
            // A firewall checks the first bytes. These bytes are not HTTP.
            let is_refused = self.protocol == Protocol::Tcp && self.now().http_only;
            return if is_refused { Err("not-http") } else { Ok(Bytes::copy_from_slice(bytes)) };
        }
        let passed = requests.feed(bytes, &self.now()).map_err(|_| "not-http")?;
        let Some(head) = &passed.head else {
            // The bytes are a part of a body. A head is recorded when it is complete.
            if !passed.bytes.is_empty() {
                self.record.note("sent", bytes.len(), Some(bytes), None);
            }
            return Ok(passed.bytes.into());
        };
        self.record.find_client(head);
        self.record.note("sent", head.len(), Some(&without_secrets(head)), Some("request"));
        if !passed.bytes.starts_with(head) {
            self.record.note("rewritten", passed.bytes.len(), Some(&without_secrets(&passed.bytes)), None);
        }
        self.is_head.store(passed.is_head, Ordering::Relaxed);
        self.phase.send_replace(Phase::Request(Instant::now()));
        Ok(passed.bytes.into())
    }

    /// Forwards from the server to the browser.
    async fn down(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Why {
        let mut buffer = vec![0; READ_BYTES];
        let mut responses = Responses::default();
        let mut line = DelayLine::default();
        let mut held = Vec::new();
        let mut faults = self.faults.clone();
        loop {
            let mut is_over = false;
            tokio::select! {
                read = from.read(&mut buffer), if line.has_room() => {
                    // The client behind this proxy sees a reset as a normal end.
                    let bytes = Bytes::copy_from_slice(&buffer[..read.unwrap_or(0)]);
                    if !bytes.is_empty() {
                        self.record.note("answered", bytes.len(), Some(&bytes), None);
                    }
                    line.push(self.late(), bytes);
                    continue;
                }
                bytes = line.next() => {
                    if bytes.is_empty() {
                        let _ = self.deliver(&mut to, &mut held, true).await;
                        let _ = to.shutdown().await;
                        return SERVER;
                    }
                    held.extend_from_slice(&bytes);
                    if self.protocol == Protocol::Http && !matches!(*self.phase.borrow(), Phase::Socket(_)) {
                        match responses.feed(&bytes, self.is_head.load(Ordering::Relaxed)) {
                            Progress::Open => {}
                            Progress::Complete => {
                                is_over = true;
                                self.phase.send_replace(Phase::Idle);
                            }
                            Progress::Switched => { self.phase.send_replace(Phase::Socket(Instant::now())); }
                        }
                    }
                }
                // The fault that holds bytes may have been switched off.
                Ok(()) = faults.changed(), if !held.is_empty() => {}
            }
            let is_answer = self.protocol == Protocol::Http && !matches!(*self.phase.borrow(), Phase::Socket(_));
            let is_held = is_answer && held.len() < self.now().hold_bytes && !is_over;
            if !is_held && self.deliver(&mut to, &mut held, is_over).await.is_err() {
                return BROWSER;
            }
        }
    }

    async fn deliver(&self, to: &mut OwnedWriteHalf, held: &mut Vec<u8>, is_over: bool) -> io::Result<()> {
        if !held.is_empty() {
            write(to, held).await?;
        }
        if is_over || !held.is_empty() {
            self.record.note("delivered", held.len(), None, is_over.then_some("end"));
        }
        held.clear();
        Ok(())
    }

    /// Waits until a fault ends the connection.
    async fn cut(&self) -> Why {
        let mut faults = self.faults.clone();
        let mut phase = self.phase.subscribe();
        let first = *faults.borrow();
        loop {
            let now = *faults.borrow_and_update();
            let present = *phase.borrow_and_update();
            if now.closes(&first) {
                return "moved";
            }
            let is_raw = self.protocol == Protocol::Tcp;
            // The firewall was switched on after the connection had begun.
            if is_raw && now.http_only && !first.http_only {
                return "not-http";
            }
            let cut = Duration::from_secs(now.cut_seconds);
            let deadline = match present {
                Phase::Socket(since) if now.kill_websockets && !is_raw => Some((since + WEBSOCKET_LIFE, "killed")),
                Phase::Request(since) | Phase::Socket(since) if !cut.is_zero() => Some((since + cut, "cut")),
                _ => None,
            };
            tokio::select! {
                Ok(()) = faults.changed() => {}
                Ok(()) = phase.changed() => {}
                why = at(deadline) => return why,
            }
        }
    }
}

async fn at(deadline: Option<(Instant, Why)>) -> Why {
    match deadline {
        Some((time, why)) => {
            sleep_until(time).await;
            why
        }
        None => pending().await,
    }
}

async fn write(to: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    timeout(WRITE_TIMEOUT, to.write_all(bytes)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Delayed bytes in one direction. An empty piece marks the end.
#[derive(Default)]
struct DelayLine {
    queue: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    is_over: bool,
}

impl DelayLine {
    /// Whether there is room for more bytes. If there is not, the sender waits.
    fn has_room(&self) -> bool {
        !self.is_over && self.bytes < MAX_DELAYED
    }

    fn push(&mut self, due: Instant, bytes: Bytes) {
        self.is_over |= bytes.is_empty();
        self.bytes += bytes.len();
        // This keeps the pieces in order when the latency becomes shorter.
        let due = self.queue.back().map_or(due, |(last, _)| due.max(*last));
        self.queue.push_back((due, bytes));
    }

    /// Waits for the next piece that arrives. Cancel safe.
    async fn next(&mut self) -> Bytes {
        let Some((due, _)) = self.queue.front() else { return pending().await };
        sleep_until(*due).await;
        let (_, bytes) = self.queue.pop_front().unwrap_or((Instant::now(), Bytes::new()));
        self.bytes -= bytes.len();
        bytes
    }
}
