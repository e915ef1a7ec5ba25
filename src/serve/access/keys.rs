//! Server keys. A client that has a server key may do everything.

use hyper::header::HeaderValue;
use subtle::{Choice, ConstantTimeEq};

/// The configured server keys.
#[derive(Default)]
pub struct Keys(Vec<String>);

impl Keys {
    /// Makes a set of keys.
    pub fn new(keys: Vec<String>) -> Keys {
        Keys(keys)
    }

    /// Whether there are any keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a text is one of the keys. The function compares all keys completely, so that its duration does not
    /// reveal which key nearly matched. The duration may reveal the length.
    pub fn has(&self, text: &str) -> bool {
        let found = self.0.iter().fold(Choice::from(0), |found, key| found | key.as_bytes().ct_eq(text.as_bytes()));
        found.into()
    }
}

/// The token after `Bearer` (RFC 6750 §2.1).
pub fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, rest) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_itself_and_nothing_near() {
        let keys = Keys::new(vec!["first-key".into(), "second".into()]);
        assert!(keys.has("first-key") && keys.has("second"));
        for near in ["", "first-ke", "first-keyy", "First-key", "first-kez", "second\0", "first-key second"] {
            assert!(!keys.has(near), "{near:?}");
        }
        assert!(!Keys::default().has(""));
    }

    #[test]
    fn bearers() {
        let of = |text: &'static str| bearer(&HeaderValue::from_static(text)).map(str::to_owned);
        assert_eq!(of("Bearer a.b.c").as_deref(), Some("a.b.c"));
        assert_eq!(of("bEARER  a ").as_deref(), Some("a"));
        for other in ["Bearer", "Basic a", "a", "", "Bearera"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
