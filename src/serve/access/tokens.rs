//! Tokens: JSON Web Tokens (RFC 7519) that contain permissions to read and publish channels, with an expiry time.

use super::query::Action;
use super::signature;
use crate::message::{Channel, ClientId, Pattern, User, unmatched};
use crate::transport::{ApiError, Code};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The maximum number of bytes of a token. The server refuses a longer token without parsing it.
const TOKEN_BYTES: usize = 8 << 10;

/// The maximum number of bytes of `sub`, which becomes part of the scope of idempotency keys.
const SUBJECT_BYTES: usize = 200;

/// The latest `exp` that counts, because timers cannot be set to a later time.
const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Verifies tokens.
pub struct Tokens {
    key: DecodingKey,
    validation: Validation,
}

/// The reason why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// The secret is empty.
    #[error("the secret is empty; `openssl rand -hex 32` makes one")]
    Empty,
    /// The file contains a private key.
    #[error("this is a private key: the server needs the public key (`openssl pkey -pubout` writes it)")]
    Private,
    /// The file does not contain a usable key.
    #[error("use a PEM file with one public key: RSA of at least 2048 bits, P-256 or Ed25519")]
    Unknown,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    client: Option<String>,
    #[serde(default)]
    info: Option<Box<RawValue>>,
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
    /// The audience is a text or a list of texts (RFC 7519 §4.1.3), but some issuers write the number of an
    /// application.
    #[serde(default)]
    aud: Option<Value>,
}

impl Claims {
    /// Whether the token names an audience. This server does not have a name, so a token with an audience is not meant
    /// for it.
    fn has_audience(&self) -> bool {
        self.aud.as_ref().is_some_and(|aud| aud.as_array().is_none_or(|names| !names.is_empty()))
    }
}

/// The permissions of a valid token.
pub struct Permission {
    /// The time at which the permissions end.
    pub until: Instant,
    /// The `sub`.
    pub subject: Option<String>,
    /// The client id that the token is bound to.
    pub client: Option<ClientId>,
    info: Option<Box<RawValue>>,
    subscribe: Vec<Pattern>,
    publish: Vec<Pattern>,
}

impl Tokens {
    /// A verifier of tokens that are signed with a shared secret: HS256.
    ///
    /// # Errors
    ///
    /// The secret is empty.
    pub fn by_secret(secret: &[u8]) -> Result<Tokens, BadKey> {
        if secret.is_empty() {
            return Err(BadKey::Empty);
        }
        Ok(Tokens::new(DecodingKey::from_secret(secret), Algorithm::HS256))
    }

    /// A verifier of tokens that are signed with the private half of this PEM key. The kind of key selects RS256, ES256
    /// or EdDSA.
    ///
    /// # Errors
    ///
    /// The key has another kind, or cannot be parsed.
    pub fn by_public_key(pem: &[u8]) -> Result<Tokens, BadKey> {
        if pem.windows(11).any(|part| part == b"PRIVATE KEY") {
            return Err(BadKey::Private);
        }
        // If ring would refuse a key's length for each token, the server refuses the key at start.
        let fits = |key: &DecodingKey, least: usize, most: usize| {
            key.try_get_as_bytes().is_ok_and(|bytes| (least..=most).contains(&bytes.len()))
        };
        if let Ok(key) = DecodingKey::from_rsa_pem(pem)
            && fits(&key, 256, 2048)
        {
            return Ok(Tokens::new(key, Algorithm::RS256));
        }
        if let Ok(key) = DecodingKey::from_ec_pem(pem)
            && fits(&key, 65, 65)
        {
            return Ok(Tokens::new(key, Algorithm::ES256));
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem)
            && fits(&key, 32, 32)
        {
            return Ok(Tokens::new(key, Algorithm::EdDSA));
        }
        Err(BadKey::Unknown)
    }

    fn new(key: DecodingKey, algorithm: Algorithm) -> Tokens {
        signature::install();
        // The verifier accepts only the key's algorithm, even if a token names another one.
        let mut validation = Validation::new(algorithm);
        // The verifier does not allow any leeway, because a stream ends exactly at `exp`.
        validation.leeway = 0;
        validation.validate_nbf = true;
        // `jsonwebtoken` skips an audience that is a number. `Claims::has_audience` does not skip it.
        validation.validate_aud = false;
        Tokens { key, validation }
    }

    /// The permissions of a token.
    ///
    /// # Errors
    ///
    /// `unauthorized`: the signature is wrong, or the token has expired or is not valid yet. The error's text never
    /// repeats the token.
    pub fn read(&self, token: &str) -> Result<Permission, ApiError> {
        let bad = |text: &str| ApiError::new(Code::Unauthorized, text);
        let invalid = || bad("the token is not valid");
        if token.len() > TOKEN_BYTES {
            return Err(bad("the token is too long"));
        }
        // The token demands that the server supports an extension, and this server does not support any (RFC 7515
        // §4.1.11).
        if jsonwebtoken::decode_header(token).is_ok_and(|header| header.crit.is_some()) {
            return Err(invalid());
        }
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation);
        let claims = decoded.map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => bad("the token has expired"),
            ErrorKind::ImmatureSignature => bad("the token is not valid yet"),
            _ => invalid(),
        })?;
        let claims = claims.claims;
        if claims.has_audience() {
            return Err(bad("the token is meant for another server (aud)"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = |time: f64| {
            Duration::try_from_secs_f64(time).unwrap_or(if time > 0.0 { Duration::MAX } else { Duration::ZERO })
        };
        let left = seconds(claims.exp).saturating_sub(now).min(FAR);
        if left.is_zero() {
            return Err(bad("the token has expired"));
        }
        if claims.nbf.is_some_and(|nbf| seconds(nbf) > now) {
            return Err(bad("the token is not valid yet"));
        }
        if claims.sub.as_ref().is_some_and(|sub| sub.len() > SUBJECT_BYTES) {
            return Err(bad("the token's sub is too long"));
        }
        let client = claims.client.map(|client| client.parse()).transpose().map_err(|_| invalid())?;
        let patterns = |names: &[String]| names.iter().map(|name| Pattern::new(name)).collect();
        Ok(Permission {
            until: Instant::now() + left,
            subject: claims.sub,
            client,
            info: claims.info,
            subscribe: patterns(&claims.subscribe),
            publish: patterns(&claims.publish),
        })
    }
}

impl Permission {
    /// The user that the token names: its `sub`, with its claim `info`.
    pub fn user(&self) -> Option<Arc<User>> {
        let info = self.info.as_deref().map(RawValue::get);
        User::new(self.subject.as_deref()?, info).ok().map(Arc::new)
    }

    /// The channels that the token does not allow. `spelled`: see [`unmatched`].
    pub fn denied<'a>(&self, action: Action, spelled: &[String], channels: &'a [Channel]) -> Vec<&'a Channel> {
        let patterns = match action {
            Action::Subscribe => &self.subscribe,
            Action::Publish => &self.publish,
        };
        unmatched(patterns, spelled, channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use ring::hmac;

    fn signed(header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    proptest! {
        #[test]
        fn nothing_without_a_signature_is_taken(header in "[ -~]{0,40}", claims in "[ -~]{0,80}", tag: Vec<u8>, text: String) {
            let tokens = Tokens::by_secret(b"secret").expect("a secret");
            let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
            prop_assert!(tokens.read(&forged).is_err());
            prop_assert!(tokens.read(&text).is_err());
        }

        #[test]
        fn any_claims_are_read_or_refused(claims in "\\{\"exp\":[0-9e.+-]{1,12}(,\"(nbf|sub|client|subscribe|publish|aud)\":[0-9\\[\\]\"a*]{1,9}){0,3}\\}") {
            let tokens = Tokens::by_secret(b"secret").expect("a secret");
            match tokens.read(&signed("{\"alg\":\"HS256\"}", &claims)) {
                Ok(permission) => prop_assert!(permission.until > Instant::now()),
                Err(refusal) => prop_assert_eq!(refusal.code, Code::Unauthorized),
            }
        }
    }

    #[test]
    fn an_audience_of_any_kind_counts() {
        let tokens = Tokens::by_secret(b"secret").expect("a secret");
        let read = |aud: &str| {
            let claims = format!("{{\"exp\":9999999999,\"subscribe\":[\"a\"],\"aud\":{aud}}}");
            tokens.read(&signed("{\"alg\":\"HS256\"}", &claims)).map(|_| ()).map_err(|refusal| refusal.message)
        };
        for aud in [
            "5",
            "0",
            "5.5",
            "\"another\"",
            "\"\"",
            "[\"another\"]",
            "[5]",
            "[null]",
            "true",
            "false",
            "{}",
            "{\"a\":1}",
        ] {
            assert!(read(aud).is_err_and(|text| text.contains("(aud)")), "{aud}");
        }
        for nobody in ["null", "[]"] {
            assert_eq!(read(nobody), Ok(()), "{nobody}");
        }
    }

    #[test]
    fn the_subject_is_the_user() {
        let tokens = Tokens::by_secret(b"secret").expect("a secret");
        let read = |claims: &str| {
            let claims = format!("{{\"exp\":9999999999{claims}}}");
            let permission = tokens.read(&signed("{\"alg\":\"HS256\"}", &claims)).ok()?;
            Some(permission.user().map(|user| user.data().to_owned()))
        };
        for (claims, user) in [
            ("", None),
            (r#","info":{}"#, None),
            (r#","sub":"","info":{}"#, None),
            (r#","sub":"7""#, Some(r#"{"id":"7","info":null}"#)),
            (r#","sub":"7","info":{"n": 1e400}"#, Some(r#"{"id":"7","info":{"n": 1e400}}"#)),
        ] {
            assert_eq!(read(claims).flatten().as_deref(), user, "{claims}");
        }
    }

    #[test]
    fn a_claim_that_stands_twice_is_none() {
        let tokens = Tokens::by_secret(b"secret").expect("a secret");
        let read = |claims: &str| tokens.read(&signed("{\"alg\":\"HS256\"}", claims)).is_ok();
        assert!(read(r#"{"exp":9999999999,"subscribe":["a"]}"#));
        assert!(!read(r#"{"exp":1,"exp":9999999999,"subscribe":["a"]}"#));
        assert!(!read(r#"{"exp":9999999999,"subscribe":["a"],"subscribe":["*"]}"#));
    }
}
