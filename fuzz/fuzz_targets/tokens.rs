//! A token is accepted only if it was signed with the key and the key's algorithm. An accepted token allows what it
//! says, until the time that it says.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use longtail::internals::message::Channel;
use longtail::internals::serve::Tokens;
use longtail::internals::serve::fuzzing::Action;
use ring::hmac;
use serde_json::Value;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

const SECRET: &[u8] = b"5c1f0f7d9b2e4a6880d3c9e1b7a2f4d6";

/// Its private half was thrown away.
const PUBLIC: &[u8] = b"-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAytWnBruW/YDzkqZp6305nKpWkj/AOUJ1qqxJWr3YM8M=
-----END PUBLIC KEY-----
";

static BY_SECRET: LazyLock<Tokens> = LazyLock::new(|| Tokens::by_secret(SECRET).expect("a secret"));
static BY_KEY: LazyLock<Tokens> = LazyLock::new(|| Tokens::by_public_key(PUBLIC).expect("a key"));

fn signed(secret: &[u8], header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

// The first two bytes say which of an accepted token's bytes is changed; then a line with the header, one with the
// claims, and what is tried as a signature.
fuzz_target!(|input: &[u8]| {
    let [at, with, rest @ ..] = input else { return };
    if let Ok(text) = std::str::from_utf8(rest) {
        assert!(BY_SECRET.read(text).is_err() && BY_KEY.read(text).is_err());
    }
    let mut parts = rest.splitn(3, |&byte| byte == b'\n');
    let (Some(header), Some(claims)) = (parts.next(), parts.next()) else { return };
    let tag = parts.next().unwrap_or_default();
    let forged = format!(
        "{}.{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims),
        URL_SAFE_NO_PAD.encode(tag)
    );
    assert!(BY_SECRET.read(&forged).is_err() && BY_KEY.read(&forged).is_err());
    // It is signed with a key that everybody knows.
    for known in [PUBLIC, PUBLIC.trim_ascii_end(), b""] {
        let token = signed(known, header, claims);
        assert!(BY_SECRET.read(&token).is_err() && BY_KEY.read(&token).is_err());
    }

    let token = signed(SECRET, header, claims);
    assert!(BY_KEY.read(&token).is_err());
    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let Ok(permission) = BY_SECRET.read(&token) else { return };
    let left = permission.until.saturating_duration_since(Instant::now());
    assert!(left <= Duration::from_secs(10 * 365 * 86_400) && token.len() <= 8192);

    let mut bytes = token.into_bytes();
    let at = bytes.len() - 1 - usize::from(*at) % bytes.len();
    bytes[at] ^= with & 127;
    if with & 127 != 0 {
        assert!(BY_SECRET.read(std::str::from_utf8(&bytes).expect("ASCII")).is_err());
    }

    // Claims that nobody asks about are skipped, even if they are not text.
    let read = |json: &[u8]| serde_json::from_slice::<Value>(json);
    let (Ok(header), Ok(claims)) = (read(header), read(claims)) else { return };
    assert!(header["alg"] == "HS256" && header["crit"].is_null());
    let exp = claims["exp"].as_f64().expect("a time");
    assert!(exp > before && left.as_secs_f64() <= exp - before + 1.0);
    assert!(claims["nbf"].as_f64().is_none_or(|nbf| nbf <= before + 1.0));
    assert_eq!(permission.subject.as_deref(), claims["sub"].as_str());
    assert_eq!(permission.client.as_ref().map(ToString::to_string).as_deref(), claims["client"].as_str());
    for (action, name) in [(Action::Subscribe, "subscribe"), (Action::Publish, "publish")] {
        let channel: Channel = "todo/1".parse().expect("a channel");
        let is_meant = claims[name].as_array().is_some_and(|names| {
            names.iter().filter_map(Value::as_str).any(|name| {
                name.strip_suffix('*').map_or(name == "todo/1", |beginning| "todo/1".starts_with(beginning))
            })
        });
        assert_eq!(permission.denied(action, &[], &[channel]).is_empty(), is_meant);
    }
});
