//! TLS: certificates from files, which can be reloaded, and the handshake.

use super::stream::Layer;
use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, version};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

/// The protocols inside TLS, in order of preference (RFC 7301).
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// The protocol that a client and this server have agreed on in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    /// HTTP/2.
    Http2,
    /// HTTP/1.1 or HTTP/1.0.
    Http1,
    /// No protocol was agreed on, because the client did not offer one.
    Nothing,
}

impl Agreed {
    fn of(protocol: Option<&[u8]>) -> Agreed {
        match protocol {
            None => Agreed::Nothing,
            Some(b"h2") => Agreed::Http2,
            Some(_) => Agreed::Http1,
        }
    }
}

/// The reason why a certificate cannot be used. Each text says how to correct the problem. The texts never show the
/// content of a file.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file has no certificate.
    #[error(
        "{0} holds no certificate: use a PEM file with BEGIN CERTIFICATE, the server's own first, then its issuers"
    )]
    NoCertificate(PathBuf),
    /// The file has no key.
    #[error(
        "{0} holds no usable private key: use a PEM file with BEGIN PRIVATE KEY, without a pass phrase (openssl pkey -in … -out …)"
    )]
    NoKey(PathBuf),
    /// The key does not belong to the certificate.
    #[error("the key in {key} does not fit the certificate in {certificate}: {error}")]
    Unfit {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The error of the TLS library.
        #[source]
        error: rustls::Error,
    },
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The connection below TLS.
pub trait BelowTls: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Called when the handshake is complete.
    fn handshake_done(&mut self);
}

/// The server's TLS.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// The configuration for new connections. Open connections keep their own configuration.
    config: RwLock<Arc<ServerConfig>>,
    handshakes: Family<Outcome, Counter>,
}

impl Tls {
    /// Reads a certificate chain and its key.
    ///
    /// # Errors
    ///
    /// The fault in the files.
    pub fn new(certificate: PathBuf, key: PathBuf, registry: &mut Registry) -> Result<Tls, BadCertificate> {
        let config = RwLock::new(read(&certificate, &key)?);
        let handshakes = Family::default();
        registry.register("tls_handshakes", "TLS handshakes, by outcome", handshakes.clone());
        Ok(Tls { certificate, key, config, handshakes })
    }

    /// Reads the files again. Open connections keep their certificate.
    ///
    /// # Errors
    ///
    /// The fault in the files. After an error the old certificate stays in use.
    pub fn reload(&self) -> Result<(), BadCertificate> {
        let config = read(&self.certificate, &self.key)?;
        *self.config.write() = config;
        Ok(())
    }

    /// Does the handshake that a client has begun. Returns the layer and the agreed protocol, or `None` if the
    /// handshake fails or takes too long.
    pub async fn secure(&self, io: impl BelowTls, timeout: Duration) -> Option<(Box<dyn Layer>, Agreed)> {
        let acceptor = TlsAcceptor::from(self.config.read().clone());
        let accepted = tokio::time::timeout(timeout, acceptor.accept(io)).await;
        let outcome = match &accepted {
            Ok(Ok(_)) => "done",
            Ok(Err(error)) => {
                debug!(%error, "a TLS handshake failed");
                "failed"
            }
            Err(_) => "slow",
        };
        self.handshakes.get_or_create(&Outcome { outcome }).inc();
        let mut stream = accepted.ok()?.ok()?;
        stream.get_mut().0.handshake_done();
        let agreed = Agreed::of(stream.get_ref().1.alpn_protocol());
        Some((Box::new(Secured { stream, unflushed: 0 }), agreed))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, BadCertificate> {
    let contents = |path: &Path| std::fs::read(path).map_err(|error| BadCertificate::Unreadable(path.into(), error));
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&contents(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|_| BadCertificate::NoCertificate(certificate.into()))?;
    if certificates.is_empty() {
        return Err(BadCertificate::NoCertificate(certificate.into()));
    }
    let private = PrivateKeyDer::from_pem_slice(&contents(key)?).map_err(|_| BadCertificate::NoKey(key.into()))?;
    // The crypto provider is named explicitly, because an embedding program or a library may have chosen another
    // provider for the process.
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private));
    let unfit = |error| BadCertificate::Unfit { certificate: certificate.into(), key: key.into(), error };
    let mut config = config.map_err(unfit)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    // With tickets, clients that reconnect can resume their sessions with a cheap handshake. Old clients open a new
    // connection for each poll. Early data is never accepted: an attacker could replay it and so repeat a publish.
    if let Ok(ticketer) = ring::Ticketer::new() {
        config.ticketer = ticketer;
    }
    Ok(Arc::new(config))
}

/// TLS on top of a connection.
struct Secured<I> {
    stream: TlsStream<I>,
    /// The number of bytes that TLS has accepted but the socket has not. The writer waits until the socket has accepted
    /// these bytes. Otherwise a blocked write would look complete, and its last bytes would stay in the layer until the
    /// next write.
    unflushed: usize,
}

impl<I: BelowTls> Layer for Secured<I> {}

impl<I: BelowTls> AsyncRead for Secured<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<I: BelowTls> AsyncWrite for Secured<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.unflushed == 0 {
            self.unflushed = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // The caller passes the same bytes in each poll of a write.
        Poll::Ready(Ok(std::mem::take(&mut self.unflushed).min(buf.len())))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
