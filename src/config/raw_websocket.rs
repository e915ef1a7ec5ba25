//! The flags of plain WebSocket pages.

use super::error::BadConfig;
use super::page_path::{OnMessage, PagePath};
use clap::{ArgAction, Args};
use std::collections::HashSet;

/// The flags of plain WebSocket pages.
#[derive(Args, Clone, Debug)]
pub struct RawWebSocketFlags {
    /// A path for pages with a plain WebSocket, such as pages for Ratchet or Wrench, and the channels that they read:
    /// '/chat=chat on-message=broadcast', or '/room/{channel}=room-{channel}'. Options: on-message=publish, broadcast
    /// (to all except the sender), echo, hook (to the application) or ignore; last=N (newest messages for a new
    /// client); origins=ORIGIN,…; on-open=close:CODE:REASON. Repeatable; in the environment, one per line
    #[arg(long, env = "LONGTAIL_RAW_WEBSOCKET", value_name = "SPEC", help_heading = "Plain WebSocket")]
    #[arg(value_delimiter = '\n', value_parser = PagePath::parse, action = ArgAction::Append)]
    pub raw_websocket: Vec<PagePath>,

    /// Lets browsers of 2010 and 2011 (Safari 5, PhantomJS 1.9) use a WebSocket at /ws and at the paths of
    /// --raw-websocket. Their frames do not have a mask: a script can make them look like HTTP to a proxy that does not know
    /// this old handshake. Leave it off unless you have such clients
    #[arg(long, env = "LONGTAIL_WEBSOCKET_HIXIE", help_heading = "Plain WebSocket")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub websocket_hixie: bool,
}

impl RawWebSocketFlags {
    /// Checks rules that involve more than one flag.
    pub(super) fn check(&self, has_hook: bool) -> Result<(), BadConfig> {
        let mut paths = HashSet::new();
        for page in &self.raw_websocket {
            if !paths.insert(&page.path) {
                return Err(BadConfig::new(format!("--raw-websocket has the path {} twice: use it once", page.path)));
            }
            if page.on_message == OnMessage::Hook && !has_hook {
                return Err(BadConfig::new(format!(
                    "--raw-websocket {}: on-message=hook needs an application: set --hook-url or --hook-stream",
                    page.path
                )));
            }
        }
        Ok(())
    }
}
