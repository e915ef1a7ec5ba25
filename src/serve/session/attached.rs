//! What some streams have besides their subscription: a grant with an end, the session of their client, or a filter.

use super::entry_filter::EntryFilter;
use crate::hub::{Step, Subscription};
use crate::message::Message;
use crate::serve::access::renewal::GrantRenewal;
use crate::serve::client_sessions::live::LiveSession;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What some streams have.
pub enum Attached {
    /// The grant to read, if the grant has an end.
    Grant(GrantRenewal),
    /// The client's session. It is boxed, so that a stream with only a grant does not pay for it.
    Session(Box<SessionStream>),
    /// The filter of a connection of another protocol.
    Filter(Box<FilteredStream>),
}

// A stream with a grant does not take more memory because others have sessions.
const _: () = assert!(size_of::<Attached>() == size_of::<GrantRenewal>());

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its grant has ended, or the application has ended its session.
    Revoked,
    /// Its session is not known any more.
    Lost,
}

/// The stream of a session.
pub struct SessionStream {
    session: LiveSession,
    grant: Option<GrantRenewal>,
}

/// The stream of a connection of another protocol.
#[derive(Default)]
pub struct FilteredStream {
    filter: EntryFilter,
    grant: Option<GrantRenewal>,
}

impl Attached {
    /// Adds a session to what a stream has.
    pub fn with_session(before: Option<Box<Attached>>, session: LiveSession) -> Box<Attached> {
        let grant = match before.map(|attached| *attached) {
            Some(Attached::Grant(grant)) => Some(grant),
            Some(Attached::Session(stream)) => stream.grant,
            Some(Attached::Filter(stream)) => stream.grant,
            None => None,
        };
        Box::new(Attached::Session(Box::new(SessionStream { session, grant })))
    }

    /// Sets the grant of what a stream has.
    pub fn with_grant(before: Option<Box<Attached>>, grant: Option<GrantRenewal>) -> Option<Box<Attached>> {
        match before.map(|attached| *attached) {
            Some(Attached::Session(stream)) => {
                Some(Box::new(Attached::Session(Box::new(SessionStream { grant, ..*stream }))))
            }
            Some(Attached::Filter(stream)) => {
                Some(Box::new(Attached::Filter(Box::new(FilteredStream { grant, ..*stream }))))
            }
            _ => grant.map(|grant| Box::new(Attached::Grant(grant))),
        }
    }

    /// The filter of a stream. A stream without one gets one; it does not have a session.
    pub fn filter(attached: &mut Option<Box<Attached>>) -> &mut EntryFilter {
        if !matches!(attached.as_deref(), Some(Attached::Filter(_))) {
            let grant = match attached.take().map(|attached| *attached) {
                Some(Attached::Grant(grant)) => Some(grant),
                _ => None,
            };
            let stream = FilteredStream { grant, ..FilteredStream::default() };
            *attached = Some(Box::new(Attached::Filter(Box::new(stream))));
        }
        match attached.as_deref_mut() {
            Some(Attached::Filter(stream)) => &mut stream.filter,
            _ => unreachable!("the filter was made above"),
        }
    }

    /// The grant, if it has an end.
    pub fn grant(&mut self) -> Option<&mut GrantRenewal> {
        match self {
            Attached::Grant(grant) => Some(grant),
            Attached::Session(stream) => stream.grant.as_mut(),
            Attached::Filter(stream) => stream.grant.as_mut(),
        }
    }

    /// The session, if the client has one.
    pub fn session(&mut self) -> Option<&mut LiveSession> {
        match self {
            Attached::Grant(_) | Attached::Filter(_) => None,
            Attached::Session(stream) => Some(&mut stream.session),
        }
    }

    /// Whether the stream ends: its grant or its session has ended. A client whose session was lost may come back.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if let Attached::Filter(stream) = self
            && stream.filter.has_ended()
        {
            return Some(End::Revoked);
        }
        if let Some(session) = self.session().filter(|session| session.has_ended()) {
            session.end_stay();
            if let Some(grant) = self.grant() {
                grant.revoke();
            }
            return Some(End::Revoked);
        }
        if self.grant().is_some_and(|grant| grant.poll_end(cx).is_ready()) {
            return Some(End::Revoked);
        }
        self.session().is_some_and(|session| session.poll_lost(cx)).then_some(End::Lost)
    }

    /// Lets the session or the filter apply what a step has returned. Returns whether another step has to follow, because control
    /// entries were all that came.
    pub fn take(&mut self, step: &Poll<Step>, batch: &mut Vec<Arc<Message>>, subscription: &mut Subscription) -> bool {
        match self {
            Attached::Grant(_) => return false,
            Attached::Session(stream) => stream.session.take(batch, subscription),
            Attached::Filter(stream) => stream.filter.take(batch, subscription.cursor()),
        }
        batch.is_empty() && matches!(step, Poll::Ready(Step::Messages))
    }
}
