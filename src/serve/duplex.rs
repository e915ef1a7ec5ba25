//! Duplex connections: the pump one way, commands the other. WebSocket and raw TCP alike.

use super::App;
use super::commands::{Commands, Outcome};
use super::io::ClientIo;
use super::listener::{Client, Taken};
use super::meters::Way;
use super::publish;
use super::pump::Pump;
use super::reply::{self, Reply};
use crate::cursor::Cursor;
use crate::transport::{Breach, Bye, Code, Control, Decode, Input, Refusal, Transport};
use crate::wire::websocket;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode, Version};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use tokio::io::AsyncWriteExt;

/// Publications of a connection that may be under way; past that it is not read from.
const UNACKNOWLEDGED: usize = 100;

/// A WebSocket handshake (RFC 6455 §4.2).
pub struct Upgrade {
    accept: HeaderValue,
}

impl Upgrade {
    /// Checks it.
    ///
    /// # Errors
    ///
    /// What is not as it should be.
    pub fn check(request: &Request<Incoming>) -> Result<Upgrade, Refusal> {
        let headers = request.headers();
        let bad = |text: &str| Err(Refusal::new(Code::BadRequest, text));
        if request.method() != Method::GET || request.version() < Version::HTTP_11 {
            return bad("a WebSocket begins with a GET of HTTP/1.1; a proxy may speak HTTP/1.0");
        }
        if !has_token(headers, "connection", "upgrade") || !has_token(headers, "upgrade", "websocket") {
            return bad(
                "a WebSocket begins with Connection: Upgrade and Upgrade: websocket; a proxy may have removed them",
            );
        }
        if headers.get("sec-websocket-version").is_none_or(|version| version != "13") {
            return bad("Sec-WebSocket-Version is 13");
        }
        let key =
            headers.get("sec-websocket-key").and_then(|key| key.to_str().ok()).filter(|key| websocket::is_key(key));
        let Some(key) = key else { return bad("Sec-WebSocket-Key is 16 bytes in base64") };
        match HeaderValue::try_from(websocket::accept_key(key)) {
            Ok(accept) => Ok(Upgrade { accept }),
            Err(_) => bad("Sec-WebSocket-Key is 16 bytes in base64"),
        }
    }

    /// Answers 101; the connection is taken over then.
    pub fn accept(
        self,
        client: &Client,
        transport: &'static dyn Transport,
        mut pump: Pump,
        position_given: bool,
    ) -> Reply {
        let commands = Commands::new(pump.subscription().channels() > 0, position_given);
        client.handover.leave(Taken::Duplex(transport, pump, commands));
        let mut reply = reply::whole(StatusCode::SWITCHING_PROTOCOLS, "", "");
        let headers = reply.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        reply
    }
}

/// Whether a list in a header has a token (RFC 9110 §5.6.1).
pub fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

type Publishing = Pin<Box<dyn Future<Output = (Option<String>, Result<Option<Cursor>, Refusal>)> + Send>>;

/// One connection.
pub struct Duplex {
    app: Arc<App>,
    io: ClientIo,
    unread: BytesMut,
    /// Whether the client will send more.
    is_open: bool,
    decoder: Box<dyn Decode>,
    commands: Commands,
    /// How many inputs were whole.
    taken: u64,
    publishing: FuturesOrdered<Publishing>,
}

/// Why a connection ends.
enum End {
    /// The client is gone, or takes nothing.
    Gone,
    /// All was said; the client may still take it.
    Said,
}

enum Event {
    Write(Option<Bytes>),
    Read(io::Result<usize>),
    Published(Option<String>, Result<Option<Cursor>, Refusal>),
    Drain,
}

impl Duplex {
    /// Runs a connection to its end.
    pub async fn run(
        app: Arc<App>,
        io: ClientIo,
        transport: &'static dyn Transport,
        mut pump: Pump,
        commands: Commands,
    ) {
        let Some(decoder) = transport.decoder(app.settings.max_command()) else { return };
        let (unread, publishing) = (BytesMut::new(), FuturesOrdered::new());
        let mut duplex = Duplex { app, io, unread, is_open: true, decoder, commands, taken: 0, publishing };
        match duplex.carry(&mut pump).await {
            Ok(End::Said) => duplex.io.linger().await,
            Ok(End::Gone) => {}
            Err(error) => duplex.app.meters.cut(&error),
        }
    }

    async fn carry(&mut self, pump: &mut Pump) -> io::Result<End> {
        let drain = self.app.drain.clone();
        let mut draining = pin!(drain.begun());
        let idle = self.app.settings.request_timeout;
        let mut silence = pin!(tokio::time::sleep(idle));
        loop {
            let may_read = self.is_open && self.publishing.len() < UNACKNOWLEDGED;
            let event = tokio::select! {
                biased;
                bytes = poll_fn(|cx| pump.poll_next(cx)) => Event::Write(bytes),
                Some((reference, outcome)) = self.publishing.next(), if !self.publishing.is_empty() => {
                    Event::Published(reference, outcome)
                }
                () = &mut draining, if !pump.has_begun() => Event::Drain,
                read = poll_fn(|cx| {
                    if may_read {
                        return self.io.poll_input(cx, &mut self.unread);
                    }
                    self.io.poll_reset(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()))
                }) => Event::Read(read),
                // Raw TCP that says nothing, or a byte now and then: for a command it has the time that a
                // request's head has.
                () = &mut silence, if !pump.has_begun() && self.publishing.is_empty() => return Ok(End::Gone),
            };
            match event {
                Event::Write(Some(bytes)) => self.io.write_all(&bytes).await?,
                Event::Write(None) => return Ok(End::Said),
                Event::Published(reference, outcome) => {
                    let reference = reference.as_deref();
                    match &outcome {
                        Ok(id) => pump.say(&Control::Ack { reference, cursor: None, id: *id }),
                        Err(refusal) => pump.say(&Control::Error { reference, refusal }),
                    }
                    self.flush(pump).await?;
                    // It may have been read from no longer while too much was under way.
                    if let Some(end) = self.take_inputs(pump).await? {
                        return Ok(end);
                    }
                }
                Event::Drain => pump.bye(Bye::Drain, Some(drain.retry())),
                Event::Read(read) => {
                    if read? == 0 {
                        // Gone, or listening on with its sending side shut: a write will tell.
                        self.is_open = false;
                        pump.heartbeat();
                    }
                    let taken = self.taken;
                    if let Some(end) = self.take_inputs(pump).await? {
                        return Ok(end);
                    }
                    if self.taken != taken {
                        silence.as_mut().reset(tokio::time::Instant::now() + idle);
                    }
                    if !self.is_open && !pump.has_begun() && self.publishing.is_empty() {
                        return Ok(End::Said);
                    }
                }
            }
        }
    }

    /// Carries out what has been read, as far as it is whole and allowed.
    async fn take_inputs(&mut self, pump: &mut Pump) -> io::Result<Option<End>> {
        while self.publishing.len() < UNACKNOWLEDGED {
            let input = match self.decoder.decode(&mut self.unread) {
                Ok(Some(input)) => input,
                Ok(None) if !self.is_open => match self.decoder.rest(&mut self.unread) {
                    Some(input) => input,
                    None => break,
                },
                Ok(None) => break,
                Err(breach) => return self.breach(pump, breach).await.map(Some),
            };
            self.taken += 1;
            match input {
                Input::Nothing => {}
                // Waits for the application where it has to be asked: commands keep their order, and only this
                // connection stands still for it.
                Input::Command(text) => match self.commands.carry_out(&self.app, pump, &text).await {
                    Outcome::Done => self.flush(pump).await?,
                    Outcome::Publish(draft, reference) => self.publish(draft, reference).await,
                    Outcome::TooLarge => {
                        let farewell = self.decoder.too_large();
                        return self.breach(pump, Breach { refusal: None, farewell }).await.map(Some);
                    }
                },
                Input::Reply(bytes) => self.io.write_all(&bytes).await?,
                Input::Close(bytes) => {
                    self.io.write_all(&bytes).await?;
                    return Ok(Some(End::Said));
                }
                // No policy file is configured: there is none.
                Input::PolicyRequest => return Ok(Some(End::Said)),
            }
        }
        if self.unread.is_empty() {
            // An idle connection holds no buffer.
            self.unread = BytesMut::new();
        }
        Ok(None)
    }

    /// Queues a publication, in the order of commands: the first poll queues it.
    async fn publish(&mut self, draft: crate::message::Draft, reference: Option<String>) {
        let appending = publish::append(&self.app, Way::Command, vec![draft]);
        let mut publishing: Publishing = Box::pin(async move {
            let outcome = appending.await;
            (reference, outcome.map(|cursors| cursors.into_iter().next().flatten()))
        });
        // Without tokio's budget: a task that has used it up would be told to wait before the draft
        // is queued, and a later command would overtake it.
        let first = poll_fn(|cx| Poll::Ready(publishing.as_mut().poll(cx)));
        let polled = tokio::task::unconstrained(first).await;
        self.publishing.push_back(match polled {
            Poll::Ready(done) => Box::pin(std::future::ready(done)),
            Poll::Pending => publishing,
        });
    }

    /// Writes what the pump has been told to say, and no messages.
    async fn flush(&mut self, pump: &mut Pump) -> io::Result<()> {
        while let Some(bytes) = pump.said() {
            self.io.write_all(&bytes).await?;
        }
        Ok(())
    }

    async fn breach(&mut self, pump: &mut Pump, breach: Breach) -> io::Result<End> {
        if let Some(refusal) = &breach.refusal {
            pump.say(&Control::Error { reference: None, refusal });
        }
        self.flush(pump).await?;
        self.io.write_all(&breach.farewell).await?;
        Ok(End::Said)
    }
}
