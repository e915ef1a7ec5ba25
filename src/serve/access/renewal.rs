//! The permission of a running subscription: it ends, or is asked for again.

use super::authorizer::{Action, Authorizer, Grant, Question, Term};
use super::credentials::Asker;
use crate::message::{Channel, ClientId};
use crate::transport::ApiError;
use futures_util::future::BoxFuture;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How long a running subscription outlives its permission while the application does not answer.
const GRACE: Duration = Duration::from_secs(30);

/// How often it is asked in that time.
const RETRY: Duration = Duration::from_secs(5);

/// What has no end is looked at now and then.
const DAY: Duration = Duration::from_secs(86_400);

/// Channels that were allowed together.
struct Share {
    channels: Vec<Channel>,
    /// When it ends.
    end: Instant,
    /// Who asks again then; `None`: nobody can.
    asker: Option<Arc<Asker>>,
    /// Until when it is tried to renew it.
    last_try: Option<Instant>,
    /// The question about it that is under way. It goes on whatever is added and removed meanwhile: were it dropped
    /// for that, who has lost his permission would read on for as long as he sends commands, since the answer would
    /// never be seen, and each of them would be a new question to the application.
    asking: Option<BoxFuture<'static, Result<Grant, ApiError>>>,
}

/// The permission of a running subscription. A duplex client may have it in several shares, each by the token
/// that it came with.
pub struct Lease {
    authorizer: Arc<Authorizer>,
    client: Option<ClientId>,
    /// Those that end.
    shares: Vec<Share>,
    timer: Pin<Box<Sleep>>,
}

impl Lease {
    /// Holds nothing yet.
    pub fn new(authorizer: &Arc<Authorizer>, client: Option<ClientId>) -> Lease {
        let timer = Box::pin(tokio::time::sleep(DAY));
        Lease { authorizer: authorizer.clone(), client, shares: Vec::new(), timer }
    }

    /// Takes channels in, which were allowed for this term. It is the one that counts for them from now on.
    pub fn add(&mut self, channels: &[Channel], term: Term, asker: &Arc<Asker>) {
        channels.iter().for_each(|channel| self.forget(channel));
        let (end, asker) = match term {
            Term::Endless => return self.arm(),
            Term::Until(end) => (end, Some(asker.clone())),
            Term::Ends(end) => (end, None),
        };
        // Who is asked for by one credential is asked for in one question. One that is under way does not name these.
        let same = |share: &&mut Share| match (&share.asker, &asker) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) && share.asking.is_none(),
            (None, None) => share.end == end,
            _ => false,
        };
        if let Some(share) = self.shares.iter_mut().find(same) {
            share.channels.extend_from_slice(channels);
            share.end = share.end.min(end);
        } else {
            self.shares.push(Share { channels: channels.to_vec(), end, asker, last_try: None, asking: None });
        }
        self.arm();
    }

    /// Channels whose permission ends before that moment.
    pub fn ending_before(&self, moment: Instant) -> Vec<Channel> {
        self.shares.iter().filter(|share| share.end < moment).flat_map(|share| share.channels.clone()).collect()
    }

    /// Drops a channel.
    pub fn remove(&mut self, channel: &Channel) {
        self.forget(channel);
        self.arm();
    }

    fn forget(&mut self, channel: &Channel) {
        for share in &mut self.shares {
            share.channels.retain(|held| held != channel);
        }
        self.shares.retain(|share| !share.channels.is_empty());
    }

    /// Waits for the share that ends first.
    fn arm(&mut self) {
        let first = self.shares.iter().map(|share| share.end).min();
        self.timer.as_mut().reset(first.unwrap_or_else(|| Instant::now() + DAY));
    }

    /// Ready when the permission has ended for good.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // One that is asked about stays the first until there is an answer, whatever is added.
            let first = self.shares.iter_mut().min_by_key(|share| (share.asking.is_none(), share.end));
            let Some(share) = first else {
                ready!(self.timer.as_mut().poll(cx));
                self.arm();
                continue;
            };
            let Some(asking) = &mut share.asking else {
                ready!(self.timer.as_mut().poll(cx));
                let Some(asker) = &share.asker else { return Poll::Ready(()) };
                let (authorizer, channels, client) =
                    (self.authorizer.clone(), share.channels.clone(), self.client.clone());
                let asker = Asker::clone(asker);
                share.asking = Some(Box::pin(async move {
                    authorizer.ask(Question { action: Action::Subscribe, channels, client, asker }).await
                }));
                continue;
            };
            let Poll::Ready(answer) = asking.as_mut().poll(cx) else {
                // Those that end for good do so meanwhile, however long the application takes for another.
                let fixed = self.shares.iter().filter(|share| share.asker.is_none()).map(|share| share.end).min();
                let Some(end) = fixed else { return Poll::Pending };
                self.timer.as_mut().reset(end);
                return self.timer.as_mut().poll(cx);
            };
            share.asking = None;
            let now = Instant::now();
            match answer.map(|grant| grant.term) {
                Ok(Term::Until(end) | Term::Ends(end)) => {
                    share.last_try = None;
                    // Never in a circle, whatever the answer's time.
                    share.end = end.max(now + Duration::from_millis(500));
                }
                Ok(Term::Endless) => share.end = now + DAY,
                // The application may be restarting: that is no reason to send everybody away.
                Err(refusal) if refusal.may_pass && now < *share.last_try.get_or_insert(now + GRACE) => {
                    share.end = now + RETRY;
                }
                // Also where a channel that it named is no longer held: to ask anew for the rest is to be put off.
                Err(_) => return Poll::Ready(()),
            }
            self.arm();
        }
    }
}
