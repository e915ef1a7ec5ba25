//! A reader over raw TCP: it prints each message. After any failure it reconnects and goes on from where it was.
//!
//! ```sh
//! cargo run --example tcp_reader -- 127.0.0.1:8081 demo other
//! ```
//!
//! Everything that a client has to remember is one string, the cursor.
#![allow(clippy::disallowed_methods, reason = "one thread, which may wait")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

/// A connection without a heartbeat for longer than this is taken for dead.
const SILENCE: Duration = Duration::from_secs(45);

/// How a connection ended, if not by an I/O error.
enum End {
    /// The server said when to reconnect.
    Again(Duration),
    /// The server said not to reconnect.
    Never(String),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8081".into());
    let mut channels: Vec<String> = arguments.collect();
    if channels.is_empty() {
        channels.push("demo".into());
    }

    let mut cursor = String::from("latest");
    let mut failures = 0;
    loop {
        let before = cursor.clone();
        let pause = match read(&address, &channels, &mut cursor) {
            Ok(End::Again(pause)) => {
                failures = 0;
                pause
            }
            Ok(End::Never(why)) => {
                eprintln!("the server does not want us back: {why}");
                return ExitCode::FAILURE;
            }
            Err(error) => {
                // Half a second, doubled up to half a minute as long as nothing gets through.
                failures = if cursor == before { failures + 1 } else { 1 };
                let pause = jittered(Duration::from_millis(500 << failures.min(6)));
                eprintln!("{error}; again in {pause:.1?} from {cursor}");
                pause
            }
        };
        sleep(pause);
    }
}

/// Reads one connection to its end, moving `cursor` on with every object that carries one.
fn read(address: &str, channels: &[String], cursor: &mut String) -> std::io::Result<End> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let subscribe = json!({"type": "subscribe", "channels": channels, "cursor": *cursor, "ref": 1});
    socket.write_all(format!("{subscribe}\n").as_bytes())?;

    for line in BufReader::new(socket).lines() {
        let object: Value = serde_json::from_str(&line?)?;
        match object["type"].as_str() {
            // A message has no type. A volatile message has no id either, and does not move the cursor.
            None => {
                println!("{} {} {}", object["channel"], object["event"], object["data"]);
                advance(cursor, &object["id"]);
            }
            Some("gap") => {
                eprintln!("missed something after {}", object["from"]);
                advance(cursor, &object["cursor"]);
            }
            Some("bye") => {
                advance(cursor, &object["cursor"]);
                let why = object["reason"].to_string();
                return Ok(match object["retry"].as_u64() {
                    Some(retry) => End::Again(Duration::from_millis(retry)),
                    None => End::Never(why),
                });
            }
            Some("error") => return Ok(End::Never(object.to_string())),
            Some(_) => advance(cursor, &object["cursor"]), // hello, heartbeat, ack
        }
    }
    Err(std::io::Error::other("the connection was closed"))
}

fn advance(cursor: &mut String, to: &Value) {
    if let Some(to) = to.as_str() {
        to.clone_into(cursor);
    }
}

/// A random time between half of it and all of it, so that many readers do not reconnect at the same moment.
fn jittered(pause: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    pause.mul_f64(0.5 + f64::from(nanos % 1_000_000) / 2_000_000.0)
}
