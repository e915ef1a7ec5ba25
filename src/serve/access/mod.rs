//! Access control: credentials, origins, trusted proxies, and the authorizer.

pub mod allowed_origins;
pub mod authorizer;
pub mod cookies;
pub mod credentials;
pub mod fetch_metadata;
pub mod forwarded;
pub mod keys;
pub mod origin;
pub mod query;
pub mod renewal;
pub mod secret_file;
pub mod signature;
pub mod tokens;
pub mod webhook;
