//! The greeting, the page of the hidden frames, and the answer of `info`.

/// The greeting of a prefix.
pub const GREETING: &str = "Welcome to SockJS!\n";

/// The page that a hidden frame opens: it loads the library from `url`, which then speaks to the server from here.
pub fn iframe(url: &str) -> String {
    // Any other text in the attribute could end it.
    let url = url.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    format!(
        "<!DOCTYPE html>\n<html>\n<head>\n  <meta http-equiv=\"X-UA-Compatible\" content=\"IE=edge\" />\n  \
         <meta http-equiv=\"Content-Type\" content=\"text/html; charset=UTF-8\" />\n  \
         <script src=\"{url}\"></script>\n  <script>\n    document.domain = document.domain;\n    \
         SockJS.bootstrap_iframe();\n  </script>\n</head>\n<body>\n  <h2>Don't panic!</h2>\n  \
         <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>\n</body>\n</html>"
    )
}

/// The answer of `info`. `entropy` is a random number, for browsers that have none.
pub fn info(websocket: bool, cookie_needed: bool, entropy: u32) -> String {
    format!(
        "{{\"websocket\":{websocket},\"cookie_needed\":{cookie_needed},\"origins\":[\"*:*\"],\"entropy\":{entropy}}}"
    )
}
