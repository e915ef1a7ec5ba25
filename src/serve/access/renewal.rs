//! Renews the grant of a running subscription, or ends the subscription when the grant ends.

use super::authorizer::Authorizer;
use super::credentials::Credentials;
use super::query::{AccessRequest, Action, Grant, Validity};
use crate::message::{Channel, ClientId};
use crate::serve::presence::stay::Stay;
use crate::transport::ApiError;
use futures_util::future::BoxFuture;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The time for which a running subscription continues after the end of its grant if the application does not answer.
const GRACE: Duration = Duration::from_secs(30);

/// The interval at which the application is asked during [`GRACE`].
const RETRY: Duration = Duration::from_secs(5);

/// The timer's period while no grant ends.
const DAY: Duration = Duration::from_secs(86_400);

/// Channels that were granted together.
struct GrantedChannels {
    channels: Vec<Channel>,
    /// The time at which the grant ends.
    end: Instant,
    /// The credentials for a renewal; `None` if the grant cannot be renewed.
    credentials: Option<Arc<Credentials>>,
    /// The time until which a renewal is retried.
    retry_until: Option<Instant>,
    /// The renewal that is in progress. It continues when the client adds and removes channels. If such a change
    /// cancelled the renewal, a client whose permission was revoked could continue to read by sending commands. The
    /// server would never see the answer, and each command would cause a new request to the application.
    renewal: Option<BoxFuture<'static, Result<Grant, ApiError>>>,
}

/// The grants of a running subscription. A duplex client may have several grants, one for each token that it sent.
pub struct GrantRenewal {
    authorizer: Arc<Authorizer>,
    client: Option<ClientId>,
    /// The grants that have an end.
    grants: Vec<GrantedChannels>,
    timer: Pin<Box<Sleep>>,
    /// The stay of the user in channels with presence. It ends with the grants.
    stay: Option<Stay>,
}

impl GrantRenewal {
    /// Makes a renewal without grants.
    pub fn new(authorizer: &Arc<Authorizer>, client: Option<ClientId>) -> GrantRenewal {
        let timer = Box::pin(tokio::time::sleep(DAY));
        GrantRenewal { authorizer: authorizer.clone(), client, grants: Vec::new(), timer, stay: None }
    }

    /// Adds channels that were granted. The new validity replaces the earlier validity of the same channels.
    pub fn add(&mut self, channels: &[Channel], validity: Validity, credentials: &Arc<Credentials>) {
        channels.iter().for_each(|channel| self.forget(channel));
        let (end, credentials) = match validity {
            Validity::Unlimited => return self.arm(),
            Validity::RenewAt(end) => (end, Some(credentials.clone())),
            Validity::EndsAt(end) => (end, None),
        };
        // One access request renews all channels of the same credentials. An access request that is already in flight
        // does not name the new channels.
        let same = |grant: &&mut GrantedChannels| match (&grant.credentials, &credentials) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) && grant.renewal.is_none(),
            (None, None) => grant.end == end,
            _ => false,
        };
        if let Some(grant) = self.grants.iter_mut().find(same) {
            grant.channels.extend_from_slice(channels);
            grant.end = grant.end.min(end);
        } else {
            let channels = channels.to_vec();
            self.grants.push(GrantedChannels { channels, end, credentials, retry_until: None, renewal: None });
        }
        self.arm();
    }

    /// The channels whose grant ends before `moment`.
    pub fn ending_before(&self, moment: Instant) -> Vec<Channel> {
        self.grants.iter().filter(|grant| grant.end < moment).flat_map(|grant| grant.channels.clone()).collect()
    }

    /// Drops a channel.
    pub fn remove(&mut self, channel: &Channel) {
        self.forget(channel);
        self.arm();
        if let Some(stay) = &mut self.stay {
            stay.leave(channel);
        }
    }

    /// Keeps the stay of the user in further channels.
    pub fn hold(&mut self, stay: Stay) {
        match &mut self.stay {
            Some(held) => held.merge(stay),
            empty => *empty = Some(stay),
        }
    }

    /// The stay of the user.
    pub fn stay(&self) -> Option<&Stay> {
        self.stay.as_ref()
    }

    /// Ends the stay of the user at once: the application has ended the client's session.
    pub fn revoke(&mut self) {
        if let Some(mut stay) = self.stay.take() {
            stay.revoke(|_| true);
        }
    }

    fn forget(&mut self, channel: &Channel) {
        for grant in &mut self.grants {
            grant.channels.retain(|held| held != channel);
        }
        self.grants.retain(|grant| !grant.channels.is_empty());
    }

    /// Sets the timer to the grant that ends first.
    fn arm(&mut self) {
        let first = self.grants.iter().map(|grant| grant.end).min();
        self.timer.as_mut().reset(first.unwrap_or_else(|| Instant::now() + DAY));
    }

    /// Ends the stay of the user, with the grace for a client that comes back with another grant. From the channels of a
    /// grant that the application has refused, the user is gone at once. The client may take its time to close the
    /// connection, so the stay does not wait for that.
    fn end_stay(&mut self, refused: &[Channel]) {
        if let Some(mut stay) = self.stay.take() {
            stay.revoke(|channel| refused.contains(channel));
        }
    }

    /// Ready when a grant has ended and cannot be renewed. The stay of the user has then ended, too.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.poll_refusal(cx);
        if let Poll::Ready(refused) = &end {
            self.end_stay(refused);
        }
        end.map(drop)
    }

    /// Ready when a grant has ended and cannot be renewed, with the channels that the application has refused.
    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Channel>> {
        loop {
            // A grant whose renewal is in progress stays first until there is an answer, even if the client adds other
            // grants.
            let first = self.grants.iter_mut().min_by_key(|grant| (grant.renewal.is_none(), grant.end));
            let Some(grant) = first else {
                ready!(self.timer.as_mut().poll(cx));
                self.arm();
                continue;
            };
            let Some(renewal) = &mut grant.renewal else {
                ready!(self.timer.as_mut().poll(cx));
                let Some(credentials) = &grant.credentials else { return Poll::Ready(Vec::new()) };
                let (authorizer, channels, client) =
                    (self.authorizer.clone(), grant.channels.clone(), self.client.clone());
                let credentials = Credentials::clone(credentials);
                grant.renewal = Some(Box::pin(async move {
                    authorizer.ask(AccessRequest { action: Action::Subscribe, channels, client, credentials }).await
                }));
                continue;
            };
            let Poll::Ready(answer) = renewal.as_mut().poll(cx) else {
                // Grants that cannot be renewed end at their own time, even if the application has not answered yet for
                // another grant.
                let fixed = self.grants.iter().filter(|grant| grant.credentials.is_none()).map(|grant| grant.end).min();
                let Some(end) = fixed else { return Poll::Pending };
                self.timer.as_mut().reset(end);
                return self.timer.as_mut().poll(cx).map(|()| Vec::new());
            };
            grant.renewal = None;
            let now = Instant::now();
            if let (Ok(Grant { user: Some(user), .. }), Some(stay)) = (&answer, &self.stay) {
                stay.set_user(user);
            }
            match answer.map(|granted| granted.validity) {
                Ok(Validity::RenewAt(end) | Validity::EndsAt(end)) => {
                    grant.retry_until = None;
                    // The end is at least half a second away, so that a short validity does not make this a busy loop.
                    grant.end = end.max(now + Duration::from_millis(500));
                }
                Ok(Validity::Unlimited) => grant.end = now + DAY,
                // The application may be restarting, which is not a reason to disconnect every reader.
                Err(refusal) if refusal.may_pass && now < *grant.retry_until.get_or_insert(now + GRACE) => {
                    grant.end = now + RETRY;
                }
                // The subscription ends even if the client has removed the refused channel in the meantime: the client
                // can subscribe to the other channels again.
                Err(refusal) if !refusal.may_pass => return Poll::Ready(grant.channels.clone()),
                // The application is away. Its users do not leave at once: they may read through another node.
                Err(_) => return Poll::Ready(Vec::new()),
            }
            self.arm();
        }
    }
}
