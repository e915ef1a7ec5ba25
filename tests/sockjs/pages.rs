//! What a prefix has besides transports, and the answers to methods and paths that it does not have.

use super::*;

#[tokio::test]
async fn a_prefix_greets_and_has_few_paths() {
    let node = node().await;
    for path in ["/echo", "/echo/"] {
        let answer = node.get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "Welcome to SockJS!\n"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
        assert_eq!(answer.header("set-cookie"), None);
    }
    let missing = [
        "/a",
        "/a.html",
        "//",
        "///",
        "/a/a",
        "/a/a/",
        "/a/",
        "/iframe.htm",
        "/iframe",
        "/IFRAME.HTML",
        "/iframe-/.html",
    ];
    let sessions = ["//xhr", "/a./a/xhr", "/a/a./xhr", "/./././xhr", "/xhr", "///xhr"];
    for path in missing.iter().chain(&sessions) {
        for method in ["GET", "POST"] {
            let answer = Request::new(method, &format!("/echo{path}")).send(node.http).await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
    }
    for (method, path, allowed) in [
        ("POST", "/echo/0/0/websocket", "OPTIONS, GET"),
        ("GET", "/echo/0/0/xhr", "OPTIONS, POST"),
        ("PUT", "/echo/0/0/xhr_send", "OPTIONS, POST"),
        ("POST", "/echo/info", "OPTIONS, GET"),
    ] {
        let answer = Request::new(method, path).send(node.http).await;
        assert_eq!((answer.status, answer.header("allow"), answer.header("content-type")), (405, Some(allowed), None));
        assert_eq!(answer.text(), "");
    }
}

#[tokio::test]
async fn info_says_what_the_prefix_has() {
    let node = node().await;
    let answer = Request::get("/echo/info").header("Origin", "test").send(node.http).await;
    assert_eq!(answer.header("content-type"), Some("application/json; charset=UTF-8"));
    assert_eq!(answer.header("set-cookie"), None);
    not_cached(&answer);
    for_page(&answer, Some("test"));
    let info = answer.json();
    assert_eq!(
        (&info["websocket"], &info["cookie_needed"], &info["origins"][0]),
        (&true.into(), &false.into(), &"*:*".into())
    );
    let other = node.get("/echo/info").await;
    for_page(&other, None);
    assert!(info["entropy"].is_u64() && info["entropy"] != other.json()["entropy"]);
    assert_eq!(node.get("/no_socket/info").await.json()["websocket"], false);
    assert_eq!(node.get("/cookie/info").await.json()["cookie_needed"], true);
    let prefixes = node.get("/info").await.json()["sockjs"]["prefixes"].as_array().expect("prefixes").len();
    assert_eq!(prefixes, 4);
}

#[tokio::test]
async fn preflights_are_kept_for_a_year() {
    let node = node().await;
    for (path, methods) in [
        ("/echo/info", "OPTIONS, GET"),
        ("/echo/a/b/xhr", "OPTIONS, POST"),
        ("/echo/a/b/xhr_send", "OPTIONS, POST"),
        ("/echo/a/b/xhr_streaming", "OPTIONS, POST"),
    ] {
        for (origin, asked) in [("test", Some("a, b, c")), ("null", None), ("null", Some(""))] {
            let mut request = Request::new("OPTIONS", path).header("Origin", origin);
            request = request.header("Access-Control-Request-Method", "POST");
            if let Some(asked) = asked {
                request = request.header("Access-Control-Request-Headers", asked);
            }
            let answer = request.send(node.http).await;
            assert_eq!((answer.status, answer.text().as_str()), (204, ""));
            assert_eq!(answer.header("access-control-allow-methods"), Some(methods));
            assert_eq!(answer.header("access-control-max-age"), Some("31536000"));
            assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000"));
            assert!(answer.header("expires").is_some());
            assert_eq!(answer.header("access-control-allow-headers"), asked.filter(|asked| !asked.is_empty()));
            for_page(&answer, Some(origin));
        }
    }
}

#[tokio::test]
async fn the_page_of_hidden_frames_is_kept() {
    let node = with(&[ECHO, "/own=own sockjs-url=/files/sockjs.js"], &[]).await;
    let mut tags = Vec::new();
    for path in ["/iframe.html", "/iframe-.html?t=1", "/iframe-0.1.2abc-dirty.2144.html"] {
        let answer = node.get(&format!("/echo{path}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=UTF-8")));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000"));
        assert!(answer.header("expires").is_some() && answer.header("set-cookie").is_none());
        let page = answer.text();
        assert!(page.starts_with("<!DOCTYPE html>\n<html>") && page.contains("SockJS.bootstrap_iframe();"), "{page}");
        assert!(
            page.contains("<script src=\"https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js\">"),
            "{page}"
        );
        tags.push(answer.header("etag").expect("a tag").to_owned());
    }
    assert!(tags.iter().all(|tag| *tag == tags[0]));
    let known = Request::get("/echo/iframe.html").header("If-None-Match", &tags[0]).send(node.http).await;
    assert_eq!((known.status, known.header("content-type"), known.text().as_str()), (304, None, ""));
    assert_eq!(known.header("content-security-policy"), None, "every page may show it");
    let own = Request::get("/own/iframe.html").header("If-None-Match", &tags[0]).send(node.http).await;
    assert!(own.status == 200 && own.text().contains("<script src=\"/files/sockjs.js\">"), "{}", own.text());
}

/// The requests of a hidden frame have the server's own origin, so the frame is only for pages that may use the prefix.
#[tokio::test]
async fn only_pages_of_the_origins_show_the_hidden_frame() {
    let prefixes = ["/all=a origins=*", "/some=a origins=https://a.example,https://*.c.example", "/none=a"];
    let mut tags = Vec::new();
    for (allowed, expected) in [("https://b.example", "https://b.example"), ("*", "")] {
        let node = with(&prefixes, &["--allow-origin", allowed]).await;
        let local = "http://localhost:* http://*.localhost:* http://127.0.0.1:*";
        let some = format!("frame-ancestors 'self' {local} https://a.example https://*.c.example");
        let known = format!("frame-ancestors 'self' {local} {expected}");
        for (path, policy) in [
            ("/all/iframe.html", None),
            ("/some/iframe-1.6.1.html", Some(&some)),
            ("/none/iframe.html", Some(&known).filter(|_| allowed != "*")),
        ] {
            let answer = node.get(path).await;
            let policy = policy.map(String::as_str);
            assert_eq!((answer.status, answer.header("content-security-policy")), (200, policy), "{path}");
            let kept = policy.map_or("public, max-age=31536000", |_| "public, no-cache");
            assert_eq!(answer.header("cache-control"), Some(kept), "{path}");
            let tag = answer.header("etag").expect("a tag").to_owned();
            let again = Request::get(path).header("If-None-Match", &tag).send(node.http).await;
            assert_eq!((again.status, again.header("content-security-policy")), (304, policy), "{path}");
            tags.push(tag);
        }
    }
    // The tag depends on the rule.
    let [all, some, none, all_again, some_again, none_again] = &tags[..] else { panic!("six tags") };
    assert_eq!((all, some, all), (all_again, some_again, none_again));
    assert!(all != some && all != none && some != none);
}

#[tokio::test]
async fn a_prefix_has_its_own_origins() {
    let prefixes = ["/all=a on-message=echo origins=*", "/some=a on-message=echo origins=https://a.example", "/none=a"];
    let node = with(&prefixes, &["--allow-origin", "https://b.example"]).await;
    for (origin, all, some, none) in [
        ("https://a.example", 200, 200, 403),
        ("https://b.example", 200, 403, 200),
        ("https://c.example", 200, 403, 403),
        ("null", 200, 403, 403),
    ] {
        for (prefix, status) in [("/all", all), ("/some", some), ("/none", none)] {
            for path in ["info", "0/0/websocket"] {
                let answer = Request::get(&format!("{prefix}/{path}")).header("Origin", origin).send(node.http).await;
                // A request for a WebSocket that is not one is refused after the origin.
                let expected = if path == "info" || status == 403 { status } else { 400 };
                assert_eq!(answer.status, expected, "{origin} {prefix}/{path}");
                if status == 200 {
                    for_page(&answer, Some(origin));
                }
            }
        }
    }
}
