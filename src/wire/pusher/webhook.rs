//! The webhooks that applications receive: the names of their events, and the bodies of requests.

use crate::wire::json;

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WebhookEvent {
    /// A channel has got its first reader.
    ChannelOccupied,
    /// A channel has lost its last reader.
    ChannelVacated,
    /// A user is a member of a channel from now on.
    MemberAdded,
    /// A user is not a member of a channel any more.
    MemberRemoved,
    /// A client has sent an event.
    ClientEvent,
    /// A client has subscribed to a cache channel that does not have an event.
    CacheMiss,
}

impl WebhookEvent {
    /// All types.
    pub const ALL: [WebhookEvent; 6] = [
        WebhookEvent::ChannelOccupied,
        WebhookEvent::ChannelVacated,
        WebhookEvent::MemberAdded,
        WebhookEvent::MemberRemoved,
        WebhookEvent::ClientEvent,
        WebhookEvent::CacheMiss,
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            WebhookEvent::ChannelOccupied => "channel_occupied",
            WebhookEvent::ChannelVacated => "channel_vacated",
            WebhookEvent::MemberAdded => "member_added",
            WebhookEvent::MemberRemoved => "member_removed",
            WebhookEvent::ClientEvent => "client_event",
            WebhookEvent::CacheMiss => "cache_miss",
        }
    }
}

/// An event of a client.
#[derive(Clone, Copy, Debug)]
pub struct ClientEvent<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The name.
    pub event: &'a str,
    /// The text of the data.
    pub data: &'a str,
    /// The client.
    pub socket_id: &'a str,
    /// The id of the user, in a presence channel.
    pub user_id: Option<&'a str>,
}

/// An event as JSON. `fields` are texts.
fn event(kind: WebhookEvent, fields: &[(&str, &str)]) -> String {
    let mut out = format!("{{\"name\":\"{}\"", kind.as_str()).into_bytes();
    for (key, value) in fields {
        out.extend_from_slice(format!(",\"{key}\":").as_bytes());
        json::quote(value, &mut out);
    }
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default()
}

/// An event about a channel as JSON.
pub fn of_channel(kind: WebhookEvent, channel: &str) -> String {
    event(kind, &[("channel", channel)])
}

/// An event about a member as JSON.
pub fn of_member(kind: WebhookEvent, channel: &str, user_id: &str) -> String {
    event(kind, &[("channel", channel), ("user_id", user_id)])
}

/// An event of a client as JSON.
pub fn of_client(sent: &ClientEvent<'_>) -> String {
    let ClientEvent { channel, event: name, data, socket_id, user_id } = *sent;
    let mut fields = vec![("channel", channel), ("event", name), ("data", data), ("socket_id", socket_id)];
    fields.extend(user_id.map(|user| ("user_id", user)));
    event(WebhookEvent::ClientEvent, &fields)
}

/// The body of a request. `time_ms` is the time in milliseconds since 1970.
pub fn body<'a>(time_ms: u64, events: impl Iterator<Item = &'a str>) -> String {
    let events: Vec<&str> = events.collect();
    format!("{{\"time_ms\":{time_ms},\"events\":[{}]}}", events.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn bodies_have_the_fields_that_sdks_read() {
        let sent =
            ClientEvent { channel: "private-a", event: "client-x", data: "{\"n\":1}", socket_id: "1.2", user_id: None };
        let events = [
            of_channel(WebhookEvent::ChannelOccupied, "a"),
            of_member(WebhookEvent::MemberAdded, "presence-a", "a\"b"),
            of_client(&sent),
            of_client(&ClientEvent { user_id: Some("7"), ..sent }),
        ];
        let body: Value = serde_json::from_str(&body(17, events.iter().map(String::as_str))).expect("JSON");
        assert_eq!(
            body,
            json!({ "time_ms": 17, "events": [
                { "name": "channel_occupied", "channel": "a" },
                { "name": "member_added", "channel": "presence-a", "user_id": "a\"b" },
                { "name": "client_event", "channel": "private-a", "event": "client-x", "data": "{\"n\":1}", "socket_id": "1.2" },
                { "name": "client_event", "channel": "private-a", "event": "client-x", "data": "{\"n\":1}", "socket_id": "1.2", "user_id": "7" },
            ] })
        );
    }
}
