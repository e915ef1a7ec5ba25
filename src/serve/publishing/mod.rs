//! Publishing: parsing of what is published, and the service that appends it.

pub mod parse;
pub mod queued;
pub mod service;
