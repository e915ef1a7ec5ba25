//! The task that keeps the records of sessions, and tells the application which sessions have ended.

use super::{answers, caller, connect, service};
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::registry::EndedSession;
use crate::serve::hook::call::{CallContent, Connect, HookCall};
use crate::serve::hook::call_type::CallType;
use crate::serve::state::ServerState;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, sleep};

/// How often records are renewed at least, and sessions that have missed their time are ended.
const PERIOD: Duration = Duration::from_secs(1);

/// How many sessions are asked about again in one period.
const ASKED: usize = 100;

/// How often a call that finds the queue full is tried, and the pause between two attempts.
const ATTEMPTS: usize = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// The address of calls that no request of a client has caused. In the hook's queue, these calls share the limits of one
/// network, so they leave room for clients.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Keeps the records of sessions. It does not return.
pub async fn run(state: Arc<ServerState>) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A deadline would end sessions that this node cannot compare with the log yet.
    state.hub.ready().await;
    loop {
        tokio::select! {
            _ = tick.tick() => ask_again(&state),
            () = state.sessions.changed() => {}
        }
        while renew(&state).await {}
    }
}

/// Writes what has changed, once more at the end of the node.
pub async fn end(state: &Arc<ServerState>) {
    while renew(state).await {}
}

/// Renews records. Returns whether more has to be done at once.
async fn renew(state: &Arc<ServerState>) -> bool {
    let unchanged = |channels: &[_], cursor| state.hub.unchanged_until(channels, cursor);
    let renewal = state.sessions.renew(unchanged).await;
    for ended in renewal.ended {
        state.sessions.metrics.ended(ended.reason);
        if state.hook.as_ref().is_some_and(|hook| hook.takes(CallType::Disconnect)) {
            tokio::spawn(tell_end(state.clone(), ended));
        }
    }
    renewal.has_more
}

/// Tells the application that a session has ended.
async fn tell_end(state: Arc<ServerState>, ended: EndedSession) {
    let Some(hook) = state.hook.clone() else { return };
    let EndedSession { state: session, reason } = ended;
    for _ in 0..ATTEMPTS {
        let (line, caller) = (caller::line_of(&session, NOWHERE), caller::of_session(&session));
        let call = HookCall::new(line, nobody(), caller, CallContent::Disconnect { reason });
        let Ok(queued) = hook.queue(call) else {
            sleep(PAUSE).await;
            continue;
        };
        let max = state.settings.max_message;
        let read = |json: &str| answers::publication(json, Some(&session.client), max);
        // The session is over, so only the messages of the answer have an effect.
        if let Ok(answered) = hook.call(queued, max, read).await {
            let _ = service::append(&state, answered.publish).await;
        }
        return;
    }
    tracing::warn!(reason, "the application was not told that a session has ended: too many calls wait");
}

/// Asks the application again about the sessions whose time is over.
fn ask_again(state: &Arc<ServerState>) {
    for id in state.sessions.to_ask_again(state.hub.log().now_ms(), ASKED) {
        tokio::spawn(ask_again_about(state.clone(), id));
    }
}

async fn ask_again_about(state: Arc<ServerState>, id: SessionId) {
    if let Ok(session) = connect::find(&state, id.secret(), None, Duration::ZERO).await {
        let connect = Connect { transport: "session".to_owned(), ..Connect::default() };
        // A refusal ends the session by an entry, which its stream reads.
        let _ = connect::ask_again(&state, &session, nobody(), connect).await;
    }
}

/// The credentials of a call that no request of a client has caused.
fn nobody() -> Arc<Credentials> {
    Arc::new(Credentials::anonymous(NOWHERE, "session"))
}
