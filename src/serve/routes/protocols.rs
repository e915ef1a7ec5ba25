//! The endpoint of the protocols that flags switch on.

use super::context::Context;
use super::endpoint::{Answer, Call, Endpoint, Route};
use crate::transport::{ApiError, Code};

/// The endpoint.
pub struct Protocols;

impl Endpoint for Protocols {
    fn route(&self, context: &Context, path: &str) -> Option<Route> {
        context.protocols.iter().find_map(|protocol| protocol.route(path))
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        Box::pin(async move {
            let path = call.path();
            let found = call.context.protocols.iter().find(|protocol| protocol.route(path).is_some());
            match found {
                Some(protocol) => Ok(protocol.answer(&call.context.state, call.peer, call.request).await),
                None => Err(ApiError::new(Code::NotFound, "there is no such path; see /info for the transports")),
            }
        })
    }
}
