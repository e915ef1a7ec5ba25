use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Returns a masked frame as a client sends it. This code follows the standard and does not use the encoder.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..65536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    out
}

/// Returns all frames, and the violation at the end if there was one.
fn decode_chunks<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    max_message: usize,
) -> (Vec<Frame>, Option<Violation>) {
    let (mut decoder, mut buf, mut frames) = (Decoder::new(max_message), BytesMut::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(violation) => {
                    assert_eq!(decoder.decode(&mut BytesMut::from(&client_frame(0x81, b"a")[..])), Err(violation));
                    return (frames, Some(violation));
                }
            }
        }
        assert!(buf.len() < 14, "payload stays in the caller's buffer");
    }
    (frames, None)
}

fn decode(bytes: &[u8]) -> (Vec<Frame>, Option<u16>) {
    let (frames, violation) = decode_chunks([bytes], 100_000);
    (frames, violation.map(|violation| violation.code))
}

fn text(text: &str) -> Frame {
    Frame::Text(text.to_owned())
}

#[test]
fn handshake() {
    // The example of section 1.3.
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
    assert!(is_key("AAAAAAAAAAAAAAAAAAAAAB=="));
    for key in [
        "",
        "==",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZ-==",
        "MTIzNDU2Nzg5MDEyMzQ1Ng==a",
    ] {
        assert!(!is_key(key), "{key}");
    }
}

#[test]
fn frames_out() {
    // The examples of section 5.7.
    assert_eq!(text_frame(b"Hello")[..], *b"\x81\x05Hello");
    assert_eq!(pong_frame(b"Hello")[..], *b"\x8a\x05Hello");
    for (len, header) in [
        (0, &[0x81, 0][..]),
        (125, &[0x81, 125]),
        (126, &[0x81, 126, 0, 126]),
        (255, &[0x81, 126, 0, 255]),
        (256, &[0x81, 126, 1, 0]),
        (65535, &[0x81, 126, 0xff, 0xff]),
        (65536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut out = Vec::new();
        text_header(len, &mut out);
        assert_eq!(out, header);
        assert_eq!(text_frame(&vec![b'a'; len]).len(), header.len() + len);
    }
    assert_eq!(close_frame(4001, "drain")[..], *b"\x88\x07\x0f\xa1drain");
    assert_eq!(empty_close_frame()[..], *b"\x88\x00");
    assert_eq!(close_frame(1000, "")[..], *b"\x88\x02\x03\xe8");
    assert_eq!(close_frame(1000, &"é".repeat(62)).len(), 2 + 2 + 122);
    assert_eq!(pong_frame(&[0; 200]).len(), 2 + 125);
}

#[test]
fn messages_in() {
    // The examples of section 5.7.
    assert_eq!(decode(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), (vec![text("Hello")], None));
    assert_eq!(
        decode(b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
        (vec![Frame::Ping(Bytes::from("Hello"))], None)
    );
    for len in [0, 1, 125, 126, 65535, 65536, 100_000] {
        let long = "a".repeat(len);
        assert_eq!(decode(&client_frame(0x81, long.as_bytes())), (vec![text(&long)], None));
    }
}

#[test]
fn fragments_with_control_frames_between() {
    let bytes = [
        client_frame(0x01, b"a\xc3"),
        client_frame(0x89, b"p"),
        client_frame(0x00, b"\xa9"),
        client_frame(0x00, b""),
        client_frame(0x8a, b"ignored"),
        client_frame(0x80, b"b"),
        client_frame(0x81, b"c"),
    ]
    .concat();
    let frames = vec![Frame::Ping(Bytes::from("p")), Frame::Pong, text("aéb"), text("c")];
    assert_eq!(decode(&bytes), (frames.clone(), None));
    assert_eq!(decode_chunks(bytes.chunks(1), 4), (frames, None));
}

#[test]
fn closing() {
    assert_eq!(decode(&client_frame(0x88, b"")), (vec![Frame::Close(None)], None));
    // Bytes after a close frame are discarded.
    let bytes = [client_frame(0x01, b"a"), client_frame(0x88, b"\x03\xe8bye"), client_frame(0x81, b"late")].concat();
    let close = Frame::Close(Some((1000, "bye".to_owned())));
    assert_eq!(decode(&bytes), (vec![close.clone()], None));
    assert_eq!(decode_chunks(bytes.chunks(1), 100), (vec![close], None));
    for code in 0..=u16::MAX {
        let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let (frames, violation) = decode(&client_frame(0x88, &code.to_be_bytes()));
        assert_eq!((frames.len(), violation), if valid { (1, None) } else { (0, Some(1002)) }, "{code}");
    }
}

#[test]
fn violations() {
    let fragment = client_frame(0x01, b"a");
    let after_fragment = |frame: Vec<u8>| [fragment.clone(), frame].concat();
    for (name, bytes, code) in [
        ("unmasked", b"\x81\x05Hello".to_vec(), 1002),
        ("RSV1", client_frame(0xc1, b"a"), 1002),
        ("RSV2", client_frame(0xa1, b"a"), 1002),
        ("RSV3", client_frame(0x91, b"a"), 1002),
        ("reserved opcode", client_frame(0x83, b""), 1002),
        ("reserved control opcode", client_frame(0x8b, b""), 1002),
        ("fragmented ping", client_frame(0x09, b""), 1002),
        ("long ping", client_frame(0x89, &[0; 126]), 1002),
        ("lone continuation", client_frame(0x80, b"a"), 1002),
        ("text inside a message", after_fragment(client_frame(0x81, b"a")), 1002),
        ("binary inside a message", after_fragment(client_frame(0x82, b"a")), 1002),
        ("binary", client_frame(0x82, b""), 1003),
        ("not minimal, 16 bits", b"\x81\xfe\x00\x7d".to_vec(), 1002),
        ("not minimal, 64 bits", b"\x81\xff\0\0\0\0\0\0\xff\xff".to_vec(), 1002),
        ("top bit", b"\x81\xff\x80\0\0\0\0\0\0\0".to_vec(), 1002),
        ("huge", b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(), 1009),
        ("half a close code", client_frame(0x88, b"\x03"), 1002),
        ("not UTF-8", client_frame(0x81, b"\xff"), 1007),
        ("a surrogate", client_frame(0x81, b"\xed\xa0\x80"), 1007),
        ("cut character", after_fragment(client_frame(0x80, b"\xc3")), 1007),
        ("reason not UTF-8", client_frame(0x88, b"\x03\xe8\xff"), 1007),
    ] {
        assert_eq!(decode(&bytes), (vec![], Some(code)), "{name}");
        assert_eq!(decode_chunks(bytes.chunks(1), 100_000).1.map(|violation| violation.code), Some(code), "{name}");
    }
}

#[test]
fn violations_show_in_the_header() {
    // These headers are cut before the mask and the payload.
    for (bytes, code) in [
        (&b"\x81\x01"[..], 1002),
        (b"\x82\x80", 1003),
        (b"\x89\xfe", 1002),
        (b"\x88\x81", 1002),
        (b"\x81\xfe\x03\xe9", 1009),
    ] {
        assert_eq!(decode_chunks([bytes], 1000).1.map(|violation| violation.code), Some(code));
    }
}

#[test]
fn the_limit_counts_all_fragments() {
    let limit = |frames: &[Vec<u8>]| decode_chunks([&frames.concat()[..]], 4);
    assert_eq!(limit(&[client_frame(0x81, b"abcd"), client_frame(0x81, b"efgh")]).0.len(), 2);
    assert_eq!(limit(&[client_frame(0x01, b"ab"), client_frame(0x80, b"cd")]).0, [text("abcd")]);
    for frames in [
        &[client_frame(0x81, b"abcde")][..],
        &[client_frame(0x01, b"ab"), client_frame(0x00, b"cd"), client_frame(0x00, b""), client_frame(0x80, b"e")],
    ] {
        assert_eq!(limit(frames).1.map(|violation| violation.code), Some(1009));
    }
    // Control frames have a limit of their own.
    assert_eq!(limit(&[client_frame(0x89, &[b'p'; 125])]).0.len(), 1);
    assert_eq!(decode_chunks([&client_frame(0x81, b"")[..]], 0).0, [text("")]);
}

#[test]
fn no_buffer_is_kept() {
    let mut decoder = Decoder::new(100_000);
    for bytes in [
        [client_frame(0x01, &[b'a'; 50_000]), client_frame(0x80, &[b'a'; 50_000])].concat(),
        client_frame(0x89, &[b'p'; 125]),
        client_frame(0x00, b""),
    ] {
        let mut buf = BytesMut::from(&bytes[..]);
        let decoded = decoder.decode(&mut buf);
        assert_eq!(decoded.is_err(), bytes[0] == 0x00);
        assert_eq!((decoder.held(), buf.len()), (0, 0));
    }
}

#[test]
fn a_flood_of_empty_fragments_takes_no_memory() {
    let mut decoder = Decoder::new(10);
    let mut buf = BytesMut::from(&[client_frame(0x01, b""), client_frame(0x00, b"").repeat(200_000)].concat()[..]);
    assert_eq!(decoder.decode(&mut buf), Ok(None));
    assert_eq!((decoder.held(), buf.len()), (0, 0));
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![8 => Just(0x81_u8), 8 => Just(0x01), 8 => Just(0x00), 8 => Just(0x80), 4 => Just(0x89),
        2 => Just(0x8a), 1 => Just(0x88), 1 => any::<u8>()];
    (opcode, "\\PC{0,60}").prop_map(|(first, text)| client_frame(first, text.as_bytes()))
}

proptest! {
    #[test]
    fn chunks_do_not_matter(frames in prop::collection::vec(any_frame(), 0..8), size in 1_usize..40) {
        let bytes = frames.concat();
        prop_assert_eq!(decode_chunks(bytes.chunks(size), 300), decode_chunks([&bytes[..]], 300));
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in any::<Vec<u8>>(), size in 1_usize..10) {
        prop_assert_eq!(decode_chunks(bytes.chunks(size), 20), decode_chunks([&bytes[..]], 20));
    }

    #[test]
    fn texts_come_back(texts in prop::collection::vec(("\\PC*", 1_usize..20), 0..4), size in 1_usize..40) {
        let mut bytes = Vec::new();
        for (text, fragment) in &texts {
            let mut pieces = text.as_bytes().chunks(*fragment).peekable();
            bytes.extend(client_frame(if pieces.peek().is_some() { 0x01 } else { 0x81 }, pieces.next().unwrap_or_default()));
            while let Some(piece) = pieces.next() {
                bytes.extend(client_frame(if pieces.peek().is_some() { 0x00 } else { 0x80 }, piece));
            }
            if text.len() <= *fragment && !text.is_empty() {
                bytes.extend(client_frame(0x80, b""));
            }
        }
        let expected: Vec<_> = texts.into_iter().map(|(text, _)| Frame::Text(text)).collect();
        prop_assert_eq!(decode_chunks(bytes.chunks(size), 10_000), (expected, None));
    }

    #[test]
    fn close_reasons_fit(reason in "\\PC{0,140}") {
        let frame = close_frame(4000, &reason);
        let sent = std::str::from_utf8(&frame[4..])?;
        prop_assert!(frame.len() <= 127 && reason.starts_with(sent) && sent.len() + 4 > reason.len().min(123));
    }
}
