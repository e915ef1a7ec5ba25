//! The signatures of REST requests.
//!
//! A request is signed with `METHOD\nPATH\nk=v&…`. The fields of the query are sorted by their names in lower case, and
//! their values are decoded. The digest of the body is one of the fields, so the signature covers the body, too.

use super::signature::{Secret, hex};
use md5::{Digest, Md5};
use std::collections::BTreeMap;

/// The seconds by which the time of a request may differ from the server's time.
pub const MAX_AGE: u64 = 600;

/// A request, as far as its signature covers it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method in upper case.
    pub method: &'a str,
    /// The path that the client has signed.
    pub path: &'a str,
    /// The decoded fields of the query.
    pub query: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
}

/// Why a request is not valid. The text is the body of the answer 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A field is missing.
    #[error("the query must have auth_key, auth_timestamp, auth_version=1.0 and auth_signature")]
    Missing,
    /// The key is that of another app.
    #[error("auth_key is not the key of this app")]
    Key,
    /// The version of the signature is unknown.
    #[error("auth_version must be 1.0")]
    Version,
    /// The time is not a number.
    #[error("auth_timestamp must be the time in seconds since 1970")]
    Timestamp,
    /// The time is too far from the server's time.
    #[error("auth_timestamp differs by more than {MAX_AGE} seconds from the server's time: check the clocks")]
    Expired,
    /// The digest is missing, or is that of another body.
    #[error("body_md5 is not the MD5 digest of the body")]
    Body,
    /// The signature is wrong.
    #[error("auth_signature is not the signature of this request: check the secret of the app and the path")]
    Signature,
}

/// The digest of a body.
pub fn body_md5(body: &[u8]) -> String {
    hex(&Md5::digest(body))
}

impl Request<'_> {
    /// The first field of the query with this name. The signature does not cover the case of names, so the case does not
    /// count.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        // An array is several fields `name[0]=…`. SDKs sign it as one field with commas between the values.
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in self.query {
            let name = name.split_once('[').filter(|(_, rest)| rest.ends_with(']')).map_or(&**name, |(name, _)| name);
            let name = name.to_ascii_lowercase();
            if name == "auth_signature" {
                continue;
            }
            match fields.get_mut(&name) {
                Some(values) => {
                    values.push(',');
                    values.push_str(value);
                }
                None => {
                    fields.insert(name, value.clone());
                }
            }
        }
        let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}\n{}\n{}", self.method, self.path, fields.join("&"))
    }

    /// Verifies the signature with the key and the secret of an app. `now` is the time in seconds since 1970.
    ///
    /// # Errors
    ///
    /// The rule that the request breaks.
    pub fn verify(&self, key: &str, secret: &Secret, now: u64) -> Result<(), Refused> {
        let required = |name| self.field(name).ok_or(Refused::Missing);
        let (sent_key, timestamp) = (required("auth_key")?, required("auth_timestamp")?);
        let (version, signature) = (required("auth_version")?, required("auth_signature")?);
        if sent_key != key {
            return Err(Refused::Key);
        }
        if version != "1.0" {
            return Err(Refused::Version);
        }
        let timestamp: u64 = timestamp.parse().map_err(|_| Refused::Timestamp)?;
        if timestamp.abs_diff(now) > MAX_AGE {
            return Err(Refused::Expired);
        }
        match self.field("body_md5") {
            Some(digest) if digest.eq_ignore_ascii_case(&body_md5(self.body)) => {}
            None if self.body.is_empty() => {}
            _ => return Err(Refused::Body),
        }
        if secret.verifies(self.text().as_bytes(), signature) { Ok(()) } else { Err(Refused::Signature) }
    }
}
