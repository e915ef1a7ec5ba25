//! Publishing: the parser of published messages, and the service that appends them.

pub mod parse;
pub mod service;
