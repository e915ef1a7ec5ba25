//! The application over HTTP: the client that sends requests to it, and the problems with its answers. The webhook of
//! access control and the hook use them.

pub mod change_log;
pub mod client;
pub mod problem;
