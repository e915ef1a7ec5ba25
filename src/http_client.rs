//! The HTTP client of this program, with or without TLS: for the authorization webhook, for the hook, and for
//! `longtail check`, `publish` and `tail`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::time::Duration;

/// A client with a pool of connections.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Makes the connections of a client for this URL, which is `http:` or `https:`.
///
/// # Errors
///
/// The URL is `https:`, and the system's certificates cannot be read.
pub fn connector(uri: &Uri, connect_timeout: Duration) -> io::Result<HttpsConnector<HttpConnector>> {
    // The process has one provider of cryptography. An error means that the embedding program has already chosen one.
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
