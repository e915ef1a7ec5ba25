//! The end of a session that comes after an answer to its client.

use super::append::append;
use crate::message::Draft;
use crate::serve::state::ServerState;
use crate::transport::Code;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often an end is tried again while the log is away, and the pause before that.
const TRIES: usize = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// The end of a session. When this is dropped, it goes to the log: the client has its answer then.
pub struct LateEnd {
    state: Arc<ServerState>,
    draft: Option<Draft>,
}

impl LateEnd {
    /// The end of a session; `None` if it does not end.
    pub fn new(state: &Arc<ServerState>, draft: Option<Draft>) -> Option<Box<LateEnd>> {
        draft.map(|draft| Box::new(LateEnd { state: state.clone(), draft: Some(draft) }))
    }

    /// Takes the entry, for a caller that appends it behind an entry with the answer.
    pub fn take(&mut self) -> Option<Draft> {
        self.draft.take()
    }
}

impl Drop for LateEnd {
    fn drop(&mut self) {
        let Some(draft) = self.draft.take() else { return };
        let state = self.state.clone();
        tokio::spawn(async move {
            for _ in 0..TRIES {
                match append(&state, vec![draft.clone()]).await {
                    Err(error) if matches!(error.code, Code::LogUnavailable | Code::OutcomeUnknown) => {
                        sleep(PAUSE).await;
                    }
                    _ => return,
                }
            }
        });
    }
}
