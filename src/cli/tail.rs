//! `longtail tail`: prints messages as they arrive, and continues at the same position after a reconnect.

use super::client::{Answer, Client, Target, quote};
use super::failure::{Failure, Reason, printable};
use crate::wire::lines::Lines;
use crate::wire::timestamp;
use bytes::BytesMut;
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::{Write, stderr, stdout};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::{Instant, timeout};

/// The time limit for a stream's hello. If the hello does not arrive in this time, `tail` assumes that a proxy holds
/// the stream back, and polls.
const HELLO: Duration = Duration::from_secs(5);

/// Silence after which a stream counts as dead, if the hello does not announce a heartbeat.
const SILENCE: Duration = Duration::from_secs(60);

/// Size limit of a line: more than any sensible --max-message-bytes.
const MAX_LINE: usize = 64 << 20;

/// Prints the messages of channels as they arrive.
///
/// It reconnects by itself, continues at the same position, and prints a line if messages may have been missed. Ctrl-C
/// ends it and prints the cursor to continue from.
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct Tail {
    /// Channels to read
    #[arg(required = true)]
    channels: Vec<String>,

    /// Prints each message as the JSON object that arrived, and gaps as `{"gap":…}`
    #[arg(long)]
    json: bool,

    /// Starts with the newest N messages that are kept
    #[arg(long, value_name = "N", conflicts_with = "cursor")]
    last: Option<u32>,

    /// Continues from a cursor; `earliest` is the oldest message that is kept
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,

    /// Prints who comes and goes, too, in channels with presence
    #[arg(long)]
    presence: bool,

    /// Ends after N messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    #[command(flatten)]
    target: Target,
}

/// A line of a stream, or a message of a batch. The payload stays as it was written: a number may be larger than any
/// Rust type.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow, default)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cursor: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    from: Cow<'a, str>,
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
    #[serde(default)]
    retry: Option<u64>,
    #[serde(default)]
    heartbeat: Option<u64>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    cursor: Cow<'a, str>,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    gap: Option<Gap<'a>>,
}

#[derive(Deserialize)]
struct Gap<'a> {
    #[serde(borrow)]
    from: Cow<'a, str>,
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|_| Failure::Unexpected("unexpected data: is this a Longtail server?".into()))
}

/// Whether an object of this type reports that a member joined or left.
fn is_of_members(kind: &str) -> bool {
    matches!(kind, "member_added" | "member_removed")
}

/// The position up to which messages were read.
struct Position {
    /// Whether the server has answered at least once.
    reached: bool,
    cursor: Option<String>,
    /// The number of messages to start with, until the first answer.
    last: Option<u32>,
    /// The number of messages that are still to be printed.
    left: Option<u64>,
    /// Whether the command polls, because a proxy holds streams back.
    polls: bool,
}

/// The reason why a connection ended.
enum End {
    /// The connection ended, and the command reconnects after this time.
    Again(Duration, String),
    /// Everything was printed.
    Done,
}

impl Tail {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let client = self.target.client()?;
        let mut position =
            Position { reached: false, cursor: self.cursor.clone(), last: self.last, left: self.count, polls: false };
        let mut failures = 0;
        // The whole run uses one signal listener, because a signal between two listeners would be lost.
        let mut interrupt = pin!(ctrl_c());
        loop {
            let began = Instant::now();
            let read = tokio::select! {
                read = self.read(&client, &mut position) => read,
                _ = &mut interrupt => Ok(End::Done),
            };
            let (pause, why) = match read {
                Ok(End::Done) => break,
                Ok(End::Again(pause, why)) => (pause, why),
                Err(failure @ (Failure::Unreachable { .. } | Failure::Unexpected(_))) => {
                    // It is an error if the server has never answered. A server that has answered before may answer
                    // again.
                    if !position.reached {
                        return Err(failure);
                    }
                    (Duration::ZERO, failure.to_string())
                }
                Err(failure @ Failure::Refused { status: 429 | 502..=504, .. }) => {
                    (Duration::ZERO, failure.to_string())
                }
                Err(failure) => return Err(client.explain(failure)),
            };
            failures = if began.elapsed() > Duration::from_secs(10) { 0 } else { failures + 1 };
            let pause = pause.max(Duration::from_millis(100) * 2_u32.pow(failures.min(6)));
            let pause = if why.is_empty() { Duration::ZERO } else { pause.mul_f64(0.75 + fastrand::f64() / 2.0) };
            if !why.is_empty() {
                // Messages go to standard output. The command continues even if no program reads its standard error.
                let _ = writeln!(stderr(), "-- {}; reconnecting", printable(&why));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = &mut interrupt => break,
            }
        }
        if let Some(cursor) = &position.cursor {
            let _ = writeln!(stderr(), "-- cursor {}", printable(cursor));
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn read(&self, client: &Client, position: &mut Position) -> Result<End, Failure> {
        let mut query = format!("?channel={}", quote(&self.channels.join(",")));
        if let Some(cursor) = &position.cursor {
            query.push_str(&format!("&cursor={}", quote(cursor)));
        }
        if let Some(last) = position.last {
            query.push_str(&format!("&last={last}"));
        }
        if self.presence {
            query.push_str("&presence=1");
        }
        if position.polls {
            let text = client.get(&format!("/long-poll{query}"), &[]).await?.ok().await?.text().await?;
            let batch: Batch<'_> = parse(&text)?;
            if let Some(gap) = &batch.gap {
                self.gap(&gap.from, &batch.cursor)?;
            }
            for message in &batch.messages {
                if self.message(&parse(message.get())?, message.get(), position)? {
                    return Ok(End::Done);
                }
            }
            position.moved(Some(&batch.cursor));
            return Ok(End::Again(Duration::ZERO, String::new()));
        }
        // A proxy that holds the body back may also hold the head back.
        match timeout(HELLO, client.get(&format!("/ndjson{query}"), &[])).await {
            Ok(stream) => self.follow(stream?.ok().await?, position).await,
            Err(_) => Ok(position.held_back()),
        }
    }

    async fn follow(&self, mut stream: Answer, position: &mut Position) -> Result<End, Failure> {
        let (mut lines, mut buf) = (Lines::new(MAX_LINE), BytesMut::new());
        let mut patience = HELLO;
        loop {
            match timeout(patience, stream.piece()).await {
                Ok(piece) => match piece? {
                    Some(piece) => buf.extend_from_slice(&piece),
                    None => return Ok(End::Again(Duration::ZERO, "the stream has ended".into())),
                },
                Err(_) if patience == HELLO => return Ok(position.held_back()),
                Err(_) => return Ok(End::Again(Duration::ZERO, "the stream is silent".into())),
            }
            while let Ok(Some(line)) = lines.decode(&mut buf) {
                let text = String::from_utf8_lossy(&line);
                let object: Object<'_> = parse(&text)?;
                match object.kind.as_deref() {
                    Some("hello") => {
                        let heartbeat = object.heartbeat.map(Duration::from_secs);
                        patience = heartbeat.map_or(SILENCE, |heartbeat| heartbeat * 3) + HELLO;
                    }
                    Some("gap") => {
                        self.gap(&object.from, object.cursor.as_deref().unwrap_or("?"))?;
                    }
                    Some("bye") => {
                        position.moved(object.cursor.as_deref());
                        let reason = printable(&object.reason);
                        let Some(retry) = object.retry else {
                            return Err(Failure::Refused { status: 403, reason: Reason::words(reason) });
                        };
                        return Ok(End::Again(Duration::from_millis(retry), reason));
                    }
                    Some(kind) if !is_of_members(kind) => {}
                    _ => {
                        if self.message(&object, &text, position)? {
                            return Ok(End::Done);
                        }
                    }
                }
                position.moved(object.cursor.as_deref());
            }
        }
    }

    /// Prints a message. Returns whether this message was the last one to print.
    fn message(&self, message: &Object<'_>, text: &str, position: &mut Position) -> Result<bool, Failure> {
        if position.left == Some(0) {
            return Ok(true);
        }
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{text}")?;
        } else {
            let ms = message.id.as_deref().and_then(|id| id.split('-').next()?.parse().ok());
            let time = ms.map_or("volatile".into(), timestamp::rfc3339);
            // An object about a member has a type instead of an event.
            let event = message.kind.as_deref().unwrap_or(&message.event);
            let (channel, event) = (printable(&message.channel), printable(event));
            let data = printable(message.data.map_or("null", RawValue::get));
            writeln!(out, "{time} {channel} {event} {data}")?;
        }
        out.flush()?;
        position.moved(message.id.as_deref());
        position.left = position.left.map(|left| left - 1);
        Ok(position.left == Some(0))
    }

    fn gap(&self, from: &str, cursor: &str) -> Result<(), Failure> {
        let (from, cursor) = (printable(from), printable(cursor));
        if self.json {
            writeln!(stdout(), "{}", serde_json::json!({"gap": {"from": from, "cursor": cursor}}))?;
        } else {
            writeln!(stdout(), "-- gap: messages after {from} may be missing; continuing at {cursor}")?;
        }
        Ok(())
    }
}

impl Position {
    fn held_back(&mut self) -> End {
        self.polls = true;
        End::Again(Duration::ZERO, "no hello: a proxy holds streams back; polling".into())
    }

    fn moved(&mut self, cursor: Option<&str>) {
        self.reached = true;
        if let Some(cursor) = cursor {
            self.cursor = Some(cursor.to_owned());
            self.last = None;
        }
    }
}
