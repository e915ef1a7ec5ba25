//! The routes: what answers each path.

pub mod assets;
pub mod channels;
pub mod context;
#[cfg_attr(not(feature = "demo"), path = "no_demo.rs")]
pub mod demo;
pub mod diagnose;
pub mod etag;
pub mod health;
pub mod info;
pub mod metrics;
pub mod operators;
pub mod poll;
pub mod publish;
pub mod redirect;
pub mod response;
pub mod router;
pub mod subscribe;
