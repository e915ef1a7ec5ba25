//! Sessions: what lives on after a response began, and what it writes.

pub mod batch;
pub mod commands;
pub mod duplex;
pub mod long_poll;
pub mod outlet;
pub mod pump;
pub mod stream;
