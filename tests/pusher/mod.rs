//! Pusher clients and server SDKs, by frames and requests as they send them.

mod channels;
mod connections;
mod native;
mod presence;
mod rest;
