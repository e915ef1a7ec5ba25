//! `longtail publish`: a message, from an argument or from standard input.

use super::Failure;
use super::client::{Target, printable, quote};
use bytes::Bytes;
use clap::Args;
use std::io::{BufRead, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

/// How often a publication is tried. It has a key, so that no try makes a second message.
const TRIES: u32 = 4;

/// Bytes of standard input. What a server takes is less, and it says so.
const INPUT: u64 = 64 << 20;

/// Publishes a message, and prints its id.
///
/// It is tried again while the server cannot say what became of it; whatever
/// happens it is one message.
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct Publish {
    /// Where to
    channel: String,

    /// Payload: JSON stands as it is, other text becomes a string; `-`, or none, reads standard input
    data: Option<String>,

    /// Event name
    #[arg(long, value_name = "NAME")]
    event: Option<String>,

    /// Client id that shall not get it
    #[arg(long, value_name = "ID")]
    exclude: Option<String>,

    /// Idempotency key, so that the same command given twice is one message. Otherwise a random one
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Delivers it to those connected now and keeps nothing
    #[arg(long)]
    volatile: bool,

    /// Keeps a payload such as 123 a text
    #[arg(long)]
    text: bool,

    /// Makes a message of each line of standard input
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
                std::io::stdin().lock().take(INPUT).read_to_string(&mut data)?;
                // An editor's or echo's last line end is not meant.
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

    async fn one(&self, client: &super::client::Client, data: String) -> Result<(), Failure> {
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
            let may_pass = match &failure {
                Failure::Refused { status, .. } => matches!(status, 429 | 502..=504),
                Failure::Unreachable { .. } | Failure::Unsound(_) => true,
                _ => false,
            };
            if !may_pass || tries == TRIES {
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
