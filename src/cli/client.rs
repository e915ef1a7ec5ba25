//! A client: HTTP requests whose bodies are read as they come.

use super::Failure;
use crate::http_client::{self, HttpClient};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// Bytes of an answer that is read whole.
const ANSWER: usize = 8 << 20;

/// Which server, and who we are.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Address of the server, as `https://push.example.com`
    #[arg(long, env = "LONGTAIL_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    #[arg(help_heading = "Server")]
    pub url: String,

    #[command(flatten)]
    credential: Credential,
}

/// Who we are.
#[derive(Args, Clone, Debug)]
pub struct Credential {
    /// Token or server key. Others see arguments in the list of processes: prefer the environment or a file
    #[arg(long, env = "LONGTAIL_TOKEN", value_name = "TOKEN", hide_env_values = true, help_heading = "Server")]
    token: Option<String>,

    /// File that holds the token or the key
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
        // The text is not repeated: it may be most of a secret.
        HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_| Failure::Usage("the token has characters that no token has".into()))?;
        Ok(Some(text.to_owned()))
    }
}

impl Target {
    /// A client of it.
    ///
    /// # Errors
    ///
    /// An address or a token that is none.
    pub fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.url, &self.credential)
    }
}

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    http: HttpClient,
    /// The address without a slash at its end.
    pub base: String,
    uri: Uri,
    /// The token, for where it is not a header.
    pub token: Option<String>,
}

impl Client {
    /// A client of the server at this address.
    ///
    /// # Errors
    ///
    /// An address or a token that is none.
    pub fn new(url: &str, credential: &Credential) -> Result<Client, Failure> {
        let rule = || {
            // It may hold a password, and is not repeated.
            let from = if std::env::var("LONGTAIL_URL").is_ok_and(|set| set == url) { "LONGTAIL_URL: " } else { "" };
            Failure::Usage(format!("{from}use an address as http://127.0.0.1:8080 or https://push.example.com"))
        };
        let uri: Uri = url.parse().map_err(|_| rule())?;
        let is_sound = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.query().is_none()
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if !is_sound {
            return Err(rule());
        }
        let connector = http_client::connector(&uri, CONNECT)?;
        let http = legacy::Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Ok(Client { http, base: url.trim_end_matches('/').to_owned(), uri, token: credential.read()? })
    }

    /// The server's host, as the address has it.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// Asks for a path with a query. The answer's status is not looked at.
    ///
    /// # Errors
    ///
    /// `Unreachable`.
    pub async fn get(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Answer, Failure> {
        self.send(Method::GET, path, headers, Bytes::new()).await
    }

    /// Sends a body.
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
        match self.http.request(request).await {
            Ok(response) => Ok(Answer { response }),
            Err(error) => Err(self.unreachable(&reason(&error))),
        }
    }

    /// A failure with what would help, where the server wants to know who we are.
    pub fn explain(&self, failure: Failure) -> Failure {
        let Failure::Refused { status: 401, mut said } = failure else { return failure };
        if self.token.is_none() || said.message.contains("this needs credentials") {
            said.message = format!("{}; {}", said.message, self.token_mend());
        }
        Failure::Refused { status: 401, said }
    }

    /// What helps one whom the server does not know.
    pub fn token_mend(&self) -> &'static str {
        match self.token {
            None => "set LONGTAIL_TOKEN or --token-file",
            Some(_) => "give another token or key: this server does not know this one, or it may not do that",
        }
    }

    /// Says that the server was not reached.
    pub fn unreachable(&self, reason: &str) -> Failure {
        Failure::Unreachable { url: self.base.clone(), reason: reason.to_owned() }
    }
}

/// The innermost cause, which says most: "connection refused" and not "client error".
fn reason(error: &legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    loop {
        if let Some(mend) = tls_error(cause).and_then(tls_reason) {
            return mend;
        }
        match cause.source() {
            Some(next) => cause = next,
            None => return cause.to_string(),
        }
    }
}

/// What TLS says inside an I/O error, whose own source is that one's source already.
fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
    inner.downcast_ref().or_else(|| tls_error(inner))
}

fn tls_reason(error: &rustls::Error) -> Option<String> {
    use rustls::{CertificateError as Why, Error, InvalidMessage};
    let text = error.to_string();
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some("no TLS there: use http://".into()),
        // SSL_CERT_FILE does not help here: no authority's certificate is taken for a server's.
        Error::InvalidCertificate(_) if text.contains("CaUsedAsEndEntity") => Some(
            "its certificate is an authority's (CA:TRUE): make one for the server (CA:FALSE), and name its PEM file in \
             SSL_CERT_FILE"
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
        // Nobody knows who signed it, or somebody else of the same name.
        Error::InvalidCertificate(_) => {
            let what = text.split(" {").next().unwrap_or_default();
            Some(format!("{what}; where it is your own, SSL_CERT_FILE names a PEM file with it or with its authority"))
        }
        _ => None,
    }
}

/// An answer whose body is read as it comes.
pub struct Answer {
    response: Response<Incoming>,
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// What comes next of the body; `None` at its end. Cancel safe.
    ///
    /// # Errors
    ///
    /// The connection broke off.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.response.body_mut().frame().await {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) if !bytes.is_empty() => return Ok(Some(bytes)),
                Ok(_) => {}
                Err(error) => return Err(Failure::Unsound(format!("the answer broke off: {error}"))),
            }
        }
        Ok(None)
    }

    /// The whole body, as text.
    ///
    /// # Errors
    ///
    /// It broke off, or is larger than anything a server of ours sends.
    pub async fn text(mut self) -> Result<String, Failure> {
        let mut text = Vec::new();
        while let Some(piece) = self.piece().await? {
            text.extend_from_slice(&piece);
            if text.len() > ANSWER {
                return Err(Failure::Unsound("the answer is too large".into()));
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The answer, if it is a 200.
    ///
    /// # Errors
    ///
    /// `Refused`, with the server's own words where there are some.
    pub async fn ok(self) -> Result<Answer, Failure> {
        let status = self.status();
        if status == 200 {
            return Ok(self);
        }
        Err(Failure::Refused { status, said: Reason::in_body(&self.text().await.unwrap_or_default()) })
    }

    /// The body of a 200, as JSON.
    ///
    /// # Errors
    ///
    /// `Refused`, or something that is no JSON.
    pub async fn json(self) -> Result<Value, Failure> {
        let text = self.ok().await?.text().await?;
        serde_json::from_str(&text).map_err(|_| Failure::Unsound("the answer is no JSON: is this a Longtail?".into()))
    }
}

/// What a server has said no with.
#[derive(Debug)]
pub struct Reason {
    /// Its error's code, where it is one of ours.
    code: Option<String>,
    message: String,
}

impl Reason {
    /// A body or a command's answer: an error of ours, or the beginning of something else.
    pub fn in_body(body: &str) -> Reason {
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        // Of a command's answer it is the whole, of others a part.
        let error = json.get("error").unwrap_or(&json);
        match (error["code"].as_str(), error["message"].as_str()) {
            (Some(code), Some(message)) => Reason { code: Some(printable(code)), message: printable(message) },
            _ => Reason::words(printable(&body.chars().take(100).collect::<String>())),
        }
    }

    /// What is no error's text.
    pub fn words(text: impl Into<String>) -> Reason {
        Reason { code: None, message: text.into() }
    }

    /// The same, with a word on what it was said to.
    pub fn about(self, what: &str) -> Reason {
        Reason { message: format!("{} ({what})", self.message), ..self }
    }

    /// Whether it says that we may not.
    pub fn is_about_access(&self) -> bool {
        matches!(self.code.as_deref(), Some("unauthorized" | "forbidden"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A text that moves no cursor and changes no colour of a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A field's value, as a query has it.
pub fn quote(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect()
}
