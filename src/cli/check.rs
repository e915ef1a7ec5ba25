//! `longtail check`: a message through every transport of a running server, and what is wrong with the
//! way there.

use super::Failure;
use super::client::{Answer, Client, Credential, Reason, printable, quote};
use clap::Args;
use futures_util::future::{join, join_all};
use futures_util::{SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

/// How long a stream may take to say hello before it counts as held back.
const HELLO: Duration = Duration::from_secs(4);

/// How long a long poll is parked before its message is published.
const PARKED: Duration = Duration::from_millis(200);

/// Tries every transport of a running server, from here.
///
/// For each one it subscribes, publishes a message and waits until it comes. What
/// fails is told with what the way there seems to do: hold answers back, drop
/// `Upgrade`, cut connections. Exit code 0: all work; 1: some do not; 69: there is
/// no server.
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct Check {
    /// Address of the server, as `https://push.example.com`
    #[arg(env = "LONGTAIL_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,

    /// Address of raw TCP, where it is another than the server says
    #[arg(long, value_name = "ADDR")]
    tcp: Option<String>,

    /// Channel to use; its readers get a few texts
    #[arg(long, value_name = "NAME", default_value = "longtail-check")]
    channel: String,

    /// Seconds that each transport has
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,

    /// Seconds that streams are left alone before a second message, to see whether something cuts them
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3600))]
    idle: u64,

    #[command(flatten)]
    credential: Credential,
}

/// What a transport came to.
type Outcome = Result<String, Failure>;

impl Check {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.url, &self.credential)?;
        let info = client.get("/info", &[]).await?.json().await?;
        if info["name"] != "longtail" {
            return Err(Failure::Unsound(format!("{} answers, and is no Longtail", client.base)));
        }
        println!("Longtail {} at {}", printable(info["version"].as_str().unwrap_or("?")), client.base);
        for note in notes(&client).await {
            println!("! {note}");
        }
        let names: Vec<&str> =
            info["transports"].as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str()).collect();
        let checks = names.iter().map(|name| self.one(&client, &info, name));
        let outcomes = join_all(checks).await;
        let (mut works, mut tried, mut wants_credentials) = (0, 0, false);
        for (name, outcome) in names.iter().zip(outcomes) {
            let Some(outcome) = outcome else {
                println!("- {name:<13} switched off there");
                continue;
            };
            tried += 1;
            match outcome {
                Ok(text) => {
                    works += 1;
                    println!("✓ {name:<13} {text}");
                }
                Err(failure) => {
                    wants_credentials |= is_about_access(&failure);
                    println!("✗ {name:<13} {failure}");
                }
            }
        }
        println!("{works} of {tried} transports work");
        if wants_credentials {
            let (channel, mend) = (&self.channel, client.token_mend());
            println!("! who reads and publishes {channel} wants leave: {mend}; or try another --channel");
        }
        Ok(ExitCode::from(u8::from(works < tried || tried == 0)))
    }

    /// One transport, within its time; `None` where the server has it switched off.
    async fn one(&self, client: &Client, info: &Value, name: &str) -> Option<Outcome> {
        let visit = Visit { client, channel: &self.channel, idle: self.idle, mark: uuid::Uuid::new_v4().to_string() };
        let tcp = match (name, &self.tcp, info["tcp"].as_str()) {
            ("tcp", None, None) => return None,
            ("tcp", Some(address), _) => address.clone(),
            ("tcp", None, Some(address)) => seen_from_here(address, client.host()),
            _ => String::new(),
        };
        let visiting = async {
            match name {
                "poll" => visit.poll().await,
                "long-poll" | "jsonp" => visit.long_poll(name).await,
                "ws" => visit.websocket().await,
                "tcp" => visit.tcp(&tcp).await,
                _ => visit.stream(name).await,
            }
        };
        let time = Duration::from_secs(self.timeout + self.idle);
        Some(timeout(time, visiting).await.unwrap_or_else(|_| {
            Err(Failure::Unsound(format!("no message within {} s: something on the way holds it back", time.as_secs())))
        }))
    }
}

/// The address of raw TCP that the server tells may be "any" or its own loopback.
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

/// What is to be said of the way there as a whole.
async fn notes(client: &Client) -> Vec<String> {
    let mut notes = Vec::new();
    match client.get("/readyz", &[]).await {
        Ok(answer) if answer.status() == 200 => {}
        Ok(answer) => {
            let text = answer.text().await.unwrap_or_default();
            notes.push(format!("the server is not ready: {}", printable(text.trim())));
        }
        Err(failure) => notes.push(failure.to_string()),
    }
    let Ok(answer) = client.get("/diagnose/echo", &[]).await else { return notes };
    let Ok(seen) = answer.json().await else { return notes };
    if let Some(version) = seen["http"].as_str().filter(|version| *version == "1.0") {
        notes.push(format!(
            "a proxy on the way speaks HTTP/{version} to the server: WebSocket cannot pass; for nginx set \
             proxy_http_version 1.1"
        ));
    }
    if let Some(via) = seen["via"].as_str() {
        notes.push(format!("on the way is {}", printable(via)));
    } else if seen["forwarded"] == true {
        notes.push("there is a proxy on the way".into());
    }
    notes
}

/// One transport's try.
struct Visit<'a> {
    client: &'a Client,
    channel: &'a str,
    idle: u64,
    /// What the message says: nobody else's does.
    mark: String,
}

impl Visit<'_> {
    fn query(&self) -> String {
        format!("channel={}", quote(self.channel))
    }

    async fn publish(&self) -> Result<Instant, Failure> {
        let path = format!("/publish?{}&as=text", self.query());
        let began = Instant::now();
        let body = self.mark.clone().into();
        match self.client.post(&path, "text/plain", body).await?.ok().await {
            Err(Failure::Refused { status, said }) => Err(Failure::Refused { status, said: said.about("publishing") }),
            _ => Ok(began),
        }
    }

    /// The log's end, by an empty poll.
    async fn cursor(&self) -> Result<String, Failure> {
        let batch = self.client.get(&format!("/poll?{}", self.query()), &[]).await?.json().await?;
        batch["cursor"].as_str().map(str::to_owned).ok_or_else(|| Failure::Unsound("a batch without a cursor".into()))
    }

    async fn poll(&self) -> Outcome {
        let cursor = self.cursor().await?;
        let began = self.publish().await?;
        let path = format!("/poll?{}&cursor={}&limit=1000", self.query(), quote(&cursor));
        let batch = loop {
            let text = self.client.get(&path, &[]).await?.ok().await?.text().await?;
            if text.contains(&self.mark) {
                break text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut told = format!("message after {}", millis(began.elapsed()));
        let batch: Value = serde_json::from_str(&batch).unwrap_or_default();
        if let Some(cursor) = batch["cursor"].as_str() {
            let tag = format!("\"{cursor}\"");
            let again = self.client.get(&format!("/poll?{}", self.query()), &[("if-none-match", &tag)]).await?;
            // Somebody else may have published meanwhile, which is a 200 with news.
            if again.status() == 200 && again.text().await?.contains("\"messages\":[]") {
                told.push_str("; If-None-Match does not pass");
            }
        }
        Ok(told)
    }

    async fn long_poll(&self, name: &str) -> Outcome {
        let mut cursor = self.cursor().await?;
        let callback = if name == "jsonp" { "&callback=cb" } else { "" };
        let published = async {
            tokio::time::sleep(PARKED).await;
            self.publish().await
        };
        let asked = async {
            loop {
                let path = format!("/{name}?{}&cursor={}&timeout=10{callback}", self.query(), quote(&cursor));
                let text = self.client.get(&path, &[]).await?.ok().await?.text().await?;
                if text.contains(&self.mark) {
                    return Ok(Instant::now());
                }
                let json = text.trim_start_matches("/**/cb(").trim_end().trim_end_matches(");");
                let batch: Value = serde_json::from_str(json).unwrap_or_default();
                let Some(next) = batch["cursor"].as_str() else {
                    return Err(Failure::Denied(Reason::in_body(json)));
                };
                next.clone_into(&mut cursor);
            }
        };
        let (began, came) = join(published, asked).await;
        Ok(format!("message after {}", millis(came?.saturating_duration_since(began?))))
    }

    async fn stream(&self, name: &str) -> Outcome {
        match self.try_stream(name, "").await {
            Err(Failure::Unsound(text)) if text == HELD => match self.try_stream(name, "&padding=1").await {
                Ok(_) => Err(Failure::Unsound(format!("{HELD}; with padding=1 it comes"))),
                Err(_) => Err(Failure::Unsound(text)),
            },
            other => other,
        }
    }

    async fn try_stream(&self, name: &str, more: &str) -> Outcome {
        let callback = if name == "forever-frame" { "&callback=cb" } else { "" };
        let began = Instant::now();
        let path = format!("/{name}?{}{callback}{more}", self.query());
        // What holds a body back may hold the head back with it.
        let asked = timeout(HELLO, self.client.get(&path, &[])).await.map_err(|_| Failure::Unsound(HELD.into()))?;
        let mut stream = Pieces { answer: asked?.ok().await?, text: String::new() };
        let compressed = stream.answer.headers().contains_key("content-encoding");
        match timeout(HELLO, stream.until("\"hello\"")).await {
            Ok(came) => came?,
            Err(_) => return Err(Failure::Unsound(HELD.into())),
        }
        let hello = began.elapsed();
        let message = self.publish().await?;
        stream.until(&self.mark).await?;
        let mut told = format!("hello after {}, message after {}", millis(hello), millis(message.elapsed()));
        if compressed {
            told.push_str("; compressed on the way");
        }
        if self.idle > 0 {
            idle(self.idle, stream.until(NEVER)).await?;
            stream.text.clear();
            let message = self.publish().await?;
            stream.until(&self.mark).await?;
            let _ = write!(told, ", after {} s of idling {}", self.idle, millis(message.elapsed()));
        }
        Ok(told)
    }

    async fn websocket(&self) -> Outcome {
        let url = format!("{}/ws?{}", self.client.base.replacen("http", "ws", 1), self.query());
        let mut request = url.into_client_request().map_err(|error| Failure::Usage(error.to_string()))?;
        if let Some(token) = &self.client.token
            && let Ok(value) = format!("Bearer {token}").parse()
        {
            request.headers_mut().insert("authorization", value);
        }
        let began = Instant::now();
        let mut socket = match timeout(HELLO * 2, tokio_tungstenite::connect_async(request)).await {
            Ok(Ok((socket, _))) => socket,
            Ok(Err(tungstenite::Error::Http(answer))) => return Err(no_upgrade(&answer)),
            Ok(Err(error)) => return Err(Failure::Unsound(format!("no WebSocket: {error}"))),
            Err(_) => return Err(Failure::Unsound("the handshake gets no answer".into())),
        };
        let silent = "it opened and is silent: something on the way answers for the server and passes nothing on";
        timeout(HELLO, frame(&mut socket, "\"hello\"")).await.map_err(|_| Failure::Unsound(silent.into()))??;
        let hello = began.elapsed();
        let message = Instant::now();
        socket.send(Frame::text(self.publish_command().to_string())).await.map_err(|_| Failure::Unsound(CUT.into()))?;
        frame(&mut socket, &self.mark).await?;
        let mut told = format!("hello after {}, message after {}", millis(hello), millis(message.elapsed()));
        if self.idle > 0 {
            idle(self.idle, frame(&mut socket, NEVER)).await?;
            let message = Instant::now();
            let command = Frame::text(self.publish_command().to_string());
            socket.send(command).await.map_err(|_| Failure::Unsound(CUT.into()))?;
            frame(&mut socket, &self.mark).await?;
            let _ = write!(told, ", after {} s of idling {}", self.idle, millis(message.elapsed()));
        }
        Ok(told)
    }

    async fn tcp(&self, address: &str) -> Outcome {
        let began = Instant::now();
        let unreachable = |reason: String| Failure::Unreachable { url: format!("tcp://{address}"), reason };
        let stream = match timeout(HELLO, TcpStream::connect(address)).await {
            Ok(connected) => connected.map_err(|error| unreachable(error.to_string()))?,
            Err(_) => return Err(unreachable("no answer; a firewall may drop it".into())),
        };
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut subscribe = json!({"type": "subscribe", "channels": [self.channel]});
        if let Some(token) = &self.client.token {
            subscribe["token"] = token.as_str().into();
        }
        write.write_all(format!("{subscribe}\n").as_bytes()).await?;
        let mut next = async |wanted: &str| {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains(wanted) {
                    return Ok(());
                }
                if line.contains("\"type\":\"error\"") {
                    return Err(Failure::Denied(Reason::in_body(&line)));
                }
            }
            Err(Failure::Unsound(CUT.into()))
        };
        next("\"hello\"").await?;
        let hello = began.elapsed();
        let message = Instant::now();
        write.write_all(format!("{}\n", self.publish_command()).as_bytes()).await?;
        next(&self.mark).await?;
        let mut told = format!("hello after {}, message after {}", millis(hello), millis(message.elapsed()));
        if self.idle > 0 {
            idle(self.idle, next(NEVER)).await?;
            let message = Instant::now();
            write.write_all(format!("{}\n", self.publish_command()).as_bytes()).await?;
            next(&self.mark).await?;
            let _ = write!(told, ", after {} s of idling {}", self.idle, millis(message.elapsed()));
        }
        Ok(told)
    }

    fn publish_command(&self) -> Value {
        json!({"type": "publish", "channel": self.channel, "data": self.mark, "ref": 1})
    }
}

/// What is said where a stream's beginning does not come.
const HELD: &str = "nothing comes: something on the way holds the answer back until it is whole; switch its buffering \
                    off (nginx: proxy_buffering off)";

/// A text that no server of ours sends: JSON has no bare NUL.
const NEVER: &str = "\0";

/// Reads for some time, and wants no end.
async fn idle(seconds: u64, reading: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match timeout(Duration::from_secs(seconds), reading).await {
        Ok(Err(Failure::Unsound(_))) => Err(Failure::Unsound(format!("cut while it was idle, within {seconds} s"))),
        Ok(other) => other,
        Err(_) => Ok(()),
    }
}

/// What is said where a connection ends that should not.
const CUT: &str = "cut before the message came";

/// Reads frames until one holds a text.
async fn frame(
    socket: &mut (impl Stream<Item = Result<Frame, tungstenite::Error>> + Unpin),
    wanted: &str,
) -> Result<(), Failure> {
    while let Some(Ok(frame)) = socket.next().await {
        match frame {
            Frame::Text(text) if text.contains(wanted) => return Ok(()),
            Frame::Text(text) if text.contains("\"type\":\"error\"") => {
                return Err(Failure::Denied(Reason::in_body(&text)));
            }
            _ => {}
        }
    }
    Err(Failure::Unsound(CUT.into()))
}

fn no_upgrade(answer: &tungstenite::http::Response<Option<Vec<u8>>>) -> Failure {
    let status = answer.status().as_u16();
    let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let ours = body.contains("Connection: Upgrade") || body.contains("HTTP/1.0");
    let said = Reason::in_body(&body);
    let said = match status {
        // Ours, or a proxy's that took the request for a plain GET.
        400 | 426 if ours => Reason::words(
            "`Upgrade` was lost on the way: for nginx set proxy_http_version 1.1, and pass Upgrade and Connection on",
        ),
        401 | 403 | 503 => said,
        _ => Reason::words(format!("in place of 101 ({said}): something on the way takes no WebSocket")),
    };
    Failure::Refused { status, said }
}

/// A refusal that a frame or a stream can hear, wherever it stands in what came. `None`: there is none, or not all
/// of it yet.
fn refusal(text: &str) -> Option<Failure> {
    let object = |mark| {
        let begin = &text[text.find(mark)?..];
        serde_json::Deserializer::from_str(begin).into_iter::<Value>().next()?.ok()
    };
    if let Some(error) = object("{\"error\":{\"code\"") {
        return Some(Failure::Denied(Reason::in_body(&error.to_string())));
    }
    let bye = object("{\"type\":\"bye\"")?;
    let reason = printable(bye["reason"].as_str().unwrap_or("?"));
    Some(Failure::Denied(Reason::words(format!("bye: {reason}"))))
}

/// Whether it failed since the server does not let us.
fn is_about_access(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { said, .. } | Failure::Denied(said) if said.is_about_access())
}

/// A stream's body, looked through for texts.
struct Pieces {
    answer: Answer,
    text: String,
}

impl Pieces {
    /// Reads on until a text has come; what is before it is forgotten.
    async fn until(&mut self, wanted: &str) -> Result<(), Failure> {
        loop {
            if let Some(at) = self.text.find(wanted) {
                self.text.drain(..at + wanted.len());
                return Ok(());
            }
            if let Some(refusal) = refusal(&self.text) {
                return Err(refusal);
            }
            match self.answer.piece().await? {
                Some(piece) => self.text.push_str(&String::from_utf8_lossy(&piece)),
                None => return Err(Failure::Unsound(CUT.into())),
            }
        }
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_only_the_server_can_reach() {
        for (told, host, wanted) in [
            ("127.0.0.1:8081", "push.example.com", "push.example.com:8081"),
            ("0.0.0.0:8081", "10.1.2.3", "10.1.2.3:8081"),
            ("[::]:8081", "::1", "[::1]:8081"),
            ("10.0.0.7:8081", "push.example.com", "10.0.0.7:8081"),
        ] {
            assert_eq!(seen_from_here(told, host), wanted);
        }
    }
}
