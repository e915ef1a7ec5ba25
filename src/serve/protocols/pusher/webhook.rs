//! A webhook of an app: the events that it takes. Events about channels and members come from the source of transitions,
//! which repeats them until the application has answered. Others come from the connections of this node.

use super::channel_name::channel_name;
use super::transport::Member;
use super::webhook_queue::WebhookQueue;
use crate::serve::transitions::{Transition, TransitionConsumer, TransitionKind};
use crate::wire::pusher::webhook::{self, WebhookEvent};
use futures_util::future::BoxFuture;

/// A webhook of an app.
pub struct Webhook {
    /// The beginning of the names of the app's channels in the log.
    prefix: String,
    events: Vec<WebhookEvent>,
    queue: WebhookQueue,
}

impl Webhook {
    /// A webhook of the app with this prefix, for these events.
    pub fn new(prefix: String, events: Vec<WebhookEvent>, queue: WebhookQueue) -> Webhook {
        Webhook { prefix, events, queue }
    }

    /// Whether it takes events of this type.
    pub fn takes_event(&self, kind: WebhookEvent) -> bool {
        self.events.contains(&kind)
    }

    /// Sends an event in a while. If too many wait, the event is dropped.
    pub fn send(&self, event: String) {
        self.queue.push(event, None);
    }
}

fn event_of(kind: TransitionKind) -> WebhookEvent {
    match kind {
        TransitionKind::Occupied => WebhookEvent::ChannelOccupied,
        TransitionKind::Vacated => WebhookEvent::ChannelVacated,
        TransitionKind::MemberAdded => WebhookEvent::MemberAdded,
        TransitionKind::MemberRemoved => WebhookEvent::MemberRemoved,
    }
}

impl TransitionConsumer for Webhook {
    fn takes(&self, kind: TransitionKind) -> bool {
        self.takes_event(event_of(kind))
    }

    fn tell<'a>(&'a self, transition: &'a Transition) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            // Channels of other apps, and those of native clients, are not told.
            let Some(channel) = channel_name(&self.prefix, &transition.channel) else { return true };
            let kind = event_of(transition.kind);
            let member = transition.user.as_deref().and_then(|json| serde_json::from_str::<Member<'_>>(json).ok());
            let event = match member {
                Some(member) => webhook::of_member(kind, &channel, &member.id),
                None => webhook::of_channel(kind, &channel),
            };
            let (told, is_told) = tokio::sync::oneshot::channel();
            self.queue.push(event, Some(told));
            is_told.await.unwrap_or(false)
        })
    }
}
