//! Ignorable bytes, for browsers and proxies that hold back the beginning of a response.

/// The number of ignorable bytes at the beginning of a padded stream: as many as browsers and proxies hold back.
pub(super) const PADDING: usize = 2048;

/// The number of ignorable bytes in a padded heartbeat.
pub(super) const HEARTBEAT_PADDING: usize = 1024;

/// Appends this number of spaces.
pub(super) fn pad(n: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + n, b' ');
}
