//! The packets of Socket.IO 0.9, as those of the later versions.

use super::packets::endpoint;
use crate::wire::json;
use crate::wire::socketio::assembler::Complete;
use crate::wire::socketio::packet::{Packet, PacketType};
use crate::wire::socketio09::encode;
use crate::wire::socketio09::packet::{Id, Packet as Packet09, PacketType as Type09, Reply};
use std::borrow::Cow;

/// A packet of a client.
pub enum Input09 {
    /// A packet of a namespace. If the client wants a receipt, it is sent at once, without the application.
    Packet(Complete<'static>, Option<Vec<u8>>),
    /// The client ends the connection.
    End,
    /// A sign of life, or something without an effect.
    Nothing,
}

/// Reads a packet; `None` if it breaks a rule.
pub fn read(text: &str) -> Option<Input09> {
    let packet = Packet09::parse(text).ok()?;
    let namespace = if packet.endpoint.is_empty() { "/" } else { packet.endpoint };
    let make = |kind, ack, json: Option<String>| {
        let query = (kind == PacketType::Connect).then(|| Cow::Owned(packet.query().to_owned()));
        let namespace = Cow::Owned(namespace.to_owned());
        let packet = Packet { kind, attachments: 0, namespace, query, ack, json: json.map(Cow::Owned) };
        Complete { packet, attachments: Vec::new() }
    };
    let event = |json: String| {
        let ack = packet.id.filter(|id| id.reply == Reply::Data).map(|id| id.number);
        let receipt = packet.id.filter(|id| id.reply == Reply::Receipt).map(|Id { number, .. }| {
            let mut text = Vec::new();
            encode::ack(endpoint(namespace), number, None, &mut text);
            text
        });
        Input09::Packet(make(PacketType::Event, ack, Some(json)), receipt)
    };
    Some(match packet.kind {
        Type09::Disconnect if packet.endpoint.is_empty() => Input09::End,
        Type09::Disconnect => Input09::Packet(make(PacketType::Disconnect, None, None), None),
        // The main namespace is connected by the handshake.
        Type09::Connect if packet.endpoint.is_empty() => Input09::Nothing,
        Type09::Connect => Input09::Packet(make(PacketType::Connect, None, None), None),
        Type09::Message => event(format!("[\"message\",{}]", json::quoted(packet.data))),
        Type09::Json => event(format!("[\"message\",{}]", packet.json().ok()?.get())),
        Type09::Event => {
            let read = packet.event().ok()?;
            let args = read.arguments.map_or("[]", |args| args.get()).trim();
            let inner = args.strip_prefix('[')?.strip_suffix(']')?.trim();
            let comma = if inner.is_empty() { "" } else { "," };
            event(format!("[{}{comma}{inner}]", json::quoted(&read.name)))
        }
        Type09::Ack => {
            let (number, args) = packet.ack().ok()?;
            let args = args.map_or("[]", |args| args.get()).to_owned();
            Input09::Packet(make(PacketType::Ack, Some(number), Some(args)), None)
        }
        Type09::Heartbeat | Type09::Error | Type09::Noop => Input09::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_become_those_of_later_versions() {
        for (text, kind, namespace, ack, json, receipt) in [
            ("3:::hi \"you\"", PacketType::Event, "/", None, Some("[\"message\",\"hi \\\"you\\\"\"]"), None),
            ("4::/ns:{\"a\":1}", PacketType::Event, "/ns", None, Some("[\"message\",{\"a\":1}]"), None),
            ("5:::{\"name\":\"e\"}", PacketType::Event, "/", None, Some("[\"e\"]"), None),
            (
                "5:7+:/ns:{\"name\":\"e\",\"args\":[1, 2]}",
                PacketType::Event,
                "/ns",
                Some(7),
                Some("[\"e\",1, 2]"),
                None,
            ),
            ("5:7:/ns:{\"name\":\"e\",\"args\":[]}", PacketType::Event, "/ns", None, Some("[\"e\"]"), Some("6::/ns:7")),
            ("3:8::x", PacketType::Event, "/", None, Some("[\"message\",\"x\"]"), Some("6:::8")),
            ("6:::9+[\"a\"]", PacketType::Ack, "/", Some(9), Some("[\"a\"]"), None),
            ("6:::9", PacketType::Ack, "/", Some(9), Some("[]"), None),
            ("1::/ns?a=b", PacketType::Connect, "/ns", None, None, None),
            ("0::/ns", PacketType::Disconnect, "/ns", None, None, None),
        ] {
            let Some(Input09::Packet(Complete { packet, .. }, said)) = read(text) else { panic!("{text}") };
            assert_eq!((packet.kind, &*packet.namespace, packet.ack), (kind, namespace, ack), "{text}");
            assert_eq!(packet.json.as_deref(), json, "{text}");
            assert_eq!(said.map(|said| String::from_utf8(said).expect("UTF-8")).as_deref(), receipt, "{text}");
        }
        assert!(matches!(read("0::"), Some(Input09::End)));
        assert!(matches!(read("2::"), Some(Input09::Nothing)));
        for text in ["", "9::", "5:::{", "4:::x", "6:::x", "5:::{\"name\":\"a\",\"args\":1}"] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
