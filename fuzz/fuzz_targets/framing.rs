//! The demo's proxy finds the same messages however the bytes are split into reads. Without faults it loses and adds
//! nothing, and bytes that it has forwarded once pass unchanged. It never shows a cookie.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtail::internals::demo::proxy::Faults;
use longtail::internals::demo::proxy::fuzzing::{answers, requests};

const SECRETS: [&str; 3] = ["cookie", "authorization", "proxy-authorization"];

// The first byte is the size of a read, the second gives the faults and whether a HEAD is answered.
fuzz_target!(|input: &[u8]| {
    let [size, switches, bytes @ ..] = input else { return };
    let size = usize::from(*size).max(1);
    let (http10, strip_upgrade, is_head) = (switches & 1 != 0, switches & 2 != 0, switches & 4 != 0);

    let whole = || bytes.chunks(bytes.len().max(1));
    assert_eq!(answers(bytes.chunks(size), is_head), answers(whole(), is_head));

    let faults = Faults { http10, strip_upgrade, ..Faults::default() };
    let in_pieces = requests(bytes.chunks(size), &faults);
    let at_once = requests(whole(), &faults);
    assert_eq!(in_pieces.as_ref().map(|all| &all.0), at_once.as_ref().map(|all| &all.0));
    let Some((out, heads)) = in_pieces else { return };

    for head in heads {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut headers);
        assert_eq!(request.parse(&head), Ok(httparse::Status::Complete(head.len())));
        for header in request.headers {
            let is_secret = SECRETS.iter().any(|secret| header.name.eq_ignore_ascii_case(secret));
            assert!(!is_secret || header.value == b"(not shown)");
        }
    }

    let again = |faults: &Faults| requests(std::iter::once(&out[..]), faults).map(|all| all.0);
    assert_eq!(again(&faults).as_ref(), Some(&out));
    if !http10 && !strip_upgrade {
        // A head's spaces may be others; a head that is not complete is still to come.
        let black =
            |bytes: &[u8]| bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<u8>>();
        assert!(black(bytes).starts_with(&black(&out)));
    }
});
