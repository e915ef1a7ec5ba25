//! The limits of an HTTP/2 connection that the server announces to the client or gives to the `h2` crate.

/// The maximum number of requests of a connection at a time. RFC 9113 §6.5.2 recommends at least 100, because all tabs
/// of a browser share one connection.
pub(super) const STREAMS: u32 = 128;

/// Bytes of request bodies that may arrive before a handler reads them: the limit for one request, and for all requests
/// of a connection together.
pub(super) const WINDOW: u32 = 64 << 10;
pub(super) const WINDOWS: u32 = 1 << 20;

/// The maximum number of bytes that a stream may hand over before the client has accepted them. These bytes count as
/// written, and the memory budget does not count them. So the number is small: one frame, which is 2 MiB for all
/// streams of a connection.
pub(super) const UNSENT: usize = 16 << 10;

/// The limit on two kinds of streams: streams that the client has reset before the server has seen them
/// (CVE-2023-44487), and streams that the server had to reset because of an error that the client provoked
/// (CVE-2025-8671).
pub(super) const PENDING_RESETS: usize = 20;
pub(super) const OWN_RESETS: usize = 100;
