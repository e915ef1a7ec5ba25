//! The PROXY protocol, versions 1 and 2. A proxy sends the address of its client before all other bytes of the
//! connection.

use ppp::{HeaderResult, v1, v2};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The shortest header: `PROXY UNKNOWN\r\n`. The server first reads this number of bytes and then the rest of a longer
/// header, so that it does not read bytes after the header.
const SHORTEST: usize = 15;

/// The maximum length of a header of version 1, which the protocol sets.
const LONGEST_LINE: usize = 107;

/// The maximum length of a header of version 2: its addresses, and the fields that a proxy may add about TLS.
const LONGEST: usize = 2048;

/// The time limit for a proxy to send its header. This can be short, because a proxy sends the header in its first
/// packet.
pub const TIMEOUT: Duration = Duration::from_secs(5);

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header. Returns the client's address; `None` if the proxy itself is the client.
///
/// # Errors
///
/// The header is missing or invalid.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "the PROXY protocol header is missing or invalid");
    let mut header = vec![0; SHORTEST];
    stream.read_exact(&mut header).await?;
    if header.starts_with(SIGNATURE) {
        header.push(stream.read_u8().await?);
        let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if rest > LONGEST {
            return Err(bad());
        }
        let at = header.len();
        header.resize(at + rest, 0);
        stream.read_exact(&mut header[at..]).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() >= LONGEST_LINE {
                return Err(bad());
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(bad());
    }
    let v4 = |ip: Ipv4Addr| Some(IpAddr::V4(ip));
    let v6 = |ip: Ipv6Addr| Some(IpAddr::V6(ip).to_canonical());
    match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(addresses) => v4(addresses.source_address),
            v1::Addresses::Tcp6(addresses) => v6(addresses.source_address),
            v1::Addresses::Unknown => None,
        }),
        // Such a connection is a health check by the proxy itself.
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => match header.addresses {
            v2::Addresses::IPv4(addresses) => Ok(v4(addresses.source_address)),
            v2::Addresses::IPv6(addresses) => Ok(v6(addresses.source_address)),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => Ok(None),
        },
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn parse(bytes: &[u8]) -> (Option<Option<String>>, usize) {
        let mut rest = bytes;
        let ip = read(&mut rest).await.ok().map(|ip| ip.map(|ip| ip.to_string()));
        (ip, rest.len())
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, body, b"GET"].concat()
    }

    #[tokio::test]
    async fn both_versions_and_not_a_byte_more() {
        for (line, ip) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n", Some("192.0.2.1")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 1 80\r\n", Some("2001:db8::1")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 80\r\n", Some("192.0.2.1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        ] {
            let parsed = parse(format!("{line}GET").as_bytes()).await;
            assert_eq!(parsed, (Some(ip.map(str::to_owned)), 3), "{line}");
        }
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 80];
        assert_eq!(parse(&binary(1, 0x11, &v4)).await, (Some(Some("192.0.2.1".into())), 3));
        let tlv = [&v4[..], &[0x04, 0, 2, 0, 0]].concat();
        assert_eq!(parse(&binary(1, 0x11, &tlv)).await, (Some(Some("192.0.2.1".into())), 3));
        assert_eq!(parse(&binary(0, 0, &[])).await, (Some(None), 3));
        for bad in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 192.0.2.2 1 80\r\n".to_vec(),
            [b"PROXY ", "x".repeat(200).as_bytes()].concat(),
            binary(1, 0x11, &[1, 2]),
            binary(1, 0x11, &[0; 4000]),
            SIGNATURE.to_vec(),
            Vec::new(),
        ] {
            assert_eq!(parse(&bad).await.0, None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(bytes: Vec<u8>, is_binary: bool) {
            let bytes = if is_binary { [SIGNATURE, &bytes].concat() } else { [b"PROXY ", &bytes[..]].concat() };
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(parse(&bytes));
        }
    }
}
