//! The calls through a stream in Redis (`--hook-stream`), for workers.

use super::call::HookCall;
use crate::log::redis::{CallStream, StreamCall, Unanswered};
use crate::serve::application::client::Reply;
use crate::serve::application::problem::Problem;
use std::sync::Arc;
use std::time::Duration;

/// The advice if no worker answers in time.
const SLOW: &str = "start workers, make them faster, or raise --hook-timeout";

/// Workers that read a stream in Redis. A call is not repeated: a group of consumers gives the calls of a worker that
/// has died to another one.
pub struct StreamTransport {
    stream: Arc<CallStream>,
    timeout: Duration,
}

impl StreamTransport {
    /// The workers of this stream.
    pub fn new(stream: Arc<CallStream>, timeout: Duration) -> StreamTransport {
        StreamTransport { stream, timeout }
    }

    /// Puts the call into the stream, and returns the answer of a worker.
    pub(super) async fn ask(&self, call: &HookCall) -> Result<Reply, Problem> {
        let mut fields = vec![("id", call.id().as_bytes().to_vec()), ("call", call.to_json())];
        fields.extend(call.headers().map(|(name, value)| (name, value.as_bytes().to_vec())));
        let call = StreamCall { id: call.id().to_owned(), fields };
        match self.stream.call(call, self.timeout).await {
            Ok(answer) => Ok(Reply { status: None, body: answer.into() }),
            Err(Unanswered::Silence) => {
                Err(Problem::passing(format!("no answer of a worker within {} s", self.timeout.as_secs()), SLOW))
            }
            Err(error @ Unanswered::NotSent(_)) => Err(Problem::passing(error.to_string(), "look at Redis")),
        }
    }
}
