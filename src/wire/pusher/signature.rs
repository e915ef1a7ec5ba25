//! Signatures with the secret of an app: HMAC-SHA256 in hexadecimal digits.

use ring::hmac;
use std::fmt::{self, Write as _};

/// The secret of an app.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Secret {
    /// The secret with this text.
    pub fn new(text: &str) -> Secret {
        Secret(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
    }

    /// The signature of a text.
    pub fn sign(&self, text: &[u8]) -> String {
        hex(hmac::sign(&self.0, text).as_ref())
    }

    /// Whether this is the signature of the text. The comparison takes the same time for every wrong signature.
    pub fn verifies(&self, text: &[u8], signature: &str) -> bool {
        let signature = from_hex(signature).unwrap_or_default();
        hmac::verify(&self.0, text, &signature).is_ok()
    }

    /// Whether the application lets this socket subscribe to the channel. `channel_data` is the text that the client
    /// has sent with the signature.
    pub fn allows(&self, socket_id: &str, channel: &str, channel_data: Option<&str>, signature: &str) -> bool {
        let mut text = format!("{socket_id}:{channel}");
        if let Some(data) = channel_data {
            text.push(':');
            text.push_str(data);
        }
        self.verifies(text.as_bytes(), signature)
    }

    /// Whether the application says that this socket belongs to the user.
    pub fn proves_user(&self, socket_id: &str, user_data: &str, signature: &str) -> bool {
        self.verifies(format!("{socket_id}::user::{user_data}").as_bytes(), signature)
    }
}

/// Splits `auth` into the key of the app and the signature.
pub fn split_auth(auth: &str) -> Option<(&str, &str)> {
    auth.split_once(':')
}

/// Bytes as hexadecimal digits in lower case.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes of hexadecimal digits. `None` if the text has other characters, or is longer than a signature.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() > 128 || !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
