//! RFC 6455, byte by byte, with frames that a library refuses to send.

use crate::support;

use support::websocket::{ACCEPT, Frame, KEY, frame, handshake, unmasked};
use support::{Kind, Log, Node, RawWebSocket, Reader, Request, Subscription, World};

const TEXT: u8 = 0x81;
const FIN: u8 = 0x80;

async fn world() -> Node {
    World::start(Log::Memory, &[]).await.node
}

async fn open(node: &Node) -> RawWebSocket {
    let mut socket = RawWebSocket::open(node, "/ws?channel=todo").await;
    let hello = socket.frame().await.expect("a hello");
    assert_eq!(hello.json()["type"], "hello");
    socket
}

#[tokio::test]
async fn the_handshake() {
    let node = world().await;
    let answer = handshake("/ws?channel=todo")
        .header("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
        .open(node.http)
        .await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("Sec-WebSocket-Accept"), Some(ACCEPT));
    assert_eq!(answer.header("Upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    let connection = answer.header("Connection").expect("Connection").to_lowercase();
    assert!(connection.contains("upgrade"), "{connection:?}");
    assert_eq!(answer.header("Sec-WebSocket-Extensions"), None, "never compressed");
    assert_eq!(answer.header("Sec-WebSocket-Protocol"), None);
}

/// Header names and values that differ in case, or are in lists, are equal.
#[tokio::test]
async fn an_unusual_handshake_is_one() {
    let node = world().await;
    let answer = Request::get("/ws?channel=todo")
        .header("connection", "keep-alive, UPGRADE")
        .header("upgrade", "WebSocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", KEY)
        .open(node.http)
        .await;
    assert_eq!(answer.status, 101);
}

#[tokio::test]
async fn a_bad_handshake_is_refused() {
    let node = world().await;
    let (upgrade, connection) = (("Upgrade", "websocket"), ("Connection", "Upgrade"));
    let (version, key) = (("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY));
    let short_key = ("Sec-WebSocket-Key", "c2hvcnQ=");
    let no_base64 = ("Sec-WebSocket-Key", "!!!!!!!!!!!!!!!!!!!!!!==");
    let old = ("Sec-WebSocket-Version", "7");
    let h2c = ("Upgrade", "h2c");
    let cases = [
        ("GET", vec![]),
        ("GET", vec![connection, version, key]),
        ("GET", vec![upgrade, version, key]),
        ("GET", vec![upgrade, connection, key]),
        ("GET", vec![upgrade, connection, version]),
        ("GET", vec![upgrade, connection, version, short_key]),
        ("GET", vec![upgrade, connection, version, no_base64]),
        ("GET", vec![h2c, connection, version, key]),
        ("GET", vec![upgrade, connection, old, key]),
        ("POST", vec![upgrade, connection, version, key]),
    ];
    for (method, headers) in cases {
        let mut request = Request::new(method, "/ws?channel=todo");
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let answer = request.send(node.http).await;
        let wanted: &[u16] = match method {
            "POST" => &[400, 405],
            _ => &[400, 426],
        };
        assert!(wanted.contains(&answer.status), "{method} {headers:?}: {}", answer.status);
        answer.error_code();
        if headers.contains(&old) {
            assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"));
        }
    }
    let answer = handshake("/ws?channel=todo").http10().send(node.http).await;
    assert!(matches!(answer.status, 400 | 426), "HTTP/1.0: {}", answer.status);
}

#[tokio::test]
async fn a_message_is_one_unmasked_text_frame() {
    let node = world().await;
    let mut socket = open(&node).await;
    for length in [1, 100, 126, 1000, 65_000] {
        let payload = format!("\"{}\"", "x".repeat(length));
        let id = node.publish("todo", &payload).await;
        let frame = socket.frame().await.expect("a frame");
        let text = format!(r#"{{"id":"{id}","channel":"todo","event":"message","data":{payload}}}"#);
        assert_eq!(frame, Frame { first: TEXT, payload: text.into_bytes() });
    }
}

/// A violation of the protocol ends the connection with the code that the RFC names.
#[tokio::test]
async fn violations() {
    let node = world().await;
    let ws = node.transport("ws").await;
    let mut witness = Reader::open(&node, &ws, Subscription::to(&["todo"])).await;
    witness.next_of(Kind::Hello).await;

    let ping = br#"{"type":"ping"}"#;
    let mut huge_length = vec![TEXT, 0x80 | 127];
    huge_length.extend((1u64 << 62).to_be_bytes());
    huge_length.extend([0; 4]);
    let mut negative_length = vec![TEXT, 0x80 | 127];
    negative_length.extend(u64::MAX.to_be_bytes());
    negative_length.extend([0; 4]);
    let two = |a: Vec<u8>, b: Vec<u8>| [a, b].concat();
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("an unmasked text", unmasked(TEXT, ping), &[1002]),
        ("an unmasked ping", unmasked(0x89, b"x"), &[1002]),
        ("an unmasked close", unmasked(0x88, &[3, 232]), &[1002]),
        ("RSV1", frame(TEXT | 0x40, ping), &[1002]),
        ("RSV2", frame(TEXT | 0x20, ping), &[1002]),
        ("RSV3 on a ping", frame(0x89 | 0x10, b""), &[1002]),
        ("reserved data opcode", frame(FIN | 3, ping), &[1002]),
        ("reserved control opcode", frame(FIN | 0xb, b""), &[1002]),
        ("a fragmented ping", frame(0x09, b""), &[1002]),
        ("a fragmented close", frame(0x08, b""), &[1002]),
        ("a ping of 126 bytes", frame(0x89, &[b'x'; 126]), &[1002]),
        ("a lone continuation", frame(FIN, ping), &[1002]),
        ("a lone unfinished continuation", frame(0, ping), &[1002]),
        ("a text within a text", two(frame(1, b"{"), frame(TEXT, ping)), &[1002]),
        ("binary", frame(0x82, ping), &[1003]),
        ("empty binary", frame(0x82, b""), &[1003]),
        ("a fragmented binary", frame(0x02, ping), &[1003]),
        ("bad UTF-8", frame(TEXT, b"\xff\xfe"), &[1007]),
        ("an overlong form", frame(TEXT, b"\xc0\xaf"), &[1007]),
        ("a surrogate", frame(TEXT, b"\xed\xa0\x80"), &[1007]),
        ("half a character at the end", frame(TEXT, b"{\xc3"), &[1007]),
        ("bad UTF-8 over fragments", two(frame(1, b"\xc3"), frame(FIN, b"(")), &[1007]),
        ("a close of one byte", frame(0x88, &[3]), &[1002]),
        ("close code 999", frame(0x88, &999u16.to_be_bytes()), &[1002]),
        ("close code 1005", frame(0x88, &1005u16.to_be_bytes()), &[1002]),
        ("close code 1006", frame(0x88, &1006u16.to_be_bytes()), &[1002]),
        ("close code 2999", frame(0x88, &2999u16.to_be_bytes()), &[1002]),
        ("a close reason of bad UTF-8", frame(0x88, b"\x03\xe8\xff"), &[1002, 1007]),
        ("a length of 2^62", huge_length, &[1009]),
        ("a negative length", negative_length, &[1002, 1009]),
    ];
    for (what, bytes, codes) in cases {
        let mut socket = open(&node).await;
        socket.send(&bytes).await;
        let code = socket.close_code().await;
        assert!(codes.contains(&code), "{what}: closed with {code}");
        assert_eq!(socket.frame().await, None, "{what}: nothing behind the close");
        let new = node.publish_numbers("todo", 1).await;
        witness.expect(&new).await;
    }
}

/// An oversize command gets an error, and the connection ends, whether it comes in one frame or in many.
#[tokio::test]
async fn oversize() {
    let node = world().await;
    let command = format!(r#"{{"type":"ping","ref":"{}"}}"#, "x".repeat(2 << 20));
    let mut fragments = frame(1, &command.as_bytes()[..60_000]);
    for part in command.as_bytes()[60_000..].chunks(60_000) {
        fragments.extend(frame(0, part));
    }
    // A frame within the limit on commands, with a payload beyond the limit on payloads.
    let publish = format!(r#"{{"type":"publish","channel":"todo","data":"{}","ref":1}}"#, "x".repeat(70_000));
    for bytes in [frame(TEXT, command.as_bytes()), fragments, frame(TEXT, publish.as_bytes())] {
        let mut socket = open(&node).await;
        socket.try_send(&bytes).await;
        let error = socket.next_of("error").await;
        assert_eq!(error["code"], "too_large");
        assert_eq!(socket.close_code().await, 1009);
    }
}

#[tokio::test]
async fn a_close_is_echoed() {
    let node = world().await;
    let cases: [(&[u8], Option<u16>); 5] = [
        (b"\x03\xe8", Some(1000)),
        (b"\x03\xe9going away", Some(1001)),
        (b"\x0b\xb8", Some(3000)),
        (b"\x13\x87", Some(4999)),
        (b"", None),
    ];
    for (payload, code) in cases {
        let mut socket = open(&node).await;
        socket.send(&frame(0x88, payload)).await;
        let close = socket.frame().await.expect("a close");
        assert_eq!(close.opcode(), 8);
        match code {
            Some(code) => assert_eq!(close.close_code(), code),
            None => assert!(matches!(close.payload.len(), 0 | 2), "{close:?}"),
        }
        assert_eq!(socket.frame().await, None, "and the connection ends");
    }
}

#[tokio::test]
async fn pings_are_answered() {
    let node = world().await;
    let mut socket = open(&node).await;
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        socket.send(&frame(0x89, payload)).await;
        let pong = socket.frame().await.expect("a pong");
        assert_eq!(pong, Frame { first: 0x8a, payload: payload.to_vec() });
    }
    // The server ignores a pong that it has not asked for.
    socket.send(&frame(0x8a, b"unasked")).await;
    socket.text(r#"{"type":"ping","ref":1}"#).await;
    assert_eq!(socket.next_of("pong").await["ref"], 1);
}

/// A message may come in pieces, with control frames between them and within characters.
#[tokio::test]
async fn fragments() {
    let node = world().await;
    let mut socket = open(&node).await;
    let command = r#"{"type":"ping","ref":"é😀"}"#.as_bytes();
    socket.send(&frame(1, b"")).await;
    for (index, byte) in command.iter().enumerate() {
        socket.send(&frame(0, &[*byte])).await;
        if index == 10 {
            socket.send(&frame(0x89, b"in between")).await;
            let pong = socket.frame().await.expect("a pong");
            assert_eq!((pong.opcode(), pong.payload.as_slice()), (10, &b"in between"[..]));
        }
    }
    socket.send(&frame(FIN, b"")).await;
    assert_eq!(socket.next_of("pong").await["ref"], "é😀");

    // Many frames in one write, and one frame in many writes.
    let ping = |n: u8| frame(TEXT, format!(r#"{{"type":"ping","ref":{n}}}"#).as_bytes());
    socket.send(&(0..50).flat_map(ping).collect::<Vec<u8>>()).await;
    for n in 0..50 {
        assert_eq!(socket.next_of("pong").await["ref"], n);
    }
    for byte in ping(7) {
        socket.send(&[byte]).await;
    }
    assert_eq!(socket.next_of("pong").await["ref"], 7);
}

/// A client that leaves in the middle of a frame or a command does not disturb other clients.
#[tokio::test]
async fn aborted_connections() {
    let node = world().await;
    let ws = node.transport("ws").await;
    let mut witness = Reader::open(&node, &ws, Subscription::to(&["todo"])).await;
    witness.next_of(Kind::Hello).await;
    let command = frame(TEXT, br#"{"type":"publish","channel":"other","data":1}"#);
    for cut in 0..command.len() {
        let mut socket = open(&node).await;
        socket.send(&command[..cut]).await;
    }
    let new = node.publish_numbers("todo", 3).await;
    witness.expect(&new).await;
}
