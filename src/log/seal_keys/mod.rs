//! The keys of sealed bookmarks, which all nodes of a log share. There are two generations: the present key, and the one
//! before it.

mod memory;

pub use memory::MemorySealKeys;

use super::{BoxFuture, Unreachable};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fmt;
use std::time::Duration;

/// How long a key is the present one. After that, it is the previous one for the same time. A token lives for less than
/// that, so it can be read until its end.
pub const ROTATE: Duration = Duration::from_secs(3600);

/// The length of the id of a key, and of the key itself.
pub const ID_BYTES: usize = 4;
const SECRET_BYTES: usize = 32;

/// The id of a key. It is not a secret.
pub type SealKeyId = [u8; ID_BYTES];

/// A key. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey {
    /// Its id.
    pub id: SealKeyId,
    /// The key itself.
    pub secret: [u8; SECRET_BYTES],
}

impl SealKey {
    /// A new random key; `None` if the system has no random numbers.
    pub fn random() -> Option<SealKey> {
        let mut key = SealKey { id: [0; ID_BYTES], secret: [0; SECRET_BYTES] };
        let random = SystemRandom::new();
        random.fill(&mut key.id).ok()?;
        random.fill(&mut key.secret).ok()?;
        Some(key)
    }

    /// Reads a key that was written by [`SealKey::to_text`].
    pub fn parse(text: &str) -> Option<SealKey> {
        let mut bytes = [0; ID_BYTES + SECRET_BYTES];
        if text.len() != 2 * bytes.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        let (id, secret) = bytes.split_at(ID_BYTES);
        Some(SealKey { id: id.try_into().ok()?, secret: secret.try_into().ok()? })
    }

    /// The key as a text, for the store.
    pub fn to_text(&self) -> String {
        self.id.iter().chain(&self.secret).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a key)")
    }
}

/// The keys of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealKeys {
    /// The present key: new tokens are sealed with it.
    pub present: SealKey,
    /// The one before it.
    pub previous: Option<SealKey>,
}

impl SealKeys {
    /// The key with this id.
    pub fn find(&self, id: SealKeyId) -> Option<&SealKey> {
        [Some(&self.present), self.previous.as_ref()].into_iter().flatten().find(|key| key.id == id)
    }
}

/// Where the nodes of a log find its keys.
pub trait SealKeyStore: Send + Sync {
    /// The keys. If there is no key, or the present one is older than [`ROTATE`], this new key becomes the present one.
    fn keys<'a>(&'a self, new: &'a SealKey) -> BoxFuture<'a, Result<SealKeys, Unreachable>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = SealKey::random().expect("a key");
        let text = key.to_text();
        assert_eq!(SealKey::parse(&text), Some(key.clone()));
        assert!(!format!("{key:?}").contains(&text[8..]));
        for bad in ["", &text[1..], &format!("{text}0"), &text.replace(|_| true, "g"), &"ä".repeat(36)] {
            assert_eq!(SealKey::parse(bad), None);
        }
    }
}
