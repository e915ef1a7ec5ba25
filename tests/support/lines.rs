//! A raw TCP client, with JSON lines in both directions.

use super::door::{self, Stream};
use super::{SOON, came, within};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

pub struct LineClient {
    stream: BufReader<Stream>,
}

impl LineClient {
    pub async fn connect(address: SocketAddr) -> LineClient {
        LineClient::try_connect(address).await.expect("connect")
    }

    /// Connects to a server that may be gone.
    pub async fn try_connect(address: SocketAddr) -> Option<LineClient> {
        let stream = door::connect(address).await?;
        Some(LineClient { stream: BufReader::new(stream) })
    }

    pub async fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes()).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.expect("write");
    }

    /// Like `send_bytes`, for a server that may have closed the connection or stopped reading.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        let write = self.stream.get_mut().write_all(bytes);
        tokio::time::timeout(std::time::Duration::from_secs(5), write).await.ok();
    }

    /// Shuts the sending side, as `printf … | nc` does.
    pub async fn half_close(&mut self) {
        self.stream.get_mut().shutdown().await.expect("shutdown");
    }

    /// The next line, or `None` at the end of the connection.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        let read = within(SOON, "a line", read).await;
        // A line that breaks off does not count, because the server died in the middle of it.
        if read.is_err() || !line.ends_with(b"\n") {
            return None;
        }
        let line = String::from_utf8(line).expect("UTF-8");
        came(|| format!("a line: {}", line.trim_end()));
        Some(line.strip_suffix('\n').expect("a whole line").to_owned())
    }

    pub async fn json(&mut self) -> Value {
        let line = self.line().await.expect("a line, not the end");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }
}
