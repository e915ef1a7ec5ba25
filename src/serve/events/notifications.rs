//! Tells the application about channels and members: calls that no request of a client has caused.

use super::answers;
use super::append::append;
use super::upkeep::{NOWHERE, nobody};
use crate::serve::client_sessions::protocol::NATIVE;
use crate::serve::hook::Hook;
use crate::serve::hook::call::{CallContent, Caller, HookCall};
use crate::serve::hook::call_type::CallType;
use crate::serve::limits::rate_limiter::EventSender;
use crate::serve::state::ServerState;
use crate::serve::transitions::{Transition, TransitionConsumer, TransitionKind};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The application behind the hook, as a consumer of transitions.
pub struct HookNotifications {
    state: Arc<ServerState>,
    hook: Arc<Hook>,
}

impl HookNotifications {
    /// The application of a server; `None` if it does not get calls about channels or members.
    pub fn of(state: &Arc<ServerState>) -> Option<HookNotifications> {
        let hook = state.hook.clone()?;
        let is_asked = CallType::OF_TRANSITIONS.into_iter().any(|kind| hook.takes(kind));
        is_asked.then(|| HookNotifications { state: state.clone(), hook })
    }

    /// Whether the application gets calls about members.
    pub fn wants_members(&self) -> bool {
        self.hook.takes(CallType::MemberAdded) || self.hook.takes(CallType::MemberRemoved)
    }
}

impl TransitionConsumer for HookNotifications {
    fn takes(&self, kind: TransitionKind) -> bool {
        self.hook.takes(CallType::of(kind))
    }

    fn tell<'a>(&'a self, transition: &'a Transition) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let caller = Caller {
                protocol: NATIVE.name.to_owned(),
                session: None,
                client: None,
                endpoint: "/".to_owned(),
                user: transition.user.clone(),
                data: None,
                channels: Vec::new(),
            };
            // Without a client, the queue does not keep these calls in order. The source of the transitions does.
            let sender = EventSender::new(None, None, NOWHERE);
            let content = CallContent::Transition(Box::new(transition.clone()));
            // The queue may be full of calls for clients.
            let Ok(queued) = self.hook.queue(HookCall::new(sender, nobody(), caller, content)) else { return false };
            let max = self.state.settings.max_message;
            let read = |json: &str| answers::publication(json, None, max);
            match self.hook.call_or_problem(queued, max, read).await {
                // There is no client, so only the messages of the answer have an effect.
                Ok(answered) => {
                    let _ = append(&self.state, answered.publish).await;
                    true
                }
                // An answer that cannot be used would be the same the next time.
                Err(failure) => failure.was_heard,
            }
        })
    }
}
