//! Formats times as text (RFC 3339), in UTC and with milliseconds.

use std::num::NonZero;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};

const MILLISECONDS: TimePrecision = TimePrecision::Second { decimal_digits: NonZero::new(3) };
const FORMAT: EncodedConfig = Config::DEFAULT.set_time_precision(MILLISECONDS).encode();

/// Milliseconds since 1970 as a text like `2026-11-24T22:52:40.165Z`. A time past the year 9999, which a foreign id may
/// have, stays a number.
pub fn rfc3339(ms: u64) -> String {
    format(i128::from(ms))
}

/// The same for a time that may be before 1970.
pub fn rfc3339_signed(ms: i64) -> String {
    format(i128::from(ms))
}

fn format(ms: i128) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(ms * 1_000_000);
    time.ok().and_then(|time| time.format(&Iso8601::<FORMAT>).ok()).unwrap_or_else(|| ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "253402300800000"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
        for (ms, text) in [(-1, "1969-12-31T23:59:59.999Z"), (i64::MIN, "-9223372036854775808")] {
            assert_eq!(rfc3339_signed(ms), text);
        }
    }
}
