//! The access log: one line for each request, written when the request has ended. The log does not contain credentials.
//!
//! ```text
//! 2026-11-24T22:52:40.165Z 192.0.2.7 "GET /sse?channel=todo&token=[removed]" 200 5312 12.345 sse
//! ```
//!
//! The fields are: time of the request, address, method and target, status, bytes of the body, seconds, transport.
//! The line contains a field of the query only if the field is known to be harmless. Cookies, `Authorization` and
//! bodies are never read.

use crate::line_writer::{LineWriter, Notice};
use crate::wire::timestamp;
use hyper::{Request, StatusCode};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The maximum number of bytes of lines that wait for the disk.
const WAITING: usize = 4 << 20;

/// The interval at which the writer checks whether the file was moved away, as logrotate does.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The time for which the shutdown waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Query fields that are written with their values.
const HARMLESS: [&str; 25] = [
    "Last-Event-ID",
    "after",
    "as",
    "callback",
    "channel",
    "counts",
    "cursor",
    "domain",
    "event",
    "evs_last_event_id",
    "format",
    "heartbeat",
    "last",
    "lastEventId",
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
const REMOVED: [&str; 9] =
    ["token", "key", "client", "session", "exclude", "data", "access_token", "password", "secret"];

/// The maximum number of bytes of a target in a line.
const TARGET: usize = 1024;

/// The destination of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file, to which lines are appended.
    File(PathBuf),
}

/// The access log. A thread of its own writes the lines, so that no request waits for the disk.
pub struct AccessLog {
    writer: LineWriter,
    /// The file; `None` for standard output.
    file: Option<AccessLogFile>,
}

impl AccessLog {
    /// Opens the log.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(destination: &Destination) -> io::Result<AccessLog> {
        let notify = |notice: Notice<'_>| match notice {
            Notice::Failed(error) => tracing::warn!(%error, "the access log cannot be written"),
            Notice::Resumed { dropped, in_all } => {
                tracing::warn!(
                    dropped,
                    in_all,
                    "lines of the access log were lost: it could not be written, or was too slow"
                );
            }
        };
        let Destination::File(path) = destination else {
            let writer = LineWriter::start("access-log", WAITING, io::stdout(), notify)?;
            return Ok(AccessLog { writer, file: None });
        };
        let file = AccessLogFile(Arc::new(Mutex::new(LogFile::open(path)?)));
        let writer = LineWriter::start("access-log", WAITING, file.clone(), notify)?;
        Ok(AccessLog { writer, file: Some(file) })
    }

    /// Returns the file of the log; `None` if the log is standard output.
    pub fn file(&self) -> Option<AccessLogFile> {
        self.file.clone()
    }

    /// Begins the entry of a request.
    pub fn begin<B>(&self, address: IpAddr, request: &Request<B>) -> Entry {
        self.entry(address, request.method().as_str(), target(request.uri().path(), request.uri().query()))
    }

    /// Begins the entry of a request that was not parsed, because its head is known. `head` has the bytes of the head.
    pub fn begin_head(&self, address: IpAddr, head: &[u8]) -> Entry {
        let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default());
        let mut words = line.split(' ');
        let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
        self.entry(address, method, target(path, query))
    }

    /// Begins the entry of a raw TCP connection.
    pub fn begin_raw(&self, address: IpAddr) -> Entry {
        let mut entry = self.entry(address, "", String::new());
        entry.request = "TCP".into();
        entry
    }

    fn entry(&self, address: IpAddr, method: &str, target: String) -> Entry {
        // A method is a token of any length (RFC 9110 §9.1).
        let method: String = method.chars().take(20).collect();
        Entry {
            writer: self.writer.clone(),
            address,
            request: format!("{method} {target}"),
            time: SystemTime::now(),
            began: Instant::now(),
            ended: None,
            status: 0,
            bytes: 0,
            transport: "-",
        }
    }

    /// Waits until all lines are written, but at most `FLUSH_TIMEOUT`.
    pub fn flush(&self) {
        self.writer.flush(FLUSH_TIMEOUT);
    }

    /// Counts lines that were dropped.
    pub fn dropped(&self) -> &Counter {
        self.writer.dropped()
    }
}

/// The entry of a request that has not ended. The entry is written when this value is dropped.
pub struct Entry {
    writer: LineWriter,
    address: IpAddr,
    request: String,
    time: SystemTime,
    began: Instant,
    ended: Option<Instant>,
    status: u16,
    /// Bytes of the body; on a WebSocket or raw TCP bytes of frames or lines.
    pub bytes: u64,
    /// The transport's name.
    pub transport: &'static str,
}

impl Entry {
    /// Records the status and the length of the body, if it is known.
    pub fn answered(&mut self, status: StatusCode, length: Option<usize>) {
        self.status = status.as_u16();
        if let Some(length) = length {
            self.bytes = length as u64;
        }
    }

    /// Records the time at which the response was written, if the entry lives longer than that.
    pub fn ended_at(&mut self, at: Instant) {
        self.ended = Some(at);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let ms = self.time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let took = self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.began);
        let (time, seconds) = (timestamp::rfc3339(ms), took.as_secs_f64());
        let Entry { address, request, status, bytes, transport, .. } = self;
        // A raw TCP connection does not have a status.
        let status = if *status == 0 { "-".to_owned() } else { status.to_string() };
        let line = format!("{time} {address} \"{request}\" {status} {bytes} {seconds:.3} {transport}\n");
        self.writer.line(line.as_bytes());
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

/// The file of an access log. A clone is the same file.
#[derive(Clone)]
pub struct AccessLogFile(Arc<Mutex<LogFile>>);

impl AccessLogFile {
    /// Closes the file and opens its path again. Waits for the write that runs at this moment.
    ///
    /// # Errors
    ///
    /// The file cannot be opened. The lines then go to the old file.
    pub fn reopen(&self) -> io::Result<()> {
        let mut file = self.0.lock();
        *file = LogFile::open(&file.path)?;
        Ok(())
    }
}

impl Write for AccessLogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.lock().write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().flush()
    }
}

/// A file to which lines are appended. If another file gets the path, as with logrotate, the lines go to that file.
struct LogFile {
    path: PathBuf,
    inode: u64,
    looked: Instant,
    file: File,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<LogFile> {
        let file = append(path)?;
        Ok(LogFile { path: path.to_owned(), inode: file.metadata()?.ino(), looked: Instant::now(), file })
    }

    /// Opens the file again if its path names another file now.
    fn follow(&mut self) -> io::Result<()> {
        if self.looked.elapsed() >= CHECK_EVERY {
            self.looked = Instant::now();
            if !std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
                *self = LogFile::open(&self.path)?;
            }
        }
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.follow()?;
        self.file.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // The log holds addresses of people, so not every user of the machine may read it.
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
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
