//! The parser does not panic on any query or form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::transport::params::{Limits, Params};

// The first line is the query; if there is another, it is the form.
fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(2, |&byte| byte == b'\n');
    let query = lines.next().unwrap_or_default();
    let _ = Params::parse(query, lines.next(), &Limits::default());
});
