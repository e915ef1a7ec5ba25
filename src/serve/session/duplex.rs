//! Duplex connections: the pump one way, commands the other. WebSocket and raw TCP alike.

use super::commands::{Commands, Outcome};
use super::pump::Pump;
use crate::cursor::Cursor;
use crate::hub::Remainder;
use crate::message::Draft;
use crate::serve::App;
use crate::serve::http::peer::{Client, Taken};
use crate::serve::http::request::{ExtendedConnect, Request};
use crate::serve::limits::memory::{Buffer, Loan};
use crate::serve::metrics::delivery::Way;
use crate::serve::net::stream::{ClientIo, Unread};
use crate::serve::routes::publish;
use crate::serve::routes::response::{self, Reply};
use crate::transport::{ApiError, CloseReason, Code, Control, Decode, Input, ProtocolViolation, Transport};
use crate::wire::websocket;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode, Version};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, Sleep};

/// Publications of a connection that may be under way; past that it is not read from.
const UNACKNOWLEDGED: usize = 100;

/// Bytes of a command that is not whole which are not counted as memory that clients hold.
const KEPT: usize = 8 << 10;

/// A WebSocket handshake (RFC 6455 §4.2, over HTTP/2 RFC 8441 §5).
pub struct Upgrade {
    /// `None` over HTTP/2, which has a key no more than an upgrade.
    accept: Option<HeaderValue>,
}

impl Upgrade {
    /// Checks it.
    ///
    /// # Errors
    ///
    /// What is not as it should be.
    pub fn check(request: &Request) -> Result<Upgrade, ApiError> {
        let headers = request.headers();
        let bad = |text: &str| Err(ApiError::new(Code::BadRequest, text));
        let is_extended = request.extensions().get::<ExtendedConnect>().is_some();
        if request.version() == Version::HTTP_2 && !is_extended {
            return bad("over HTTP/2 a WebSocket begins with CONNECT and :protocol websocket (RFC 8441)");
        }
        if request.method() != Method::GET || request.version() < Version::HTTP_11 {
            return bad("a WebSocket begins with a GET of HTTP/1.1; a proxy may speak HTTP/1.0");
        }
        let asks = has_token(headers, "connection", "upgrade") && has_token(headers, "upgrade", "websocket");
        if !is_extended && !asks {
            return bad(
                "a WebSocket begins with Connection: Upgrade and Upgrade: websocket; a proxy may have removed them",
            );
        }
        if headers.get("sec-websocket-version").is_none_or(|version| version != "13") {
            return bad("Sec-WebSocket-Version is 13");
        }
        if is_extended {
            return Ok(Upgrade { accept: None });
        }
        let key =
            headers.get("sec-websocket-key").and_then(|key| key.to_str().ok()).filter(|key| websocket::is_key(key));
        let Some(key) = key else { return bad("Sec-WebSocket-Key is 16 bytes in base64") };
        match HeaderValue::try_from(websocket::accept_key(key)) {
            Ok(accept) => Ok(Upgrade { accept: Some(accept) }),
            Err(_) => bad("Sec-WebSocket-Key is 16 bytes in base64"),
        }
    }

    /// Answers 101, or 200 over HTTP/2; the connection is taken over then.
    pub fn accept(self, client: &Client, transport: &'static dyn Transport, pump: Pump, commands: Commands) -> Reply {
        client.handover().leave(Taken::Duplex(transport, pump, commands));
        let Some(accept) = self.accept else { return response::whole(StatusCode::OK, "", "") };
        let mut reply = response::whole(StatusCode::SWITCHING_PROTOCOLS, "", "");
        let headers = reply.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        reply
    }
}

/// Whether a list in a header has a token (RFC 9110 §5.6.1).
pub fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

type Publishing = Pin<Box<dyn Future<Output = (Option<String>, Result<Option<Cursor>, ApiError>)> + Send>>;

/// One connection.
pub struct Duplex {
    app: Arc<App>,
    io: ClientIo,
    pump: Pump,
    unread: Unread,
    /// Whether the client will send more.
    is_open: bool,
    decoder: Box<dyn Decode>,
    commands: Commands,
    /// How many inputs were whole.
    taken: u64,
    /// Only while there are any: an idle connection does not keep the queue.
    publishing: Option<Box<FuturesOrdered<Publishing>>>,
    /// Its part of the memory there is, for a command that is not whole yet.
    loan: Loan,
}

/// How long a farewell waits for publications that are not acknowledged yet: longer than a log takes by default
/// (`--publish-timeout`), and shorter than a drain.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// What may end a connection that reads no channel: the hub, which knows readers by their channels, does not wake it.
struct Opening {
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Counts where nothing was ever read, by raw TCP.
    silence: Pin<Box<Sleep>>,
}

impl Opening {
    fn new(app: &Arc<App>) -> Opening {
        let drain = app.drain.clone();
        let draining = Box::pin(async move { drain.begun().await });
        Opening { draining, silence: Box::pin(tokio::time::sleep(app.settings.request_timeout)) }
    }
}

/// Why a connection ends.
enum End {
    /// The client is gone, or takes nothing.
    Gone,
    /// All was said; the client may still take it.
    Said,
}

enum Event {
    /// What the socket did not take at once.
    Remainder(Remainder),
    Write(Option<Bytes>),
    Read(io::Result<usize>),
    Published(Option<String>, Result<Option<Cursor>, ApiError>),
    Drain,
    Silence,
    /// The farewell has waited for long enough.
    Farewell,
}

impl Duplex {
    /// A connection; `None` for a transport without commands.
    pub fn new(
        app: Arc<App>,
        io: ClientIo,
        transport: &'static dyn Transport,
        mut pump: Pump,
        commands: Commands,
    ) -> Option<Duplex> {
        let decoder = transport.decoder(app.settings.max_command())?;
        let loan = app.budget.loan();
        if let Some(stream) = io.plain().filter(|_| app.settings.direct_writes) {
            pump.write_directly(stream, None);
        }
        let (unread, publishing) = (Unread::default(), None);
        Some(Duplex { app, io, pump, unread, is_open: true, decoder, commands, taken: 0, publishing, loan })
    }

    /// Runs it to its end.
    pub async fn run(&mut self) {
        let (mut waiting, mut last_answers) = (None, None);
        let end = loop {
            // It has said all that it will, and was answered.
            if !self.is_open && !self.pump.has_begun() && self.publishing.is_none() {
                break Ok(End::Said);
            }
            if self.pump.subscription().channels() > 0 {
                waiting = None;
            } else if waiting.is_none() {
                waiting = Some(Box::new(Opening::new(&self.app)));
            }
            let event = poll_fn(|cx| {
                self.pump.answering(self.publishing.is_some());
                let rest = self.pump.unpark();
                if !rest.is_empty() {
                    return Poll::Ready(Event::Remainder(rest));
                }
                if let Poll::Ready(bytes) = self.pump.poll_next(cx) {
                    return Poll::Ready(Event::Write(bytes));
                }
                if let Some(publishing) = &mut self.publishing
                    && let Poll::Ready(Some((reference, outcome))) = publishing.poll_next_unpin(cx)
                {
                    return Poll::Ready(Event::Published(reference, outcome));
                }
                // A client that is not told would publish the same again.
                if self.pump.has_ended() {
                    let time = last_answers.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_ANSWERS)));
                    if time.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Event::Farewell);
                    }
                } else if let Some(waiting) = &mut waiting
                    && waiting.draining.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Event::Drain);
                }
                let read = if self.is_open && self.may_take() {
                    self.io.poll_input(cx, &mut self.unread)
                } else {
                    self.io.poll_reset(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()))
                };
                if let Poll::Ready(read) = read {
                    return Poll::Ready(Event::Read(read));
                }
                // Raw TCP that says nothing, or a byte now and then: for a command it has the time that a request's
                // head has.
                if let Some(waiting) = waiting.as_mut().filter(|_| !self.pump.has_begun() && self.publishing.is_none())
                    && waiting.silence.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Event::Silence);
                }
                // The hub may write now; whatever wakes this task, it takes the socket back first.
                self.pump.park();
                Poll::Pending
            });
            let event = event.await;
            // A future of its own: a parked connection keeps no room for what it does when it is not.
            match Box::pin(self.handle(event, &mut waiting)).await {
                Ok(None) => {}
                Ok(Some(end)) => break Ok(end),
                Err(error) => break Err(error),
            }
        };
        match end {
            Ok(End::Said) => Box::pin(self.io.linger()).await,
            Ok(End::Gone) => {}
            Err(error) => self.app.refused.writer(&error),
        }
    }

    async fn handle(&mut self, event: Event, waiting: &mut Option<Box<Opening>>) -> io::Result<Option<End>> {
        match event {
            Event::Remainder(rest) => self.write(rest.whole(), rest.bytes()).await?,
            Event::Write(Some(bytes)) => self.write(&bytes, &bytes).await?,
            Event::Write(None) => return Ok(Some(End::Said)),
            Event::Silence => return Ok(Some(End::Gone)),
            Event::Published(reference, outcome) => {
                if self.under_way() == 0 {
                    self.publishing = None;
                }
                let reference = reference.as_deref();
                match &outcome {
                    Ok(id) => self.pump.say(&Control::Ack { reference, cursor: None, id: *id }),
                    Err(refusal) => self.pump.say(&Control::Error { reference, error: refusal }),
                }
                self.flush().await?;
                // It may have been read from no longer while too much was under way.
                return self.take_inputs().await;
            }
            Event::Farewell => self.publishing = None,
            Event::Drain => self.pump.bye(CloseReason::Drain, Some(self.app.drain.retry())),
            Event::Read(read) => {
                if read? == 0 {
                    // Gone, or listening on with its sending side shut: a write will tell.
                    self.is_open = false;
                    self.pump.heartbeat();
                }
                let taken = self.taken;
                if let Some(end) = self.take_inputs().await? {
                    return Ok(Some(end));
                }
                if let Some(waiting) = waiting.as_mut().filter(|_| self.taken != taken) {
                    waiting.silence.as_mut().reset(Instant::now() + self.app.settings.request_timeout);
                }
            }
        }
        Ok(None)
    }

    /// Publications that are not acknowledged yet.
    fn under_way(&self) -> usize {
        self.publishing.as_ref().map_or(0, |publishing| publishing.len())
    }

    /// Carries out what has been read, as far as it is whole and allowed.
    async fn take_inputs(&mut self) -> io::Result<Option<End>> {
        while self.may_take() {
            let input = match self.decoder.decode(self.unread.buffer()) {
                Ok(Some(input)) => input,
                Ok(None) if !self.is_open => match self.decoder.rest(self.unread.buffer()) {
                    Some(input) => input,
                    None => break,
                },
                Ok(None) => break,
                Err(breach) => return Box::pin(self.breach(breach)).await.map(Some),
            };
            self.taken += 1;
            match input {
                Input::Nothing => {}
                // Waits for the application where it has to be asked: commands keep their order, and only this
                // connection stands still for it.
                Input::Command(text) => match self.commands.carry_out(&self.app, &mut self.pump, &text).await {
                    Outcome::Done => self.flush().await?,
                    Outcome::Publish(drafts, reference, loan) => self.publish(drafts, reference, loan).await,
                    Outcome::TooLarge => {
                        let farewell = self.decoder.too_large();
                        return Box::pin(self.breach(ProtocolViolation { error: None, farewell })).await.map(Some);
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
        // One read is no burden; what is kept from one to the next may be.
        let kept = Some(self.unread.len() + self.decoder.held()).filter(|kept| *kept > KEPT).unwrap_or_default();
        if self.loan.set(kept).is_err() {
            return Ok(Some(End::Gone));
        }
        // An idle connection holds no buffer.
        self.unread.settle();
        Ok(None)
    }

    /// Queues a publication, in the order of commands: the first poll queues it.
    async fn publish(&mut self, drafts: Vec<Draft>, reference: Option<String>, loan: Result<Loan, ApiError>) {
        let loan = match loan {
            Ok(loan) => loan,
            Err(refusal) => {
                let refused = Box::pin(std::future::ready((reference, Err(refusal))));
                return self.publishing.get_or_insert_default().push_back(refused);
            }
        };
        let appending = publish::append(&self.app, Way::Command, drafts);
        let mut publishing: Publishing = Box::pin(async move {
            let outcome = appending.await;
            // Until the log has it.
            drop(loan);
            (reference, outcome.map(|cursors| cursors.into_iter().next().flatten()))
        });
        // It queues the draft: a later command shall not overtake it.
        let first = poll_fn(|cx| Poll::Ready(publishing.as_mut().poll(cx))).await;
        self.publishing.get_or_insert_default().push_back(match first {
            Poll::Ready(done) => Box::pin(std::future::ready(done)),
            Poll::Pending => publishing,
        });
    }

    /// Writes bytes that are a part of a whole, or all of it.
    async fn write(&mut self, whole: &Bytes, bytes: &[u8]) -> io::Result<()> {
        let write = self.io.write_all(bytes);
        self.pump.wrote(self.app.budget.write(Buffer::of(whole), write).await?);
        Ok(())
    }

    /// Whether a command may be taken: neither are too many unanswered, nor is memory short for more of them, nor is it
    /// too late.
    fn may_take(&self) -> bool {
        !self.pump.has_ended()
            && self.under_way() < UNACKNOWLEDGED
            && (self.publishing.is_none() || !self.app.budget.is_short())
    }

    /// Writes what the pump has been told to say, and no messages.
    async fn flush(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.pump.said() {
            self.io.write_all(&bytes).await?;
        }
        Ok(())
    }

    async fn breach(&mut self, violation: ProtocolViolation) -> io::Result<End> {
        if let Some(refusal) = &violation.error {
            self.pump.say(&Control::Error { reference: None, error: refusal });
        }
        self.flush().await?;
        self.io.write_all(&violation.farewell).await?;
        Ok(End::Said)
    }
}
