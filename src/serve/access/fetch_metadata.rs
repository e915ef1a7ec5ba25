//! Refuses a request for a page that calls its parent, unless a frame of the same site sends the request (Fetch
//! Metadata).

use hyper::HeaderMap;
use hyper::header::HeaderValue;

/// Whether the page may be sent. A browser that does not send Fetch Metadata gets the page, because the page also
/// protects itself.
///
/// In a window, the page would run its callback in the window that opened it. A foreign page can also navigate a frame
/// inside one of our pages to this page. If a script reads the page (`empty`), the page does not run anything.
pub fn may_frame(headers: &HeaderMap) -> bool {
    let field = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let is_foreign = field("sec-fetch-site") == Some(b"cross-site".as_slice());
    match field("sec-fetch-dest") {
        None | Some(b"empty") => true,
        Some(b"iframe" | b"frame") => !is_foreign,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_same_site_and_scripts_get_the_page() {
        let asks = |dest: Option<&'static str>, site: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in [("sec-fetch-dest", dest), ("sec-fetch-site", site)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            may_frame(&headers)
        };
        for (dest, site) in [
            (None, None),
            (Some("iframe"), None),
            (Some("iframe"), Some("same-origin")),
            (Some("frame"), Some("same-site")),
            (Some("empty"), Some("cross-site")),
        ] {
            assert!(asks(dest, site), "{dest:?} {site:?}");
        }
        for (dest, site) in [
            (Some("document"), None),
            (Some("document"), Some("same-origin")),
            (Some("document"), Some("none")),
            (Some("embed"), Some("same-origin")),
            (Some("object"), Some("same-origin")),
            (Some("serviceworker"), Some("same-origin")),
            (Some("script"), Some("same-origin")),
            (Some("iframe"), Some("cross-site")),
            (Some("frame"), Some("cross-site")),
        ] {
            assert!(!asks(dest, site), "{dest:?} {site:?}");
        }
    }
}
