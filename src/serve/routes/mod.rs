//! The native endpoints: one for each subtree of paths, and the code that they share.

pub mod assets;
pub mod channels;
pub mod closed_socket;
pub mod context;
#[cfg(feature = "demo")]
pub mod demo;
#[cfg_attr(not(feature = "demo"), path = "no_demo.rs")]
pub mod demo_state;
pub mod diagnose;
pub mod endpoint;
pub mod etag;
pub mod event;
pub mod health;
pub mod info;
pub mod members;
pub mod metrics;
pub mod operators;
pub mod page_headers;
pub mod poll;
pub mod post;
pub mod protocol;
pub mod protocols;
pub mod publish;
pub mod redirect;
pub mod response;
pub mod route;
pub mod session_poll;
pub mod sessions;
pub mod subscribe;
pub mod transports;
