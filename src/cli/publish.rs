//! `longtail publish`: publishes a message from an argument, or messages from standard input.

use super::client::{Client, Target, quote};
use super::failure::{Failure, printable};
use bytes::Bytes;
use clap::Args;
use std::io::{BufRead, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

/// How many times a publish is tried. Its idempotency key makes sure that a retry does not publish a second message.
const TRIES: u32 = 4;

/// Size limit of standard input. A server accepts less, and its error says so.
const MAX_INPUT: u64 = 64 << 20;

/// Publishes a message, and prints its id.
///
/// The command retries while the server cannot say whether it published the
/// message. The idempotency key makes sure that it is published once.
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

    /// Client id that does not receive the message
    #[arg(long, value_name = "ID")]
    exclude: Option<String>,

    /// Idempotency key: the same command given twice publishes one message. By default a random key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Delivers to clients that are connected now, and does not store the message
    #[arg(long)]
    volatile: bool,

    /// Sends a payload such as 123 as a string
    #[arg(long)]
    text: bool,

    /// Publishes each line of standard input as a message
    #[arg(long, conflicts_with_all = ["data", "key"])]
    lines: bool,

    #[command(flatten)]
    target: Target,
}

impl Publish {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let client = self.target.client()?;
        if self.lines {
            for line in std::io::stdin().lock().lines() {
                self.one(&client, line?).await?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let data = match self.data.as_deref() {
            Some("-") | None => {
                let mut data = String::new();
                std::io::stdin().lock().take(MAX_INPUT).read_to_string(&mut data)?;
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

    async fn one(&self, client: &Client, data: String) -> Result<(), Failure> {
        let path = self.path(&self.key.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string()));
        let data = Bytes::from(data);
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            let failure = match client.post(&path, "application/octet-stream", data.clone()).await {
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
        writeln!(std::io::stdout(), "{}", printable(id))?;
        Ok(())
    }

    fn path(&self, key: &str) -> String {
        let mut path = format!("/publish?channel={}", quote(&self.channel));
        let mut field = |name: &str, value: &str| path.push_str(&format!("&{name}={}", quote(value)));
        field("key", key);
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
}
