//! The flags of STOMP.

use super::error::BadConfig;
use clap::{ArgAction, Args};
use std::collections::HashSet;

/// The flags of STOMP.
#[derive(Args, Clone, Debug)]
pub struct StompFlags {
    /// A path at which pages use STOMP over WebSocket, such as pages of Spring with @stomp/stompjs. A destination is a
    /// channel. Repeatable
    #[arg(long, env = "LONGTAIL_STOMP", value_name = "PATH", help_heading = "STOMP")]
    #[arg(value_delimiter = ' ', value_parser = path, action = ArgAction::Append)]
    pub stomp: Vec<String>,

    /// The beginning of destinations whose messages go to the application of --hook-url, as events with the name of the
    /// destination: /app/ in most pages of Spring. Repeatable
    #[arg(long, env = "LONGTAIL_STOMP_APP", value_name = "PREFIX", help_heading = "STOMP")]
    #[arg(value_delimiter = ' ', value_parser = prefix, action = ArgAction::Append)]
    pub stomp_app: Vec<String>,
}

fn path(text: &str) -> Result<String, String> {
    let is_path = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\{}".contains(&byte);
    if text.starts_with('/') && text.bytes().all(is_path) {
        return Ok(text.to_owned());
    }
    Err("use a path such as /stomp, without ? and #".into())
}

fn prefix(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("name the beginning of the destinations, such as /app/".into()) } else { Ok(text.into()) }
}

impl StompFlags {
    /// Checks rules that involve more than one flag.
    pub(super) fn check(&self, has_hook: bool) -> Result<(), BadConfig> {
        let mut paths = HashSet::new();
        if let Some(path) = self.stomp.iter().find(|path| !paths.insert(*path)) {
            return Err(BadConfig::new(format!("--stomp has the path {path} twice: use it once")));
        }
        if !self.stomp_app.is_empty() && !has_hook {
            return Err(BadConfig::new("--stomp-app needs an application: set --hook-url or --hook-stream".into()));
        }
        if !self.stomp_app.is_empty() && self.stomp.is_empty() {
            return Err(BadConfig::new("--stomp-app needs --stomp: name the path of the pages".into()));
        }
        Ok(())
    }
}
