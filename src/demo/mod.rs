//! The part of `longtail demo` that is not the server: a proxy that injects faults, in front of the server.

pub mod proxy;
