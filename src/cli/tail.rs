//! `longtail tail`: prints messages as they come, and comes back by itself from where it was.

use super::Failure;
use super::client::{Answer, Client, Reason, Target, printable, quote};
use crate::wire::lines::Lines;
use crate::wire::timestamp;
use bytes::BytesMut;
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::{Instant, timeout};

/// How long a stream has to say hello; past that something holds it back, and polls are used.
const HELLO: Duration = Duration::from_secs(5);

/// Silence after which a stream is taken for dead, where it has not said how often it speaks.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes of a line: a message of the largest size that anybody would set.
const LINE: usize = 64 << 20;

/// Prints the messages of channels as they come.
///
/// It comes back by itself, from where it was, when the connection or the server
/// goes, and says where something may have been missed. Ctrl-C ends it and prints
/// the cursor to go on from.
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct Tail {
    /// Channels to read
    #[arg(required = true)]
    channels: Vec<String>,

    /// Prints each message as the JSON object that came, and gaps as `{"gap":…}`
    #[arg(long)]
    json: bool,

    /// Begins with the newest N messages that are kept
    #[arg(long, value_name = "N", conflicts_with = "cursor")]
    last: Option<u32>,

    /// Goes on from a cursor; `earliest` is the oldest message that is kept
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,

    /// Ends after N messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    #[command(flatten)]
    target: Target,
}

/// A line of a stream, or a message of a batch: what of it matters here. Payloads stay as they were
/// written: a number may be larger than any that we could hold.
#[derive(Deserialize)]
struct Said<'a> {
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
    serde_json::from_str(text)
        .map_err(|_| Failure::Unsound("what came is none of our objects: is this a Longtail?".into()))
}

/// Where reading has come to.
struct Place {
    /// Whether the server has ever answered.
    reached: bool,
    cursor: Option<String>,
    /// With how many to begin, before the first answer.
    last: Option<u32>,
    /// How many are still wanted.
    left: Option<u64>,
    /// Whether streams are held back on this path.
    polls: bool,
}

/// Why one connection's reading came to its end.
enum End {
    /// There is more: come back after this time.
    Again(Duration, String),
    /// All that was wanted is there.
    Done,
}

impl Tail {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let client = self.target.client()?;
        let mut place =
            Place { reached: false, cursor: self.cursor.clone(), last: self.last, left: self.count, polls: false };
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let read = tokio::select! {
                read = self.read(&client, &mut place) => read,
                _ = ctrl_c() => Ok(End::Done),
            };
            let (pause, why) = match read {
                Ok(End::Done) => break,
                Ok(End::Again(pause, why)) => (pause, why),
                Err(failure @ (Failure::Unreachable { .. } | Failure::Unsound(_))) => {
                    // A server that was never there is an error; one that goes comes back.
                    if !place.reached {
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
                writeln!(stderr(), "-- {}; coming back", printable(&why))?;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = ctrl_c() => break,
            }
        }
        if let Some(cursor) = &place.cursor {
            writeln!(stderr(), "-- cursor {}", printable(cursor))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn read(&self, client: &Client, place: &mut Place) -> Result<End, Failure> {
        let mut query = format!("?channel={}", quote(&self.channels.join(",")));
        if let Some(cursor) = &place.cursor {
            query.push_str(&format!("&cursor={}", quote(cursor)));
        }
        if let Some(last) = place.last {
            query.push_str(&format!("&last={last}"));
        }
        if place.polls {
            let text = client.get(&format!("/long-poll{query}"), &[]).await?.ok().await?.text().await?;
            let batch: Batch<'_> = parse(&text)?;
            if let Some(gap) = &batch.gap {
                self.gap(&gap.from, &batch.cursor)?;
            }
            for message in &batch.messages {
                if self.message(&parse(message.get())?, message.get(), place)? {
                    return Ok(End::Done);
                }
            }
            place.moved(Some(&batch.cursor));
            return Ok(End::Again(Duration::ZERO, String::new()));
        }
        // What holds a body back may hold the head back with it.
        match timeout(HELLO, client.get(&format!("/ndjson{query}"), &[])).await {
            Ok(stream) => self.follow(stream?.ok().await?, place).await,
            Err(_) => Ok(place.held_back()),
        }
    }

    async fn follow(&self, mut stream: Answer, place: &mut Place) -> Result<End, Failure> {
        let (mut lines, mut buf) = (Lines::new(LINE), BytesMut::new());
        let mut patience = HELLO;
        loop {
            match timeout(patience, stream.piece()).await {
                Ok(piece) => match piece? {
                    Some(piece) => buf.extend_from_slice(&piece),
                    None => return Ok(End::Again(Duration::ZERO, "the stream has ended".into())),
                },
                Err(_) if patience == HELLO => return Ok(place.held_back()),
                Err(_) => return Ok(End::Again(Duration::ZERO, "the stream is silent".into())),
            }
            while let Ok(Some(line)) = lines.decode(&mut buf) {
                let text = String::from_utf8_lossy(&line);
                let object: Said<'_> = parse(&text)?;
                match object.kind.as_deref() {
                    Some("hello") => {
                        let heartbeat = object.heartbeat.map(Duration::from_secs);
                        patience = heartbeat.map_or(SILENCE, |heartbeat| heartbeat * 3) + HELLO;
                    }
                    Some("gap") => {
                        self.gap(&object.from, object.cursor.as_deref().unwrap_or("?"))?;
                    }
                    Some("bye") => {
                        place.moved(object.cursor.as_deref());
                        let reason = printable(&object.reason);
                        let Some(retry) = object.retry else {
                            return Err(Failure::Refused { status: 403, said: Reason::words(reason) });
                        };
                        return Ok(End::Again(Duration::from_millis(retry), reason));
                    }
                    Some(_) => {}
                    None => {
                        if self.message(&object, &text, place)? {
                            return Ok(End::Done);
                        }
                    }
                }
                place.moved(object.cursor.as_deref());
            }
        }
    }

    /// Prints a message; tells whether it was the last that is wanted.
    fn message(&self, message: &Said<'_>, text: &str, place: &mut Place) -> Result<bool, Failure> {
        if place.left == Some(0) {
            return Ok(true);
        }
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{text}")?;
        } else {
            let ms = message.id.as_deref().and_then(|id| id.split('-').next()?.parse().ok());
            let time = ms.map_or("volatile".into(), timestamp::rfc3339);
            let (channel, event) = (printable(&message.channel), printable(&message.event));
            let data = printable(message.data.map_or("null", RawValue::get));
            writeln!(out, "{time} {channel} {event} {data}")?;
        }
        out.flush()?;
        place.moved(message.id.as_deref());
        place.left = place.left.map(|left| left - 1);
        Ok(place.left == Some(0))
    }

    fn gap(&self, from: &str, cursor: &str) -> Result<(), Failure> {
        let (from, cursor) = (printable(from), printable(cursor));
        if self.json {
            writeln!(stdout(), "{}", serde_json::json!({"gap": {"from": from, "cursor": cursor}}))?;
        } else {
            writeln!(stdout(), "-- gap: something after {from} may be missing; going on at {cursor}")?;
        }
        Ok(())
    }
}

impl Place {
    fn held_back(&mut self) -> End {
        self.polls = true;
        End::Again(Duration::ZERO, "no hello: something on the way holds streams back; using polls".into())
    }

    fn moved(&mut self, cursor: Option<&str>) {
        self.reached = true;
        if let Some(cursor) = cursor {
            self.cursor = Some(cursor.to_owned());
            self.last = None;
        }
    }
}
