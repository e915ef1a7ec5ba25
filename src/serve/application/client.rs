//! Sends requests to the application over HTTP and reads its answers.
//!
//! Each request uses a separate connection. On a connection with several requests, only the order distinguishes the
//! answers. If a script writes more bytes than its `Content-Length`, at once or when it ends, these bytes would answer
//! the next user's request.

use crate::http_client::{self, HttpClient};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use std::io;
use std::time::Duration;

/// The application's answer.
#[derive(Debug)]
pub struct Reply {
    /// The status. An answer through a stream does not have a status, and counts like an answer with status 200.
    pub status: Option<StatusCode>,
    /// The body.
    pub body: Bytes,
}

/// The reason why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// The application does not accept a connection.
    #[error("no connection")]
    NoConnection,
    /// The connection ended before an answer, or the bytes are not HTTP.
    #[error("a connection that ends without an answer in HTTP")]
    Broke,
    /// The connection ended inside the body.
    #[error("an answer that breaks off")]
    BrokeOff,
    /// The body is larger than the limit.
    #[error("an answer of more than {most} bytes")]
    TooLarge {
        /// The limit.
        most: usize,
    },
}

/// A client of one application.
pub struct ApplicationClient {
    uri: Uri,
    /// Size limit of an answer's body.
    max_answer: usize,
    http: HttpClient,
}

impl ApplicationClient {
    /// A client of the application at this URL. The body of an answer has at most `max_answer` bytes.
    ///
    /// # Errors
    ///
    /// The URL is `https:`, and the system's certificates cannot be read.
    pub fn new(uri: Uri, connect_timeout: Duration, max_answer: usize) -> io::Result<ApplicationClient> {
        let connector = http_client::connector(&uri, connect_timeout)?;
        let http = legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(ApplicationClient { uri, max_answer, http })
    }

    /// Sends a request to the URL, and reads the whole answer. If the connection ends before an answer begins, the
    /// client sends the request once more, because the application may have restarted at that moment. So the caller may
    /// send only requests that may be repeated.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, NoReply> {
        match self.send_once(request.clone()).await {
            Err(NoReply::Broke) => self.send_once(request).await,
            answered => answered,
        }
    }

    /// Sends a request to the URL once, and reads the whole answer.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub async fn send_once(&self, mut request: Request<Full<Bytes>>) -> Result<Reply, NoReply> {
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        // The errors contain the URL, which may contain a secret. So only their kinds are used, which are enough to
        // find the fault.
        let response = self.http.request(request).await;
        let response =
            response.map_err(|error| if error.is_connect() { NoReply::NoConnection } else { NoReply::Broke })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), self.max_answer).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => NoReply::TooLarge { most: self.max_answer },
            None => NoReply::BrokeOff,
        })?;
        Ok(Reply { status: Some(status), body: body.to_bytes() })
    }
}
