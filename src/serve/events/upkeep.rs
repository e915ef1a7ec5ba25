//! The task that keeps the records of sessions, and tells the application which sessions have ended.

use super::append::append;
use super::{answers, caller, connect};
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::catch_up::{CannotCatchUp, catch_up};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::registry::EndedSession;
use crate::serve::client_sessions::upkeep::Renewal;
use crate::serve::hook::call::{CallContent, Connect, HookCall};
use crate::serve::hook::call_type::CallType;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, sleep};

/// How often records are renewed at least, and sessions that have missed their time are ended.
const PERIOD: Duration = Duration::from_secs(1);

/// How long changes are gathered before they are written, so that many requests are one write.
const GATHER: Duration = Duration::from_millis(50);

/// How many sessions the application is asked about again at a time, and told of the end at a time. Calls of one kind
/// never wait for those of the other one.
const ASKED: usize = 16;
const TOLD: usize = 16;

/// How many sessions have ended at most without the application knowing it. Beyond it, no more sessions are ended here.
const UNTOLD: usize = 1000;

/// The pause before a call that finds the queue full is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// The address of calls that no request of a client has caused. In the hook's queue, these calls share the limits of one
/// network, so they leave room for clients.
pub(super) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Keeps the records of sessions. It does not return.
pub async fn run(state: Arc<ServerState>) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A deadline would end sessions that this node cannot compare with the log yet.
    state.hub.ready().await;
    let asking = Arc::new(Semaphore::new(ASKED));
    let untold = Arc::new(Semaphore::new(UNTOLD));
    let telling = Arc::new(Semaphore::new(TOLD));
    let refreshing = Arc::new(Semaphore::new(1));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = state.sessions.changed() => sleep(GATHER).await,
        }
        ask_again(&state, &asking);
        refresh_keys(&state, &refreshing);
        loop {
            let renewal = renew(&state, untold.available_permits()).await;
            for ended in renewal.ended {
                let (state, telling, permit) = (state.clone(), telling.clone(), untold.clone().try_acquire_owned());
                tokio::spawn(async move {
                    let _permits = (permit, telling.acquire().await);
                    tell_end(&state, ended).await;
                });
            }
            if !renewal.has_more {
                break;
            }
        }
    }
}

/// Looks for newer keys of sealed tokens, if that is due. The renewals do not wait for it.
fn refresh_keys(state: &Arc<ServerState>, refreshing: &Arc<Semaphore>) {
    let Ok(permit) = refreshing.clone().try_acquire_owned() else { return };
    let state = state.clone();
    tokio::spawn(async move {
        let _permit = permit;
        state.sealed.ring().refresh().await;
    });
}

/// Writes what has changed, once more at the end of the node. Other nodes end what has missed its time.
pub async fn end(state: &Arc<ServerState>) {
    while renew(state, 0).await.has_more {}
}

/// Renews records, and ends at most `room` sessions.
async fn renew(state: &Arc<ServerState>, room: usize) -> Renewal {
    state.sessions.renew(&state.hub, room).await
}

/// The reason of an end in the words of the library that the client uses.
fn in_words_of(dialect: &str, reason: &'static str) -> &'static str {
    match (dialect, reason) {
        ("socket.io", "gone") => "ping timeout",
        ("socket.io", "disconnected") => "server namespace disconnect",
        _ => reason,
    }
}

/// Counts the end of a session, and tells the application.
async fn tell_end(state: &Arc<ServerState>, ended: EndedSession) {
    let EndedSession { state: bookmarked, mut reason } = ended;
    // The bookmark may be older than the last change of the session.
    let session = match catch_up(&state.hub, bookmarked.clone(), None).await {
        Ok(session) => session,
        Err(error) => {
            if matches!(error, CannotCatchUp::Ended { .. }) {
                reason = "disconnected";
            }
            bookmarked
        }
    };
    state.sessions.metrics.ended(reason);
    let Some(hook) = state.hook.clone().filter(|hook| hook.takes(CallType::Disconnect)) else { return };
    let reason = in_words_of(&session.dialect, reason);
    let queued = loop {
        let (line, caller) = (caller::line_of(&session, NOWHERE), caller::of_session(&session));
        let call = HookCall::new(line, nobody(), caller, CallContent::Disconnect { reason });
        match hook.queue(call) {
            Ok(queued) => break queued,
            // The queue is full of calls for clients.
            Err(_) => sleep(PAUSE).await,
        }
    };
    let max = state.settings.max_message;
    let read = |json: &str| answers::publication(json, Some(&session.client), max);
    // The session is over, so only the messages of the answer have an effect.
    if let Ok(answered) = hook.call(queued, max, read).await {
        let _ = append(state, answered.publish).await;
    }
}

/// Asks the application again about the sessions whose time is over.
fn ask_again(state: &Arc<ServerState>, asking: &Arc<Semaphore>) {
    for id in state.sessions.to_ask_again(state.hub.log().now_ms(), asking.available_permits()) {
        let (state, permit) = (state.clone(), asking.clone().try_acquire_owned());
        tokio::spawn(async move {
            let _permit = permit;
            ask_again_about(&state, &id).await;
        });
    }
}

async fn ask_again_about(state: &Arc<ServerState>, id: &SessionId) {
    let asked = match connect::find(state, id.secret(), None, Duration::ZERO).await {
        Ok(session) => {
            let connect = Connect { transport: "session".to_owned(), ..Connect::default() };
            // A refusal ends the session by an entry, which its stream reads.
            connect::ask_again(state, &session, nobody(), connect).await
        }
        Err(error) => Err(error),
    };
    let is_passing = |error: &ApiError| {
        matches!(error.code, Code::RateLimited | Code::NotReady | Code::LogUnavailable | Code::OutcomeUnknown)
    };
    if asked.as_ref().is_err_and(is_passing) {
        state.sessions.ask_again_later(id, state.hub.log().now_ms());
    }
}

/// The credentials of a call that no request of a client has caused.
pub(super) fn nobody() -> Arc<Credentials> {
    Arc::new(Credentials::anonymous(NOWHERE, "session"))
}
