//! The paths of the server, and what answers them.

pub mod assets;
pub mod channels;
pub mod demo;
pub mod diagnose;
pub mod publish;
pub mod response;
pub mod router;
pub mod subscribe;
