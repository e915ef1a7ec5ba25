//! Who may do what: credentials, origins, trusted proxies, and what the authorizer decides of them.

pub mod authorizer;
pub mod credentials;
pub mod forwarded;
pub mod keys;
pub mod origin;
pub mod renewal;
pub mod signature;
pub mod tokens;
pub mod webhook;
