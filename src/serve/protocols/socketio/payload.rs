//! Payloads of polls: the body of an answer, and the packets of a body.

use super::framing::Framing;
use super::record::Info;
use super::request::EngineVersion;
use crate::wire::engineio::utf8::Encoded;
use crate::wire::engineio::{Data, Error, Packet, PacketType, jsonp, octets, v3, v4};
use std::borrow::Cow;

/// The body of an answer with these packets.
pub fn finish(framing: Framing, mut packets: Vec<u8>) -> Vec<u8> {
    // Each packet has a separator in front of it.
    if framing == Framing::Payload4 && !packets.is_empty() {
        packets.remove(0);
    }
    packets
}

/// The content type of an answer, and its body: with a number, a call for JSONP.
pub fn answer(framing: Framing, body: Vec<u8>, jsonp: Option<u32>) -> (&'static str, Vec<u8>) {
    let Some(number) = jsonp else {
        let is_binary = framing == Framing::Octets3;
        return (if is_binary { "application/octet-stream" } else { "text/plain; charset=UTF-8" }, body);
    };
    let mut out = Vec::with_capacity(body.len() + 64);
    jsonp::begin(number, &mut out);
    jsonp::escape(&String::from_utf8_lossy(&body), &mut out);
    jsonp::end(&mut out);
    // Browsers run a script only if its type says that it is one.
    ("text/javascript; charset=UTF-8", out)
}

/// A packet of a body.
pub struct Received {
    /// The type.
    pub kind: PacketType,
    /// The data.
    pub data: Content,
}

/// The data of a packet.
pub enum Content {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// Reads the packets of a body. `is_octets` and `is_form` follow from its content type and its query.
///
/// # Errors
///
/// The body is not a payload.
pub fn packets(info: &Info, body: &[u8], is_octets: bool, is_form: bool) -> Result<Vec<Received>, Error> {
    let form = is_form.then(|| jsonp::payload(body)).transpose()?;
    let body: Cow<'_, [u8]> = form.map_or(Cow::Borrowed(body), |text| Cow::Owned(text.into_bytes()));
    match info.engine() {
        EngineVersion::V4 => v4::packets(&body)?.map(received).collect(),
        _ if is_octets => octets::packets(&body).map(received).collect(),
        // A form is decoded as UTF-8 by its own rule.
        _ => v3::packets(&body, Encoded::PerhapsTwice)?.map(received).collect(),
    }
}

fn received(packet: Result<Packet<'_>, Error>) -> Result<Received, Error> {
    let Packet { kind, data } = packet?;
    let data = match data {
        Data::Text(text) => Content::Text(text.into_owned()),
        Data::Binary(bytes) => Content::Binary(bytes.into_owned()),
    };
    Ok(Received { kind, data })
}
