//! Probes one transport: subscribe, publish, wait for the message.

use super::client::{Answer, Client, quote};
use super::failure::{Failure, Reason, printable};
use futures_util::future::{Either, select};
use futures_util::{SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

/// The time limit for a stream's hello. If the hello arrives later, the probe assumes that a proxy holds the stream
/// back.
const HELLO: Duration = Duration::from_secs(4);

/// The minimum time that a long poll waits before the probe publishes its message.
const PARKED: Duration = Duration::from_millis(200);

/// The `Accept-Encoding` header that browsers send. Because of this header, a proxy may compress the answer and hold
/// back the compressed bytes.
const PACKED: &[(&str, &str)] = &[("accept-encoding", "gzip")];

/// The result of the probe of a transport.
pub(super) type Outcome = Result<String, Failure>;

/// A probe of one transport.
pub(super) struct Probe<'a> {
    pub client: &'a Client,
    pub channel: &'a str,
    pub idle: u64,
    /// The payload of the message. No other message has the same payload.
    pub mark: String,
}

impl Probe<'_> {
    fn query(&self) -> String {
        format!("channel={}", quote(self.channel))
    }

    async fn publish(&self) -> Result<Instant, Failure> {
        // The publish has a key, so that the request can be repeated if a proxy loses the connection.
        let path = format!("/publish?{}&as=text&key={}", self.query(), uuid::Uuid::new_v4());
        let began = Instant::now();
        let body = self.mark.clone().into();
        match self.client.post(&path, "text/plain", body).await?.ok().await {
            Err(Failure::Refused { status, reason }) => {
                Err(Failure::Refused { status, reason: reason.about("publishing") })
            }
            _ => Ok(began),
        }
    }

    /// The cursor at the end of the log, from an empty poll.
    async fn cursor(&self) -> Result<String, Failure> {
        let batch = self.client.get(&format!("/poll?{}", self.query()), PACKED).await?.json().await?;
        batch["cursor"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::Unexpected("a batch without a cursor".into()))
    }

    pub async fn poll(&self) -> Outcome {
        let cursor = self.cursor().await?;
        let began = self.publish().await?;
        let path = format!("/poll?{}&cursor={}&limit=1000", self.query(), quote(&cursor));
        let batch = loop {
            let text = self.client.get(&path, PACKED).await?.ok().await?.text().await?;
            if text.contains(&self.mark) {
                break text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut result = format!("message after {}", millis(began.elapsed()));
        let batch: Value = serde_json::from_str(&batch).unwrap_or_default();
        if let Some(cursor) = batch["cursor"].as_str() {
            let tag = format!("\"{cursor}\"");
            let again =
                self.client.get(&format!("/poll?{}", self.query()), &[PACKED[0], ("if-none-match", &tag)]).await?;
            // A 200 with messages is not a fault: another client may have published in the meantime.
            if again.status() == 200 && again.text().await?.contains("\"messages\":[]") {
                result.push_str("; a proxy on the path removes If-None-Match");
            }
        }
        Ok(result)
    }

    pub async fn long_poll(&self, name: &str) -> Outcome {
        let mut cursor = self.cursor().await?;
        let callback = if name == "jsonp" { "&callback=cb" } else { "" };
        let parked = PARKED.max(Duration::from_secs(self.idle));
        let published = async {
            tokio::time::sleep(parked).await;
            self.publish().await
        };
        let asked = async {
            loop {
                let timeout = (self.idle + 10).min(LONGEST_POLL);
                let path = format!("/{name}?{}&cursor={}&timeout={timeout}{callback}", self.query(), quote(&cursor));
                let began = Instant::now();
                let answer = match self.client.get(&path, PACKED).await {
                    Ok(answer) => answer.ok().await,
                    Err(failure) => Err(failure),
                };
                let text = match answer {
                    Err(Failure::Refused { status: 408 | 502 | 504 | 524, .. } | Failure::Unreachable { .. })
                        if began.elapsed() > PARKED =>
                    {
                        return Err(cut_while_waiting(began.elapsed()));
                    }
                    answer => answer?.text().await?,
                };
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
        // If the poll fails, its failure is the result, and the probe does not wait for a message. If the poll works,
        // it may end before another task publishes the message.
        let (began, came) = match select(pin!(published), pin!(asked)).await {
            Either::Left((began, came)) => (began?, came.await?),
            Either::Right((came, began)) => {
                let came: Instant = came?;
                (began.await?, came)
            }
        };
        let mut result = format!("message after {}", millis(came.saturating_duration_since(began)));
        if self.idle > 0 {
            let _ = write!(result, ", to a request that waited for {} s", self.idle);
        }
        Ok(result)
    }

    pub async fn stream(&self, name: &str) -> Outcome {
        match self.try_stream(name, "", PACKED).await {
            Err(Failure::Unexpected(text)) if text == HELD => {
                let passes = if self.try_stream(name, "", &[]).await.is_ok() {
                    "; it arrives if it is not compressed: switch compression off for this path (nginx: gzip off)"
                } else if self.try_stream(name, "&padding=1", PACKED).await.is_ok() {
                    "; it arrives if the request has padding=1"
                } else {
                    ""
                };
                Err(Failure::Unexpected(format!("{HELD}{passes}")))
            }
            other => other,
        }
    }

    async fn try_stream(&self, name: &str, more: &str, headers: &[(&'static str, &str)]) -> Outcome {
        let callback = if name == "forever-frame" { "&callback=cb" } else { "" };
        let began = Instant::now();
        let path = format!("/{name}?{}{callback}{more}", self.query());
        // A proxy that holds the body back may also hold the head back.
        let asked =
            timeout(HELLO, self.client.get(&path, headers)).await.map_err(|_| Failure::Unexpected(HELD.into()))?;
        let mut stream = Pieces { answer: asked?.ok().await?, text: String::new() };
        let compressed = stream.answer.headers().contains_key("content-encoding");
        match timeout(HELLO, stream.until("\"hello\"")).await {
            Ok(came) => came?,
            Err(_) => return Err(Failure::Unexpected(HELD.into())),
        }
        let hello = began.elapsed();
        let message = self.publish().await?;
        // A proxy may hold compressed bytes back after the hello, because its buffer is full only from time to time.
        match timeout(HELLO, stream.until(&self.mark)).await {
            Ok(came) => came?,
            Err(_) => return Err(Failure::Unexpected(HELD.into())),
        }
        let mut result = format!("hello after {}, message after {}", millis(hello), millis(message.elapsed()));
        if compressed {
            result.push_str("; compressed on the way");
        }
        if self.idle > 0 {
            idle(self.idle, stream.until(NEVER)).await?;
            stream.text.clear();
            let message = self.publish().await?;
            stream.until(&self.mark).await?;
            let _ = write!(result, ", after {} s of idling {}", self.idle, millis(message.elapsed()));
        }
        Ok(result)
    }

    pub async fn websocket(&self) -> Outcome {
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
            Ok(Err(error)) => return Err(Failure::Unexpected(format!("the WebSocket handshake failed: {error}"))),
            Err(_) => return Err(Failure::Unexpected("the WebSocket handshake got no answer".into())),
        };
        let silent = "the WebSocket opened and is silent: a proxy answers for the server and forwards nothing";
        timeout(HELLO, frame(&mut socket, "\"hello\"")).await.map_err(|_| Failure::Unexpected(silent.into()))??;
        let hello = began.elapsed();
        let message = Instant::now();
        socket
            .send(Frame::text(self.publish_command().to_string()))
            .await
            .map_err(|_| Failure::Unexpected(CUT.into()))?;
        frame(&mut socket, &self.mark).await?;
        let mut result = format!("hello after {}, message after {}", millis(hello), millis(message.elapsed()));
        if self.idle > 0 {
            idle(self.idle, frame(&mut socket, NEVER)).await?;
            let message = Instant::now();
            let command = Frame::text(self.publish_command().to_string());
            socket.send(command).await.map_err(|_| Failure::Unexpected(CUT.into()))?;
            frame(&mut socket, &self.mark).await?;
            let _ = write!(result, ", after {} s of idling {}", self.idle, millis(message.elapsed()));
        }
        Ok(result)
    }

    pub async fn tcp(&self, address: &str) -> Outcome {
        let began = Instant::now();
        let unreachable = |reason: String| Failure::Unreachable { url: format!("tcp://{address}"), reason };
        let stream = match timeout(HELLO, TcpStream::connect(address)).await {
            Ok(connected) => connected.map_err(|error| unreachable(error.to_string()))?,
            Err(_) => return Err(unreachable("no answer; a firewall may drop the connection".into())),
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
            Err(Failure::Unexpected(CUT.into()))
        };
        next("\"hello\"").await?;
        let hello = began.elapsed();
        let message = Instant::now();
        write.write_all(format!("{}\n", self.publish_command()).as_bytes()).await?;
        next(&self.mark).await?;
        let mut result = format!("hello after {}, message after {}", millis(hello), millis(message.elapsed()));
        if self.idle > 0 {
            idle(self.idle, next(NEVER)).await?;
            let message = Instant::now();
            write.write_all(format!("{}\n", self.publish_command()).as_bytes()).await?;
            next(&self.mark).await?;
            let _ = write!(result, ", after {} s of idling {}", self.idle, millis(message.elapsed()));
        }
        Ok(result)
    }

    fn publish_command(&self) -> Value {
        json!({"type": "publish", "channel": self.channel, "data": self.mark, "ref": 1})
    }
}

/// Returns the error for a stream's hello or a message that does not arrive.
const HELD: &str = "a proxy on the path holds the answer back until it is complete, or until there is more of it; \
                    switch its buffering off (nginx: proxy_buffering off)";

/// The maximum wait of a long poll, in seconds.
const LONGEST_POLL: u64 = 55;

/// Returns the failure for a request that a proxy ended while it waited for a message.
fn cut_while_waiting(waited: Duration) -> Failure {
    Failure::Unexpected(format!(
        "cut after {:.1} s, while the request waited for a message: raise the read timeout of the proxy on the path \
         (nginx: proxy_read_timeout 60s)",
        waited.as_secs_f64()
    ))
}

/// A text that a Longtail server never sends, because JSON cannot contain an unescaped NUL.
const NEVER: &str = "\0";

/// Reads for a given time. Returns an error if the connection ends before this time is over.
async fn idle(seconds: u64, reading: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match timeout(Duration::from_secs(seconds), reading).await {
        Ok(Err(Failure::Unexpected(_))) => Err(Failure::Unexpected(format!(
            "cut while it was idle, within {seconds} s: raise the read timeout of the proxy on the path (nginx: \
             proxy_read_timeout 60s)"
        ))),
        Ok(other) => other,
        Err(_) => Ok(()),
    }
}

/// Returns the error for a connection that ends early.
const CUT: &str = "the connection was cut before the message arrived";

/// Reads frames until a frame contains a text.
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
    Err(Failure::Unexpected(CUT.into()))
}

fn no_upgrade(answer: &tungstenite::http::Response<Option<Vec<u8>>>) -> Failure {
    let status = answer.status().as_u16();
    let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let ours = body.contains("Connection: Upgrade") || body.contains("HTTP/1.0");
    let reason = Reason::in_body(&body);
    let reason = match status {
        // The response is from the server, or from a proxy that handled the request as a plain GET.
        400 | 426 if ours => Reason::words(
            "`Upgrade` was lost on the path: for nginx set proxy_http_version 1.1, and forward Upgrade and Connection",
        ),
        401 | 403 | 503 => reason,
        _ => Reason::words(format!("instead of 101 ({reason}): a proxy on the path does not support WebSocket")),
    };
    Failure::Refused { status, reason }
}

/// The error or bye at any position in the text of a frame or a stream. `None` if the text does not contain a complete
/// error or bye.
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

/// A stream's body, in which the probe searches for texts.
struct Pieces {
    answer: Answer,
    text: String,
}

impl Pieces {
    /// Reads until a text has arrived, and drops all data up to the end of this text.
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
                None => return Err(Failure::Unexpected(CUT.into())),
            }
        }
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
