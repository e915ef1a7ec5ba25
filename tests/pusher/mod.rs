//! Pusher clients and server SDKs, by frames and requests as they send them.

mod channels;
mod connections;
mod faults;
mod native;
mod php;
mod presence;
mod rest;
mod webhooks;
