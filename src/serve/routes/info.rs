//! Answers `/info`.

use super::context::Context;
use super::endpoint::{Answer, Audience, Call, Endpoint, Route, ready};
use super::response::{self, Response};
use crate::serve::hook::call_type::CallType;
use crate::transport::{self, Lifecycle, Params};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

/// The endpoint.
pub struct Info;

impl Endpoint for Info {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        (path == "/info").then_some(Route { audience: Audience::Monitoring, ..Route::PAGE })
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        ready(Ok(answer(call.context)))
    }
}

/// The facts about this server that clients may know, as JSON.
fn answer(context: &Context) -> Response {
    let state = &context.state;
    let transports = transport::ALL.iter().map(|transport| {
        let lifecycle = transport.lifecycle(&Params::default());
        let mut entry = serde_json::json!({
            "name": transport.name(),
            "lifecycle": lifecycle.as_str(),
            "browser": transport.in_browsers(),
        });
        match lifecycle {
            Lifecycle::Socket => entry["address"] = context.tcp_address.map(|address| address.to_string()).into(),
            _ => entry["path"] = format!("/{}", transport.name()).into(),
        }
        if let Lifecycle::Stream { rollover } = lifecycle {
            entry["rollover"] = rollover.into();
        }
        entry
    });
    let mut info = serde_json::json!({
        "name": "longtail",
        "version": env!("CARGO_PKG_VERSION"),
        "transports": transports.collect::<Vec<_>>(),
        "tls": state.tls.is_some(),
        "tcp": context.tcp_address.map(|address| address.to_string()),
        "presence": false,
        // Whether clients may send events to an application.
        "events": state.hook.as_ref().is_some_and(|hook| hook.takes(CallType::Event)),
        // Whether clients may have sessions, which the application can change.
        "sessions": true,
        "limits": {
            "max_message_bytes": state.settings.max_message,
            "max_channels": state.settings.limits.channels,
            "max_sessions": state.sessions.settings().most,
            "heartbeat_seconds": state.settings.heartbeat.as_secs(),
            "batch_messages": 1000,
            "long_poll_seconds": 55,
        },
    });
    if let Some(presence) = &state.presence {
        let settings = &presence.settings;
        info["presence"] = serde_json::json!({ "members": settings.members, "info_bytes": settings.info_bytes });
    }
    for (name, value) in context.protocols.iter().map(|protocol| protocol.info()) {
        info[name] = value;
    }
    if let Some(demo) = &context.demo {
        info["demo"] = demo.info();
    }
    let mut response = response::json(StatusCode::OK, info.to_string());
    // Users open it in a browser, and some browsers show JSON as a page.
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(response::NOTHING));
    response
}
