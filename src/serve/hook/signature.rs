//! Signs the calls to the application, so that it can distinguish them from requests of other programs.

use super::call::HookRequest;
use crate::serve::access::secret_file;
use hyper::header::{HeaderName, HeaderValue};
use parking_lot::RwLock;
use ring::hmac;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The header with the signature.
const SIGNATURE: HeaderName = HeaderName::from_static("longtail-signature");

/// The secret in a file, which signs calls.
pub struct HookSecret {
    path: PathBuf,
    key: RwLock<hmac::Key>,
}

/// The reason why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSecret {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error.
        error: std::io::Error,
    },
    /// The file is empty.
    #[error("{0}: the secret is empty; `openssl rand -hex 32` makes one")]
    Empty(PathBuf),
}

impl HookSecret {
    /// Reads the secret. Also returns its length in bytes.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is empty.
    pub fn open(path: PathBuf) -> Result<(HookSecret, usize), BadSecret> {
        let (key, length) = read(&path)?;
        Ok((HookSecret { path, key: RwLock::new(key) }, length))
    }

    /// Reads the file again. An error keeps the old secret in use.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is empty.
    pub fn reload(&self) -> Result<(), BadSecret> {
        let (key, _) = read(&self.path)?;
        *self.key.write() = key;
        Ok(())
    }

    /// Adds the signature of the body, with the present time, to a request.
    pub fn sign(&self, request: &mut HookRequest, body: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Ok(value) = HeaderValue::from_str(&signature(&self.key.read(), now, body)) {
            request.headers_mut().insert(SIGNATURE, value);
        }
    }
}

/// Reads a secret.
fn read(path: &Path) -> Result<(hmac::Key, usize), BadSecret> {
    let bytes = std::fs::read(path).map_err(|error| BadSecret::Unreadable { path: path.to_owned(), error })?;
    let secret = secret_file::secret(&bytes);
    if secret.is_empty() {
        return Err(BadSecret::Empty(path.to_owned()));
    }
    Ok((hmac::Key::new(hmac::HMAC_SHA256, secret), secret.len()))
}

/// `t=<time>,v1=<hex HMAC-SHA256 of "<time>.<body>">`.
fn signature(key: &hmac::Key, time: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{time}.").as_bytes());
    context.update(body);
    let mut text = format!("t={time},v1=");
    for byte in context.sign().as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value is that of `printf '%s' '1700000000.{"type":"event"}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn a_known_signature() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        assert_eq!(
            signature(&key, 1_700_000_000, br#"{"type":"event"}"#),
            "t=1700000000,v1=7baa647198334786dc3ebc27c6a842c5b27bd6197851e8ac2bb8ddd3a674fd3a"
        );
    }

    #[test]
    fn a_secret_ends_before_its_line_end() {
        let dir = std::env::temp_dir().join(format!("longtail-secret-{}", uuid::Uuid::new_v4()));
        let write = |text: &str| std::fs::write(&dir, text).expect("written");
        let signed = |secret: &HookSecret| signature(&secret.key.read(), 1, b"x");
        write("secret\r\n");
        let (secret, length) = HookSecret::open(dir.clone()).expect("a secret");
        assert_eq!(length, 6);
        let first = signed(&secret);
        write("secret");
        secret.reload().expect("reloaded");
        assert_eq!(signed(&secret), first);
        write("\n");
        assert!(secret.reload().is_err());
        assert_eq!(signed(&secret), first, "the old secret stays in use");
        write("other");
        secret.reload().expect("reloaded");
        assert_ne!(signed(&secret), first);
        std::fs::remove_file(&dir).expect("removed");
        assert!(secret.reload().is_err());
    }
}
