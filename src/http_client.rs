//! Outgoing HTTP/1.1, over TLS or not: connections to the application, and the client of `longtail check`, `publish` and
//! `tail`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// Makes connections.
pub type Connector = HttpsConnector<HttpConnector>;

/// A connection, with TLS or without.
pub type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A client with a pool of connections.
pub type HttpClient = Client<Connector, Full<Bytes>>;

/// The socket of a connection.
pub fn tcp(stream: &Stream) -> &TcpStream {
    match stream {
        MaybeHttpsStream::Http(tcp) => tcp.inner(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
    }
}

/// Makes the connections of a client for this URL, which is `http:` or `https:`.
///
/// # Errors
///
/// The URL is `https:`, and the system's certificates cannot be read.
pub fn connector(uri: &Uri, connect_timeout: Duration) -> io::Result<Connector> {
    // The process has one provider. An error means that the embedding program has already chosen one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    // Plain HTTP also works on a machine without certificates.
    let tls = match uri.scheme_str() {
        Some("https") => HttpsConnectorBuilder::new().with_native_roots()?,
        _ => HttpsConnectorBuilder::new().with_tls_config(
            ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
        ),
    };
    Ok(tls.https_or_http().enable_http1().wrap_connector(tcp))
}
