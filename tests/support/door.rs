//! The doors of a server, which are the ways to connect: plain, TLS, HTTP/2. A test uses the plain one, unless it runs
//! within [`through`].

use super::within;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_rustls::TlsConnector;

/// The protocol in which a test connects to the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Door {
    /// HTTP/1.1 on a bare connection, and raw TCP on a bare connection.
    Plain,
    /// HTTP/1.1 and raw TCP in TLS.
    Tls,
    /// HTTP/2 in TLS, also for WebSockets; raw TCP in TLS. Requests that exist only in HTTP/1 use HTTP/1 over TLS.
    Http2,
}

thread_local! {
    static DOOR: Cell<Door> = const { Cell::new(Door::Plain) };
}

/// The door of this test.
pub fn door() -> Door {
    DOOR.get()
}

/// Runs a test through a door. All its tasks must run on the test's own thread, because the door is stored there.
pub async fn through(door: Door, test: impl Future<Output = ()>) {
    /// Restores the door, because another test may run on this thread.
    struct PutBack(Door);
    impl Drop for PutBack {
        fn drop(&mut self) {
            DOOR.set(self.0);
        }
    }
    assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread, "a test on one thread");
    let _put_back = PutBack(DOOR.replace(door));
    test.await;
}

/// A certificate for `localhost` and 127.0.0.1, which is its own authority, and its key.
#[derive(Clone)]
pub struct Certificate {
    pub certificate: String,
    pub key: String,
}

impl Certificate {
    /// Makes a certificate under this name, by `openssl` with these further arguments.
    pub fn make(name: &str, arguments: &[&str]) -> Certificate {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = |end: &str| {
            let file = format!("{}-{}-{number}-{name}-{end}.pem", env!("CARGO_CRATE_NAME"), std::process::id());
            dir.join(file).to_str().expect("a path of UTF-8").to_owned()
        };
        let made = Certificate { certificate: path("cert"), key: path("key") };
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-nodes", "-days", "2", "-keyout", &made.key, "-out", &made.certificate]);
        if !arguments.contains(&"-newkey") {
            command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        }
        command.args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]).args(arguments);
        let output = command.output().expect("openssl is installed (apt-get install openssl)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        made
    }

    /// The certificate of a test's servers, if the test does not need a particular one.
    pub fn common() -> &'static Certificate {
        static COMMON: OnceLock<Certificate> = OnceLock::new();
        COMMON.get_or_init(|| Certificate::make("localhost", &[]))
    }

    /// A client that trusts the certificate, and offers these protocols.
    pub fn client(&self, protocols: &[&str], versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsConnector {
        let pem = std::fs::read(&self.certificate).expect("the certificate");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("a root");
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    pub fn flags(&self) -> [&str; 4] {
        ["--tls-cert", &self.certificate, "--tls-key", &self.key]
    }
}

pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

/// A connection through a door.
pub enum Stream {
    Plain(TcpStream),
    Other(Box<dyn Io>),
}

impl Stream {
    /// The bare connection.
    pub fn into_plain(self) -> TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Other(_) => panic!("not a bare connection"),
        }
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut dyn Io> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Other(stream) => Pin::new(&mut **stream),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream::Plain(stream)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.inner().poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.inner().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}

/// Connects through this test's door, for HTTP/1 or raw TCP.
pub async fn connect(address: SocketAddr) -> Option<Stream> {
    match door() {
        Door::Plain => Some(TcpStream::connect(address).await.ok()?.into()),
        Door::Tls | Door::Http2 => secure(address, Certificate::common(), &[]).await,
    }
}

/// Connects in TLS and offers these protocols.
pub async fn secure(address: SocketAddr, certificate: &Certificate, protocols: &[&str]) -> Option<Stream> {
    let stream = TcpStream::connect(address).await.ok()?;
    let client = certificate.client(protocols, rustls::DEFAULT_VERSIONS);
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = client.connect(name, stream).await.ok()?;
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    assert_eq!(agreed.as_deref(), protocols.first().map(|name| name.as_bytes()), "the protocol agreed on");
    Some(Stream::Other(Box::new(stream)))
}

/// One request over HTTP/2 on a connection of its own.
pub struct Exchange {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// The body of the response; both directions of a WebSocket.
    pub stream: Stream,
}

/// Sends a request over HTTP/2. Connection headers are left out, as HTTP/2 requires; a WebSocket's handshake becomes an
/// extended CONNECT (RFC 8441).
pub async fn exchange(
    address: SocketAddr,
    method: &str,
    target: &str,
    host: &str,
    headers: &[(String, String)],
    body: Option<&[u8]>,
) -> Option<Exchange> {
    let stream = secure(address, Certificate::common(), &["h2"]).await?;
    let (client, connection) = h2::client::handshake(stream).await.ok()?;
    tokio::spawn(connection);
    let is_socket = headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("upgrade") && value == "websocket");
    let method = if is_socket { "CONNECT" } else { method };
    let mut request = hyper::Request::builder().method(method).uri(format!("https://{host}{target}"));
    for (name, value) in headers {
        let of_http1 = ["connection", "upgrade", "sec-websocket-key"];
        if !of_http1.contains(&name.to_ascii_lowercase().as_str()) {
            request = request.header(name, value);
        }
    }
    if let Some(body) = body {
        request = request.header("content-length", body.len());
    }
    let mut request = request.body(()).expect("a request");
    let mut client = client.ready().await.ok()?;
    if is_socket {
        client = extended(client).await;
        request.extensions_mut().insert(Protocol::from_static("websocket"));
    }
    let (answer, send) = client.send_request(request, body.is_none() && !is_socket).ok()?;
    let send = match body {
        Some(body) => {
            send_all(send, Bytes::copy_from_slice(body)).await;
            None
        }
        None => is_socket.then_some(send),
    };
    let (head, body) = answer.await.ok()?.into_parts();
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(carry(far, body, send));
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Some(Exchange { status: head.status.as_u16(), headers, stream: Stream::Other(Box::new(near)) })
}

/// Waits until the client knows that the server accepts WebSockets, and returns it.
async fn extended(client: SendRequest<Bytes>) -> SendRequest<Bytes> {
    within(super::SOON, "SETTINGS_ENABLE_CONNECT_PROTOCOL", async {
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        client
    })
    .await
}

/// Sends a body, as far as the server accepts it.
async fn send_all(mut send: SendStream<Bytes>, mut body: Bytes) {
    while !body.is_empty() {
        send.reserve_capacity(body.len());
        while send.capacity() == 0 {
            match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                // A refusal may come before the server has read the body.
                _ => return,
            }
        }
        let part = body.split_to(send.capacity().min(body.len()));
        if send.send_data(part, false).is_err() {
            return;
        }
    }
    send.send_data(Bytes::new(), true).ok();
}

/// Carries a stream's bytes to and from a test, until either side ends.
async fn carry(mut io: DuplexStream, mut body: RecvStream, mut send: Option<SendStream<Bytes>>) {
    let mut buffer = vec![0; 16 << 10];
    let mut is_open = true;
    loop {
        tokio::select! {
            data = body.data() => {
                let Some(Ok(data)) = data else { return };
                body.flow_control().release_capacity(data.len()).ok();
                if io.write_all(&data).await.is_err() {
                    return;
                }
            }
            read = io.read(&mut buffer), if is_open => match (read, &mut send) {
                (Ok(n), Some(send)) if n > 0 => {
                    send.send_data(Bytes::copy_from_slice(&buffer[..n]), false).ok();
                }
                (_, Some(send)) => {
                    is_open = false;
                    send.send_data(Bytes::new(), true).ok();
                }
                // The test has dropped the stream.
                (_, None) => return,
            },
        }
    }
}
