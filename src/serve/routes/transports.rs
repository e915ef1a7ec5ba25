//! The ten transports of the native protocol, as one endpoint: a transport's path is its name.

use super::context::Context;
use super::endpoint::{Answer, Call, Endpoint, Route, ready};
use super::page_headers;
use super::response::{self, Response};
use super::subscribe::{self, Subscribe};
use crate::serve::client_sessions::protocol::NATIVE;
use crate::serve::http::headers::last_field;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::state::ServerState;
use crate::transport::params::bad_callback;
use crate::transport::{self, ApiError, Code, Lifecycle, Params, Transport};
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};
use std::sync::Arc;

/// The maximum number of bytes of a form that subscribes.
const FORM_BYTES: usize = 128 << 10;

/// The endpoint.
pub struct Transports;

impl Endpoint for Transports {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        let transport = transport::by_path(path)?;
        Some(Route { methods: "GET, HEAD, POST, OPTIONS", transport: Some(transport), ..Route::PAGE })
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        let Some(transport) = call.route.transport else {
            return ready(Err(ApiError::new(Code::NotFound, "there is no such transport")));
        };
        Box::pin(async move {
            let mut response = answer(&call.context.state, call.peer, transport, call.request).await;
            if call.context.demo.is_some() {
                // The comparison page shows a frame from another port, which is a different origin.
                response.headers_mut().remove(header::CONTENT_SECURITY_POLICY);
            }
            Ok(response)
        })
    }

    fn refuse(&self, route: &Route, query: &[u8], refusal: &ApiError) -> Response {
        match route.transport {
            Some(transport) => refuse(transport, query, None, refusal),
            None => response::refused(refusal),
        }
    }

    fn transports(&self) -> &'static [&'static dyn Transport] {
        transport::ALL
    }
}

/// Answers a request to a transport's path. A refusal has a form that the transport's clients can read.
async fn answer(
    state: &Arc<ServerState>,
    peer: &Peer,
    transport: &'static dyn Transport,
    mut request: Request,
) -> Response {
    let query = request.uri().query().unwrap_or_default().as_bytes().to_vec();
    let mut form = None;
    if request.method() == Method::POST {
        match response::read_body(state, &mut request, FORM_BYTES).await {
            Ok(bytes) => form = Some(bytes),
            Err(refusal) => return refuse(transport, &query, None, &refusal),
        }
    }
    let form = form.as_deref();
    let answered = match read(state, transport, &query, form) {
        Ok(wanted) => subscribe::answer(state, peer, request, wanted).await,
        Err(refusal) => Err(refusal),
    };
    answered.unwrap_or_else(|refusal| {
        let mut response = refuse(transport, &query, form, &refusal);
        if transport.lifecycle(&Params::default()) == Lifecycle::Duplex {
            // A client of another version may try again with this version (RFC 6455 §4.4).
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    })
}

/// Reads a subscription from the query and the form.
fn read(
    state: &ServerState,
    transport: &'static dyn Transport,
    query: &[u8],
    form: Option<&[u8]>,
) -> Result<Subscribe, ApiError> {
    let params = Params::parse(query, form, &state.settings.limits)?;
    // An open server does not read tokens.
    let token = if state.authorizer.is_open() { None } else { last_field(query, form, "token") };
    Ok(Subscribe { token, ..Subscribe::new(transport, params, NATIVE) })
}

/// Refuses a request in a form that the transport's clients can read.
fn refuse(transport: &dyn Transport, query: &[u8], form: Option<&[u8]>, refusal: &ApiError) -> Response {
    // A page of a foreign origin gets only the status, because it must not read the error.
    let is_readable = refusal.code != Code::ForbiddenOrigin;
    let callback = Params::valid_callback(query, form);
    if transport.calls_back() && callback.is_none() {
        // Without a valid callback, the server cannot report any other error.
        return response::refused(&bad_callback());
    }
    match transport.refuse(callback.as_deref(), refusal).filter(|_| is_readable) {
        Some((content_type, body)) => {
            let mut response = response::whole(StatusCode::OK, content_type, body);
            response.extensions_mut().insert(refusal.code);
            if transport.is_page() {
                page_headers::write_refusal(response.headers_mut());
            }
            response
        }
        None => response::refused(refusal),
    }
}
