//! Subscriptions: who may read a channel, and what a new reader gets first.

use super::connection::{Connection, Membership, read, send};
use super::last_event::{LastEvent, last_event};
use super::metrics::Refused;
use super::transport::Member;
use crate::message::{Channel, User};
use crate::serve::presence::stay::Stay;
use crate::serve::session::entry_filter::Skip;
use crate::serve::session::pump::Pump;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, CloseReason, Code};
use crate::wire::pusher::channel_data::{self, SignedUser};
use crate::wire::pusher::encode;
use crate::wire::pusher::frame::Subscribe;
use crate::wire::pusher::names::{self, Access, ChannelKind, SERVER_TO_USER};
use crate::wire::pusher::signature::split_auth;
use crate::wire::pusher::webhook::{self, WebhookEvent};
use std::sync::Arc;
use std::time::Duration;

/// How long a subscription waits for this node to reach the position of a list of members.
const OWN_TAIL_WAIT: Duration = Duration::from_secs(2);

/// Why a subscription is refused. The client's page gets it as an event of the channel.
struct Refusal {
    kind: &'static str,
    text: String,
    status: u16,
}

impl Refusal {
    fn auth(text: &str) -> Refusal {
        Refusal { kind: "AuthError", text: text.to_owned(), status: 401 }
    }

    fn limit(text: String, status: u16) -> Refusal {
        Refusal { kind: "LimitReached", text, status }
    }
}

impl Connection {
    /// Carries out a `pusher:subscribe`. The answer comes before any event of the channel.
    pub(super) async fn subscribe(&mut self, state: &Arc<ServerState>, pump: &mut Pump, subscribe: &Subscribe<'_>) {
        if let Err(refusal) = self.try_subscribe(state, pump, subscribe).await {
            self.metrics.refused(Refused::Subscription);
            let Refusal { kind, text, status } = refusal;
            send(pump, |out| encode::subscription_error(&subscribe.channel, kind, &text, status, out));
        }
    }

    async fn try_subscribe(
        &mut self,
        state: &Arc<ServerState>,
        pump: &mut Pump,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), Refusal> {
        let name = &*subscribe.channel;
        let invalid = |text: String| Refusal { kind: "InvalidChannel", text, status: 400 };
        let kind = names::channel(name).map_err(|bad| invalid(bad.to_string()))?;
        let channel = self.app.channel(name).map_err(|bad| invalid(bad.to_string()))?;
        self.check_signature(kind, subscribe)?;
        let user = match kind.access {
            Access::Presence => Some(self.signed_user(subscribe)?),
            _ => None,
        };
        let (subscription, most) = (pump.subscription(), state.settings.limits.channels);
        // The reserved channel of the user does not count.
        let count = subscription.names().filter(|channel| !channel.is_reserved()).count();
        if !subscription.reads(&channel) && count >= most {
            let text = format!("a connection may read at most {most} channels (--max-channels)");
            return Err(Refusal::limit(text, 4100));
        }
        let mut has_joined = false;
        if let Some(user) = &user {
            has_joined = self.join(state, &channel, user).await?;
            pump.filter().skip_own(channel.clone(), user.clone());
        }
        read(pump, &channel);
        let data = match &user {
            Some(user) => match self.members(state, pump, &channel, user).await {
                Ok(data) => data,
                // Without the list, the client would show a wrong one. It comes back in a moment.
                Err(_) => {
                    if has_joined {
                        self.never_joined(&channel);
                    }
                    pump.bye(CloseReason::TooManyConnections, None);
                    return Ok(());
                }
            },
            None => "{}".to_owned(),
        };
        send(pump, |out| encode::subscription_succeeded(name, &data, out));
        if kind.is_cache {
            self.send_last_event(state, pump, name, &channel).await;
        }
        Ok(())
    }

    fn check_signature(&self, kind: ChannelKind, subscribe: &Subscribe<'_>) -> Result<(), Refusal> {
        if kind.access == Access::User {
            let named = subscribe.channel.strip_prefix(SERVER_TO_USER);
            if self.user.as_ref().is_some_and(|user| named == Some(user.id())) {
                return Ok(());
            }
            return Err(Refusal::auth("only the clients of this user may read this channel, after a sign-in"));
        }
        if !kind.needs_signature() {
            return Ok(());
        }
        let Some((key, signature)) = subscribe.auth.as_deref().and_then(split_auth) else {
            return Err(Refusal::auth("auth is missing: it is the key of the app, a colon and a signature"));
        };
        if key != self.app.key {
            return Err(Refusal::auth("auth has the key of another app"));
        }
        let (socket, data) = (self.socket.to_string(), subscribe.channel_data.as_deref());
        if self.app.secret.allows(&socket, &subscribe.channel, data, signature) {
            return Ok(());
        }
        Err(Refusal::auth("the signature is not that of this socket and this channel: check the secret of the app"))
    }

    /// The user in the data that the application has signed, or else the user of the sign-in.
    fn signed_user(&self, subscribe: &Subscribe<'_>) -> Result<Arc<User>, Refusal> {
        if let (None, Some(user)) = (&subscribe.channel_data, &self.user) {
            return Ok(user.clone());
        }
        let text = subscribe.channel_data.as_deref().unwrap_or_default();
        let SignedUser { id, info } =
            channel_data::channel_data(text).map_err(|bad| Refusal::auth(&bad.to_string()))?;
        let user = User::new(&id, Some(info.unwrap_or("{}")));
        user.map(Arc::new).map_err(|bad| Refusal::auth(&bad.to_string()))
    }

    /// Makes the user a member of the channel. Returns false if this connection has done that before.
    async fn join(&mut self, state: &ServerState, channel: &Channel, user: &Arc<User>) -> Result<bool, Refusal> {
        if let Some(index) = self.memberships.iter().position(|membership| membership.channel == *channel) {
            if self.memberships[index].user == user.id() {
                return Ok(false);
            }
            // The connection now belongs to another user.
            self.memberships.remove(index);
        }
        let joined = async || -> Result<Option<Stay>, ApiError> {
            let Some(presence) = &state.presence else { return Ok(None) };
            presence.writable().await;
            presence.join(std::slice::from_ref(channel), user, Some(&self.socket)).await
        };
        let stay = joined().await.map_err(|refusal| match refusal.code {
            Code::TooManyMembers => Refusal::limit(refusal.message, 4100),
            _ => Refusal::limit(refusal.message, 4301),
        })?;
        let membership = Membership { channel: channel.clone(), user: user.id().to_owned(), stay };
        self.memberships.push(membership);
        Ok(true)
    }

    /// Takes back a membership whose subscription has failed. Other members are not told about a user that was not there.
    fn never_joined(&mut self, channel: &Channel) {
        for membership in &mut self.memberships {
            if let Some(stay) = &mut membership.stay {
                stay.revoke(|known| known == channel);
            }
        }
    }

    /// The members of a channel as JSON. The client then gets exactly those changes that the list does not contain.
    async fn members(
        &self,
        state: &ServerState,
        pump: &mut Pump,
        channel: &Channel,
        user: &User,
    ) -> Result<String, ApiError> {
        let Some(presence) = &state.presence else {
            return Err(ApiError::new(Code::NotFound, "the channel does not have members"));
        };
        let list = presence.members(channel).await?;
        // The connection may go on at a position before the list, but not after it.
        let _ = tokio::time::timeout(OWN_TAIL_WAIT, state.hub.reached(list.cursor)).await;
        pump.filter().skip(channel.clone(), list.cursor, Skip::Members);
        let mut members: Vec<Member<'_>> =
            list.members.iter().filter_map(|json| serde_json::from_str(json).ok()).collect();
        // While the log cannot be reached, the user becomes a member later. Its own client already knows it.
        if !members.iter().any(|member| member.id == user.id()) {
            members.extend(serde_json::from_str(user.data()));
        }
        Ok(encode::members(members.iter().map(|member| (&*member.id, member.info.get()))))
    }

    /// Sends the last event of a cache channel. If the channel has no event, sends `pusher:cache_miss`.
    async fn send_last_event(&self, state: &ServerState, pump: &mut Pump, name: &str, channel: &Channel) {
        let Ok(found) = last_event(state, &self.app, channel).await else {
            // A miss would make applications fetch or publish the state. The client comes back in a moment.
            return pump.bye(CloseReason::TooManyConnections, None);
        };
        match found {
            Some(LastEvent { message, cursor, .. }) => {
                pump.filter().skip(channel.clone(), cursor, Skip::Messages);
                pump.push_frame(self.app.encoding.frame(&message));
            }
            None => {
                send(pump, |out| encode::cache_miss(name, out));
                self.app.notify(WebhookEvent::CacheMiss, || webhook::of_channel(WebhookEvent::CacheMiss, name));
            }
        }
    }
}
