//! The access log: one line for each request, written when the request has ended. It holds no credentials.
//!
//! ```text
//! 2026-11-24T22:52:40.165Z 192.0.2.7 "GET /sse?channel=todo&token=[removed]" 200 5312 12.345 sse
//! ```
//!
//! The fields are: time of the request, address, method and target, status, bytes of the body, seconds, transport.
//! The line contains a field of the query only if the field is known to be harmless. Cookies, `Authorization` and
//! bodies are never read.

use crate::wire::timestamp;
use hyper::{Method, Request, StatusCode};
use prometheus_client::metrics::counter::Counter;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How many lines may wait for the disk. Further lines are dropped and counted, so that no request waits for the log.
const QUEUE: usize = 8192;

/// How often the writer checks whether the file was moved away, as logrotate does.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How long the shutdown waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Query fields that are written with their values.
const HARMLESS: [&str; 21] = [
    "after",
    "as",
    "callback",
    "channel",
    "counts",
    "cursor",
    "domain",
    "event",
    "format",
    "last",
    "limit",
    "max_bytes",
    "max_seconds",
    "mode",
    "padding",
    "prefix",
    "probe",
    "timeout",
    "volatile",
    "count",
    "every",
];

/// Query fields that are written without their values.
const REMOVED: [&str; 8] = ["token", "key", "client", "exclude", "data", "access_token", "password", "secret"];

/// The maximum number of bytes of a target in a line.
const TARGET: usize = 1024;

/// Where the access log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file, to which lines are appended.
    File(PathBuf),
}

/// A message to the writer thread.
enum Message {
    Line(String),
    Flush(SyncSender<()>),
}

/// The access log. A thread of its own writes the lines.
pub struct AccessLog {
    lines: SyncSender<Message>,
    /// Counts lines that were dropped.
    pub dropped: Counter,
}

impl AccessLog {
    /// Opens the log.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(destination: &Destination) -> io::Result<AccessLog> {
        let (lines, messages) = sync_channel(QUEUE);
        let sink = Sink::open(destination)?;
        std::thread::Builder::new().name("access-log".into()).spawn(move || write(sink, &messages))?;
        Ok(AccessLog { lines, dropped: Counter::default() })
    }

    /// Begins the entry of a request.
    pub fn begin<B>(&self, address: IpAddr, request: &Request<B>) -> Entry {
        let target = target(request.uri().path(), request.uri().query());
        self.entry(address, request.method(), target)
    }

    /// Begins the entry of a raw TCP connection.
    pub fn begin_raw(&self, address: IpAddr) -> Entry {
        let mut entry = self.entry(address, &Method::CONNECT, String::new());
        entry.request = "TCP".into();
        entry
    }

    fn entry(&self, address: IpAddr, method: &Method, target: String) -> Entry {
        // A method is a token of any length (RFC 9110 §9.1).
        let method: String = method.as_str().chars().take(20).collect();
        Entry {
            lines: self.lines.clone(),
            dropped: self.dropped.clone(),
            address,
            request: format!("{method} {target}"),
            time: SystemTime::now(),
            began: Instant::now(),
            status: 0,
            bytes: 0,
            transport: "-",
        }
    }

    /// Waits until all lines are written, but at most [`FLUSH_TIMEOUT`].
    pub fn flush(&self) {
        let (done, flushed) = sync_channel(1);
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// The entry of a request that has not ended. It is written when this is dropped.
pub struct Entry {
    lines: SyncSender<Message>,
    dropped: Counter,
    address: IpAddr,
    request: String,
    time: SystemTime,
    began: Instant,
    status: u16,
    /// Bytes of the body; on a WebSocket or raw TCP bytes of frames or lines.
    pub bytes: u64,
    /// The transport's name.
    pub transport: &'static str,
}

impl Entry {
    /// Notes the status and the length of the body, if it is known.
    pub fn answered(&mut self, status: StatusCode, length: Option<usize>) {
        self.status = status.as_u16();
        if let Some(length) = length {
            self.bytes = length as u64;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let ms = self.time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let (time, seconds) = (timestamp::rfc3339(ms), self.began.elapsed().as_secs_f64());
        let Entry { address, request, status, bytes, transport, .. } = self;
        // Raw TCP has no status.
        let status = if *status == 0 { "-".to_owned() } else { status.to_string() };
        let line = format!("{time} {address} \"{request}\" {status} {bytes} {seconds:.3} {transport}\n");
        if self.lines.try_send(Message::Line(line)).is_err() {
            self.dropped.inc();
        }
    }
}

/// Returns a path and a query in the form that the log contains: harmless fields with their values, secret fields by
/// name, and unknown fields as a mark only.
fn target(path: &str, query: Option<&str>) -> String {
    let mut out = String::with_capacity(64);
    quote(path, &mut out);
    for (index, (name, value)) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()).enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        if HARMLESS.contains(&&*name) {
            out.push_str(&name);
            out.push('=');
            quote(&value, &mut out);
        } else if REMOVED.contains(&&*name) {
            let _ = write!(out, "{name}=[removed]");
        } else {
            out.push_str("[other]");
        }
        if out.len() > TARGET {
            break;
        }
    }
    if out.len() > TARGET {
        // The text is ASCII, so it can be cut at any byte.
        out.truncate(TARGET);
        out.push_str("[cut]");
    }
    out
}

/// Escapes a text so that it cannot begin a line, end the quotes or move a terminal's cursor.
fn quote(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | b'&' | b'?' | b'[' | b']' | ..=b' ' | 0x7f.. => {
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(char::from(byte)),
        }
    }
}

enum Sink {
    Stdout(BufWriter<io::Stdout>),
    File { path: PathBuf, inode: u64, looked: Instant, file: BufWriter<File> },
}

impl Sink {
    fn open(destination: &Destination) -> io::Result<Sink> {
        match destination {
            Destination::Stdout => Ok(Sink::Stdout(BufWriter::new(io::stdout()))),
            Destination::File(path) => {
                let file = append(path)?;
                let (inode, file) = (file.metadata()?.ino(), BufWriter::new(file));
                Ok(Sink::File { path: path.clone(), inode, looked: Instant::now(), file })
            }
        }
    }

    /// Opens the file again if its path names another file now.
    fn follow(&mut self) -> io::Result<()> {
        let Sink::File { path, inode, looked, file } = self else { return Ok(()) };
        if looked.elapsed() < CHECK_EVERY {
            return Ok(());
        }
        *looked = Instant::now();
        if std::fs::metadata(&*path).is_ok_and(|metadata| metadata.ino() == *inode) {
            return Ok(());
        }
        file.flush()?;
        let new = append(path)?;
        *inode = new.metadata()?.ino();
        *file = BufWriter::new(new);
        Ok(())
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Sink::Stdout(out) => out,
            Sink::File { file, .. } => file,
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // The log holds addresses of people, so not every user of the machine may read it.
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn write(mut sink: Sink, messages: &Receiver<Message>) {
    let mut is_reported = false;
    loop {
        let done = match messages.recv_timeout(CHECK_EVERY) {
            Ok(Message::Line(line)) => sink.follow().and_then(|()| {
                sink.writer().write_all(line.as_bytes())?;
                // Pending lines are written together.
                while let Ok(next) = messages.try_recv() {
                    match next {
                        Message::Line(line) => sink.writer().write_all(line.as_bytes())?,
                        Message::Flush(done) => {
                            sink.writer().flush()?;
                            let _ = done.send(());
                        }
                    }
                }
                sink.writer().flush()
            }),
            Ok(Message::Flush(done)) => {
                let flushed = sink.writer().flush();
                let _ = done.send(());
                flushed
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match done {
            Ok(()) => is_reported = false,
            // A full disk does not stop the server. The log reports it once.
            Err(error) if !is_reported => {
                tracing::warn!(%error, "the access log cannot be written");
                is_reported = true;
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_harmless_is_written() {
        for (path, query, written) in [
            ("/poll", None, "/poll"),
            ("/sse", Some("channel=a,b&cursor=1-0.x"), "/sse?channel=a,b&cursor=1-0.x"),
            ("/ws", Some("token=secret&channel=a"), "/ws?token=[removed]&channel=a"),
            // The line hides a secret field however its name is spelt.
            ("/ws", Some("t%6Fken=secret"), "/ws?token=[removed]"),
            ("/ws", Some("Token=secret&secretname&channel=a"), "/ws?[other]&[other]&channel=a"),
            ("/publish", Some("key=order&data=x&client=me"), "/publish?key=[removed]&data=[removed]&client=[removed]"),
            // A request cannot start a new line, close the quotes or send control codes to the terminal.
            ("/a\"b", Some("channel=%0d%0aGET%20/%22%1b[2J"), "/a%22b?channel=%0D%0AGET%20/%22%1B%5B2J"),
            // The line does not have a field that was not in the query.
            ("/poll", Some("channel=a%26token%3Db"), "/poll?channel=a%26token=b"),
        ] {
            assert_eq!(target(path, query), written);
        }
        let long = format!("channel={}", "é".repeat(9000));
        assert!(target("/poll", Some(&long)).len() < TARGET + 10);
    }
}
