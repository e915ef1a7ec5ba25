//! Pages without channels of their own: the server's flags say which channels such a page reads, and what a text does
//! that it sends. Messages reach it as bare texts.

use super::command::{CommandHead, CommandKind};
use super::{ApiError, ClientEvent, Code, Command, Dialect};
use crate::message::{Channels, Draft, Encoding, Event, Extras, Message, Payload};
use crate::wire::{json, websocket};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a text of a page does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMessage {
    /// The readers of the page's channels get it, the sender too.
    Publish,
    /// The readers of the page's channels get it, but not the sender.
    Broadcast,
    /// Only the sender gets it.
    Echo,
    /// The application gets it as an event `message`.
    Hook,
    /// Nobody gets it.
    #[default]
    Ignore,
}

/// A message as a text frame with its bare text.
pub static BARE_TEXT_FRAME: Encoding = Encoding::new("bare text frame", |message, out| {
    if let Some(text) = bare_text(message) {
        websocket::text_header(text.len(), out);
        out.extend_from_slice(text.as_bytes());
    }
});

/// The text of a message for a page; `None` if the message is not for pages.
pub fn bare_text(message: &Message) -> Option<Cow<'_, str>> {
    (!message.kind().is_of_members()).then(|| json::bare(message.payload()))
}

/// The dialect of a page: each text is a command of one kind.
pub struct PageCommands {
    on_message: OnMessage,
    channels: Channels,
}

impl PageCommands {
    /// The dialect of a page that reads these channels.
    pub fn new(on_message: OnMessage, channels: Channels) -> PageCommands {
        PageCommands { on_message, channels }
    }

    fn draft(&self, text: &str, max_payload: usize) -> Result<Draft, ApiError> {
        if text.len() > max_payload {
            return Err(ApiError::new(Code::TooLarge, format!("a text may have at most {max_payload} bytes")));
        }
        let (payload, is_text) = Payload::of_bare(text);
        let (channel, channels) = self.channels.clone().split();
        Ok(Draft::new(channel, payload).with_extras(Extras { channels, is_text, ..Extras::default() }))
    }
}

impl Dialect for PageCommands {
    fn head<'a>(&mut self, frame: &'a [u8]) -> Result<CommandHead<'a>, ApiError> {
        let text = std::str::from_utf8(frame).map_err(|_| ApiError::new(Code::NotUtf8, "a text must be UTF-8"))?;
        let kind = match self.on_message {
            OnMessage::Publish | OnMessage::Broadcast => Some(CommandKind::Publish),
            OnMessage::Hook => Some(CommandKind::Event),
            OnMessage::Echo | OnMessage::Ignore => None,
        };
        Ok(CommandHead { reference: None, token: None, kind, text })
    }

    fn command(&mut self, head: &CommandHead<'_>, max_payload: usize) -> Result<Command, ApiError> {
        let text = head.text;
        Ok(match self.on_message {
            OnMessage::Publish => Command::Publish(self.draft(text, max_payload)?),
            OnMessage::Broadcast => Command::Broadcast(self.draft(text, max_payload)?),
            OnMessage::Echo => Command::Echo(self.draft(text, max_payload)?),
            OnMessage::Hook => {
                if text.len() > max_payload {
                    return Err(ApiError::new(Code::TooLarge, format!("a text may have at most {max_payload} bytes")));
                }
                let args = RawValue::from_string(format!("[{}]", json::quoted(text)));
                let args = args.map_err(|_| ApiError::new(Code::BadRequest, "the text is not Unicode"))?;
                let name = Event::default();
                Command::Event(ClientEvent { name, args, channel: None, key: None, wants_ack: false })
            }
            OnMessage::Ignore => Command::Ignored,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Cursor, Epoch, Id};
    use crate::message::Channel;

    fn command(on_message: OnMessage, text: &str) -> Result<Command, ApiError> {
        let channels = Channels::parse(["a", "b"]).expect("channels");
        let mut page = PageCommands::new(on_message, channels);
        let head = page.head(text.as_bytes()).expect("a head");
        page.command(&head, 9)
    }

    #[test]
    fn a_text_does_what_the_flag_says() {
        for text in ["hello", "[1, 2]", "\"x\"", ""] {
            for on_message in [OnMessage::Publish, OnMessage::Broadcast, OnMessage::Echo] {
                let draft = match (on_message, command(on_message, text).expect("a command")) {
                    (OnMessage::Publish, Command::Publish(draft))
                    | (OnMessage::Broadcast, Command::Broadcast(draft))
                    | (OnMessage::Echo, Command::Echo(draft)) => draft,
                    (_, other) => panic!("{on_message:?}: {other:?}"),
                };
                assert_eq!(draft.channels().len(), 2);
                assert_eq!(bare_text(&draft.into_message(None)).as_deref(), Some(text), "{on_message:?}");
            }
            let Ok(Command::Event(event)) = command(OnMessage::Hook, text) else { panic!("an event") };
            assert_eq!((event.name.as_str(), event.args.get()), ("message", &*format!("[{}]", json::quoted(text))));
            assert_eq!(command(OnMessage::Ignore, text), Ok(Command::Ignored));
        }
        for on_message in [OnMessage::Publish, OnMessage::Broadcast, OnMessage::Echo, OnMessage::Hook] {
            assert!(command(on_message, "012345678").is_ok());
            let refused = command(on_message, "0123456789").expect_err("too long");
            assert_eq!(refused.code, Code::TooLarge, "{on_message:?}");
        }
    }

    #[test]
    fn what_the_application_sends_is_its_argument() {
        let cursor = Cursor { id: Id { ms: 1, seq: 0 }, epoch: Epoch::random() };
        let event = |args: &str| {
            let channel = Channel::reserved("~s/1").expect("reserved");
            let message = Message::session_event(cursor, channel, Event::default(), args, None);
            bare_text(&message).expect("a text").into_owned()
        };
        for (args, text) in
            [("[\"hi\"]", "hi"), ("[{\"a\":1}]", "{\"a\":1}"), ("[1,2]", "[1,2]"), ("[[1]]", "[1]"), ("[]", "[]")]
        {
            assert_eq!(event(args), text);
        }
    }
}
