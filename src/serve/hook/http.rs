//! The calls over HTTP (`--hook-url`).

use super::answer::MAX_ANSWER_BYTES;
use super::call::HookCall;
use super::metrics::HookMetrics;
use super::queue::Permits;
use super::signature::HookSecret;
use crate::serve::application::client::{ApplicationClient, NoReply, Reply};
use crate::serve::application::problem::Problem;
use bytes::Bytes;
use hyper::Uri;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The pause before a call is repeated after a failure: time for a worker of the application to restart.
const PAUSE: Duration = Duration::from_millis(50);

/// The advice for an application that does not answer in time.
const SLOW: &str = "make it faster, or raise --hook-timeout";

/// The application behind a URL.
pub struct HttpTransport {
    client: ApplicationClient,
    secret: Option<HookSecret>,
    timeout: Duration,
}

impl HttpTransport {
    /// The application at this `http:` or `https:` URL, with the secret that signs calls, if there is one.
    ///
    /// # Errors
    ///
    /// The URL is `https:`, and the system's certificates cannot be read.
    pub fn new(uri: Uri, secret: Option<HookSecret>, timeout: Duration) -> io::Result<HttpTransport> {
        Ok(HttpTransport { client: ApplicationClient::new(uri, timeout, MAX_ANSWER_BYTES)?, secret, timeout })
    }

    /// The secret that signs calls, if there is one.
    pub fn secret(&self) -> Option<&HookSecret> {
        self.secret.as_ref()
    }

    /// Sends the call, and returns the answer. `permits` are for further requests.
    pub(super) async fn ask(
        &self,
        call: &HookCall,
        permits: &Permits,
        metrics: &HookMetrics,
    ) -> Result<Reply, Problem> {
        let body = Bytes::from(call.to_json());
        match timeout(self.timeout, self.ask_twice(call, &body, permits, metrics)).await {
            Ok(replied) => replied.map_err(|error| Problem::no_reply(&error)),
            Err(_) => Err(Problem::passing(format!("no answer within {} s", self.timeout.as_secs()), SLOW)),
        }
    }

    /// Sends the call. After a failure, or without an answer after two thirds of the time, it sends the call once more.
    async fn ask_twice(
        &self,
        call: &HookCall,
        body: &Bytes,
        permits: &Permits,
        metrics: &HookMetrics,
    ) -> Result<Reply, NoReply> {
        let mut first = pin!(self.send(call, body));
        let Ok(replied) = timeout(self.timeout * 2 / 3, &mut first).await else {
            // The first request stays open, because an application that is only slow may still answer it. While all
            // permits are in use, the call is not repeated: that would double the load of an application that is slow.
            let Some(_permit) = permits.try_acquire() else { return first.await };
            metrics.repeated();
            let mut second = pin!(self.send(call, body));
            return tokio::select! {
                replied = &mut first => if is_failure(&replied) { second.await } else { replied },
                replied = &mut second => if is_failure(&replied) { first.await } else { replied },
            };
        };
        if !is_failure(&replied) {
            return replied;
        }
        sleep(PAUSE).await;
        metrics.repeated();
        self.send(call, body).await
    }

    async fn send(&self, call: &HookCall, body: &Bytes) -> Result<Reply, NoReply> {
        let mut request = call.request(body);
        if let Some(secret) = &self.secret {
            secret.sign(&mut request, body);
        }
        self.client.send_once(request).await
    }
}

/// Whether the same call may be answered if it is repeated.
fn is_failure(replied: &Result<Reply, NoReply>) -> bool {
    match replied {
        Ok(reply) => reply.status.is_some_and(|status| status.is_server_error()),
        Err(error) => !matches!(error, NoReply::TooLarge { .. }),
    }
}
