//! A value of MessagePack.

use bytes::Bytes;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `nil`, or `undefined` of a script.
    Nil,
    /// A boolean.
    Bool(bool),
    /// An integer that is negative, or fits.
    Integer(i64),
    /// An integer.
    Unsigned(u64),
    /// A number with a fraction.
    Float(f64),
    /// Text. Bytes that are not UTF-8 became U+FFFD.
    Text(String),
    /// Bytes.
    Binary(Bytes),
    /// An array.
    Array(Vec<Value>),
    /// A map. Keys that are numbers or booleans became text, as in a script.
    Map(Vec<(String, Value)>),
    /// A time in milliseconds since 1970.
    Time(i64),
    /// An extension that has no meaning here: its type and its bytes.
    Extension(i8, Bytes),
}

impl Value {
    /// The value of a key. If a key is repeated, the last one counts, as in a script.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Value::Map(entries) = self else { return None };
        entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The elements of an array.
    #[must_use]
    pub fn array(&self) -> Option<&[Value]> {
        if let Value::Array(values) = self { Some(values) } else { None }
    }

    /// A text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// A text, or a number or a boolean as a script writes it as a key.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        Some(match self {
            Value::Nil => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Unsigned(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            _ => return None,
        })
    }
}
