//! Brings the state of a session from its bookmark to the present position of the node.

use super::state::SessionState;
use crate::cursor::{Cursor, Start};
use crate::hub::{Hub, LIMIT, Step};
use crate::message::Channel;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a request waits for a node that has not read up to the session's position.
const WAIT: Duration = Duration::from_secs(5);

/// Why a state cannot be brought to the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotCatchUp {
    /// The session was ended.
    Ended {
        /// Whether its connection has to end, too.
        closes: bool,
    },
    /// Changes of the session may have been dropped from the log.
    Lost,
    /// The node did not get there in time.
    Late,
}

/// Applies the control entries after the state's position: those that this node has read, up to the position `upto` of
/// the client if it is known. A client that has not read up to a change yet reads it at its place.
///
/// # Errors
///
/// The session has ended or is lost, or the node is late.
pub async fn catch_up(
    hub: &Arc<Hub>,
    mut state: SessionState,
    upto: Option<Cursor>,
) -> Result<SessionState, CannotCatchUp> {
    let mut channels: Vec<Channel> = state.control_channels().into_iter().collect();
    // Both positions may be those of earlier epochs.
    let limit = upto.and_then(|upto| hub.place(upto));
    if let (Some(limit), Some(at)) = (limit, hub.place(state.cursor))
        && limit.id <= at.id
    {
        return Ok(state);
    }
    let position = hub.unchanged_until(&channels, state.cursor);
    if hub.head() == Some(position) {
        state.cursor = position;
        return Ok(state);
    }
    let deadline = Instant::now() + WAIT;
    let mut subscription = hub.subscribe(None, &channels, Start::After(state.cursor), None, None);
    loop {
        let mut batch = Vec::new();
        let step = timeout_at(deadline, poll_fn(|cx| subscription.poll_step(cx, LIMIT, &mut batch))).await;
        match step.map_err(|_| CannotCatchUp::Late)? {
            Step::Messages => {
                let mut reads_others = false;
                for message in &batch {
                    if let Some(limit) = limit.filter(|limit| message.cursor().is_some_and(|it| it.id > limit.id)) {
                        state.cursor = limit;
                        return Ok(state);
                    }
                    reads_others |= state.apply(message).reads_others;
                }
                if state.has_ended {
                    return Err(CannotCatchUp::Ended { closes: state.closes });
                }
                if reads_others {
                    let wanted: Vec<Channel> = state.control_channels().into_iter().collect();
                    channels.iter().filter(|channel| !wanted.contains(channel)).for_each(|it| subscription.remove(it));
                    wanted.iter().filter(|channel| !channels.contains(channel)).for_each(|it| subscription.add(it));
                    channels = wanted;
                }
            }
            Step::Gap(_) => return Err(CannotCatchUp::Lost),
            Step::Ahead => {
                let reached = timeout_at(deadline, hub.reached_in_lineage(state.cursor)).await;
                reached.map_err(|_| CannotCatchUp::Late)?;
            }
            Step::Idle => {
                // There are no entries up to here, wherever the client is.
                state.cursor = subscription.cursor();
                return Ok(state);
            }
        }
    }
}
