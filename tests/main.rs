//! The integration tests, all in one program: shared code is compiled and linked once, and tests of different files
//! run side by side.
//!
//! A file is a module here, so `cargo test --test integration redis_ha::` runs the tests of `redis_ha.rs`. A test that
//! reads or changes the state of the whole process (descriptors, environment, limits) cannot share the process: it has
//! a program of its own, named in `Cargo.toml`, such as `embedded.rs`.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "rules of the server: a test may block its thread"
)]

#[macro_use]
mod support;

mod access;
mod access_log;
mod attacks;
mod authorize;
mod authorize_trouble;
mod balanced;
mod bounds;
mod bridge;
mod bridge_takeover;
mod cli;
mod contract;
mod counts;
#[cfg(feature = "demo")]
mod demo;
mod deployments;
mod descriptors;
mod diagnose;
mod direct;
mod docs;
mod drain;
mod drain_halves;
mod duplex;
mod fault_table;
mod faults;
mod healthcheck;
mod held_input;
mod hook;
mod hook_stream;
mod hop;
mod http1;
mod http2;
mod http2_content;
mod hub;
mod idempotency;
mod imports;
mod limits;
mod lineage;
mod log_conformance;
mod log_lines;
mod metrics;
mod mistakes;
mod notifications;
mod open_mode;
mod openapi;
mod parsers;
mod php;
mod php_application;
mod plain;
mod polls;
mod presence;
mod proxies;
mod publish;
mod pusher;
mod raw_websocket;
mod reactor;
mod redis_access;
mod redis_functions;
mod redis_ha;
mod redis_ingest;
mod redis_keys;
mod redis_own;
mod redis_peers;
mod redis_trouble;
mod service;
mod sessions;
mod several_channels;
mod slow_readers;
mod smuggling;
mod soak;
mod socketio;
mod sockjs;
mod sse;
mod start;
mod stomp;
mod tls;
mod tokens;
mod websocket;
mod websocket_old;
