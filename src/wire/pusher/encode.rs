//! Writes the frames of the server. The data of an event is a JSON text inside a JSON string, because the oldest
//! clients parse it twice. Only errors have an object.

use super::close::CloseCode;
use crate::wire::json;

/// An event for the readers of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The name.
    pub event: &'a str,
    /// The channel.
    pub channel: &'a str,
    /// The text of the data, which usually is JSON.
    pub data: &'a str,
    /// The id of the user that has sent the event, as JSON, if a client of a presence channel has sent it.
    pub user_id: Option<&'a str>,
    /// The cursor of the message. Clients ignore it.
    pub id: Option<&'a str>,
}

impl Event<'_> {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut frame = Frame::open(self.event, out);
        frame.text("channel", self.channel);
        frame.text("data", self.data);
        if let Some(user) = self.user_id {
            frame.raw("user_id", user);
        }
        if let Some(id) = self.id {
            frame.text("id", id);
        }
        frame.close();
    }
}

/// Writes the first frame of a connection. After `activity_timeout` seconds of silence, the client sends a ping.
pub fn connection_established(socket_id: &str, activity_timeout: u64, out: &mut Vec<u8>) {
    // A socket id does not need escapes.
    let data = format!("{{\"socket_id\":\"{socket_id}\",\"activity_timeout\":{activity_timeout}}}");
    let mut frame = Frame::open("pusher:connection_established", out);
    frame.text("data", &data);
    frame.close();
}

/// Writes the answer to a ping.
pub fn pong(out: &mut Vec<u8>) {
    let mut frame = Frame::open("pusher:pong", out);
    frame.text("data", "{}");
    frame.close();
}

/// Writes the answer to a subscription. `data` is JSON: `{}`, or [`members`] of a presence channel.
pub fn subscription_succeeded(channel: &str, data: &str, out: &mut Vec<u8>) {
    let mut frame = Frame::open("pusher_internal:subscription_succeeded", out);
    frame.text("channel", channel);
    frame.text("data", data);
    frame.close();
}

/// The members of a presence channel as JSON: `{"presence":{"count":…,"ids":[…],"hash":{…}}}`. Each member is its id and
/// its info as JSON.
pub fn members<'a>(members: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let mut out = format!("{{\"presence\":{{\"count\":{},\"ids\":[", members.clone().count()).into_bytes();
    for (index, (id, _)) in members.clone().enumerate() {
        separate(index, &mut out);
        json::quote(id, &mut out);
    }
    out.extend_from_slice(b"],\"hash\":{");
    for (index, (id, info)) in members.enumerate() {
        separate(index, &mut out);
        json::quote(id, &mut out);
        out.push(b':');
        out.extend_from_slice(info.as_bytes());
    }
    out.extend_from_slice(b"}}}");
    String::from_utf8(out).unwrap_or_default()
}

fn separate(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

/// Writes that a user has become a member of a channel. `info` is JSON.
pub fn member_added(channel: &str, user: &str, info: &str, id: Option<&str>, out: &mut Vec<u8>) {
    let data = format!("{{\"user_id\":{},\"user_info\":{info}}}", json::quoted(user));
    let event = "pusher_internal:member_added";
    Event { event, channel, data: &data, user_id: None, id }.encode(out);
}

/// Writes that a user is no longer a member of a channel.
pub fn member_removed(channel: &str, user: &str, id: Option<&str>, out: &mut Vec<u8>) {
    let data = format!("{{\"user_id\":{}}}", json::quoted(user));
    let event = "pusher_internal:member_removed";
    Event { event, channel, data: &data, user_id: None, id }.encode(out);
}

/// Writes that a cache channel does not have an event.
pub fn cache_miss(channel: &str, out: &mut Vec<u8>) {
    let mut frame = Frame::open("pusher:cache_miss", out);
    frame.text("channel", channel);
    frame.text("data", "{}");
    frame.close();
}

/// Writes that a subscription was refused. The client's page gets the frame as an event of the channel.
pub fn subscription_error(channel: &str, kind: &str, error: &str, status: u16, out: &mut Vec<u8>) {
    let mut data = b"{\"type\":".to_vec();
    json::quote(kind, &mut data);
    data.extend_from_slice(b",\"error\":");
    json::quote(error, &mut data);
    data.extend_from_slice(format!(",\"status\":{status}}}").as_bytes());
    let mut frame = Frame::open("pusher:subscription_error", out);
    frame.text("channel", channel);
    frame.text("data", &String::from_utf8_lossy(&data));
    frame.close();
}

/// Writes the answer to a sign-in. `user_data` is the text that the client has sent.
pub fn signin_success(user_data: &str, out: &mut Vec<u8>) {
    let data = format!("{{\"user_data\":{}}}", json::quoted(user_data));
    let mut frame = Frame::open("pusher:signin_success", out);
    frame.text("data", &data);
    frame.close();
}

/// Writes an error. `message` says more than the code.
pub fn error(code: Option<CloseCode>, message: &str, out: &mut Vec<u8>) {
    let code = code.map_or_else(|| "null".to_owned(), |code| code.code().to_string());
    let data = format!("{{\"code\":{code},\"message\":{}}}", json::quoted(message));
    let mut frame = Frame::open("pusher:error", out);
    frame.raw("data", &data);
    frame.close();
}

/// Writes a frame field by field.
struct Frame<'a>(&'a mut Vec<u8>);

impl<'a> Frame<'a> {
    fn open(event: &str, out: &'a mut Vec<u8>) -> Frame<'a> {
        out.extend_from_slice(b"{\"event\":");
        json::quote(event, out);
        Frame(out)
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        json::quote(value, self.0);
    }

    fn raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.0.extend_from_slice(json.as_bytes());
    }

    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn close(self) {
        self.0.push(b'}');
    }
}
