//! Duplex sessions, over WebSocket and raw TCP: messages in one direction, commands in the other.

use super::commands::Outcome;
use super::duplex_event::{End, Event, Unsubscribed};
use super::hixie_handshake;
use super::pending::{PendingAnswer, PendingAnswers};
use super::protocol_commands::Commands;
use super::pump::Pump;
use super::task::spawn_parked;
use crate::message::Draft;
use crate::serve::http::peer::Peer;
use crate::serve::limits::memory::{BufferId, Reservation};
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::net::stream::{ClientStream, Unread};
use crate::serve::publishing::service;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, CloseReason, Control, Decode, Input, ProtocolViolation, Transport};
use crate::wire::hixie76::Keys;
use bytes::Bytes;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// The maximum number of unanswered publishes and events of a connection. Beyond this limit, the server does not read
/// from the connection.
const MAX_PENDING: usize = 100;

/// The most writes of messages between two commands of another protocol.
const WRITES_BETWEEN_COMMANDS: usize = 16;

/// Bytes of credentials and of an incomplete command that do not count against the memory budget, because each
/// connection takes this memory in any case.
const UNCOUNTED: usize = 512;

/// A duplex session whose head is about to be written.
pub struct DuplexSession {
    /// Decodes the client's input; `None` for a transport without commands.
    decoder: Option<Box<dyn Decode>>,
    /// The messages.
    pub pump: Pump,
    commands: Commands,
    /// The memory for the credentials.
    reservation: Reservation,
    /// The keys of a handshake of 2010, which is not complete yet.
    hixie: Option<Keys>,
}

impl DuplexSession {
    /// Makes a session.
    ///
    /// # Errors
    ///
    /// `not_ready`: there is not enough memory for the credentials, which the session keeps.
    pub fn new(
        state: &ServerState,
        transport: &'static dyn Transport,
        pump: Pump,
        commands: impl Into<Commands>,
    ) -> Result<DuplexSession, ApiError> {
        let commands = commands.into();
        let mut reservation = state.budget.reservation();
        reservation.resize(counted(commands.held()))?;
        let decoder = transport.decoder(state.settings.max_command());
        Ok(DuplexSession { decoder, pump, commands, reservation, hixie: None })
    }

    /// The same session with another decoder for the client's input.
    #[must_use]
    pub fn with_decoder(self, decoder: Option<Box<dyn Decode>>) -> DuplexSession {
        DuplexSession { decoder, ..self }
    }

    /// The same session, whose client first completes a handshake of 2010.
    #[must_use]
    pub fn with_hixie(self, hixie: Option<Keys>) -> DuplexSession {
        DuplexSession { hixie, ..self }
    }

    /// Runs the session in a separate task.
    pub fn spawn(self, state: Arc<ServerState>, io: ClientStream, peer: Peer) {
        let hixie = self.hixie;
        if let Some(mut duplex) = RunningDuplex::new(state, io, self) {
            let counted = peer.counted;
            spawn_parked(async move {
                if let Some(keys) = hixie {
                    let limit = duplex.state.settings.request_timeout;
                    let completed = hixie_handshake::complete(&mut duplex.io, &mut duplex.unread, keys, limit);
                    if Box::pin(completed).await.is_err() {
                        return duplex.state.rejections.count_reason("request_timeout");
                    }
                }
                match duplex.run().await {
                    // The memory of the session is freed before the client closes its side.
                    Ok(End::Finished) => duplex.io.spawn_linger(counted),
                    Ok(End::Gone) => {}
                    Err(error) => duplex.state.rejections.write_failed(&error),
                }
            });
        }
    }
}

/// The part of some bytes that counts against the memory budget.
fn counted(bytes: usize) -> usize {
    if bytes > UNCOUNTED { bytes } else { 0 }
}

/// A running session.
struct RunningDuplex {
    state: Arc<ServerState>,
    io: ClientStream,
    pump: Pump,
    unread: Unread,
    /// Whether the client will send more.
    is_open: bool,
    decoder: Box<dyn Decode>,
    commands: Commands,
    /// The number of complete inputs that have arrived.
    inputs: u64,
    /// Unanswered publishes and events; `None` if there are none, so that an idle connection does not keep queues.
    pending: Option<Box<PendingAnswers>>,
    /// The memory for the credentials and for an incomplete command.
    reservation: Reservation,
}

/// The time for which a farewell waits for unanswered publishes and events. It is longer than the default time limit of
/// a publish (`--publish-timeout`), and shorter than a drain.
const FAREWELL_WAIT: Duration = Duration::from_secs(10);

impl RunningDuplex {
    /// Makes a running session; `None` for a transport without commands.
    fn new(state: Arc<ServerState>, io: ClientStream, session: DuplexSession) -> Option<RunningDuplex> {
        let DuplexSession { decoder, pump, commands, reservation, .. } = session;
        let decoder = decoder?;
        let (unread, pending) = (Unread::default(), None);
        let mut running = RunningDuplex {
            state,
            io,
            pump,
            unread,
            is_open: true,
            decoder,
            commands,
            inputs: 0,
            pending,
            reservation,
        };
        running.allow_direct_writes();
        Some(running)
    }

    /// Lets the hub write to the socket while the session is parked, if nothing is between them.
    fn allow_direct_writes(&mut self) {
        if let Some(socket) = self.io.plain().filter(|_| self.state.settings.direct_writes) {
            self.pump.allow_direct_writes(socket, None);
        }
    }

    /// Runs the session to its end.
    ///
    /// # Errors
    ///
    /// The client has disconnected, or does not read.
    async fn run(&mut self) -> io::Result<End> {
        let (mut unsubscribed, mut farewell_wait) = (None, None);
        loop {
            // The client will not send more, and all its commands were answered.
            if !self.is_open && !self.pump.has_begun() && self.pending.is_none() {
                return Ok(End::Finished);
            }
            if self.pump.subscription().channels() > 0 {
                unsubscribed = None;
            } else if unsubscribed.is_none() {
                unsubscribed = Some(Box::new(Unsubscribed::new(&self.state)));
            }
            let event = poll_fn(|cx| {
                self.pump.set_answering(self.pending.is_some());
                let rest = self.pump.unpark();
                if !rest.is_empty() {
                    return Poll::Ready(Event::Remainder(rest));
                }
                if let Poll::Ready(bytes) = self.pump.poll_next(cx) {
                    return Poll::Ready(Event::Write(bytes));
                }
                if let Some(pending) = &mut self.pending
                    && let Poll::Ready(answer) = pending.poll_answer(cx)
                {
                    return Poll::Ready(Event::Answered(answer));
                }
                // The farewell waits for pending answers: a client without an answer would send the same command again.
                if self.pump.has_ended() {
                    let time = farewell_wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(FAREWELL_WAIT)));
                    if time.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Event::Farewell);
                    }
                } else if let Some(unsubscribed) = &mut unsubscribed
                    && unsubscribed.draining.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Event::Drain);
                }
                let read = if self.is_open && self.may_read() {
                    self.io.poll_input(cx, &mut self.unread)
                } else {
                    self.io.poll_reset(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()))
                };
                if let Poll::Ready(read) = read {
                    return Poll::Ready(Event::Read(read));
                }
                // This ends a raw TCP connection that does not send a command, or sends it too slowly. The time limit
                // for a command is the same as for the head of a request.
                if let Some(unsubscribed) =
                    unsubscribed.as_mut().filter(|_| !self.pump.has_begun() && self.pending.is_none())
                    && unsubscribed.silence.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Event::Silence);
                }
                // From here on the hub may write to the socket. When this task wakes, it first stops the hub's writes.
                self.pump.park();
                Poll::Pending
            });
            let event = event.await;
            // The future is boxed, so that a parked connection does not keep space for it.
            match Box::pin(self.handle(event, &mut unsubscribed)).await {
                Ok(None) => {}
                Ok(Some(end)) => return Ok(end),
                Err(error) => return Err(error),
            }
        }
    }

    async fn handle(&mut self, event: Event, unsubscribed: &mut Option<Box<Unsubscribed>>) -> io::Result<Option<End>> {
        match event {
            Event::Remainder(rest) => self.write(rest.whole(), rest.bytes()).await?,
            Event::Write(Some(bytes)) => self.write(&bytes, &bytes).await?,
            Event::Write(None) => return Ok(Some(End::Finished)),
            Event::Silence => return Ok(Some(End::Gone)),
            Event::Answered(answer) => {
                if self.pending_commands() == 0 {
                    self.pending = None;
                }
                if let Some(error) = answer.event_error() {
                    self.state.rejections.count(error.code);
                }
                self.pump.push_control(&answer.control());
                self.flush().await?;
                if answer.is_error() && self.decoder.dialect().is_some_and(|dialect| dialect.ends_on_error()) {
                    let farewell = self.decoder.too_large();
                    return Box::pin(self.breach(ProtocolViolation { error: None, farewell })).await.map(Some);
                }
                // Some input may still wait, because too many commands were unanswered.
                let end = self.handle_input().await?;
                // The answer may have taken longer than the time for which a client may be silent.
                if let Some(unsubscribed) = unsubscribed {
                    unsubscribed.restart(&self.state);
                }
                return Ok(end);
            }
            Event::Farewell => self.pending = None,
            Event::Drain if self.pump.ends().is_some() => {
                // The pump ends the connection at its own time.
                if let Some(unsubscribed) = unsubscribed {
                    unsubscribed.draining = Box::pin(std::future::pending());
                }
            }
            Event::Drain => self.pump.bye(CloseReason::Drain, Some(self.state.drain.retry())),
            Event::Read(read) => {
                if read? == 0 {
                    // The client has disconnected, or it has closed its sending side and still reads. A write shows
                    // which of the two is true.
                    self.is_open = false;
                    self.pump.heartbeat();
                }
                if let Some(ends) = self.pump.ends() {
                    ends.heard();
                }
                let inputs = self.inputs;
                if let Some(end) = self.handle_input().await? {
                    return Ok(Some(end));
                }
                if let Some(unsubscribed) = unsubscribed.as_mut().filter(|_| self.inputs != inputs) {
                    unsubscribed.restart(&self.state);
                }
            }
        }
        Ok(None)
    }

    /// The number of unanswered publishes and events.
    fn pending_commands(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.len())
    }

    /// Handles complete inputs while the session may read commands.
    async fn handle_input(&mut self) -> io::Result<Option<End>> {
        while self.may_read() {
            let input = match self.decoder.decode(self.unread.buffer()) {
                Ok(Some(input)) => input,
                Ok(None) if !self.is_open => match self.decoder.rest(self.unread.buffer()) {
                    Some(input) => input,
                    None => break,
                },
                Ok(None) => break,
                Err(breach) => return Box::pin(self.breach(breach)).await.map(Some),
            };
            self.inputs += 1;
            match input {
                Input::Nothing => {}
                // The command may wait for the application's answer. Commands keep their order, and only this
                // connection waits.
                Input::Command(frame) => {
                    // One read may have many commands. A farewell waits for the answers to those before it.
                    self.pump.set_answering(self.pending.is_some());
                    let outcome = match (&mut self.commands, self.decoder.dialect()) {
                        (Commands::Native(commands), Some(dialect)) => {
                            commands.handle(&self.state, &mut self.pump, dialect, &frame).await
                        }
                        (Commands::Protocol(commands), _) => {
                            commands.handle(&self.state, &mut self.pump, &frame).await;
                            self.write_waiting().await?;
                            Outcome::Done
                        }
                        (Commands::Native(_) | Commands::Refused, _) => Outcome::Done,
                    };
                    if self.pump.has_new_envelope() {
                        self.allow_direct_writes();
                    }
                    match outcome {
                        Outcome::Done => self.flush().await?,
                        Outcome::Publish(drafts, reference, memory) => self.publish(drafts, reference, memory).await,
                        Outcome::Event(answer) => self.pending.get_or_insert_default().push_event(answer),
                        Outcome::Close => {
                            let farewell = self.decoder.too_large();
                            return Box::pin(self.breach(ProtocolViolation { error: None, farewell })).await.map(Some);
                        }
                    }
                }
                Input::Reply(bytes) => self.io.write_all(&bytes).await?,
                Input::Close(bytes) => {
                    self.io.write_all(&bytes).await?;
                    return Ok(Some(End::Finished));
                }
                // The server does not have a policy file, so it closes the connection.
                Input::PolicyRequest => return Ok(Some(End::Finished)),
            }
        }
        // One read is small, but the session may keep many bytes from one read to the next.
        let kept = self.commands.held() + self.unread.len() + self.decoder.held();
        if self.reservation.resize(counted(kept)).is_err() {
            return Ok(Some(End::Gone));
        }
        // An idle connection does not keep a buffer.
        self.unread.settle();
        Ok(None)
    }

    /// Begins a publish. Publishes keep the order of their commands. The first poll usually queues the publish in the
    /// log, and the session does not read another command until the publish is queued (see
    /// [`may_read`](RunningDuplex::may_read)).
    async fn publish(&mut self, drafts: Vec<Draft>, reference: Option<String>, memory: Result<Reservation, ApiError>) {
        let memory = match memory {
            Ok(memory) => memory,
            Err(refusal) => {
                let refused = PendingAnswer::to_publish(reference, std::future::ready(Err(refusal)));
                return self.pending.get_or_insert_default().push_publish(refused);
            }
        };
        let queued = self.pending.get_or_insert_default().next_queued();
        let appending = service::append_in_order(&self.state, PublishSource::Command, drafts, queued);
        let mut publish = PendingAnswer::to_publish(reference, async move {
            let outcome = appending.await;
            // The publish keeps the memory until the log has the message.
            drop(memory);
            outcome.map(|cursors| cursors.into_iter().next().flatten())
        });
        let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut publish).poll(cx))).await;
        self.pending.get_or_insert_default().push_publish(match first {
            Poll::Ready(done) => PendingAnswer::ready(done),
            Poll::Pending => publish,
        });
    }

    /// Writes bytes. The unwritten bytes are the whole buffer or a part of it, so the memory budget can identify the
    /// buffer.
    async fn write(&mut self, whole: &Bytes, bytes: &[u8]) -> io::Result<()> {
        let write = self.io.write_all(bytes);
        self.pump.wrote(self.state.budget.write(BufferId::of(whole), write).await?);
        Ok(())
    }

    /// Whether the session may read commands: the unanswered commands are within their limit, all publishes are queued
    /// for the log, there is enough memory, and the session has not ended.
    fn may_read(&self) -> bool {
        !self.pump.has_ended()
            && self.pending_commands() < MAX_PENDING
            && self.pending.as_ref().is_none_or(|pending| pending.are_queued() && !self.state.budget.is_short())
    }

    /// Writes queued control objects, but no messages.
    async fn flush(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.pump.next_control() {
            self.io.write_all(&bytes).await?;
        }
        Ok(())
    }

    /// Writes messages that wait. Only a few volatile messages wait for a reader, so a connection with many commands has
    /// to write them between its commands.
    async fn write_waiting(&mut self) -> io::Result<()> {
        for _ in 0..WRITES_BETWEEN_COMMANDS {
            let next = poll_fn(|cx| Poll::Ready(self.pump.poll_next(cx)));
            match next.await {
                Poll::Ready(Some(bytes)) => self.write(&bytes, &bytes).await?,
                // The session finds the end again.
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Ends the session after the client has violated the protocol.
    async fn breach(&mut self, violation: ProtocolViolation) -> io::Result<End> {
        if let Some(error) = &violation.error {
            self.pump.push_control(&Control::Error { reference: None, error });
        }
        self.flush().await?;
        self.io.write_all(&violation.farewell).await?;
        Ok(End::Finished)
    }
}
