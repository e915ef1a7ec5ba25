//! Events that clients send to the other clients of a channel.

use super::connection::{CLIENT_EVENTS, Connection};
use super::transport::with_user;
use crate::message::{Draft, Extras, Payload};
use crate::serve::limits::rate_limiter::Publisher;
use crate::serve::limits::token_bucket::Refill;
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::publishing::service;
use crate::serve::session::pump::Pump;
use crate::serve::state::ServerState;
use crate::wire::pusher::names::{self, Access};
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
        let user = self.memberships.iter().find(|membership| membership.channel == channel);
        let (payload, is_args) = match user.filter(|_| kind.access == Access::Presence) {
            Some(membership) => (Payload::from_any(&with_user(data, &membership.user)), true),
            None => (Payload::from_any(data), false),
        };
        let event = event.parse().map_err(|_| "the name of the event is not valid".to_owned())?;
        let draft = Draft {
            event,
            exclude: Some(self.socket.clone()),
            volatile: true,
            ..Draft::new(channel, payload).with_extras(Extras { is_args, ..Extras::default() })
        };
        let appended = service::append(state, PublishSource::Command, vec![draft]).await;
        appended.map(drop).map_err(|refusal| refusal.message)
    }
}
