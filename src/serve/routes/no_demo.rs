//! Replaces the demo's state in a build without the feature `demo`.

/// The demo, which cannot exist in this build.
pub enum Demo {}

impl Demo {
    /// The numbers of the demo's ports.
    pub fn port_numbers(&self) -> Vec<u16> {
        match *self {}
    }

    /// The part of `/info` that describes the demo.
    pub fn info(&self) -> serde_json::Value {
        match *self {}
    }
}
