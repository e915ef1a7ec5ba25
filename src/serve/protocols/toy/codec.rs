//! The toy's bytes, without I/O: its encodings, its batches and its commands.
//!
//! A command is a reference, a space, and `+a b` (subscribe), `-a` (unsubscribe), `!a text` (publish) or `?` (ping).

use crate::message::{Channel, DraftFields, Encoding, Message};
use crate::transport::command::{CommandHead, CommandKind};
use crate::transport::{
    Accepted, ApiError, Batch, BatchSession, Code, Command, Control, Decode, Dialect, Envelope, FrameDecoder,
    Lifecycle, Params, RequestHead, Subscribe, Transport,
};
use crate::wire::websocket::{close_frame, text_frame};

/// A message as a line.
static LINE: Encoding = Encoding::new("toy line", |message, out| {
    out.extend_from_slice(line(message).as_bytes());
    out.push(b'\n');
});

/// A message as a WebSocket frame.
static FRAME: Encoding =
    Encoding::new("toy frame", |message, out| out.extend_from_slice(&text_frame(line(message).as_bytes())));

fn line(message: &Message) -> String {
    format!("{}={}", message.channel(), message.payload())
}

/// `/toy/poll/…`.
pub struct ToyPoll;

impl Transport for ToyPoll {
    fn name(&self) -> &'static str {
        "toy-poll"
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        Lifecycle::Poll
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Ok(Accepted::new("text/x-toy", Lines))
    }
}

struct Lines;

impl Envelope for Lines {
    fn encoding(&self) -> &'static Encoding {
        &LINE
    }

    fn batch(&self, batch: &Batch, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{} {}", batch.messages.len(), batch.cursor).as_bytes());
        match &batch.session {
            BatchSession::Absent => {}
            BatchSession::Open(session) => out.extend_from_slice(format!(" {session}").as_bytes()),
            BatchSession::Ended => out.extend_from_slice(b" ended"),
        }
        out.push(b'\n');
        batch.messages.iter().for_each(|message| out.extend_from_slice(&LINE.frame(message)));
    }

    fn control(&self, _: &Control<'_>, _: &mut Vec<u8>) {}
}

/// `/toy/ws/…`.
pub struct ToySocket;

impl Transport for ToySocket {
    fn name(&self) -> &'static str {
        "toy-ws"
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        Lifecycle::Duplex
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Ok(Accepted::new("", Frames))
    }

    fn decoder(&self, max: usize) -> Option<Box<dyn Decode>> {
        Some(Box::new(FrameDecoder::new(max, ToyCommands)))
    }
}

struct Frames;

impl Envelope for Frames {
    fn encoding(&self) -> &'static Encoding {
        &FRAME
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        let text = match control {
            Control::Hello { transport, .. } => format!("hello {transport}"),
            Control::Heartbeat { .. } => "alive".to_owned(),
            Control::Gap(_) => "gap".to_owned(),
            Control::Bye { bye, .. } => return out.extend_from_slice(&close_frame(bye.code(), bye.reason())),
            Control::Ack { reference, .. } | Control::Answer { reference, .. } => {
                format!("ok {}", reference.unwrap_or("-"))
            }
            Control::Pong { reference } => format!("pong {}", reference.unwrap_or("-")),
            Control::Error { reference, error } => format!("no {} {}", reference.unwrap_or("-"), error.code),
        };
        out.extend_from_slice(&text_frame(text.as_bytes()));
    }
}

struct ToyCommands;

impl Dialect for ToyCommands {
    fn head<'a>(&mut self, frame: &'a [u8]) -> Result<CommandHead<'a>, ApiError> {
        let text = std::str::from_utf8(frame).map_err(|_| ApiError::new(Code::NotUtf8, "not UTF-8"))?;
        let Some((reference, rest)) = text.split_once(' ').filter(|(reference, _)| reference.len() < 10) else {
            return Err(ApiError::new(Code::BadRequest, "a reference comes first"));
        };
        let kind = match rest.as_bytes().first() {
            Some(b'+') => Some(CommandKind::Subscribe),
            Some(b'-') => Some(CommandKind::Unsubscribe),
            Some(b'!') => Some(CommandKind::Publish),
            Some(b'?') => Some(CommandKind::Ping),
            _ => None,
        };
        Ok(CommandHead { reference: Some(reference.to_owned()), token: None, kind, text: rest.get(1..).unwrap_or("") })
    }

    fn command(&mut self, head: &CommandHead<'_>, max_payload: usize) -> Result<Command, ApiError> {
        let channels = || head.text.split(' ').map(str::parse).collect::<Result<Vec<Channel>, _>>();
        Ok(match head.kind {
            Some(CommandKind::Subscribe) => Command::Subscribe(Subscribe {
                channels: channels()?,
                start: None,
                last: None,
                client: None,
                presence: None,
                session: None,
            }),
            Some(CommandKind::Unsubscribe) => Command::Unsubscribe(channels()?),
            Some(CommandKind::Publish) => {
                let (channel, data) = head.text.split_once(' ').unwrap_or((head.text, ""));
                let fields = DraftFields { data, is_text: true, ..DraftFields::default() };
                Command::Publish(fields.check(channel.parse::<Channel>()?, max_payload)?)
            }
            Some(CommandKind::Ping) => Command::Ping,
            Some(CommandKind::Event | CommandKind::Ack) | None => {
                return Err(ApiError::new(Code::UnknownCommand, "a command is one of + - ! ?"));
            }
        })
    }
}
