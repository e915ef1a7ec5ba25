//! Events of clients: the parser of requests, and the service that calls the application and carries out its answer.

pub mod parse;
pub mod service;
