//! The error of an invalid configuration.

/// The configuration is invalid. The text is one line that says how to fix the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadConfig(String);

impl BadConfig {
    /// Makes an error with this text: one line that says how to fix the configuration.
    pub fn new(text: String) -> BadConfig {
        BadConfig(text)
    }
}
