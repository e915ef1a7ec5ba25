//! `longtail check`: sends a message through every transport of a running server, and reports the faults on the path.

use super::client::{Client, Credential};
use super::failure::{Failure, Reason, printable};
use super::hook_probe::HookProbe;
use super::probe::{Outcome, Probe};
use clap::Args;
use futures_util::future::join_all;
use serde_json::Value;
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::timeout;

/// Tries every transport of a running server, from this machine.
///
/// For each transport it subscribes, publishes a message and waits for it. A failure is
/// printed with its likely cause on the path: a proxy that buffers responses, drops
/// `Upgrade` or cuts connections. Exit codes: 0 if all work, 1 if some do not, 69 if the
/// server is unreachable.
///
/// If the server passes events on to an application, it also begins a session, and sends
/// the event `longtail-check`, which the application may refuse.
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct Check {
    /// Address of the server, such as `https://push.example.com`
    #[arg(env = "LONGTAIL_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,

    /// Address of raw TCP, if it differs from the one that the server gives
    #[arg(long, value_name = "ADDR")]
    tcp: Option<String>,

    /// Channel to use. Its readers receive a few test messages
    #[arg(long, value_name = "NAME", default_value = "longtail-check")]
    channel: String,

    /// Timeout of each transport in seconds
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,

    /// Seconds of silence on streams and long polls before a message, to find out whether a proxy cuts idle
    /// connections. 20 is longer than a heartbeat; 0 leaves it out
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=3600))]
    idle: u64,

    #[command(flatten)]
    credential: Credential,
}

impl Check {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.url, &self.credential)?;
        let info = client.get("/info", &[]).await?.json().await?;
        if info["name"] != "longtail" {
            return Err(Failure::Unexpected(format!("{} is not a Longtail server", client.base)));
        }
        // This does not use `println!`, because `println!` panics if the program that reads the output has ended.
        let mut out = stdout();
        writeln!(out, "Longtail {} at {}", printable(info["version"].as_str().unwrap_or("?")), client.base)?;
        if info["events"] == true {
            writeln!(out, "clients may send events: the server passes them on to an application")?;
        }
        if let Some(most) = info["presence"]["members"].as_u64() {
            writeln!(out, "presence is on: the server knows the members of some channels, at most {most} in each")?;
        }
        for note in notes(&client).await {
            writeln!(out, "! {note}")?;
        }
        let names: Vec<&str> =
            info["transports"].as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str()).collect();
        let checks = names.iter().map(|name| self.one(&client, &info, name));
        let outcomes = join_all(checks).await;
        let application = if info["events"] == true { self.application(&client).await } else { Vec::new() };
        let mut do_all_work = self.report(&mut out, &client, &names, outcomes)?;
        for (name, outcome) in application {
            do_all_work &= outcome.is_ok();
            match outcome {
                Ok(text) => writeln!(out, "✓ {name:<13} {text}")?,
                Err(failure) => writeln!(out, "✗ {name:<13} {failure}")?,
            }
        }
        Ok(ExitCode::from(u8::from(!do_all_work)))
    }

    /// Tries what the server does for its application.
    async fn application(&self, client: &Client) -> Vec<(&'static str, Outcome)> {
        let mut probe = HookProbe::new(client, &self.channel);
        let time = Duration::from_secs(self.timeout);
        let late = || Err(Failure::Unexpected(format!("no answer within {} s", time.as_secs())));
        let session = timeout(time, probe.session()).await.unwrap_or_else(|_| late());
        let event = timeout(time, probe.event()).await.unwrap_or_else(|_| late());
        vec![("session", session), ("event", event)]
    }

    /// Prints the outcomes. `None` means that the server does not offer the transport. Returns whether all of them work.
    fn report(
        &self,
        out: &mut impl Write,
        client: &Client,
        names: &[&str],
        outcomes: Vec<Option<Outcome>>,
    ) -> Result<bool, Failure> {
        let (mut works, mut tried, mut wants_credentials) = (0, 0, false);
        for (name, outcome) in names.iter().zip(outcomes) {
            let Some(outcome) = outcome else {
                writeln!(out, "- {name:<13} off on this server")?;
                continue;
            };
            tried += 1;
            match outcome {
                Ok(text) => {
                    works += 1;
                    writeln!(out, "✓ {name:<13} {text}")?;
                }
                Err(failure) => {
                    wants_credentials |= is_about_access(&failure);
                    writeln!(out, "✗ {name:<13} {failure}")?;
                }
            }
        }
        writeln!(out, "{works} of {tried} transports work")?;
        if wants_credentials {
            let (channel, fix) = (&self.channel, client.token_fix());
            writeln!(out, "! {channel} needs credentials: {fix}; or try another --channel")?;
        }
        Ok(works == tried && tried > 0)
    }

    /// Tries one transport. Returns `None` if the server does not offer it.
    async fn one(&self, client: &Client, info: &Value, name: &str) -> Option<Outcome> {
        let probe = Probe { client, channel: &self.channel, idle: self.idle, mark: uuid::Uuid::new_v4().to_string() };
        let tcp = match (name, &self.tcp, info["tcp"].as_str()) {
            ("tcp", None, None) => return None,
            ("tcp", Some(address), _) => address.clone(),
            ("tcp", None, Some(address)) => seen_from_here(address, client.host()),
            _ => String::new(),
        };
        let probing = async {
            match name {
                "poll" => probe.poll().await,
                "long-poll" | "jsonp" => probe.long_poll(name).await,
                "ws" => probe.websocket().await,
                "tcp" => probe.tcp(&tcp).await,
                _ => probe.stream(name).await,
            }
        };
        let time = Duration::from_secs(self.timeout + self.idle);
        Some(timeout(time, probing).await.unwrap_or_else(|_| {
            Err(Failure::Unexpected(format!(
                "no message within {} s: a proxy on the path may hold it back",
                time.as_secs()
            )))
        }))
    }
}

/// Returns the address at which this machine can reach raw TCP. The server may report the unspecified address or its
/// own loopback address.
fn seen_from_here(address: &str, host: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(parsed) if parsed.ip().is_unspecified() || parsed.ip().is_loopback() => {
            if host.contains(':') {
                format!("[{host}]:{}", parsed.port())
            } else {
                format!("{host}:{}", parsed.port())
            }
        }
        _ => address.to_owned(),
    }
}

/// Reports facts about the path that concern all transports.
async fn notes(client: &Client) -> Vec<String> {
    let mut notes = Vec::new();
    match client.get("/readyz", &[]).await {
        Ok(answer) if answer.status() == 200 => {}
        Ok(answer) => {
            let reason = Reason::in_body(&answer.text().await.unwrap_or_default());
            notes.push(format!("the server is not ready: {reason}"));
        }
        Err(failure) => notes.push(failure.to_string()),
    }
    let Ok(answer) = client.get("/diagnose/echo", &[]).await else { return notes };
    let Ok(seen) = answer.json().await else { return notes };
    if let Some(version) = seen["http"].as_str().filter(|version| *version == "1.0") {
        notes.push(format!(
            "a proxy on the path speaks HTTP/{version} to the server, so WebSocket cannot pass; for nginx set \
             proxy_http_version 1.1"
        ));
    }
    if let Some(via) = seen["via"].as_str() {
        notes.push(format!("the path leads through {}", printable(via)));
    } else if seen["forwarded"] == true {
        notes.push("there is a proxy on the path".into());
    }
    notes
}

/// Whether access was denied.
fn is_about_access(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { reason, .. } | Failure::Denied(reason) if reason.is_about_access())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_only_the_server_can_reach() {
        for (given, host, wanted) in [
            ("127.0.0.1:8081", "push.example.com", "push.example.com:8081"),
            ("0.0.0.0:8081", "10.1.2.3", "10.1.2.3:8081"),
            ("[::]:8081", "::1", "[::1]:8081"),
            ("10.0.0.7:8081", "push.example.com", "10.0.0.7:8081"),
        ] {
            assert_eq!(seen_from_here(given, host), wanted);
        }
    }
}
