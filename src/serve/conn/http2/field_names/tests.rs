//! Compares this module's reader with the `h2` crate, which reads the same blocks. If `h2` accepts a block as trailers,
//! the reader finds no pseudo-header field in it, and no error.
//!
//! `h2` accepts a pseudo-header field in trailers, but not after another field. So each block begins with another
//! field, and the answer of `h2` shows whether a pseudo-header field follows, whatever its encoding.

use super::*;
use tokio::io::{AsyncWriteExt, DuplexStream};

/// The reaction of `h2` to the trailers of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    /// The stream is reset.
    Malformed,
    /// The connection ends.
    Broken,
}

/// A connection to a server of `h2`.
struct H2 {
    client: DuplexStream,
    connection: h2::server::Connection<DuplexStream, bytes::Bytes>,
    stream: u32,
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET /` over `http`, from the static table.
const REQUEST: [u8; 3] = [0x82, 0x86, 0x84];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

impl H2 {
    async fn open() -> H2 {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        client.write_all(&preface).await.expect("write");
        let connection = h2::server::handshake(server).await.expect("a handshake");
        H2 { client, connection, stream: 1 }
    }

    async fn trailers(&mut self, block: &[u8]) -> Verdict {
        let stream = self.stream;
        self.stream += 2;
        self.client.write_all(&frame(HEADERS, END_HEADERS, stream, &REQUEST)).await.expect("write");
        let Some(Ok((request, _respond))) = self.connection.accept().await else { return Verdict::Broken };
        let mut body = request.into_body();
        self.client.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream, block)).await.expect("write");
        tokio::select! {
            trailers = body.trailers() => match trailers {
                Ok(_) => Verdict::Accepted,
                Err(error) if error.is_reset() => Verdict::Malformed,
                Err(_) => Verdict::Broken,
            },
            _ = self.connection.accept() => Verdict::Broken,
        }
    }
}

impl FieldNames {
    /// Whether the block of a request, and this block as its trailers, have a pseudo-header field; `None` after an
    /// error.
    fn trailers(&mut self, block: &[u8], piece: usize) -> Option<bool> {
        self.follow(&REQUEST);
        assert!(self.end_block() || matches!(self.next, Next::Nothing), "a request has pseudo-header fields");
        block.chunks(piece).for_each(|piece| self.follow(piece));
        let has_pseudo = self.end_block();
        (!matches!(self.next, Next::Nothing)).then_some(has_pseudo)
    }
}

/// Writes fields in every way that HPACK allows.
struct Encoder {
    random: fastrand::Rng,
    block: Vec<u8>,
    has_pseudo: bool,
}

impl Encoder {
    fn number(&mut self, value: usize, bits: u32, flags: u8) {
        let most = (1 << bits) - 1;
        if value < most {
            return self.block.push(flags | value as u8);
        }
        self.block.push(flags | most as u8);
        let mut rest = value - most;
        while rest >= 128 {
            self.block.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        self.block.push(rest as u8);
    }

    fn string(&mut self, text: &str) {
        let huffman = text.bytes().map(huffman_code).collect::<Option<Vec<_>>>().filter(|_| self.random.bool());
        let Some(codes) = huffman else {
            self.number(text.len(), 7, 0);
            return self.block.extend_from_slice(text.as_bytes());
        };
        let bits: Vec<u32> =
            codes.iter().flat_map(|(code, length)| (0..*length).rev().map(move |at| code >> at & 1)).collect();
        self.number(bits.len().div_ceil(8), 7, 0x80);
        // The rest of the last byte is filled with ones.
        let byte = |bits: &[u32]| (0..8).fold(0, |byte, at| byte << 1 | bits.get(at).map_or(1, |bit| *bit as u8));
        self.block.extend(bits.chunks(8).map(byte));
    }

    /// A representation with this name, which is an index or a text, and a value.
    fn literal(&mut self, name: Result<usize, &str>, value: &str) {
        let (bits, flags) = [(6, 0x40), (4, 0), (4, 0x10)][self.random.usize(..3)];
        self.number(name.unwrap_or(0), bits, flags);
        if let Err(name) = name {
            self.string(name);
        }
        self.string(value);
    }

    fn name(&mut self) -> String {
        let length = self.random.usize(..30);
        // The `h2` crate refuses the fields of a connection for another reason. None of them begins with this letter.
        let rest = (0..length).map(|_| b"abcdefghijklmnopqrstuvwxyz0123456789-_"[self.random.usize(..38)]);
        std::iter::once(b'q').chain(rest).map(char::from).collect()
    }

    fn field(&mut self, dynamic: usize) {
        // A status has three digits, and every other field takes the same text.
        const VALUE: &str = "200";
        match self.random.usize(..6) {
            0 => {
                let index = self.static_index();
                self.has_pseudo |= index <= STATIC_PSEUDO;
                self.number(index, 7, 0x80);
            }
            1 => {
                let index = self.static_index();
                self.has_pseudo |= index <= STATIC_PSEUDO;
                self.literal(Ok(index), VALUE);
            }
            2 => {
                let name = [":path", ":method", ":scheme", ":authority", ":status"][self.random.usize(..5)];
                self.has_pseudo = true;
                self.literal(Err(name), VALUE);
            }
            // The names of these fields are in the table of `h2`.
            3 if dynamic > 0 => {
                let index = STATIC_NAMES.len() + 1 + self.random.usize(..dynamic);
                self.number(index, 7, 0x80);
            }
            4 if dynamic > 0 => {
                let index = STATIC_NAMES.len() + 1 + self.random.usize(..dynamic);
                self.literal(Ok(index), VALUE);
            }
            _ => {
                let name = self.name();
                let length = self.random.usize(..700);
                self.literal(Err(&name), &"v".repeat(length));
            }
        }
    }

    fn static_index(&mut self) -> usize {
        // `transfer-encoding` is a field of a connection.
        [self.random.usize(1..57), self.random.usize(58..62)][self.random.usize(..2)]
    }

    /// A block. `dynamic` is the number of entries of the dynamic table.
    fn block(&mut self, dynamic: usize) -> Vec<u8> {
        (self.block, self.has_pseudo) = (Vec::new(), false);
        if self.random.u8(..8) == 0 {
            let size = self.random.usize(..=TABLE);
            self.number(size, 5, 0x20);
        }
        self.block.extend(b"\x00\x01x\x01y");
        for _ in 0..self.random.usize(..8) {
            // A field may have evicted entries. A block that names these entries is then refused.
            self.field(dynamic);
        }
        std::mem::take(&mut self.block)
    }
}

/// The Huffman code of a character of names and digits, and its length (RFC 7541, appendix B).
fn huffman_code(byte: u8) -> Option<(u32, u32)> {
    let (five, six, seven) = ("012aceiost", " %-./3456789=A_bdfghlmnpru", "jkqvwxyz");
    let at = |codes: &str| codes.bytes().position(|code| code == byte).map(|at| at as u32);
    let code = at(five).map(|at| (at, 5)).or_else(|| at(six).map(|at| (0x14 + at, 6)));
    code.or_else(|| at(seven).map(|at| (0x74 + at, 7))).or_else(|| (byte == b':').then_some((0x5c, 7)))
}

async fn compare(seed: u64) -> [usize; 3] {
    let mut encoder = Encoder { random: fastrand::Rng::with_seed(seed), block: Vec::new(), has_pseudo: false };
    let (mut h2, mut names, mut verdicts) = (H2::open().await, FieldNames::new(), [0; 3]);
    for _ in 0..12 {
        let mut block = encoder.block(names.table.len());
        let is_damaged = encoder.random.u8(..4) == 0;
        if is_damaged {
            let at = encoder.random.usize(..block.len());
            block[at] = encoder.random.u8(..);
        }
        let piece = encoder.random.usize(1..=block.len());
        let (verdict, found) = (h2.trailers(&block).await, names.trailers(&block, piece));
        verdicts[verdict as usize] += 1;
        match verdict {
            Verdict::Accepted => assert_eq!(found, Some(false), "accepted: {block:02x?}"),
            // `h2` also refuses a block with other damage. It reads on.
            Verdict::Malformed if is_damaged => assert!(found.is_some(), "it reads on: {block:02x?}"),
            Verdict::Malformed => assert_eq!(found, Some(true), "refused: {block:02x?}"),
            Verdict::Broken => break,
        }
        // The test does not know the names of the fields in the tables, but the reader finds a field with a
        // pseudo-header name.
        assert!(is_damaged || !encoder.has_pseudo || found == Some(true), "{block:02x?}");
    }
    verdicts
}

#[tokio::test]
async fn it_reads_as_h2_does() {
    let mut all = [0; 3];
    for seed in 0..2000 {
        let verdicts = compare(seed).await;
        all.iter_mut().zip(verdicts).for_each(|(all, count)| *all += count);
    }
    assert!(all.iter().all(|count| *count > 500), "each verdict is common: {all:?}");
}
