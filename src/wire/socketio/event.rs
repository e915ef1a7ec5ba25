//! The JSON of an event: an array of its name and its arguments.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::Error;
use crate::wire::json;

/// Events that the libraries fire themselves. Clients of version 5 end the connection if a packet names one.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Whether an event must not have this name.
#[must_use]
pub fn is_reserved(event: &str) -> bool {
    RESERVED.contains(&event)
}

/// The name and the arguments of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The name. A name that is a number is here as it was written.
    pub name: Cow<'a, str>,
    /// The arguments as they were written: JSON values with commas between them.
    pub arguments: &'a str,
    /// How many arguments there are.
    pub count: usize,
}

impl<'a> Event<'a> {
    /// Reads a JSON array with a name and arguments.
    ///
    /// # Errors
    ///
    /// The text is not such an array.
    pub fn parse(json: &'a str) -> Result<Event<'a>, Error> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let (first, count) = reader.deserialize_seq(FirstAndCount).map_err(|_| Error::Event)?;
        reader.end().map_err(|_| Error::Event)?;
        let first = first.get();
        let name = match first.bytes().next() {
            Some(b'"') => match serde_json::from_str(first) {
                Ok(BorrowedName(name)) => name,
                Err(_) => Cow::Owned(json::text_of(first).ok_or(Error::Event)?),
            },
            Some(b'-' | b'0'..=b'9') => Cow::Borrowed(first),
            _ => return Err(Error::Event),
        };
        // The name is behind the bracket and white space, and a comma or a bracket is behind the name.
        let start = json.find(first).ok_or(Error::Event)? + first.len();
        let rest = json[start..].trim_matches(WHITE_SPACE);
        let rest = rest.strip_suffix(']').ok_or(Error::Event)?;
        let arguments = rest.strip_prefix(',').unwrap_or(rest).trim_matches(WHITE_SPACE);
        Ok(Event { name, arguments, count })
    }

    /// The arguments as a JSON array.
    #[must_use]
    pub fn array(&self) -> String {
        format!("[{}]", self.arguments)
    }
}

/// The white space of JSON.
pub(super) const WHITE_SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// A name without escapes is borrowed.
#[derive(serde::Deserialize)]
struct BorrowedName<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads the first element of an array, and counts the others.
struct FirstAndCount;

impl<'de> Visitor<'de> for FirstAndCount {
    type Value = (&'de RawValue, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array that is not empty")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let first = array.next_element()?.ok_or_else(|| serde::de::Error::invalid_length(0, &self))?;
        let mut count = 0;
        while array.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((first, count))
    }
}
