//! Parsers of flag values. An error says how to fix the value.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The destination of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTo {
    /// There is no access log.
    Off,
    /// Standard output.
    Stdout,
    /// A file, to which lines are appended.
    File(PathBuf),
}

pub(super) fn access_log(text: &str) -> Result<AccessLogTo, String> {
    match text {
        "" => Err("use a file, `-` for standard output, or `off`".into()),
        "off" => Ok(AccessLogTo::Off),
        "-" => Ok(AccessLogTo::Stdout),
        file => Ok(AccessLogTo::File(file.into())),
    }
}

/// An address; `None` for `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressOrOff(pub Option<SocketAddr>);

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric.as_deref().unwrap_or(text).parse().map_err(|_| "use an address and a port, such as 127.0.0.1:8080".into())
}

pub(super) fn address_or_off(text: &str) -> Result<AddressOrOff, String> {
    if text == "off" {
        return Ok(AddressOrOff(None));
    }
    address(text).map(|address| AddressOrOff(Some(address))).map_err(|fix| format!("{fix}, or `off`"))
}

pub(super) fn redis_prefix(text: &str) -> Result<String, String> {
    // In Redis Cluster, a brace would move the keys to a slot other than the log's.
    if text.is_empty()
        || text.len() > 100
        || text.chars().any(|c| c.is_control() || c.is_whitespace() || "{}".contains(c))
    {
        return Err("use 1 to 100 characters without spaces or braces".into());
    }
    Ok(text.into())
}

pub(super) fn size_or_none(text: &str) -> Result<usize, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

pub(super) fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim_start() {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return Err("use a number of bytes, or a number with KiB, MiB or GiB".into()),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(unit)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "use a number of bytes above 0, or a number with KiB, MiB or GiB".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [("1", 1), ("64KiB", 65536), ("64MiB", 64 << 20), ("2 GiB", 2 << 30)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in ["", "0", "-1", "MiB", "1.5MiB", "1TiB", "99999999999999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
