//! Calls to the application through a stream in Redis (`--hook-stream`), for workers with consumer groups.
//!
//! A script appends each call to the stream, and records which node waits for its answer (`lua/calls.lua`). A worker on
//! any machine answers with `FCALL longtail_answer` (`lua/answer.lua`). The function finds the node in the record, and
//! appends the answer to a stream of this node, which the node reads with one blocking connection.
//!
//! The answers come through a stream, because a stream keeps an answer until the node has read it. The alternatives are
//! worse:
//! - A PUBLISH to the node would be lost while the node reconnects.
//! - A blocking pop of a list loses an item if the connection ends just after Redis has taken out the item.
//! - An entry of the log would go to all nodes, and stay in the log for the retention time.
//!
//! On each new connection the node reads its stream from the beginning. If the log moves to another server, the node
//! also sends all calls again that have no answer yet: the new server may lack them. It also looks every second whether
//! Redis still has its calls (`FLUSHALL`), and sends those again that are gone.

mod answers;
mod sender;
mod stream;

pub use stream::{CallStream, StreamCall, Unanswered};

use super::RedisLog;
use std::sync::Arc;
use tokio::task::JoinHandle;

impl CallStream {
    /// The stream of a log with this name, and the task that sends calls and reads answers. The task ends with the last
    /// user of the stream. If it ends earlier, calls are no longer possible, so the server must watch the task.
    pub fn start(log: Arc<RedisLog>, name: &str) -> (Arc<CallStream>, JoinHandle<()>) {
        let stream = Arc::new(CallStream::new(log, name));
        let (sending, answering) = (Arc::downgrade(&stream), Arc::downgrade(&stream));
        let task = tokio::spawn(async move {
            tokio::join!(sender::run(sending), answers::run(answering));
        });
        (stream, task)
    }
}
