//! Reads the frames of clients: `{"event":…,"channel"?,"data":…}`.

use super::names::CLIENT_EVENT;
use crate::wire::json;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The client asks whether the server is there.
    Ping,
    /// The client answers a ping.
    Pong,
    /// The client wants to read a channel.
    Subscribe(Subscribe<'a>),
    /// The client does not want to read a channel any more.
    Unsubscribe(Cow<'a, str>),
    /// The client proves which user it belongs to.
    Signin {
        /// The key of the app and the signature.
        auth: Cow<'a, str>,
        /// The user, as the application has signed it.
        user_data: Cow<'a, str>,
    },
    /// The client sends an event to the other clients of a channel.
    ClientEvent {
        /// The name, which begins with `client-`.
        event: Cow<'a, str>,
        /// The channel.
        channel: Cow<'a, str>,
        /// The data as JSON, as the client has written it.
        data: &'a str,
    },
    /// An event that the server does not know. Clients of newer versions may send it.
    Unknown,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
    /// The key of the app and the signature, if the client sends them.
    pub auth: Option<Cow<'a, str>>,
    /// The user, as the application has signed it.
    pub channel_data: Option<Cow<'a, str>>,
}

/// Why a text is not a frame of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The text is not an object with an event.
    #[error("a frame must be a JSON object with an event")]
    NotAFrame,
    /// The data of the event does not have its form.
    #[error("the data of the event does not have the fields that the event needs")]
    Data,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    auth: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    channel_data: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    user_data: Option<Cow<'a, str>>,
}

/// The fields of an event's data, without a reference to the frame.
struct Data {
    channel: Option<String>,
    auth: Option<String>,
    channel_data: Option<String>,
    user_data: Option<String>,
}

impl Data {
    /// Reads the data, which is an object, or the text of one.
    fn read(data: Option<&RawValue>) -> Result<Data, BadFrame> {
        let raw = data.ok_or(BadFrame::Data)?.get();
        let text = json::text_of(raw);
        let fields: Fields<'_> = serde_json::from_str(text.as_deref().unwrap_or(raw)).map_err(|_| BadFrame::Data)?;
        let owned = |field: Option<Cow<'_, str>>| field.map(Cow::into_owned);
        Ok(Data {
            channel: owned(fields.channel),
            auth: owned(fields.auth),
            channel_data: owned(fields.channel_data),
            user_data: owned(fields.user_data),
        })
    }
}

/// Reads a frame.
///
/// # Errors
///
/// The text is not a frame, or an event of the protocol lacks a field.
pub fn read(text: &str) -> Result<Command<'_>, BadFrame> {
    let Frame { event, channel, data } = serde_json::from_str(text).map_err(|_| BadFrame::NotAFrame)?;
    Ok(match &*event {
        "pusher:ping" => Command::Ping,
        "pusher:pong" => Command::Pong,
        "pusher:subscribe" => {
            let data = Data::read(data)?;
            let channel = data.channel.map(Cow::Owned).or(channel).ok_or(BadFrame::Data)?;
            let (auth, channel_data) = (data.auth.map(Cow::Owned), data.channel_data.map(Cow::Owned));
            Command::Subscribe(Subscribe { channel, auth, channel_data })
        }
        "pusher:unsubscribe" => {
            let named = Data::read(data).ok().and_then(|data| data.channel).map(Cow::Owned);
            Command::Unsubscribe(named.or(channel).ok_or(BadFrame::Data)?)
        }
        "pusher:signin" => {
            let data = Data::read(data)?;
            let auth = data.auth.map(Cow::Owned).ok_or(BadFrame::Data)?;
            let user_data = data.user_data.map(Cow::Owned).ok_or(BadFrame::Data)?;
            Command::Signin { auth, user_data }
        }
        name if name.starts_with(CLIENT_EVENT) => {
            let channel = channel.ok_or(BadFrame::Data)?;
            Command::ClientEvent { event, channel, data: data.map_or("null", RawValue::get) }
        }
        _ => Command::Unknown,
    })
}
