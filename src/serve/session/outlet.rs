//! The hub's view of sockets: the hub writes to them while their tasks are parked.

use super::frames::{frames_size, write_frames};
use super::poll_answer::PollAnswer;
use crate::cursor::Cursor;
use crate::hub::{BareFormat, Encoded, Format, Layout, Outlet};
use crate::message::{Encoding, Message};
use crate::serve::http::chunked::{self, Framing};
use crate::serve::net::socket::Socket;
use crate::transport::{Batch, Envelope};
use std::any::Any;
use std::io;
use std::sync::Arc;

/// The socket of a stream, without TLS or HTTP/2 on top of it.
pub struct StreamOutlet {
    socket: Socket,
    envelope: Arc<dyn Envelope>,
    /// The envelope's encoding, if the envelope does not add bytes before or after messages.
    bare: Option<&'static Encoding>,
    is_chunked: bool,
    transport: u8,
}

impl StreamOutlet {
    /// Makes an outlet to this socket. `framing`: the framing of the body; `None` for a protocol other than HTTP.
    /// `transport`: the index of the transport, for the metrics.
    pub fn new(
        socket: Socket,
        envelope: Arc<dyn Envelope>,
        framing: Option<Framing>,
        transport: usize,
    ) -> StreamOutlet {
        let is_chunked = framing == Some(Framing::Chunked);
        let bare = (envelope.around() == (b"", b"")).then(|| envelope.encoding());
        StreamOutlet { socket, envelope, bare, is_chunked, transport: number(transport) }
    }
}

impl Outlet for StreamOutlet {
    fn format(&self) -> Format<'_> {
        let (prefix, suffix) = self.envelope.around();
        let layout = if self.is_chunked { Layout::Chunk } else { Layout::Sequence };
        Format { encoding: self.envelope.encoding(), layout, prefix, suffix }
    }

    fn bare_format(&self) -> Option<BareFormat> {
        self.bare.map(|encoding| BareFormat { encoding, is_chunk: self.is_chunked })
    }

    fn transport(&self) -> usize {
        usize::from(self.transport)
    }

    fn encode(&self, messages: &[Arc<Message>], _upto: Cursor) -> Encoded {
        let size = frames_size(&*self.envelope, messages);
        let write = |out: &mut Vec<u8>| match self.bare {
            Some(encoding) => messages.iter().for_each(|message| encoding.write(message, out)),
            // The bytes around a message depend on the client, but the frame between them is the same for many clients.
            None => write_frames(&*self.envelope, messages, out),
        };
        if self.is_chunked {
            let (bytes, weight) = chunked::chunk(size, write);
            return Encoded { bytes, weight };
        }
        let mut frames = Vec::with_capacity(size);
        write(&mut frames);
        Encoded { weight: frames.len(), bytes: frames.into() }
    }

    fn touch(&self) {
        self.socket.touch();
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write_now(bytes)
    }
}

/// The socket of a client that waits for the response to a long poll, without TLS or HTTP/2 on top of it.
pub struct PollOutlet {
    socket: Socket,
    envelope: Arc<dyn Envelope>,
    head: Arc<[u8]>,
    transport: u8,
}

impl PollOutlet {
    /// Makes an outlet to this socket. `head`: the head of each response. Clients that get the same response share the
    /// memory of the head. `None` if the envelope adds bytes before or after messages, because these bytes may differ
    /// between clients.
    pub fn new(socket: Socket, envelope: &Arc<dyn Envelope>, head: &Arc<[u8]>, transport: usize) -> Option<PollOutlet> {
        let is_bare = envelope.around() == (b"", b"");
        let (envelope, head, transport) = (envelope.clone(), head.clone(), number(transport));
        is_bare.then_some(PollOutlet { socket, envelope, head, transport })
    }
}

impl Outlet for PollOutlet {
    fn format(&self) -> Format<'_> {
        Format { prefix: &self.head, ..answer_format(&*self.envelope) }
    }

    fn transport(&self) -> usize {
        usize::from(self.transport)
    }

    fn encode(&self, messages: &[Arc<Message>], upto: Cursor) -> Encoded {
        let batch = Batch { gap: None, messages: messages.to_vec(), cursor: upto, is_complete: true };
        let PollAnswer { bytes, body } = PollAnswer::new(&self.head, &*self.envelope, &batch, false);
        Encoded { bytes, weight: body }
    }

    fn touch(&self) {
        self.socket.touch();
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write_now(bytes)
    }
}

/// The format of the body of a response to a poll.
pub fn answer_format(envelope: &dyn Envelope) -> Format<'_> {
    let ((prefix, suffix), layout) = (envelope.around(), Layout::Answer(Any::type_id(envelope)));
    Format { encoding: envelope.encoding(), layout, prefix, suffix }
}

/// The index of a transport, as a small number, because every parked reader keeps it.
fn number(transport: usize) -> u8 {
    u8::try_from(transport).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Start;
    use crate::hub::{Allowance, Hub, LIMIT, Step};
    use crate::log::memory::MemoryLog;
    use crate::log::{MessageLog, Retention};
    use crate::message::{Draft, Payload};
    use crate::serve::net::reactor::Reactor;
    use crate::transport::Control;
    use crate::transport::encoding;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    /// An envelope that adds these bytes at the end of each line.
    struct Ended(&'static [u8]);

    impl Envelope for Ended {
        fn encoding(&self) -> &'static Encoding {
            &encoding::OBJECT
        }

        fn around(&self) -> (&[u8], &[u8]) {
            (b"", self.0)
        }

        fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
            control.write_json(out);
        }
    }

    /// An envelope with the same encoding, but another form of batches.
    struct Array;

    impl Envelope for Array {
        fn encoding(&self) -> &'static Encoding {
            &encoding::OBJECT
        }

        fn batch(&self, _batch: &Batch, out: &mut Vec<u8>) {
            out.extend_from_slice(b"[]");
        }

        fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
            control.write_json(out);
        }
    }

    #[tokio::test]
    async fn transports_of_one_encoding_and_different_suffixes_get_their_own_bytes() {
        let retention = Retention { age: Duration::from_secs(600), messages: 100, bytes: 1 << 20 };
        let log = Arc::new(MemoryLog::new(retention));
        let hub = Hub::new(log.clone(), retention, Duration::from_secs(30));
        tokio::spawn(hub.clone().follow());
        hub.ready().await;
        let (reactor, _) = Reactor::start().expect("a reactor");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (mut clients, mut readers) = (Vec::new(), Vec::new());
        for end in [b"!".as_slice(), b"?", b"!"] {
            clients.push(TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected"));
            let stream = listener.accept().await.expect("a client").0.into_std().expect("a socket");
            let socket = reactor.add(mio::net::TcpStream::from_std(stream), 9).expect("added").expect("room");
            let socket = Socket::new(socket);
            let mut reader = hub.subscribe(None, &["a".parse().expect("valid")], Start::Latest, None, None);
            reader.set_outlet(Box::new(StreamOutlet::new(socket, Arc::new(Ended(end)), None, 0)));
            let idle = poll_fn(|cx| reader.poll_step(cx, LIMIT, &mut Vec::new())).await;
            assert_eq!(idle, Step::Idle);
            reader.park(Allowance::Bytes(usize::MAX));
            readers.push(reader);
        }
        let (channel, payload) = ("a".parse().expect("valid"), Payload::from_any("1"));
        let draft = Draft::new(channel, payload);
        log.append(vec![draft]).await.expect("appended");
        for (client, end) in clients.iter_mut().zip(["1}!", "1}?", "1}!"]) {
            let mut taken = Vec::new();
            while taken.last() != end.as_bytes().last() {
                let byte = client.read_u8();
                taken
                    .push(tokio::time::timeout(Duration::from_secs(60), byte).await.expect("in time").expect("a byte"));
                assert!(taken.len() < 200, "{}", String::from_utf8_lossy(&taken));
            }
            assert!(taken.ends_with(end.as_bytes()), "{}", String::from_utf8_lossy(&taken));
        }
        assert_eq!(hub.fan_out_counts().encoded, 2, "equal formats share their bytes");
    }

    #[test]
    fn answers_of_two_dialects_are_not_the_same_bytes() {
        assert_ne!(answer_format(&Array), answer_format(&Ended(b"")));
        assert_ne!(answer_format(&Ended(b"a")), answer_format(&Ended(b"b")));
        let boxed: [Arc<dyn Envelope>; 2] = [Arc::new(Array), Arc::new(Array)];
        assert_eq!(answer_format(&*boxed[0]), answer_format(&*boxed[1]));
    }
}
