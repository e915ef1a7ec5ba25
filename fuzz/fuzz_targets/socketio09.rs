//! Bodies and packets of Socket.IO 0.9: packets that were read are the same when they are framed and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::wire::socketio09::encode;
use longtail::internals::wire::socketio09::framing;
use longtail::internals::wire::socketio09::packet::Packet;
use longtail::internals::wire::socketio09::pages;

fuzz_target!(|body: &[u8]| {
    let _ = pages::payload(body);
    let Ok(packets) = framing::packets(body) else { return };
    let packets: Vec<&str> = packets.flatten().collect();
    let mut again = Vec::new();
    packets.iter().for_each(|packet| framing::frame(packet, &mut again));
    let read: Result<Vec<&str>, _> = framing::packets(&again).expect("UTF-8").collect();
    assert_eq!(read.as_ref(), Ok(&packets));

    for packet in packets.iter().filter_map(|packet| Packet::parse(packet).ok()) {
        let _ = (packet.json(), packet.query());
        if let Ok((number, arguments)) = packet.ack() {
            let mut out = Vec::new();
            encode::ack(packet.endpoint, number, arguments.map(|json| json.get()), &mut out);
            let text = String::from_utf8(out).expect("UTF-8");
            let read = Packet::parse(&text).expect("a packet").ack().expect("an ack");
            assert_eq!((read.0, read.1.map(|json| json.get())), (number, arguments.map(|json| json.get())));
        }
        if let Ok(event) = packet.event() {
            let arguments = event.arguments.map_or("[]", |json| json.get());
            let mut out = Vec::new();
            encode::event(packet.id, packet.endpoint, &event.name, arguments, &mut out);
            let text = String::from_utf8(out).expect("UTF-8");
            let read = Packet::parse(&text).expect("a packet");
            assert_eq!((read.id, read.endpoint), (packet.id, packet.endpoint));
            let read = read.event().expect("an event");
            assert_eq!((read.name, read.arguments.map(|json| json.get())), (event.name, Some(arguments)));
        }
    }
});
