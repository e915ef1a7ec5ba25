//! Tokens as an application makes them, valid and forged; openssl makes the keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

pub const SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";

/// The time at `from_now` seconds from now, in seconds since 1970.
pub fn seconds(from_now: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    now.as_secs() as i64 + from_now
}

/// A token that is signed with the tests' secret and valid for a minute, with these additional claims.
pub fn token(claims: &Value) -> String {
    let mut all = json!({"exp": seconds(60)});
    for (name, value) in claims.as_object().expect("claims") {
        all[name] = value.clone();
    }
    by_secret(SECRET.as_bytes(), &json!({"alg": "HS256", "typ": "JWT"}), &all)
}

pub fn by_secret(secret: &[u8], header: &Value, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    sign(header, claims, |bytes| hmac::sign(&key, bytes).as_ref().to_vec())
}

pub fn sign(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// A pair of keys in files of their own.
pub struct KeyPair {
    dir: PathBuf,
    algorithm: &'static str,
    /// The public half, PEM.
    pub public: String,
    /// The private half, PEM.
    pub private: String,
}

impl KeyPair {
    /// `RS256`, `ES256` or `EdDSA`.
    pub fn new(algorithm: &'static str) -> KeyPair {
        let dir = super::redis::fresh_dir("keys");
        let private = dir.join("private.pem").display().to_string();
        let public = dir.join("public.pem").display().to_string();
        let kind: &[&str] = match algorithm {
            "RS256" => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            "ES256" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            "ES384" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            _ => &["-algorithm", "ED25519"],
        };
        openssl(&[&["genpkey"], kind, &["-out", &private]].concat());
        openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
        KeyPair { dir, algorithm, public, private }
    }

    /// The private half in DER (PKCS #8).
    fn der(&self) -> Vec<u8> {
        let der = self.dir.join("private.der");
        openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", &self.private, "-outform", "DER", "-out", path(&der)]);
        std::fs::read(der).expect("the key")
    }

    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let (der, random) = (self.der(), SystemRandom::new());
        match self.algorithm {
            "RS256" => {
                let key = RsaKeyPair::from_pkcs8(&der).expect("a key");
                sign(header, claims, |bytes| {
                    let mut signature = vec![0; key.public().modulus_len()];
                    key.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).expect("signed");
                    signature
                })
            }
            "ES256" => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random).expect("a key");
                sign(header, claims, |bytes| key.sign(&random, bytes).expect("signed").as_ref().to_vec())
            }
            _ => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).expect("a key");
                sign(header, claims, |bytes| key.sign(bytes).as_ref().to_vec())
            }
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

fn openssl(args: &[&str]) {
    let run = Command::new("openssl").args(args).output().expect("openssl is installed (apt-get install openssl)");
    assert!(run.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&run.stderr));
}

impl Drop for KeyPair {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
