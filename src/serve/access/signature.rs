//! Verifies the signatures of tokens with ring: this build of `jsonwebtoken` does not contain cryptography.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::{hmac, signature as scheme};
use signature::{Error, Verifier};

/// Verifies only. The server never signs.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Installs this provider for `jsonwebtoken`. An error means that the provider is already installed.
pub fn install() {
    let _ = PROVIDER.install_default();
}

struct Signature {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Secret(hmac::Key),
    Public(scheme::UnparsedPublicKey<Vec<u8>>),
}

fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    // The operator has chosen the kind of key, and the token's header names the algorithm. The two must agree. This
    // also stops HS256 with the public key as the secret.
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let bytes = key.try_get_as_bytes()?;
    let public = |scheme| Key::Public(scheme::UnparsedPublicKey::new(scheme, bytes.to_vec()));
    let key = match algorithm {
        Algorithm::HS256 => Key::Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
        Algorithm::RS256 => public(&scheme::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::ES256 => public(&scheme::ECDSA_P256_SHA256_FIXED),
        Algorithm::EdDSA => public(&scheme::ED25519),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(Signature { algorithm: *algorithm, key }))
}

impl Verifier<Vec<u8>> for Signature {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = match &self.key {
            // `verify` compares in constant time.
            Key::Secret(key) => hmac::verify(key, message, signature),
            Key::Public(key) => key.verify(message, signature),
        };
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for Signature {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
