//! `longtail healthcheck`: asks a server on this machine whether it works. Containers run it, so it needs no shell and
//! no other program.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The largest answer. The server's answers are much shorter.
const LONGEST_ANSWER: u64 = 8 << 10;

/// The header of a proxy that is itself the client.
const PROXY_HEADER: &[u8] = b"PROXY UNKNOWN\r\n";

/// The question: to which server, and how.
#[derive(Clone, Debug)]
pub struct HealthQuestion {
    /// The address of a listener of the server.
    pub address: SocketAddr,
    /// `/readyz` or `/healthz`.
    pub path: &'static str,
    /// Whether the listener has TLS.
    pub has_tls: bool,
    /// Whether the listener expects a PROXY protocol header from this address.
    pub has_proxy_header: bool,
    /// The time limit for the answer.
    pub timeout: Duration,
}

impl HealthQuestion {
    /// Asks the server, and prints its answer. The exit code is 0 if the server answers 200, and otherwise 1: container
    /// runtimes reserve other codes.
    pub async fn run(self) -> ExitCode {
        let url = format!("{}://{}{}", if self.has_tls { "https" } else { "http" }, self.address, self.path);
        let answered = match tokio::time::timeout(self.timeout, self.ask()).await {
            Ok(answered) => answered,
            Err(_) => Err(io::Error::new(ErrorKind::TimedOut, format!("no answer in {} s", self.timeout.as_secs()))),
        };
        // If no program reads the output, the exit code is enough.
        let _ = match &answered {
            Ok((200, text)) => writeln!(io::stdout(), "{text}"),
            Ok((status, text)) => writeln!(io::stderr(), "longtail healthcheck: {url}: {status} {text}"),
            Err(error) => writeln!(io::stderr(), "longtail healthcheck: cannot reach {url}: {error}"),
        };
        if matches!(answered, Ok((200, _))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Returns the status and the first line of the body.
    async fn ask(&self) -> io::Result<(u16, String)> {
        let mut socket = TcpStream::connect(self.address).await?;
        if self.has_proxy_header {
            socket.write_all(PROXY_HEADER).await?;
        }
        if !self.has_tls {
            return self.ask_on(socket).await;
        }
        let name = ServerName::IpAddress(self.address.ip().into());
        self.ask_on(TlsConnector::from(Arc::new(tls_config()?)).connect(name, socket).await?).await
    }

    async fn ask_on(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<(u16, String)> {
        let (path, host) = (self.path, self.address);
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
        let mut bytes = Vec::new();
        match stream.take(LONGEST_ANSWER).read_to_end(&mut bytes).await {
            // A server that closes TLS without a farewell has still answered.
            Err(error) if bytes.is_empty() => Err(error),
            _ => parse(&bytes),
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<(u16, String)> {
    let bad = || io::Error::new(ErrorKind::InvalidData, "the answer is not HTTP");
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(|_| bad())? else { return Err(bad()) };
    let body = String::from_utf8_lossy(&bytes[length..]);
    let line = body.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    Ok((response.code.ok_or_else(bad)?, line))
}

fn tls_config() -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.dangerous();
    Ok(config.with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))).with_no_client_auth())
}

/// Accepts every certificate. The certificate is for a public name, and the question goes to an address of this machine
/// and contains no secret. The handshake itself is checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
