//! `longtail publish`: publishes a message from an argument, or messages from standard input.

use super::client::{Client, Target, quote};
use super::failure::{Failure, printable};
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

/// The maximum number of attempts for a publish. Its idempotency key makes sure that a retry does not publish a second
/// message.
const TRIES: u32 = 4;

/// Size limit of standard input. A server has a lower limit, and reports it in its error.
const MAX_INPUT: u64 = 64 << 20;

/// Publishes a message, and prints its id.
///
/// The command retries while the server cannot say whether it published the message. The idempotency key makes sure
/// that the server publishes the message only once.
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct Publish {
    /// Channel to publish to
    channel: String,

    /// Payload: JSON stays as it is, other text becomes a string. `-` or no payload reads standard input
    data: Option<String>,

    /// Event name
    #[arg(long, value_name = "NAME")]
    event: Option<String>,

    /// Another channel of the message. A reader of several of its channels gets it once. Repeatable
    #[arg(long = "channel", value_name = "NAME")]
    more: Vec<String>,

    /// Client id that does not receive the message
    #[arg(long, value_name = "ID")]
    exclude: Option<String>,

    /// Client id that does not receive the message, or channel whose readers do not. Repeatable
    #[arg(long, value_name = "ID|NAME")]
    except: Vec<String>,

    /// Takes the payload, a JSON array, as several arguments
    #[arg(long, conflicts_with = "text")]
    args: bool,

    /// Idempotency key: the same command given twice publishes one message. By default a random key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Delivers to clients that are connected now, and does not store the message
    #[arg(long)]
    volatile: bool,

    /// Sends a payload such as 123 as a string
    #[arg(long)]
    text: bool,

    /// Publishes each line of standard input as a message. A line that the server refuses is printed with its
    /// number and left out; the exit code is 1 then
    #[arg(long, conflicts_with_all = ["data", "key"])]
    lines: bool,

    #[command(flatten)]
    target: Target,
}

impl Publish {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let client = self.target.client()?;
        if self.lines {
            return self.all_lines(&client).await;
        }
        let data = match self.data.as_deref() {
            Some("-") | None => {
                let mut data = String::new();
                io::stdin().lock().take(MAX_INPUT).read_to_string(&mut data)?;
                // An editor or `echo` has added the last line end.
                if data.ends_with('\n') {
                    data.pop();
                }
                data
            }
            Some(data) => data.to_owned(),
        };
        self.one(&client, data).await?;
        Ok(ExitCode::SUCCESS)
    }

    /// Publishes lines until the end of the input. It continues after a line that is itself invalid. It ends at any
    /// other failure, because the next line would fail in the same way. The error names the line at which the user can
    /// begin again.
    async fn all_lines(&self, client: &Client) -> Result<ExitCode, Failure> {
        let mut input = io::stdin().lock();
        let (mut number, mut refused) = (0_u64, 0_u64);
        while let Some(line) = next_line(&mut input)? {
            number += 1;
            let failure = match line {
                Line::TooLong => Failure::Usage(format!("the line has more than {MAX_INPUT} bytes")),
                Line::Whole(line) => match self.one(client, line).await {
                    Ok(()) => continue,
                    Err(failure @ (Failure::Refused { status: 400 | 413 | 422, .. } | Failure::Usage(_))) => failure,
                    Err(failure) => {
                        let _ = writeln!(io::stderr(), "longtail publish: stopped at line {number}");
                        return Err(failure);
                    }
                },
            };
            refused += 1;
            let _ = writeln!(io::stderr(), "longtail publish: line {number}: {failure}");
        }
        if refused > 0 {
            let _ = writeln!(io::stderr(), "longtail publish: {refused} of {number} lines are not published");
        }
        Ok(ExitCode::from(u8::from(refused > 0)))
    }

    async fn one(&self, client: &Client, data: impl Into<Bytes>) -> Result<(), Failure> {
        let key = self.key.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let data = data.into();
        // Only the JSON form of a publication has a field for arguments.
        let (path, kind, data) = match self.args {
            true => ("/publish".to_owned(), "application/json", self.object(&key, &data)?),
            false => (self.path(&key), "application/octet-stream", data),
        };
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            let failure = match client.post(&path, kind, data.clone()).await {
                Ok(answer) => match answer.json().await {
                    Ok(answer) => break answer,
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            let may_succeed_later = match &failure {
                Failure::Refused { status, .. } => matches!(status, 429 | 502..=504),
                Failure::Unreachable { .. } | Failure::Unexpected(_) => true,
                _ => false,
            };
            if !may_succeed_later || tries == TRIES {
                return Err(client.explain(failure));
            }
            tokio::time::sleep(Duration::from_millis(250) * 2_u32.pow(tries)).await;
        };
        let id = answer["messages"][0]["id"].as_str().unwrap_or("volatile");
        match writeln!(io::stdout(), "{}", printable(id)) {
            // The server has published this message. The command also publishes the following messages, although no
            // program reads their ids any more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => Ok(printed?),
        }
    }

    fn path(&self, key: &str) -> String {
        let mut path = format!("/publish?key={}", quote(key));
        let mut field = |name: &str, value: &str| path.push_str(&format!("&{name}={}", quote(value)));
        match self.more.as_slice() {
            [] => field("channel", &self.channel),
            _ => self.channels().for_each(|channel| field("channels", channel)),
        }
        self.except.iter().for_each(|item| field("except", item));
        if let Some(event) = &self.event {
            field("event", event);
        }
        if let Some(exclude) = &self.exclude {
            field("exclude", exclude);
        }
        if self.volatile {
            field("volatile", "1");
        }
        if self.text {
            field("as", "text");
        }
        path
    }

    fn channels(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.channel).chain(&self.more)
    }

    /// The message as a publish object, with the payload as its arguments.
    fn object(&self, key: &str, args: &[u8]) -> Result<Bytes, Failure> {
        let args = serde_json::from_slice::<Vec<&RawValue>>(args);
        let args = args.map_err(|_| Failure::Usage("with --args, the payload is a JSON array".into()))?;
        let object = Object {
            channels: self.channels().map(String::as_str).collect(),
            args,
            event: self.event.as_deref(),
            exclude: self.exclude.as_deref(),
            except: &self.except,
            key,
            volatile: self.volatile,
        };
        Ok(serde_json::to_vec(&object).unwrap_or_default().into())
    }
}

/// A publish object.
#[derive(Serialize)]
struct Object<'a> {
    channels: Vec<&'a str>,
    args: Vec<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude: Option<&'a str>,
    except: &'a [String],
    key: &'a str,
    volatile: bool,
}

/// A line of the input.
enum Line {
    /// A line, without its line end.
    Whole(Vec<u8>),
    /// A line that is longer than [`MAX_INPUT`], which was skipped.
    TooLong,
}

/// The next line; `None` at the end of the input. It does not have to be UTF-8, because the server refuses other text.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    if input.take(MAX_INPUT + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && line.len() as u64 > MAX_INPUT {
        input.skip_until(b'\n')?;
        return Ok(Some(Line::TooLong));
    }
    if line.pop_if(|last| *last == b'\n').is_some() {
        line.pop_if(|last| *last == b'\r');
    }
    Ok(Some(Line::Whole(line)))
}
