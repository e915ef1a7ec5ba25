//! The properties of a message that most messages lack. The properties are in one block, so that an ordinary message
//! has only an empty pointer in their place.

use super::{BadChannel, Channel, ClientId};
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use std::collections::HashSet;

/// The properties of a message that most messages lack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// All channels of the message, if there are several: at least two, each once. The first of them is the message's
    /// channel. Empty for a message to one channel.
    pub channels: Box<[Channel]>,
    /// The excluded clients and channels: these clients, and the readers of these channels, do not receive the message.
    pub except: Box<[ExceptItem]>,
    /// Whether the payload is an array with the arguments of an event.
    pub is_args: bool,
    /// Whether the payload was sent as a bare text. In that case it is a JSON string.
    pub is_text: bool,
    /// The binary parts of the payload.
    pub attachments: Box<[Bytes]>,
    /// The kind of the entry.
    pub kind: Kind,
}

impl Extras {
    /// Whether a message with these properties is ordinary, so that it needs none of them.
    pub fn are_empty(&self) -> bool {
        let Extras { channels, except, is_args, is_text, attachments, kind } = self;
        channels.is_empty()
            && except.is_empty()
            && !is_args
            && !is_text
            && attachments.is_empty()
            && *kind == Kind::Message
    }

    /// The approximate memory that they take.
    pub fn size(&self) -> usize {
        let names = self.channels.iter().map(|channel| channel.as_str().len() + size_of::<Channel>() + 16);
        let except = self.except.iter().map(|item| item.0.as_str().len() + size_of::<ExceptItem>() + 16);
        let attachments = self.attachments.iter().map(|part| part.len() + size_of::<Bytes>());
        size_of::<Extras>() + names.chain(except).chain(attachments).sum::<usize>()
    }
}

/// The kind of an entry of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message for readers.
    #[default]
    Message,
    /// A user has become a member of the channel.
    MemberAdded,
    /// A user is no longer a member of the channel.
    MemberRemoved,
    /// A control entry: a change of sessions, on a reserved channel. The event and the payload say which change.
    Session,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Message, Kind::MemberAdded, Kind::MemberRemoved, Kind::Session];

    /// The kind's name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::MemberAdded => "member_added",
            Kind::MemberRemoved => "member_removed",
            Kind::Session => "session",
        }
    }

    /// The type that its object has in a stream; `None` for a message.
    pub fn object_type(self) -> Option<&'static str> {
        match self {
            Kind::Message => None,
            Kind::MemberAdded | Kind::MemberRemoved => Some(self.as_str()),
            Kind::Session => Some("event"),
        }
    }

    /// Whether the entry is about a member that joins or leaves. Readers get such an entry only if they ask for it.
    pub fn is_of_members(self) -> bool {
        matches!(self, Kind::MemberAdded | Kind::MemberRemoved)
    }

    /// Whether entries of this kind may be on a channel: control entries are on reserved channels only, and members are
    /// those of other channels.
    pub fn fits(self, channel: &Channel) -> bool {
        match self {
            Kind::Message => true,
            Kind::MemberAdded | Kind::MemberRemoved => !channel.is_reserved(),
            Kind::Session => channel.is_reserved(),
        }
    }

    /// The kind with this name; `None` if this version does not have it.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// An item of `except`: a channel's name, which may at the same time be a client id. (Every client id has the form of a
/// channel name.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptItem(Channel, Option<ClientId>);

impl ExceptItem {
    /// An item for a channel, and for the client that has the same name.
    pub fn new(name: Channel) -> ExceptItem {
        let client = name.as_str().parse().ok();
        ExceptItem(name, client)
    }

    /// The name as a channel.
    pub fn channel(&self) -> &Channel {
        &self.0
    }

    /// The name as a client id, if it has the form of one.
    pub fn client(&self) -> Option<&ClientId> {
        self.1.as_ref()
    }
}

/// The maximum number of items in the `except` of a message.
pub const MAX_EXCEPT: usize = 100;

/// The maximum number of binary parts in a message. Each of them takes memory of its own, however short it is.
pub const MAX_ATTACHMENTS: usize = 256;

/// The channels of a message: at least one, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels(SmallVec<[Channel; 1]>);

impl Channels {
    /// The maximum number of channels of a message.
    pub const MAX: usize = 100;

    /// Parses the names of the channels. A name that is repeated counts once.
    ///
    /// # Errors
    ///
    /// There are no names or too many, or one of them is not a channel name.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Channels, BadChannels> {
        Channels::parse_by(names, str::parse)
    }

    /// Parses each name of a channel with a function.
    pub(crate) fn parse_by<'a>(
        names: impl IntoIterator<Item = &'a str>,
        parse: impl Fn(&str) -> Result<Channel, BadChannel>,
    ) -> Result<Channels, BadChannels> {
        let (mut channels, mut seen) = (SmallVec::new(), HashSet::new());
        for (index, name) in names.into_iter().enumerate() {
            if index == Channels::MAX {
                return Err(BadChannels::TooMany);
            }
            let channel = parse(name)?;
            if seen.insert(channel.clone()) {
                channels.push(channel);
            }
        }
        if channels.is_empty() { Err(BadChannels::None) } else { Ok(Channels(channels)) }
    }

    /// These channels, without repetitions; `None` if there are none, or too many.
    pub fn of(names: impl IntoIterator<Item = Channel>) -> Option<Channels> {
        let (mut channels, mut seen) = (SmallVec::new(), HashSet::new());
        channels.extend(names.into_iter().filter(|channel| seen.insert(channel.clone())));
        (1..=Channels::MAX).contains(&channels.len()).then_some(Channels(channels))
    }

    /// Each channel.
    pub fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.0.iter()
    }

    /// The first channel, and all channels if there are several.
    pub fn split(self) -> (Channel, Box<[Channel]>) {
        let first = self.0[0].clone();
        (first, if self.0.len() > 1 { self.0.into_vec().into() } else { Box::default() })
    }
}

impl From<Channel> for Channels {
    fn from(channel: Channel) -> Channels {
        Channels(smallvec![channel])
    }
}

/// The error for a list that does not name the channels of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChannels {
    /// The list is empty.
    #[error("name at least one channel")]
    None,
    /// A name is not a channel name.
    #[error(transparent)]
    Name(#[from] BadChannel),
    /// The list is too long.
    #[error("a message may have at most {} channels", Channels::MAX)]
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_channels_has_each_of_them_once() {
        let parse = |text: &str| Channels::parse(text.split(','));
        let (first, all) = parse("b,a,b").expect("channels").split();
        assert_eq!((first.as_str(), all.iter().map(Channel::as_str).collect::<Vec<_>>()), ("b", vec!["b", "a"]));
        let (first, all) = parse("a,a").expect("one channel").split();
        assert_eq!((first.as_str(), all.len()), ("a", 0));
        for (text, error) in [
            ("", BadChannels::Name(BadChannel::Malformed)),
            ("a,", BadChannels::Name(BadChannel::Malformed)),
            ("a,~s/1", BadChannels::Name(BadChannel::Reserved)),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert_eq!(Channels::parse([]), Err(BadChannels::None));
        let names: Vec<String> = (0..101).map(|n| n.to_string()).collect();
        assert!(Channels::parse(names[..100].iter().map(String::as_str)).is_ok());
        assert_eq!(Channels::parse(names.iter().map(String::as_str)), Err(BadChannels::TooMany));
        assert_eq!(Channels::parse(std::iter::repeat_n("a", 101)), Err(BadChannels::TooMany), "it is counted first");
    }

    #[test]
    fn kinds_have_names() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.as_str()), Some(kind));
        }
        assert_eq!((Kind::named(""), Kind::named("Message"), Kind::named("later")), (None, None, None));
    }
}
