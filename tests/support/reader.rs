//! One reader for every transport: it opens a subscription and yields the objects that the server sends.

use super::decode::Decoder;
pub use super::decode::{Item, Kind};
use super::door::{self, Door, Stream};
use super::http::Response;
use super::quiet::Quiet;
use super::{LineClient, Node, Published, Request, SOON, Transport, came, quote, within};
use futures_util::{SinkExt, StreamExt};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The parameters of a subscription, for any transport.
#[derive(Clone, Debug, Default)]
pub struct Subscription {
    pub channels: Vec<String>,
    pub cursor: Option<String>,
    /// Further fields, such as `client`, `last`, `timeout` or `max_bytes`.
    pub extra: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    /// Sends the fields as a form instead of in the query.
    pub post: bool,
}

impl Subscription {
    pub fn to(channels: &[&str]) -> Subscription {
        let channels = channels.iter().map(ToString::to_string).collect();
        Subscription { channels, ..Subscription::default() }
    }

    pub fn from(mut self, cursor: &str) -> Subscription {
        self.cursor = Some(cursor.to_owned());
        self
    }

    pub fn with(mut self, field: &str, value: &str) -> Subscription {
        self.extra.push((field.to_owned(), value.to_owned()));
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Subscription {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Goes on with the session that the server has named.
    fn note_session(&mut self, item: &Item) {
        let Some(session) = item.str("session") else { return };
        for (_, value) in self.extra.iter_mut().filter(|(name, _)| name == "session") {
            value.clone_from(&session);
        }
    }

    /// The session, after the server has named it.
    pub fn session(&self) -> &str {
        self.extra("session").expect("a reader with a session")
    }

    fn extra(&self, field: &str) -> Option<&str> {
        self.extra.iter().find(|(name, _)| name == field).map(|(_, value)| value.as_str())
    }

    pub fn query(&self) -> String {
        let mut query = format!("channel={}", quote(&self.channels.join(",")));
        if let Some(cursor) = &self.cursor {
            query.push_str(&format!("&cursor={}", quote(cursor)));
        }
        for (name, value) in &self.extra {
            query.push_str(&format!("&{name}={}", quote(value)));
        }
        query
    }

    /// The `subscribe` command of duplex transports. `last` is a number there.
    pub fn command(&self) -> String {
        let mut command = serde_json::json!({"type": "subscribe", "channels": self.channels});
        if let Some(cursor) = &self.cursor {
            command["cursor"] = cursor.as_str().into();
        }
        for (name, value) in &self.extra {
            command[name] = match (name.as_str(), value.parse::<u64>()) {
                ("last" | "presence", Ok(number)) => number.into(),
                _ => value.as_str().into(),
            };
        }
        command.to_string()
    }
}

pub type WebSocket = WebSocketStream<Stream>;

/// A WebSocket of another library, through this test's door.
pub async fn web_socket(address: SocketAddr, target: &str) -> Result<WebSocket, String> {
    if door::door() == Door::Http2 {
        let answer = super::websocket::handshake(target).try_open(address).await.ok_or("no answer")?;
        if answer.status != 200 {
            return Err(format!("{} in place of 200", answer.status));
        }
        let (stream, _) = answer.into_stream();
        return Ok(WebSocketStream::from_raw_socket(stream, Role::Client, None).await);
    }
    let stream = door::connect(address).await.ok_or("no connection")?;
    let url = format!("ws://{address}{target}");
    let opened = tokio_tungstenite::client_async(url, stream).await;
    opened.map(|(socket, _)| socket).map_err(|error| error.to_string())
}

enum Source {
    /// A poll that is between two requests.
    Between,
    Http {
        response: Box<Response>,
        decoder: Box<Decoder>,
    },
    Ws(Box<WebSocket>),
    Tcp(LineClient),
    Ended,
}

pub struct Reader {
    http: SocketAddr,
    tcp: SocketAddr,
    pub transport: Transport,
    pub subscription: Subscription,
    source: Source,
    queue: VecDeque<Item>,
    greeted: bool,
    quiet: Quiet,
    /// Whether the reader reconnects by itself when the server dies or disconnects it.
    tolerant: bool,
    /// The code with which the WebSocket was closed.
    pub close_code: Option<u16>,
    /// The bytes of the present response's body.
    pub raw: Vec<u8>,
}

impl Reader {
    /// Opens a subscription. A stream is open when its `hello` has arrived (which is still to be read); a poll without
    /// a cursor takes the log's present position first.
    pub async fn open(node: &Node, transport: &Transport, subscription: Subscription) -> Reader {
        let mut reader = Reader {
            http: node.http,
            tcp: node.tcp,
            transport: transport.clone(),
            subscription,
            source: Source::Between,
            queue: VecDeque::new(),
            greeted: false,
            quiet: Quiet::default(),
            tolerant: false,
            close_code: None,
            raw: Vec::new(),
        };
        let fresh = reader.subscription.cursor.is_none() && reader.subscription.extra("last").is_none();
        if transport.is_poll() && fresh {
            let channel = quote(&reader.subscription.channels.join(","));
            reader.subscription.cursor = Some(node.latest(&channel).await);
        }
        if transport.is_stream() {
            assert!(reader.connect().await, "{} refused", transport.name);
            let hello = reader.pull().await.expect("a hello, not the end");
            assert!(
                matches!(hello.kind, Kind::Hello | Kind::Error | Kind::Bye),
                "{} began with {}",
                transport.name,
                hello.text
            );
            reader.queue.push_front(hello);
        }
        reader
    }

    /// A reader that begins at its subscription's cursor and reconnects by itself, for as long as it takes, when its
    /// server dies or disconnects it.
    pub fn follow(http: SocketAddr, tcp: SocketAddr, transport: &Transport, subscription: Subscription) -> Reader {
        assert!(subscription.cursor.is_some(), "a follower begins at a cursor: {subscription:?}");
        Reader {
            http,
            tcp,
            transport: transport.clone(),
            subscription,
            source: Source::Between,
            queue: VecDeque::new(),
            greeted: false,
            quiet: Quiet::default(),
            tolerant: true,
            close_code: None,
            raw: Vec::new(),
        }
    }

    /// Connects. Returns whether there is an answer. Only a tolerant reader may have none.
    async fn connect(&mut self) -> bool {
        self.greeted = false;
        self.raw.clear();
        self.source = match self.transport.lifecycle.as_str() {
            "duplex" => {
                let url = self.transport.url(&self.subscription.query());
                match within(SOON, "the WebSocket", web_socket(self.http, &url)).await {
                    Ok(socket) => Source::Ws(Box::new(socket)),
                    Err(_) if self.tolerant => return false,
                    Err(error) => panic!("{url}: {error}"),
                }
            }
            "socket" => {
                let client = LineClient::try_connect(self.tcp).await;
                let Some(mut client) = client else {
                    assert!(self.tolerant, "cannot connect to {}", self.tcp);
                    return false;
                };
                client.try_send(format!("{}\n", self.subscription.command()).as_bytes()).await;
                Source::Tcp(client)
            }
            _ => {
                let url = self.transport.url(&self.subscription.query());
                let mut request = match url.split_once('?') {
                    Some((path, fields)) if self.subscription.post => Request::form(path, fields),
                    _ => Request::get(&url),
                };
                for (name, value) in &self.subscription.headers {
                    request = request.header(name, value);
                }
                let response = if self.tolerant {
                    match request.try_open(self.http).await.filter(|response| response.status == 200) {
                        Some(response) => response,
                        None => return false,
                    }
                } else {
                    request.open(self.http).await
                };
                assert_eq!(response.status, 200, "{}", self.transport.name);
                let content_type = response.header("content-type").expect("a type");
                let callback = self.subscription.extra("callback").unwrap_or("cb");
                let decoder = Box::new(Decoder::new(content_type, callback));
                Source::Http { response: Box::new(response), decoder }
            }
        };
        true
    }

    /// The cursor up to which items were handed out.
    pub fn cursor(&self) -> String {
        self.subscription.cursor.clone().expect("no cursor yet")
    }

    /// The next item, or `None` if the server ended a stream. A poll asks again by itself.
    pub async fn next(&mut self) -> Option<Item> {
        let name = self.transport.name.clone();
        let began = Instant::now();
        let what = format!("the next item on {name} that is not a heartbeat");
        let item = within(self.quiet.left(), &what, self.pull()).await?;
        self.quiet.came(began, matches!(item.kind, Kind::Heartbeat | Kind::Batch));
        match item.kind {
            Kind::Hello => {
                assert!(!std::mem::replace(&mut self.greeted, true), "a second hello on {name}");
            }
            Kind::Gap if self.transport.is_poll() => return Some(item),
            _ => {}
        }
        self.subscription.note_session(&item);
        let place = if item.is_entry() { item.id() } else { item.str("cursor") };
        if place.is_some() && item.kind != Kind::Error {
            self.subscription.cursor = place;
            self.subscription.extra.retain(|(field, _)| field != "last");
        }
        Some(item)
    }

    async fn pull(&mut self) -> Option<Item> {
        let item = self.pull_any().await;
        came(|| match &item {
            Some(item) => format!("on {}, a {:?}: {}", self.transport.name, item.kind, item.text),
            None => format!("on {}, the end", self.transport.name),
        });
        item
    }

    async fn pull_any(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.queue.pop_front() {
                return Some(item);
            }
            match &mut self.source {
                Source::Ended if self.tolerant => self.source = Source::Between,
                Source::Ended => return None,
                Source::Between => {
                    if !self.connect().await {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                Source::Http { response, decoder } => {
                    if let Some(item) = decoder.pop() {
                        return Some(item);
                    }
                    if let Some(part) = response.read_some().await {
                        decoder.feed(&part);
                        self.raw.extend_from_slice(&part);
                        continue;
                    }
                    if !response.broken || !self.tolerant {
                        decoder.finish();
                        while let Some(item) = decoder.pop() {
                            self.queue.push_back(item);
                        }
                    }
                    self.source = self.after_response().await;
                }
                Source::Ws(socket) => match socket.next().await {
                    Some(Ok(Frame::Text(text))) => {
                        self.raw.extend_from_slice(text.as_bytes());
                        return Some(Item::parse(&text));
                    }
                    Some(Ok(Frame::Close(close))) => {
                        self.close_code = close.map(|close| close.code.into());
                    }
                    Some(Ok(Frame::Binary(_))) => panic!("a binary frame"),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => self.source = Source::Ended,
                },
                Source::Tcp(client) => match client.line().await {
                    Some(line) => {
                        self.raw.extend_from_slice(line.as_bytes());
                        let item = Item::parse(&line);
                        // The answer to our own subscribe is not returned.
                        if item.kind != Kind::Ack || item.raw("ref").is_some() {
                            return Some(item);
                        }
                    }
                    None => self.source = Source::Ended,
                },
            }
        }
    }

    /// Sends a command on a WebSocket or a TCP connection to a server that may be gone. Without an open connection, it
    /// does nothing.
    pub async fn try_command(&mut self, command: &str) {
        match &mut self.source {
            Source::Ws(socket) => drop(socket.send(Frame::text(command)).await),
            Source::Tcp(client) => client.try_send(format!("{command}\n").as_bytes()).await,
            Source::Between | Source::Http { .. } | Source::Ended => {}
        }
    }

    /// A poll that came back empty waits a little, as interval polling does.
    async fn after_response(&self) -> Source {
        if self.transport.is_stream() {
            return Source::Ended;
        }
        if self.transport.lifecycle == "poll" && self.queue.len() == 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Source::Between
    }

    /// The next message or gap, even if the reader has to reconnect for it. The caller limits the time.
    pub async fn next_wherever(&mut self) -> Item {
        loop {
            let item = self.any_wherever().await;
            if matches!(item.kind, Kind::Message | Kind::Gap) {
                return item;
            }
        }
    }

    /// The next item of any kind, even if the reader has to reconnect for it.
    pub async fn any_wherever(&mut self) -> Item {
        assert!(self.tolerant, "only a follower comes back by itself");
        loop {
            let Some(item) = self.pull().await else { continue };
            self.subscription.note_session(&item);
            let place = if item.is_entry() { item.id() } else { item.str("cursor") };
            // A refusal that a script or a stream can read: not ready, or too many connections.
            if place.is_some() && !matches!(item.kind, Kind::Error | Kind::Bye) {
                self.subscription.cursor = place;
            }
            if matches!(item.kind, Kind::Bye | Kind::Error) {
                self.source = Source::Between;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return item;
        }
    }

    /// The next message, gap or error. Heartbeats and batch ends are skipped; after a rollover the reader reconnects
    /// with its cursor.
    pub async fn next_news(&mut self) -> Item {
        loop {
            match self.next().await {
                Some(item) => match item.kind {
                    Kind::Message | Kind::Gap | Kind::Error => return item,
                    Kind::Bye => {
                        assert_eq!(item.number("code"), Some(4000), "{}", item.text);
                        self.source = Source::Between;
                    }
                    _ => {}
                },
                None => panic!("{} ended without a bye", self.transport.name),
            }
        }
    }

    pub async fn next_message(&mut self) -> Item {
        let item = self.next_news().await;
        assert_eq!(item.kind, Kind::Message, "{}: {item:?}", self.transport.name);
        item
    }

    /// The next item of this kind, whatever comes before it.
    pub async fn next_of(&mut self, kind: Kind) -> Item {
        let name = self.transport.name.clone();
        within(SOON, &format!("{kind:?} on {name}"), async {
            loop {
                let item = self.next().await;
                let item = item.unwrap_or_else(|| panic!("{name} ended before a {kind:?}"));
                if item.kind == kind {
                    return item;
                }
            }
        })
        .await
    }

    /// Reads exactly these messages, in this order, with nothing between them.
    pub async fn expect(&mut self, expected: &[Published]) {
        for (index, want) in expected.iter().enumerate() {
            let got = self.next_message().await;
            let place = format!("message {index} of {} on {}", expected.len(), self.transport.name);
            assert_eq!(got.id().as_ref(), Some(&want.id), "{place}: {}", got.text);
            assert_eq!(got.str("channel").as_ref(), Some(&want.channel), "{place}");
            let same = super::same_payload(self.transport.is_script(), &want.data, got.data());
            assert!(same, "{place}: {} arrived as {}", want.data, got.data());
        }
    }

    /// Reads all items to the end of the stream.
    pub async fn rest(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await {
            items.push(item);
        }
        items
    }
}
