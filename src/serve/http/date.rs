//! The `Date` of responses.
//!
//! The text is made once for each second. The text follows the wall clock, even when the clock is set back. With
//! hyper's own cache, the date would stay in the future until the clock has caught up, and HTTP caches would compute
//! wrong ages.

use httpdate::HttpDate;
use hyper::header::HeaderValue;
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    /// The second of the last call, and the text of that second.
    static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// Passes on the text of this second.
pub fn with<T>(use_it: impl FnOnce(&HeaderValue) -> T) -> T {
    DATE.with_borrow_mut(|(second, date)| {
        let now = SystemTime::now();
        let this = now.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        if *second != this || date.is_empty() {
            *second = this;
            *date = HeaderValue::try_from(HttpDate::from(now).to_string()).unwrap_or(HeaderValue::from_static(""));
        }
        use_it(date)
    })
}

/// The text of this second as a header's value.
pub fn now() -> HeaderValue {
    with(HeaderValue::clone)
}
