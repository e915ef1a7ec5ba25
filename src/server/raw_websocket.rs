//! Builds plain WebSocket from its flags.

use super::bad_flag;
use crate::config::{BadConfig, Config, OnMessage, PagePath};
use crate::serve::{self, AllowedOrigins, Context, Protocol, RawWebSocket, RawWebSocketPage};
use crate::transport::page;

/// The paths of the flags.
///
/// # Errors
///
/// A page cannot have one of the origins.
pub fn pages(config: &Config) -> Result<Vec<RawWebSocketPage>, BadConfig> {
    config.raw_websocket.raw_websocket.iter().map(page).collect()
}

fn page(flag: &PagePath) -> Result<RawWebSocketPage, BadConfig> {
    let origins = flag.origins.as_ref().map(|origins| {
        let bad = |(value, rule): (&str, &'static str)| {
            bad_flag(&format!("--raw-websocket {}: origins={value}", flag.path), &rule)
        };
        AllowedOrigins::parse(origins).map_err(bad)
    });
    Ok(RawWebSocketPage {
        path: flag.path.clone(),
        channels: flag.channels.clone(),
        on_message: on_message(flag.on_message),
        closes: flag.closes.clone(),
        origins: origins.transpose()?,
        last: flag.last,
    })
}

/// What a text does that a page sends.
pub fn on_message(flag: OnMessage) -> page::OnMessage {
    match flag {
        OnMessage::Publish => page::OnMessage::Publish,
        OnMessage::Broadcast => page::OnMessage::Broadcast,
        OnMessage::Echo => page::OnMessage::Echo,
        OnMessage::Hook => page::OnMessage::Hook,
        OnMessage::Ignore => page::OnMessage::Ignore,
    }
}

/// Plain WebSocket, if there are paths.
pub fn protocol(pages: Vec<RawWebSocketPage>) -> Option<Box<dyn Protocol>> {
    (!pages.is_empty()).then(|| Box::new(RawWebSocket::new(pages)) as Box<dyn Protocol>)
}

/// Checks that the paths of the flags do not belong to the server itself or to another protocol.
///
/// # Errors
///
/// The first path that does.
pub fn check_paths(config: &Config, context: &Context) -> Result<(), BadConfig> {
    let pages = config.raw_websocket.raw_websocket.iter().map(|page| ("--raw-websocket", &page.path));
    for (flag, path) in pages.chain(config.stomp.stomp.iter().map(|path| ("--stomp", path))) {
        if serve::is_taken(context, &path.replace("{channel}", "channel")) {
            let rule = "the server has this path for something else: use another one";
            return Err(bad_flag(&format!("{flag} {path}"), &rule));
        }
    }
    Ok(())
}
