//! The requests with which a browser finds out how the path to the server changes its requests.

use crate::support;

use std::time::{Duration, Instant};
use support::{Node, Request};

#[tokio::test]
async fn a_drip_comes_in_pieces() {
    let node = Node::start(&[]).await;
    let mut response = Request::get("/diagnose/drip?bytes=64&count=5&every=500").open(node.http).await;
    assert_eq!(response.status, 200);
    let mut times = Vec::new();
    while response.read_some().await.is_some() {
        times.push(Instant::now());
    }
    // Two seconds lie between the first and the last piece if no proxy holds the first one back; the machine adds some
    // time.
    let apart = times[times.len() - 1] - times[0];
    assert!(times.len() >= 5 && apart >= Duration::from_secs(1), "{} pieces within {apart:?}", times.len());
    let text = response.text();
    assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [63; 5]);
    assert!(text.ends_with("end\n"), "{text}");
}

#[tokio::test]
async fn its_bounds() {
    let node = Node::start(&[]).await;
    for query in
        ["bytes=15", "bytes=4097", "count=0", "count=121", "every=9", "every=x", "count=120&every=1001", "bytes=-1"]
    {
        let answer = Request::get(&format!("/diagnose/drip?{query}")).send(node.http).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_request"), "{query}");
    }
}

/// The answer shows how a proxy on the path has changed the request, and does not contain data that identifies the
/// client.
#[tokio::test]
async fn an_echo() {
    let node = Node::start(&[]).await;
    let answer = Request::get("/diagnose/echo")
        .header("Via", "1.0 squid")
        .header("X-Forwarded-For", "10.1.2.3")
        .header("Cookie", "secret=1")
        .send(node.http)
        .await;
    assert_eq!(answer.status, 200);
    let seen = answer.json();
    assert_eq!((seen["http"].as_str(), seen["via"].as_str()), (Some("1.1"), Some("1.0 squid")));
    assert_eq!(seen["forwarded"], true);
    assert!(!answer.text().contains("secret") && !answer.text().contains("10.1.2.3"), "{}", answer.text());
}

#[tokio::test]
async fn the_page_and_its_scripts() {
    let node = Node::start(&[]).await;
    for (path, word) in [
        ("/diagnose", "<h1>"),
        ("/diagnose.js", "Longtail.diagnose="),
        ("/legacy.js", "Longtail.post="),
        ("/client.js", "var Longtail = "),
        ("/client.min.js", "var Longtail="),
    ] {
        let answer = Request::get(path).send(node.http).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text().contains(word), "{path}");
    }
}
