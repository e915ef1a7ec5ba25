//! A user, as a channel's other members see it.

use crate::wire::json;
use std::fmt;

/// A user: an id, and information about the user that the application has chosen.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct User {
    id: Box<str>,
    /// The JSON object with both: `{"id":…,"info":…}`. Users are compared by these bytes.
    data: Box<str>,
    info_bytes: usize,
}

/// The text is not a user's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user's id is 1 to {} bytes", User::MAX_ID)]
pub struct BadUser;

impl User {
    /// The longest id, in bytes.
    pub const MAX_ID: usize = 200;

    /// A user. `info` is JSON; without it, the user's info is `null`.
    ///
    /// # Errors
    ///
    /// The id is empty or too long.
    pub fn new(id: &str, info: Option<&str>) -> Result<User, BadUser> {
        if !(1..=User::MAX_ID).contains(&id.len()) {
            return Err(BadUser);
        }
        // Streams are made of lines, so the JSON must not have line breaks.
        let info = json::payload(info.unwrap_or("null"));
        let mut quoted = Vec::with_capacity(id.len() + 2);
        json::quote(id, &mut quoted);
        let data = format!("{{\"id\":{},\"info\":{info}}}", String::from_utf8_lossy(&quoted));
        Ok(User { id: id.into(), data: data.into(), info_bytes: info.len() })
    }

    /// The user's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The user as JSON on one line: `{"id":…,"info":…}`.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// The size of the user's info, in bytes of JSON.
    pub fn info_bytes(&self) -> usize {
        self.info_bytes
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_is_json_on_one_line() {
        for (id, info, data) in [
            ("7", None, r#"{"id":"7","info":null}"#),
            ("a\"b\n", Some("{\"n\":1,\r\n \"x\":\"y\"}"), r#"{"id":"a\"b\n","info":{"n":1,   "x":"y"}}"#),
        ] {
            let user = User::new(id, info).expect("a user");
            assert_eq!((user.id(), user.data()), (id, data));
            assert!(serde_json::from_str::<serde_json::Value>(user.data()).is_ok());
        }
        assert_eq!(User::new("7", Some("{}")).expect("a user").info_bytes(), 2);
        for bad in ["", &"x".repeat(201)] {
            assert_eq!(User::new(bad, None), Err(BadUser));
        }
    }
}
