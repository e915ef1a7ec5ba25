//! The id of a session.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fmt;
use std::sync::Arc;

/// The random bytes of an id: 160 bits, so that nobody can guess one.
pub const BYTES: usize = 20;

/// The length of an id as text.
const LENGTH: usize = 27;

/// The id of a session. It is a secret: a client that knows it acts as the session. So it has no `Display`, and `Debug`
/// does not show it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// A new random id; `None` if the system has no random numbers.
    pub fn random() -> Option<SessionId> {
        let mut bytes = [0; BYTES];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(SessionId(URL_SAFE_NO_PAD.encode(bytes).into()))
    }

    /// Derives another id from this id and a text. A client cannot guess the result without this id.
    pub fn derived(&self, text: &str) -> SessionId {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes()), text.as_bytes());
        SessionId(URL_SAFE_NO_PAD.encode(&tag.as_ref()[..BYTES]).into())
    }

    /// Reads an id. Any other text cannot be an id, so nobody is asked about it.
    pub fn parse(text: &str) -> Option<SessionId> {
        let is_sound = text.len() == LENGTH && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        is_sound.then(|| SessionId(text.into()))
    }

    /// The bytes of the id.
    pub fn to_bytes(&self) -> Option<[u8; BYTES]> {
        URL_SAFE_NO_PAD.decode(self.0.as_bytes()).ok()?.try_into().ok()
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: &[u8; BYTES]) -> SessionId {
        SessionId(URL_SAFE_NO_PAD.encode(bytes).into())
    }

    /// The id as text, for the client itself, the application and the store.
    pub fn secret(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a session)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_follow_from_another_one() {
        let id = SessionId::random().expect("an id");
        let derived = id.derived("a");
        assert_eq!((SessionId::parse(derived.secret()), id.derived("a")), (Some(derived.clone()), derived.clone()));
        assert_ne!(id.derived("b"), derived);
        assert_ne!(SessionId::random().expect("an id").derived("a"), derived);
    }

    #[test]
    fn ids_are_random_and_have_one_form() {
        let id = SessionId::random().expect("an id");
        assert_eq!(SessionId::parse(id.secret()), Some(id.clone()));
        assert_ne!(SessionId::random().expect("an id"), id);
        assert!(!format!("{id:?}").contains(&**id.secret()));
        for bad in ["", "1", &"a".repeat(26), &"a".repeat(28), &"ä".repeat(27), &format!("{}/", "a".repeat(26))] {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
    }
}
