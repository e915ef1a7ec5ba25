//! Builds STOMP from its flags.

use crate::config::StompFlags;
use crate::serve::{Protocol, Stomp, StompSettings};

/// STOMP, if there are paths.
pub fn protocol(flags: &StompFlags) -> Option<Box<dyn Protocol>> {
    if flags.stomp.is_empty() {
        return None;
    }
    let settings = StompSettings { paths: flags.stomp.clone(), applications: flags.stomp_app.clone() };
    Some(Box::new(Stomp::new(settings)))
}
