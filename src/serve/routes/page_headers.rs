//! The security headers of pages: the files that a page may load, the pages that may frame it, and its separation from
//! windows of other sites.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, X_FRAME_OPTIONS};
use ring::digest::{SHA256, digest};

/// Writes the headers of one of the server's own pages. The page may also read from `others`, which is a list of
/// sources for the policy.
pub fn write(headers: &mut HeaderMap, page: &str, others: &[String]) {
    // Other sites must not show these pages in a frame, because a site could steal clicks on the buttons, or the
    // figures that the pages show. Old browsers know only this header.
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    let policy = format!("{}; frame-ancestors 'self'", policy(page, others));
    write_policy(headers, &policy);
}

/// Writes the headers of the demo's page for a frame. Pages from other ports and other names of this machine contain
/// this frame. The script of this page checks the framing pages, because a policy cannot name `[::1]`.
#[cfg(feature = "demo")]
pub fn write_framed(headers: &mut HeaderMap, page: &str) {
    write_policy(headers, &policy(page, &[]));
}

/// Writes the headers of a page that a transport sends in place of its stream.
pub fn write_refusal(headers: &mut HeaderMap) {
    write_policy(headers, "default-src 'none'; script-src 'unsafe-inline'; frame-ancestors 'self'");
}

fn write_policy(headers: &mut HeaderMap, policy: &str) {
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    headers.insert(opener, HeaderValue::from_static("same-origin"));
}

/// The sources that a page may load: files of this server, its own inline scripts and styles, and all addresses that
/// the library connects to. `ws:` is named, because in old browsers `'self'` does not include it.
fn policy(page: &str, others: &[String]) -> String {
    let others: String = others.iter().map(|source| format!(" {source}")).collect();
    format!(
        "default-src 'none'; img-src 'self' data:; style-src 'self'{styles}; script-src 'self'{scripts}{others}; \
         connect-src 'self' ws: wss:{others}; frame-src 'self'{others}; form-action 'self'; base-uri 'none'",
        styles = hashes(page, "style"),
        scripts = hashes(page, "script"),
    )
}

/// The hashes of the page's inline elements of this name, each after a space.
fn hashes(page: &str, name: &str) -> String {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let inline = page.split(start.as_str()).skip(1).filter_map(|rest| rest.split(end.as_str()).next());
    inline.map(|text| format!(" 'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_the_hashes_of_inline_elements() {
        let page = "<style>a</style><script src=\"a.js\"></script><script>alert(1)</script><script>\n</script>";
        // `printf 'alert(1)' | openssl dgst -sha256 -binary | base64`
        let alert = " 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='";
        assert!(hashes(page, "script").starts_with(alert), "{}", hashes(page, "script"));
        assert_eq!(hashes(page, "script").matches("sha256-").count(), 2);
        assert_eq!(hashes(page, "style").matches("sha256-").count(), 1);
        assert_eq!(hashes("<script src=\"a.js\"></script>", "script"), "");
    }

    #[test]
    fn a_page_may_also_read_from_others() {
        let policy = policy("", &["http://*:81".to_owned(), "http://*:82".to_owned()]);
        for part in
            ["script-src 'self' http://*:81 http://*:82;", "connect-src 'self' ws: wss: http://*:81 http://*:82;"]
        {
            assert!(policy.contains(part), "{policy}");
        }
    }
}
