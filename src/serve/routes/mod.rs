//! The paths of the server, and what answers them.

pub mod assets;
pub mod channels;
#[cfg_attr(not(feature = "demo"), path = "no_demo.rs")]
pub mod demo;
pub mod diagnose;
pub mod publish;
pub mod response;
pub mod router;
pub mod subscribe;
