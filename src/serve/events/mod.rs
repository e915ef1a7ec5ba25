//! Calls to the application for what clients do: the parser of requests, and the services that call the application and
//! carry out its answers.

pub mod answers;
pub mod append;
pub mod caller;
pub mod connect;
pub mod late_end;
pub mod notifications;
pub mod parse;
pub mod present;
pub mod service;
pub mod to_sessions;
pub mod upkeep;
