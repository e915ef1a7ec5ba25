//! Tests of the frames of STOMP.

use super::encode;
use super::frame::{BadFrame, Command, Frame};
use super::splitter::{Broken, MAX_HEAD, Splitter};
use super::version::Version;
use proptest::prelude::*;

/// The frames in these pieces, and the error after them.
fn split(pieces: &[&[u8]], max: usize) -> (Vec<Vec<u8>>, Option<Broken>) {
    let (mut splitter, mut frames) = (Splitter::new(max), Vec::new());
    for piece in pieces {
        splitter.push(piece);
        loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(broken) => return (frames, Some(broken)),
            }
        }
    }
    (frames, None)
}

#[test]
fn frames_end_with_a_nul_or_with_their_length() {
    let long = format!("SEND\n{}:x\n\n\0", "a".repeat(MAX_HEAD));
    for (bytes, frames, broken) in [
        (&b"CONNECT\n\n\0"[..], vec![&b"CONNECT\n\n"[..]], None),
        (b"\n\r\n\nSEND\na:b\n\nbody\0\nACK\r\n\r\n\0", vec![b"SEND\na:b\n\nbody", b"ACK\r\n\r\n"], None),
        (b"SEND\ncontent-length:3\n\na\0b\0", vec![b"SEND\ncontent-length:3\n\na\0b"], None),
        (b"SEND\ncontent-length:0\n\n\0", vec![b"SEND\ncontent-length:0\n\n"], None),
        (
            b"SEND\ncontent-length:1\ncontent-length:9\n\na\0",
            vec![b"SEND\ncontent-length:1\ncontent-length:9\n\na"],
            None,
        ),
        (b"SEND\ncontent-length:1\n\nab\0", vec![], Some(Broken::NoEnd)),
        (b"SEND\ncontent-length:x\n\na\0", vec![], Some(Broken::ContentLength)),
        (b"SEND\ncontent-length:99999999999999999999999\n\na\0", vec![], Some(Broken::ContentLength)),
        (b"SEND\ncontent-length:18446744073709551615\n\na\0", vec![], Some(Broken::TooLong { max: 60 })),
        (b"SEND\ncontent-length:99\n\na", vec![], Some(Broken::TooLong { max: 60 })),
        (b"SEND\na:b\0", vec![], Some(Broken::Head)),
        (
            b"SEND\n\n01234567890123456789012345678901234567890123456789012345678901234567\0",
            vec![],
            Some(Broken::TooLong { max: 60 }),
        ),
        (long.as_bytes(), vec![], Some(Broken::Head)),
        (b"SEND\n\nnot whole", vec![], None),
        (b"\n\n", vec![], None),
    ] {
        let frames: Vec<Vec<u8>> = frames.into_iter().map(<[u8]>::to_vec).collect();
        assert_eq!(split(&[bytes], 60), (frames, broken), "{}", String::from_utf8_lossy(bytes));
    }
}

fn header(bytes: &[u8], version: Version, name: &str) -> Result<Option<String>, BadFrame> {
    Frame::read(bytes, version).map(|frame| frame.header(name).map(str::to_owned))
}

#[test]
fn headers_have_the_escapes_of_their_version() {
    for (value, v10, v11, v12) in [
        ("plain", Ok("plain"), Ok("plain"), Ok("plain")),
        (" space", Ok("space"), Ok(" space"), Ok(" space")),
        ("a\\cb\\n\\\\", Ok("a\\cb\\n\\\\"), Ok("a:b\n\\"), Ok("a:b\n\\")),
        ("\\r", Ok("\\r"), Err(BadFrame::Escape), Ok("\r")),
        ("\\t", Ok("\\t"), Err(BadFrame::Escape), Err(BadFrame::Escape)),
        ("x\\", Ok("x\\"), Err(BadFrame::Escape), Err(BadFrame::Escape)),
        ("a:b", Ok("a:b"), Ok("a:b"), Ok("a:b")),
    ] {
        let bytes = format!("SEND\ndestination:{value}\ndestination:second\n\n");
        for (version, expected) in [(Version::V10, v10), (Version::V11, v11), (Version::V12, v12)] {
            let expected = expected.map(|text: &str| Some(text.to_owned()));
            assert_eq!(header(bytes.as_bytes(), version, "destination"), expected, "{value} {version:?}");
        }
    }
    // These frames agree on the version, so they have no escapes.
    assert_eq!(header(b"STOMP\npasscode:a\\tb\n\n", Version::V12, "passcode"), Ok(Some("a\\tb".into())));
}

#[test]
fn bad_frames_are_named() {
    let many = format!("SEND\n{}\n", "a:b\n".repeat(101));
    for (bytes, error) in [
        (&b"send\n\n"[..], BadFrame::Command),
        (b"MESSAGE\n\n", BadFrame::Command),
        (b"", BadFrame::Command),
        (b"SEND", BadFrame::Command),
        (b"SEND\nno colon\n\n", BadFrame::Header),
        (b"SEND\na:\xff\n\n", BadFrame::Header),
        (b"SEND\na:b", BadFrame::Header),
        (many.as_bytes(), BadFrame::TooManyHeaders),
    ] {
        assert_eq!(Frame::read(bytes, Version::V12), Err(error), "{}", String::from_utf8_lossy(bytes));
    }
    let frame = Frame::read(b"SUBSCRIBE\r\nid:1\r\n\r\n", Version::V12).expect("a frame");
    assert_eq!((frame.command, frame.header("id"), frame.body), (Command::Subscribe, Some("1"), &b""[..]));
}

#[test]
fn the_newest_common_version_is_chosen() {
    for (accepted, expected) in [
        (None, Some(Version::V10)),
        (Some("1.0,1.1,1.2"), Some(Version::V12)),
        (Some("1.1, 1.0"), Some(Version::V11)),
        (Some("1.3"), None),
        (Some(""), None),
    ] {
        assert_eq!(Version::choose(accepted), expected, "{accepted:?}");
    }
}

#[test]
fn frames_of_the_server() {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    };
    let message = written(&|out| {
        encode::message_begin("sub:0", Some("a\n1"), Version::V12, out);
        encode::message_rest("/topic/a", "1-0", "application/json", "{\"é\":1}", Version::V12, out);
    });
    let expected = "MESSAGE\nsubscription:sub\\c0\nack:a\\n1\ndestination:/topic/a\nmessage-id:1-0\n\
                    content-type:application/json\ncontent-length:8\n\n{\"é\":1}\0";
    assert_eq!(message, expected);
    let receipt = written(&|out| encode::receipt("a\r:b", Version::V11, out));
    assert_eq!(receipt, "RECEIPT\nreceipt-id:a\r\\cb\n\n\0");
    let error = written(&|out| encode::error("no\nthing", Some("7"), Version::V10, out));
    assert!(
        error.starts_with("ERROR\nmessage:no thing\nreceipt-id:7\n") && error.ends_with("\n\nno\nthing\0"),
        "{error}"
    );
    let connected = written(&|out| encode::connected(Version::V11, "me", 15_000, out));
    assert!(
        connected.starts_with("CONNECTED\nversion:1.1\n") && connected.contains("heart-beat:15000,0\n"),
        "{connected}"
    );
}

proptest! {
    /// The cuts between reads do not matter.
    #[test]
    fn cuts_do_not_matter(bytes in "(SEND|ACK|\n|\r\n|content-length:[0-4]|a:b|\n\n|\u{0}|x){0,30}") {
        let bytes = bytes.as_bytes();
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(split(&single, 40), split(&[bytes], 40));
    }

    /// A header that is written is the same when it is read, in the versions that can write it.
    #[test]
    fn headers_come_back(value in "\\PC*|[\\\\:\n\rcn]*") {
        for version in [Version::V11, Version::V12] {
            if version == Version::V11 && value.contains('\r') {
                continue;
            }
            let mut out = Vec::new();
            encode::message_begin(&value, None, version, &mut out);
            let mut bytes = out.strip_prefix(b"MESSAGE").expect("the command").to_vec();
            bytes.splice(0..0, *b"SEND");
            bytes.push(b'\n');
            prop_assert_eq!(header(&bytes, version, "subscription"), Ok(Some(value.clone())));
        }
    }

    /// Any body comes out of its frame as it went in.
    #[test]
    fn bodies_come_back(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = format!("SEND\ndestination:a\ncontent-length:{}\n\n", body.len()).into_bytes();
        bytes.extend_from_slice(&body);
        bytes.push(0);
        let (frames, broken) = split(&[&bytes, b"\n"], 1000);
        prop_assert_eq!((frames.len(), broken), (1, None));
        let frame = Frame::read(&frames[0], Version::V12).expect("a frame");
        prop_assert_eq!(frame.body, &body[..]);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for version in Version::ALL {
            let _ = Frame::read(&bytes, version);
        }
        split(&[&bytes], 100);
    }
}
