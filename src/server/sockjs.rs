//! Builds the protocol SockJS from its flag.

use super::bad_flag;
use super::raw_websocket::on_message;
use crate::config::{BadConfig, Config, PagePath};
use crate::log::connections::ConnectionStore;
use crate::message::Channel;
use crate::serve::{AllowedOrigins, Origins, Protocol, SockJs, SockJsClose, SockJsPrefix, SockJsSettings};
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// The prefixes of the flag.
///
/// # Errors
///
/// A page cannot have one of the origins.
pub fn prefixes(config: &Config) -> Result<Vec<SockJsPrefix>, BadConfig> {
    let prefix = |flag: &crate::config::SockJsPrefix| {
        let page = &flag.page;
        let mut channels: Vec<Channel> = Vec::new();
        // The parser has checked the names.
        for channel in page.channels.iter().filter_map(|name| name.parse().ok()) {
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        Ok(SockJsPrefix {
            path: page.path.clone(),
            channels,
            on_message: on_message(page.on_message),
            on_open: page.closes.clone().map(|(code, reason)| SockJsClose { code, reason }),
            origins: origins(page)?,
            websocket: flag.websocket,
            cookie: flag.cookie,
            response_limit: flag.response_limit,
            library: flag.library.clone(),
            last: page.last,
        })
    };
    config.sockjs.sockjs.iter().map(prefix).collect()
}

fn origins(page: &PagePath) -> Result<Origins, BadConfig> {
    let Some(values) = &page.origins else { return Ok(Origins::Known) };
    let allowed = AllowedOrigins::parse(values)
        .map_err(|(value, rule)| bad_flag(&format!("--sockjs {}: origins={value}", page.path), &rule))?;
    // Routes are values that are copied for each request. The lists of a server are few.
    Ok(if allowed.has_star() { Origins::Any } else { Origins::Listed(Box::leak(Box::new(allowed))) })
}

/// SockJS, if there are prefixes.
pub fn protocol(
    config: &Config,
    prefixes: Vec<SockJsPrefix>,
    store: Arc<dyn ConnectionStore>,
    metrics: &mut Registry,
) -> Option<Box<dyn Protocol>> {
    if prefixes.is_empty() {
        return None;
    }
    let settings = SockJsSettings { prefixes, most: config.max_sessions as usize };
    Some(Box::new(SockJs::new(settings, store, metrics)))
}
