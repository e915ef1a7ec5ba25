//! Who may read and publish what. One place for every transport and for publishing.

use super::application::{Answer, Application};
use crate::message::{Channel, ClientId};
use crate::transport::{Code, Refusal};
use futures_util::future::BoxFuture;
use hyper::header::{self, HeaderMap, HeaderValue};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How long a running subscription outlives its permission while the application does not answer.
const GRACE: Duration = Duration::from_secs(30);

/// How often it is asked in that time.
const RETRY: Duration = Duration::from_secs(5);

/// What somebody wants to do with channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read them.
    Subscribe,
    /// Write to them.
    Publish,
}

impl Action {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Subscribe => "subscribe",
            Action::Publish => "publish",
        }
    }
}

/// Who asks: all of a request that tells one user from another. It has no `Debug`: credentials would end
/// in a log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Asker {
    /// Where the connection comes from.
    pub ip: IpAddr,
    /// The transport's name, or `publish`.
    pub transport: &'static str,
    /// The page's origin, which has been found to be allowed.
    pub origin: Option<HeaderValue>,
    /// The request's cookies, where they may speak for the user.
    pub cookie: Option<HeaderValue>,
    /// The request's `Authorization`.
    pub authorization: Option<HeaderValue>,
}

impl Asker {
    /// Who sent these headers. `by_cookie`: whether cookies count; a browser sends them for any page.
    pub fn new(ip: IpAddr, transport: &'static str, headers: &HeaderMap, by_cookie: bool) -> Asker {
        Asker {
            ip,
            transport,
            origin: headers.get(header::ORIGIN).cloned(),
            cookie: headers.get(header::COOKIE).filter(|_| by_cookie).cloned(),
            authorization: headers.get(header::AUTHORIZATION).cloned(),
        }
    }

    /// Somebody who brought nothing: raw TCP.
    pub fn unknown(ip: IpAddr, transport: &'static str) -> Asker {
        Asker { ip, transport, origin: None, cookie: None, authorization: None }
    }

    /// The same for publishing, where a cookie alone is no proof that the user wants it: without an
    /// `Origin`, which has been checked, it may be any page's form (cross-site request forgery).
    ///
    /// # Errors
    ///
    /// `forbidden_origin`, where there is nothing but such a cookie.
    pub fn to_publish(&self) -> Result<Asker, Refusal> {
        if self.cookie.is_some() && self.origin.is_none() {
            if self.authorization.is_none() {
                let rule = "publishing by a cookie needs an Origin header of an allowed origin";
                return Err(Refusal::new(Code::ForbiddenOrigin, rule));
            }
            return Ok(Asker { cookie: None, ..self.clone() });
        }
        Ok(self.clone())
    }
}

/// A question, whole: an answer counts for exactly this.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// What for.
    pub action: Action,
    /// Which channels, in order.
    pub channels: Vec<Channel>,
    /// The client id that was named.
    pub client: Option<ClientId>,
    /// Who.
    pub asker: Asker,
}

/// How a permission ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Never.
    Endless,
    /// Then it is to be asked for again.
    Until(Instant),
}

/// Decides.
pub enum Authorizer {
    /// Anybody may do anything; who comes near is decided by [`super::Access`].
    Open,
    /// The application is asked.
    Application(Application),
}

impl Authorizer {
    /// Whether this may be done with *all* these channels.
    ///
    /// # Errors
    ///
    /// `unauthorized` where credentials are missing or no good, `forbidden` where they do not allow it (named:
    /// the channels) or where the application did not answer.
    ///
    /// # Cancel safety
    ///
    /// A question that is dropped goes on only if somebody else waits for its answer.
    pub async fn ask(&self, question: Question) -> Result<Term, Refusal> {
        let Authorizer::Application(application) = self else { return Ok(Term::Endless) };
        let Question { action, mut channels, client, asker } = question;
        channels.sort_unstable();
        channels.dedup();
        let wanted = channels.clone();
        match application.ask(Question { action, channels, client, asker }).await {
            Answer::Allowed { channels, until } => {
                let refused: Vec<_> = wanted.iter().filter(|channel| !channels.contains(channel.as_str())).collect();
                if refused.is_empty() {
                    return Ok(Term::Until(until));
                }
                let names: Vec<&str> = refused.iter().map(|channel| channel.as_str()).collect();
                Err(Refusal::new(Code::Forbidden, format!("not allowed: {}", names.join(", "))))
            }
            Answer::Unauthorized => Err(Refusal::new(Code::Unauthorized, "the application wants you to sign in")),
            Answer::Refused => Err(Refusal::new(Code::Forbidden, "the application does not allow it")),
            Answer::Failed => Err(Refusal::passing(Code::Forbidden, "the application that decides did not answer")),
        }
    }
}

/// The permission of a running subscription, which is asked for again when its time is over.
pub struct Lease {
    authorizer: Arc<Authorizer>,
    asker: Asker,
    client: Option<ClientId>,
    channels: Vec<Channel>,
    ends: Pin<Box<Sleep>>,
    /// Until when it is tried to renew it.
    last_try: Option<Instant>,
    asking: Option<BoxFuture<'static, Result<Term, Refusal>>>,
}

impl Lease {
    /// None where permissions do not end.
    pub fn new(authorizer: &Arc<Authorizer>, asker: Asker, client: Option<ClientId>) -> Option<Lease> {
        if matches!(**authorizer, Authorizer::Open) {
            return None;
        }
        let far = Instant::now() + Duration::from_secs(86_400);
        Some(Lease {
            authorizer: authorizer.clone(),
            asker,
            client,
            channels: Vec::new(),
            ends: Box::pin(tokio::time::sleep_until(far)),
            last_try: None,
            asking: None,
        })
    }

    /// Who holds it.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Takes channels in, which were allowed for this term.
    pub fn add(&mut self, channels: &[Channel], term: Term) {
        let is_first = self.channels.is_empty();
        for channel in channels {
            if !self.channels.contains(channel) {
                self.channels.push(channel.clone());
            }
        }
        if let Term::Until(end) = term
            && (is_first || end < self.ends.deadline())
        {
            self.ends.as_mut().reset(end);
        }
    }

    /// Drops a channel.
    pub fn remove(&mut self, channel: &Channel) {
        self.channels.retain(|held| held != channel);
    }

    /// Ready when the permission has ended for good.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        loop {
            let Some(asking) = &mut self.asking else {
                ready!(self.ends.as_mut().poll(cx));
                if self.channels.is_empty() {
                    self.ends.as_mut().reset(Instant::now() + Duration::from_secs(86_400));
                    continue;
                }
                let (authorizer, channels) = (self.authorizer.clone(), self.channels.clone());
                let (asker, client) = (self.asker.clone(), self.client.clone());
                self.asking = Some(Box::pin(async move {
                    authorizer.ask(Question { action: Action::Subscribe, channels, client, asker }).await
                }));
                continue;
            };
            let answer = ready!(asking.as_mut().poll(cx));
            self.asking = None;
            let now = Instant::now();
            match answer {
                Ok(Term::Until(end)) => {
                    self.last_try = None;
                    // Never in a circle, whatever the answer's time.
                    self.ends.as_mut().reset(end.max(now + Duration::from_millis(500)));
                }
                Ok(Term::Endless) => self.ends.as_mut().reset(now + Duration::from_secs(86_400)),
                // The application may be restarting: that is no reason to send everybody away.
                Err(refusal) if refusal.may_pass && now < *self.last_try.get_or_insert(now + GRACE) => {
                    self.ends.as_mut().reset(now + RETRY);
                }
                Err(refusal) => return Poll::Ready(refusal),
            }
        }
    }
}
