//! What a call tells the application about the client of a session.

use crate::serve::client_sessions::state::SessionState;
use crate::serve::hook::call::Caller;
use crate::serve::limits::rate_limiter::EventSender;
use std::net::IpAddr;

/// What the application knows about the client of a session.
pub fn of_session(state: &SessionState) -> Caller {
    Caller {
        protocol: state.dialect.clone(),
        session: Some(state.id.secret().clone()),
        client: Some(state.client.clone()),
        endpoint: state.endpoint.clone(),
        user: state.user.as_ref().map(|user| user.data().to_owned()),
        data: state.data.as_ref().map(|data| data.as_str().to_owned()),
        channels: state.channels.keys().cloned().collect(),
    }
}

/// The line in which the calls of a session wait. `ip` is the address of the client that causes the call.
pub fn line_of(state: &SessionState, ip: IpAddr) -> EventSender {
    EventSender::of_session(state.id.secret(), ip)
}
