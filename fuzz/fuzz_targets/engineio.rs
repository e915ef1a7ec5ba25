//! Payloads and frames of Engine.IO: packets that were read are the same when they are written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::engineio::utf8::Encoded;
use longtail::internals::wire::engineio::{Data, Packet, PacketType, jsonp, octets, v3, v4};

type Text = fn(PacketType, &str, &mut Vec<u8>);
type Binary = fn(&[u8], &mut Vec<u8>);

// The first byte says which form the others have.
fuzz_target!(|input: &[u8]| {
    let Some((&form, body)) = input.split_first() else { return };
    let encoded = if form & 8 == 0 { Encoded::Once } else { Encoded::PerhapsTwice };
    match form & 7 {
        0 => {
            let packets: Vec<_> = v4::packets(body).into_iter().flatten().flatten().collect();
            let again = write(&packets, v4::packet, v4::binary, &[v4::SEPARATOR]);
            assert!(packets.is_empty() || v4::packets(&again).expect("UTF-8").eq(packets.into_iter().map(Ok)));
        }
        1 => {
            let packets: Vec<_> =
                v3::packets(body, encoded).into_iter().flatten().flatten().filter(is_written).collect();
            let again = write(&packets, v3::packet, v3::binary, b"");
            assert!(v3::packets(&again, Encoded::Once).expect("UTF-8").eq(packets.into_iter().map(Ok)));
        }
        2 => {
            let packets: Vec<_> = octets::packets(body).flatten().filter(is_written).collect();
            let again = write(&packets, octets::packet, octets::binary, b"");
            assert!(octets::packets(&again).eq(packets.into_iter().map(Ok)));
        }
        3 => {
            let _ = v3::read_binary_frame(body);
            let _ = jsonp::payload(body);
        }
        _ => {
            let text = String::from_utf8_lossy(body);
            let _ = v4::text_frame(&text);
            let _ = v3::read_text_frame(&text, encoded);
            let mut out = vec![b'"'];
            jsonp::escape(&text, &mut out);
            out.push(b'"');
            assert!(!out.contains(&b'<'));
            assert_eq!(serde_json::from_slice::<String>(&out).expect("a string"), text);
        }
    }
});

/// The server writes bytes only as messages.
fn is_written(packet: &Packet<'_>) -> bool {
    matches!(packet.data, Data::Text(_)) || packet.kind == PacketType::Message
}

fn write(packets: &[Packet<'_>], text: Text, binary: Binary, between: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        out.extend_from_slice(if index > 0 { between } else { b"" });
        match &packet.data {
            Data::Text(data) => text(packet.kind, data, &mut out),
            Data::Binary(data) => binary(data, &mut out),
        }
    }
    out
}
