//! The part of `longtail demo` that is not the server: a proxy in front of the server that injects faults.

pub mod proxy;
