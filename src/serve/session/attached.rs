//! What some streams have besides their subscription: a grant with an end, the session of their client, or the rules of
//! another protocol.

use super::protocol_stream::{Ends, ProtocolStream};
use crate::hub::{Step, Subscription};
use crate::message::Message;
use crate::serve::access::renewal::GrantRenewal;
use crate::serve::client_sessions::live::LiveSession;
use crate::transport::CloseReason;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What some streams have.
pub enum Attached {
    /// The grant to read, if the grant has an end.
    Grant(GrantRenewal),
    /// The client's session. It is boxed, so that a stream with only a grant does not pay for it.
    Session(Box<SessionStream>),
    /// The connection of another protocol.
    Protocol(Box<ProtocolStream>),
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
    /// The connection of another protocol ends.
    Left(CloseReason),
}

/// The stream of a session.
pub struct SessionStream {
    session: LiveSession,
    grant: Option<GrantRenewal>,
}

impl Attached {
    /// Adds a session to what a stream has.
    pub fn with_session(before: Option<Box<Attached>>, session: LiveSession) -> Box<Attached> {
        let grant = match before.map(|attached| *attached) {
            Some(Attached::Grant(grant)) => Some(grant),
            Some(Attached::Session(stream)) => stream.grant,
            Some(Attached::Protocol(stream)) => stream.grant,
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
            Some(Attached::Protocol(stream)) => {
                Some(Box::new(Attached::Protocol(Box::new(ProtocolStream { grant, ..*stream }))))
            }
            _ => grant.map(|grant| Box::new(Attached::Grant(grant))),
        }
    }

    /// What the stream of another protocol has. A stream that is not one yet becomes one; it does not have a session.
    pub fn protocol(attached: &mut Option<Box<Attached>>) -> &mut ProtocolStream {
        if !matches!(attached.as_deref(), Some(Attached::Protocol(_))) {
            let grant = match attached.take().map(|attached| *attached) {
                Some(Attached::Grant(grant)) => Some(grant),
                _ => None,
            };
            let stream = ProtocolStream { grant, ..ProtocolStream::default() };
            *attached = Some(Box::new(Attached::Protocol(Box::new(stream))));
        }
        match attached.as_deref_mut() {
            Some(Attached::Protocol(stream)) => stream,
            _ => unreachable!("it was made above"),
        }
    }

    /// When the connection of another protocol ends.
    pub fn ends(&mut self) -> Option<&mut Ends> {
        match self {
            Attached::Protocol(stream) => stream.ends.as_mut(),
            Attached::Grant(_) | Attached::Session(_) => None,
        }
    }

    /// The grant, if it has an end.
    pub fn grant(&mut self) -> Option<&mut GrantRenewal> {
        match self {
            Attached::Grant(grant) => Some(grant),
            Attached::Session(stream) => stream.grant.as_mut(),
            Attached::Protocol(stream) => stream.grant.as_mut(),
        }
    }

    /// The session, if the client has one.
    pub fn session(&mut self) -> Option<&mut LiveSession> {
        match self {
            Attached::Grant(_) | Attached::Protocol(_) => None,
            Attached::Session(stream) => Some(&mut stream.session),
        }
    }

    /// Whether the stream ends: its grant or its session has ended. A client whose session was lost may come back.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if let Attached::Protocol(stream) = self
            && let Some(reason) = stream.end()
        {
            return Some(End::Left(reason));
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
            Attached::Protocol(stream) => {
                stream.filter.take(batch, subscription.cursor(), |channel| subscription.reads(channel));
            }
        }
        batch.is_empty() && matches!(step, Poll::Ready(Step::Messages))
    }
}
