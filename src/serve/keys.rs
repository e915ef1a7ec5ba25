//! Server keys: who has one may do everything.

use hyper::header::HeaderValue;
use subtle::{Choice, ConstantTimeEq};

/// The keys there are.
#[derive(Default)]
pub struct Keys(Vec<String>);

impl Keys {
    /// These.
    pub fn new(keys: Vec<String>) -> Keys {
        Keys(keys)
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a text is one. It takes as long whichever it is not: all are compared, each to its end. The
    /// length may show.
    pub fn has(&self, text: &str) -> bool {
        let found = self.0.iter().fold(Choice::from(0), |found, key| found | key.as_bytes().ct_eq(text.as_bytes()));
        found.into()
    }
}

/// What stands behind `Bearer` (RFC 6750 §2.1).
pub fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, rest) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}
