//! Packets of Socket.IO: an event that was read is the same when it is written and read again. A complete packet has all
//! the binary parts that its JSON names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::socketio::assembler::{Assembler, Complete};
use longtail::internals::wire::socketio::encode::{Arguments, Charset, Event};
use longtail::internals::wire::socketio::packet::{Packet, Version};
use longtail::internals::wire::socketio::placeholders;
use serde_json::value::RawValue;

const MAX: usize = 1000;

// The first byte is the version. Lines are packets; a line that begins with a tab is a binary part.
fuzz_target!(|input: &[u8]| {
    let Some((&version, input)) = input.split_first() else { return };
    let version = if version & 1 == 0 { Version::V4 } else { Version::V5 };
    let (mut direct, mut moved) = (Assembler::new(version, MAX), Assembler::new(version, MAX));
    for line in input.split(|&byte| byte == b'\n') {
        // A packet may go on at another node.
        if let Some(incomplete) = moved.take() {
            assert!(incomplete.size() <= MAX);
            moved = Assembler::new(version, MAX);
            moved.resume(incomplete).expect("what was taken can be put back");
        }
        let ended = match line.strip_prefix(b"\t") {
            Some(part) => {
                let (one, other) = (direct.binary(part.to_vec().into()), moved.binary(part.to_vec().into()));
                assert_eq!(one, other);
                one.map(|complete| complete.iter().for_each(|complete| check(complete, version))).is_err()
            }
            None => {
                let text = String::from_utf8_lossy(line);
                let (one, other) = (direct.text(&text), moved.text(&text));
                assert_eq!(one, other);
                one.map(|complete| complete.iter().for_each(|complete| check(complete, version))).is_err()
            }
        };
        if ended {
            return;
        }
    }
});

fn check(complete: &Complete<'_>, version: Version) {
    let Complete { packet, attachments } = complete;
    assert_eq!(attachments.len(), packet.attachments);
    let Some(json) = packet.json.as_deref() else { return };
    assert!(serde_json::from_str::<&RawValue>(json).is_ok());
    let places = || placeholders::find(json).map(|place| place.index);
    assert!(!packet.kind.is_binary() || places().all(|index| index < attachments.len()));
    let Some(event) = packet.event() else { return };
    let array = event.array();
    let again = Event {
        namespace: &packet.namespace,
        ack: packet.ack,
        name: &event.name,
        arguments: Arguments::Array(&array),
        attachments: attachments.len(),
        offset: None,
    };
    for charset in [Charset::Utf8, Charset::Ascii] {
        let mut out = Vec::new();
        again.encode(charset, &mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        let read = Packet::parse(&text, version).expect("a packet");
        assert_eq!((&read.namespace, read.ack, read.attachments), (&packet.namespace, packet.ack, packet.attachments));
        let read = read.event().expect("an event");
        assert_eq!((&read.name, read.count), (&event.name, event.count));
        assert!(charset == Charset::Ascii || read.arguments == event.arguments);
    }
}
