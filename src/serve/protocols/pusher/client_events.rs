//! Events that clients send to the other clients of a channel.

use super::connection::{CLIENT_EVENTS, Connection};
use super::event_data::{self, with_user};
use super::event_name;
use crate::message::{Draft, Extras, Payload};
use crate::serve::limits::rate_limiter::Publisher;
use crate::serve::limits::token_bucket::Refill;
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::publishing::service;
use crate::serve::session::pump::Pump;
use crate::serve::state::ServerState;
use crate::wire::json;
use crate::wire::pusher::names::{self, Access};
use crate::wire::pusher::webhook::{self, WebhookEvent};
use std::sync::Arc;
use tokio::time::Instant;

impl Connection {
    /// Passes an event on to the other clients of a channel. The event is not kept: it is a sign such as *is typing*.
    ///
    /// # Errors
    ///
    /// The text says why the event is refused.
    pub(super) async fn client_event(
        &mut self,
        state: &Arc<ServerState>,
        pump: &mut Pump,
        event: &str,
        name: &str,
        data: &str,
    ) -> Result<(), String> {
        if !self.app.client_events {
            return Err("client events are not enabled for this app (client_events)".into());
        }
        names::event(event).map_err(|bad| bad.to_string())?;
        let kind = names::channel(name).map_err(|bad| bad.to_string())?;
        let channel = self.app.channel(name).map_err(|bad| bad.to_string())?;
        if !kind.takes_client_events() {
            return Err("clients may send events only to private channels and presence channels".into());
        }
        if !pump.subscription().reads(&channel) {
            return Err("a client may send events only to a channel that it reads".into());
        }
        let most = state.settings.max_message;
        if !Payload::fits(data, most) {
            return Err(format!("the data of an event may have at most {most} bytes (--max-message-bytes)"));
        }
        if self.events.try_take(&Refill::of_one_second(CLIENT_EVENTS), 1.0, Instant::now()).is_err() {
            return Err(format!("a client may send at most {CLIENT_EVENTS} events per second"));
        }
        state.rates.publish(&Publisher::Address(self.ip), 1).map_err(|refusal| refusal.message)?;
        let text = event_data::sent(data);
        let sent_event = event;
        let member = self.memberships.iter().find(|membership| membership.channel == channel);
        let member = member.filter(|_| kind.access == Access::Presence);
        let (payload, is_args, is_text) = match member {
            Some(member) => (Payload::from_any(&with_user(&text, &json::quoted(&member.user))), true, false),
            None => {
                let (payload, is_text) = event_data::payload(&text);
                (payload, false, is_text)
            }
        };
        let event = event_name::in_log(event).map_err(|bad| bad.to_string())?;
        let draft = Draft {
            event,
            exclude: Some(self.socket.clone()),
            volatile: true,
            ..Draft::new(channel, payload).with_extras(Extras { is_args, is_text, ..Extras::default() })
        };
        service::append(state, PublishSource::Command, vec![draft]).await.map_err(|refusal| refusal.message)?;
        self.app.notify(WebhookEvent::ClientEvent, || {
            let (socket_id, user_id) = (&*self.socket.to_string(), member.map(|member| &*member.user));
            webhook::of_client(&webhook::ClientEvent {
                channel: name,
                event: sent_event,
                data: &text,
                socket_id,
                user_id,
            })
        });
        Ok(())
    }
}
