//! An HTTP client whose response bodies are read as they arrive.

use super::failure::{Failure, Reason};
use crate::http_client::{self, HttpClient};
use bytes::Bytes;
use clap::Args;
use flate2::write::MultiGzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Size limit on a body that the client reads completely before it uses it.
const MAX_BODY: usize = 8 << 20;

/// The server, and the credential for it.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Address of the server, such as `https://push.example.com`
    #[arg(long, env = "LONGTAIL_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    #[arg(help_heading = "Server")]
    pub url: String,

    #[command(flatten)]
    credential: Credential,
}

/// The credential.
#[derive(Args, Clone, Debug)]
pub struct Credential {
    /// Token or server key. Other users can read arguments in the process list: prefer the environment or a file
    #[arg(long, env = "LONGTAIL_TOKEN", value_name = "TOKEN", hide_env_values = true, help_heading = "Server")]
    token: Option<String>,

    /// File with the token or the key
    #[arg(long, env = "LONGTAIL_TOKEN_FILE", value_name = "FILE", help_heading = "Server", conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

impl Credential {
    fn read(&self) -> Result<Option<String>, Failure> {
        let text = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .map_err(|error| Failure::Usage(format!("--token-file {}: {error}", file.display())))?,
            (None, None) => return Ok(None),
        };
        let text = text.trim();
        // The error does not repeat the text, because the text may be most of a secret.
        HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_| Failure::Usage("the token contains characters that a token cannot have".into()))?;
        Ok(Some(text.to_owned()))
    }
}

impl Target {
    /// A client of this server.
    ///
    /// # Errors
    ///
    /// The URL or the token is invalid.
    pub fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.url, &self.credential)
    }
}

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    http: HttpClient,
    /// A client that does not keep connections.
    fresh: HttpClient,
    /// The URL, without a slash at the end.
    pub base: String,
    uri: Uri,
    /// The token, for a transport without headers.
    pub token: Option<String>,
}

impl Client {
    /// A client of the server at this URL.
    ///
    /// # Errors
    ///
    /// The URL or the token is invalid.
    pub fn new(url: &str, credential: &Credential) -> Result<Client, Failure> {
        let rule = || {
            // The error does not repeat the URL, because the URL may contain a password.
            let from = if std::env::var("LONGTAIL_URL").is_ok_and(|set| set == url) { "LONGTAIL_URL: " } else { "" };
            Failure::Usage(format!("{from}use a URL such as http://127.0.0.1:8080 or https://push.example.com"))
        };
        let uri: Uri = url.parse().map_err(|_| rule())?;
        let is_valid = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.query().is_none()
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if !is_valid {
            return Err(rule());
        }
        let connector = http_client::connector(&uri, CONNECT_TIMEOUT)?;
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        let fresh = builder.pool_max_idle_per_host(0).build(connector.clone());
        let http = builder.pool_max_idle_per_host(usize::MAX).pool_timer(TokioTimer::new()).build(connector);
        Ok(Client { http, fresh, base: url.trim_end_matches('/').to_owned(), uri, token: credential.read()? })
    }

    /// The host in the URL.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// Sends a GET for a path with a query. Any status is accepted.
    ///
    /// # Errors
    ///
    /// `Unreachable`.
    pub async fn get(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Answer, Failure> {
        self.send(Method::GET, path, headers, Bytes::new()).await
    }

    /// Sends a POST that may be repeated, such as a publication with an idempotency key.
    ///
    /// # Errors
    ///
    /// `Unreachable`.
    pub async fn post(&self, path: &str, content_type: &str, body: Bytes) -> Result<Answer, Failure> {
        self.send(Method::POST, path, &[(CONTENT_TYPE.as_str(), content_type)], body).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        request = request.header(USER_AGENT, concat!("longtail/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).map_err(|error| Failure::Usage(error.to_string()))?;
        let answered = match self.http.request(request.clone()).await {
            // A proxy may have closed a kept connection, or dropped it silently. If the same failure occurs on a new
            // connection, the path has caused it.
            Err(error) if !error.is_connect() => self.fresh.request(request).await,
            answered => answered,
        };
        answered.map(Answer::new).map_err(|error| self.unreachable(&reason(&error)))
    }

    /// If the server rejected the credentials, or credentials are missing, adds advice about credentials to the
    /// failure.
    pub fn explain(&self, failure: Failure) -> Failure {
        let Failure::Refused { status: 401, mut reason } = failure else { return failure };
        if self.token.is_none() || reason.message.contains("this needs credentials") {
            reason.message = format!("{}; {}", reason.message, self.token_fix());
        }
        Failure::Refused { status: 401, reason }
    }

    /// The advice for missing or rejected credentials.
    pub fn token_fix(&self) -> &'static str {
        match self.token {
            None => "set LONGTAIL_TOKEN or --token-file",
            Some(_) => {
                "use another token or key: the server does not accept this one, or this one does not allow the action"
            }
        }
    }

    /// The error for a server that cannot be reached.
    pub fn unreachable(&self, reason: &str) -> Failure {
        Failure::Unreachable { url: self.base.clone(), reason: reason.to_owned() }
    }
}

/// Returns the innermost cause, which is the most specific one: "connection refused", not "client error".
fn reason(error: &legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    loop {
        if let Some(reason) = tls_error(cause).and_then(tls_reason) {
            return reason;
        }
        match cause.source() {
            Some(next) => cause = next,
            None => return cause.to_string(),
        }
    }
}

/// Returns the TLS error inside an I/O error. `source` skips this error and returns the source of the TLS error.
fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
    inner.downcast_ref().or_else(|| tls_error(inner))
}

fn tls_reason(error: &rustls::Error) -> Option<String> {
    use rustls::{CertificateError as Why, Error, InvalidMessage};
    let text = error.to_string();
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some("the server does not speak TLS: use http://".into()),
        // SSL_CERT_FILE alone does not help here: rustls does not accept a certificate authority's certificate as a
        // server's certificate.
        Error::InvalidCertificate(_) if text.contains("CaUsedAsEndEntity") => Some(
            "the server's certificate is an authority's (CA:TRUE): make one for the server (CA:FALSE), and set SSL_CERT_FILE \
             to its PEM file"
                .into(),
        ),
        Error::InvalidCertificate(
            Why::Expired
            | Why::ExpiredContext { .. }
            | Why::NotValidYet
            | Why::NotValidYetContext { .. }
            | Why::NotValidForName
            | Why::NotValidForNameContext { .. }
            | Why::Revoked,
        ) => None,
        // The issuer is unknown, or another issuer has the same name.
        Error::InvalidCertificate(_) => {
            let what = text.split(" {").next().unwrap_or_default();
            Some(format!("{what}; for your own certificate, set SSL_CERT_FILE to a PEM file with it or its authority"))
        }
        _ => None,
    }
}

/// A response whose body is read as it arrives, and unpacked if it is compressed.
pub struct Answer {
    response: Response<Incoming>,
    /// Unpacks the body. The client flushes the decoder after each piece, because the next piece of a stream may arrive
    /// much later.
    unpacker: Option<MultiGzDecoder<Vec<u8>>>,
}

impl Answer {
    fn new(response: Response<Incoming>) -> Answer {
        let coding = response.headers().get(CONTENT_ENCODING);
        let is_packed = coding.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"gzip"));
        Answer { response, unpacker: is_packed.then(|| MultiGzDecoder::new(Vec::new())) }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next piece of the body; `None` at its end. Cancel safe.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.response.body_mut().frame().await {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) => {
                    let bytes = self.unpack(bytes)?;
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
                Ok(Err(_)) => {}
                Err(error) => return Err(Failure::Unexpected(format!("the answer broke off: {error}"))),
            }
        }
        Ok(None)
    }

    fn unpack(&mut self, bytes: Bytes) -> Result<Bytes, Failure> {
        let Some(unpacker) = &mut self.unpacker else { return Ok(bytes) };
        let mut unpacked = Vec::new();
        // The decoder unpacks the piece in parts, because a small piece may unpack to a thousand times its size.
        for part in bytes.chunks(1024) {
            let done = unpacker.write_all(part).and_then(|()| unpacker.flush());
            done.map_err(|_| Failure::Unexpected("the answer is marked as gzip, but is not gzip".into()))?;
            unpacked.append(unpacker.get_mut());
            if unpacked.len() > MAX_BODY {
                return Err(Failure::Unexpected("the answer is too large".into()));
            }
        }
        Ok(unpacked.into())
    }

    /// The whole body, as text.
    ///
    /// # Errors
    ///
    /// The connection broke, or the body is larger than any body of a Longtail server.
    pub async fn text(mut self) -> Result<String, Failure> {
        let mut text = Vec::new();
        while let Some(piece) = self.piece().await? {
            text.extend_from_slice(&piece);
            if text.len() > MAX_BODY {
                return Err(Failure::Unexpected("the answer is too large".into()));
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The response, if it is a 200.
    ///
    /// # Errors
    ///
    /// `Refused`, with the error in the body.
    pub async fn ok(self) -> Result<Answer, Failure> {
        let status = self.status();
        if status == 200 {
            return Ok(self);
        }
        Err(Failure::Refused { status, reason: Reason::in_body(&self.text().await.unwrap_or_default()) })
    }

    /// The body of a 200, as JSON.
    ///
    /// # Errors
    ///
    /// `Refused`, or the body is not JSON.
    pub async fn json(self) -> Result<Value, Failure> {
        let text = self.ok().await?.text().await?;
        serde_json::from_str(&text)
            .map_err(|_| Failure::Unexpected("the response is not JSON: is this a Longtail server?".into()))
    }
}

/// Encodes a field's value for a query.
pub fn quote(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect()
}
