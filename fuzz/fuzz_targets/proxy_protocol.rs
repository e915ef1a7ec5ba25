//! A PROXY protocol header is read to its last byte and no further, in whatever pieces it comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::serve::fuzzing::read_proxy_header;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, ReadBuf};

/// A source that returns pieces of one size.
struct Pieces<'a>(&'a [u8], usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let n = self.0.len().min(self.1).min(buf.remaining());
        buf.put_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Poll::Ready(Ok(()))
    }
}

/// The result, `None` if the header was refused, and how many bytes were read.
fn read(bytes: &[u8], size: usize) -> (Option<Option<IpAddr>>, usize) {
    let mut pieces = Pieces(bytes, size);
    let read = pin!(read_proxy_header(&mut pieces)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(read) = read else { unreachable!("it never waits") };
    (read.ok(), bytes.len() - pieces.0.len())
}

// The first byte is the size of a piece, and whether the header is a binary one.
fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let size = usize::from(first >> 1).max(1);
    let beginning: &[u8] = if first & 1 == 0 { b"PROXY " } else { b"\r\n\r\n\0\r\nQUIT\n" };
    let bytes = [beginning, rest].concat();
    let (found, taken) = read(&bytes, size);
    assert_eq!(read(&bytes, usize::MAX), (found, taken));
    assert!(taken <= 16 + 2048);
    let Some(ip) = found else { return };
    // A header alone gives the same result, and a part of it gives none.
    assert_eq!(read(&bytes[..taken], size), (found, taken));
    assert_eq!(read(&bytes[..taken - 1], size).0, None);
    let expected = if first & 1 == 0 { of_text(&bytes[..taken]) } else { of_binary(&bytes[..taken]) };
    assert_eq!(ip, expected.map(|ip| ip.to_canonical()));
});

/// Section 2.1 of the protocol.
fn of_text(line: &[u8]) -> Option<IpAddr> {
    assert!(line.len() <= 107 && line.ends_with(b"\r\n"));
    assert!(!line[..line.len() - 2].windows(2).any(|two| two == b"\r\n"));
    // The rest of the header has to be skipped, whatever it is.
    if line.starts_with(b"PROXY UNKNOWN") {
        return None;
    }
    let line = std::str::from_utf8(line).expect("ASCII").trim_end_matches("\r\n");
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words.len(), 6, "{line}");
    let port = |word: &str| word.parse::<u16>().expect("a port");
    (port(words[4]), port(words[5]));
    Some(match words[1] {
        "TCP4" => words[2].parse::<Ipv4Addr>().expect("an address").into(),
        "TCP6" => words[2].parse::<Ipv6Addr>().expect("an address").into(),
        other => panic!("{other}"),
    })
}

/// Section 2.2 of the protocol.
fn of_binary(header: &[u8]) -> Option<IpAddr> {
    assert_eq!(header.len(), 16 + usize::from(u16::from_be_bytes([header[14], header[15]])));
    assert_eq!(header[12] >> 4, 2);
    let is_local = match header[12] & 15 {
        0 => true,
        1 => false,
        other => panic!("command {other}"),
    };
    match header[13] >> 4 {
        _ if is_local => None,
        1 => Some(IpAddr::from(<[u8; 4]>::try_from(&header[16..20]).expect("4 bytes"))),
        2 => Some(IpAddr::from(<[u8; 16]>::try_from(&header[16..32]).expect("16 bytes"))),
        _ => None,
    }
}
