//! A sealed token: the state of a session, which the client brings with each request and cannot read or change.
//!
//! It is the base64url text of `version ‖ id of the key ‖ nonce ‖ AES-256-GCM(issue ‖ life ‖ state)`. The version and the
//! id of the key are authenticated, too. Times are those of the log's clock.

use super::compact::{self, Input};
use super::state::SessionState;
use crate::log::seal_keys::{ID_BYTES, SealKey, SealKeyId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::time::Duration;

/// The longest token, in characters. Longer ones would not fit into the line of a request at every proxy.
pub const MAX_CHARACTERS: usize = 1200;

/// What is in a token. It is the token's first byte, which is authenticated, so a token of one kind is never read as one of
/// another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// The state of a session.
    Session = 1,
    /// A connection of a protocol, with its sessions.
    Connection = 2,
}

/// The bytes before the sealed part.
const HEAD: usize = 1 + ID_BYTES + NONCE_LEN;

/// Why a token is not honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// It does not have the form of a token.
    Malformed,
    /// It is sealed with a key that this node does not have.
    UnknownKey,
    /// It was changed, or nobody has sealed it.
    Forged,
    /// Its time is over.
    Expired,
}

impl BadToken {
    /// The word by which it is counted.
    pub fn reason(self) -> &'static str {
        match self {
            BadToken::Malformed => "malformed",
            BadToken::UnknownKey => "unknown_key",
            BadToken::Forged => "forged",
            BadToken::Expired => "expired",
        }
    }
}

/// Seals a state. `life`: how long the token is good. `None` if the token would be too long, or if the system has no
/// random numbers.
pub fn seal(key: &SealKey, state: &SessionState, now_ms: u64, life: Duration) -> Option<String> {
    let mut plain = Vec::with_capacity(300);
    compact::number(&mut plain, now_ms);
    compact::number(&mut plain, u64::try_from(life.as_millis()).ok()?);
    compact::write(state, &mut plain)?;
    seal_bytes(key, TokenKind::Session, plain)
}

/// Seals bytes. `None` if the token would be too long, or if the system has no random numbers.
pub fn seal_bytes(key: &SealKey, kind: TokenKind, plain: Vec<u8>) -> Option<String> {
    let mut sealed = plain;
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).ok()?;
    let head = [&[kind as u8][..], &key.id].concat();
    let cipher = cipher(key)?;
    cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&head), &mut sealed).ok()?;
    let token = URL_SAFE_NO_PAD.encode([&head[..], &nonce, &sealed].concat());
    (token.len() <= MAX_CHARACTERS).then_some(token)
}

/// The id of the key of a token.
///
/// # Errors
///
/// `Malformed`.
pub fn key_id(kind: TokenKind, token: &str) -> Result<SealKeyId, BadToken> {
    let bytes = decode(kind, token)?;
    bytes[1..=ID_BYTES].try_into().map_err(|_| BadToken::Malformed)
}

/// Opens a token. Returns the state, and how long its tokens are good.
///
/// # Errors
///
/// The token is not honoured.
pub fn open(key: &SealKey, token: &str, now_ms: u64) -> Result<(SessionState, Duration), BadToken> {
    let plain = open_bytes(key, TokenKind::Session, token)?;
    let mut input = Input(&plain);
    let times = input.number().zip(input.number()).ok_or(BadToken::Malformed)?;
    let state = compact::read(input.0).ok_or(BadToken::Malformed)?;
    let (issued_ms, life_ms) = times;
    if now_ms >= issued_ms.saturating_add(life_ms) {
        return Err(BadToken::Expired);
    }
    Ok((state, Duration::from_millis(life_ms)))
}

/// Opens a token of a kind, whatever time it is.
///
/// # Errors
///
/// The token is not honoured.
pub fn open_bytes(key: &SealKey, kind: TokenKind, token: &str) -> Result<Vec<u8>, BadToken> {
    let mut bytes = decode(kind, token)?;
    let (head, sealed) = bytes.split_at_mut(HEAD);
    let (head, nonce) = head.split_at(1 + ID_BYTES);
    if head[1..] != key.id {
        return Err(BadToken::UnknownKey);
    }
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| BadToken::Malformed)?;
    let cipher = cipher(key).ok_or(BadToken::Malformed)?;
    let plain = cipher.open_in_place(nonce, Aad::from(head), sealed).map_err(|_| BadToken::Forged)?;
    Ok(plain.to_vec())
}

fn decode(kind: TokenKind, token: &str) -> Result<Vec<u8>, BadToken> {
    if token.len() > MAX_CHARACTERS {
        return Err(BadToken::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| BadToken::Malformed)?;
    let is_sound = bytes.len() >= HEAD + AES_256_GCM.tag_len() && bytes[0] == kind as u8;
    if is_sound { Ok(bytes) } else { Err(BadToken::Malformed) }
}

fn cipher(key: &SealKey) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, &key.secret).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::super::compact::tests::state;
    use super::*;
    use proptest::prelude::*;

    const LIFE: Duration = Duration::from_secs(45);
    const NOW: u64 = 1_700_000_000_000;

    proptest! {
        #[test]
        fn a_token_opens_with_its_key_until_its_end(state in state()) {
            let (key, other) = (SealKey::random().expect("a key"), SealKey::random().expect("a key"));
            let Some(token) = seal(&key, &state, NOW, LIFE) else { return Ok(()) };
            let end = NOW + LIFE.as_millis() as u64;
            for now in [NOW - 5, NOW, end - 1] {
                prop_assert_eq!(open(&key, &token, now), Ok((state.clone(), LIFE)));
            }
            prop_assert_eq!(open(&key, &token, end), Err(BadToken::Expired));
            prop_assert_eq!(key_id(TokenKind::Session, &token), Ok(key.id));
            prop_assert_eq!(key_id(TokenKind::Connection, &token), Err(BadToken::Malformed));
            prop_assert_eq!(open(&other, &token, NOW), Err(BadToken::UnknownKey));
            let same_id = SealKey { id: key.id, ..other };
            prop_assert_eq!(open(&same_id, &token, NOW), Err(BadToken::Forged));
            prop_assert_ne!(seal(&key, &state, NOW, LIFE), Some(token), "each token has a nonce of its own");
        }

        #[test]
        fn a_changed_token_does_not_open(state in state(), at in any::<usize>(), with in 1..=255u8) {
            let key = SealKey::random().expect("a key");
            let Some(token) = seal(&key, &state, NOW, LIFE) else { return Ok(()) };
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64");
            let at = at % bytes.len();
            bytes[at] ^= with;
            let changed = URL_SAFE_NO_PAD.encode(&bytes);
            let error = match at {
                0 => BadToken::Malformed,
                1..=ID_BYTES => BadToken::UnknownKey,
                _ => BadToken::Forged,
            };
            prop_assert_eq!(open(&key, &changed, NOW), Err(error));
            prop_assert!(open(&key, &URL_SAFE_NO_PAD.encode(&bytes[..at]), NOW).is_err());
        }

        #[test]
        fn any_text_is_refused(text in "\\PC{0,80}") {
            let key = SealKey::random().expect("a key");
            prop_assert_eq!(open(&key, &text, NOW), Err(BadToken::Malformed));
        }
    }

    #[test]
    fn a_token_has_a_longest_form() {
        let key = SealKey::random().expect("a key");
        let client = "me".parse().expect("a client id");
        let id = super::super::id::SessionId::random().expect("an id");
        let cursor = "1700000000000-0.abc".parse().expect("a cursor");
        let mut state = SessionState::new(id, "socket.io", "/", client, cursor);
        let mut lengths = Vec::new();
        for n in 0..100 {
            let Some(token) = seal(&key, &state, NOW, LIFE) else { break };
            lengths.push(token.len());
            state.name(&[format!("room/{n:03}").parse().expect("a channel")]).expect("room");
        }
        let (first, last) = (lengths[0], lengths[lengths.len() - 1]);
        assert!(first < 140 && last > MAX_CHARACTERS - 20 && last <= MAX_CHARACTERS, "{lengths:?}");
        assert_eq!(open(&key, &"A".repeat(MAX_CHARACTERS + 1), NOW), Err(BadToken::Malformed));
    }
}
