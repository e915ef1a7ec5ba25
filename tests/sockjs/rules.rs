//! The rules of sessions over HTTP: one request reads at a time, and how sessions end.

use super::*;
use crate::support::eventually;

#[tokio::test]
async fn a_session_that_is_over_says_so_to_each_request() {
    let node = node().await;
    let go_away = "c[3000,\"Go away!\"]\n";
    let session = Session::open("/close", node.http).await;
    for _ in 0..2 {
        assert_eq!(session.xhr(node.http).await, go_away);
    }
    session.send(node.http, "[\"a\"]").await;
    let jsonp = Session::new("/close");
    for frame in ["o", "c[3000,\\\"Go away!\\\"]", "c[3000,\\\"Go away!\\\"]"] {
        let answer = Request::get(&jsonp.path("jsonp?c=x")).send(node.http).await;
        assert_eq!(answer.text(), format!("/**/x(\"{frame}\");\r\n"));
    }
    let session = Session::new("/close");
    let mut first = session.stream(node.http).await;
    first.expect("o\n").await;
    first.expect(go_away).await;
    first.ends().await;
    let mut second = session.stream(node.http).await;
    second.expect(go_away).await;
    second.ends().await;
}

#[tokio::test]
async fn one_request_reads_at_a_time() {
    let node = node().await;
    let busy = "c[2010,\"Another connection still open\"]\n";
    let session = Session::new("/echo");
    let mut first = session.stream(node.http).await;
    first.expect("o\n").await;
    let mut second = session.stream(node.http).await;
    second.expect(busy).await;
    second.ends().await;
    assert_eq!(session.xhr(node.http).await, busy);
    session.send(node.http, "[\"a\"]").await;
    first.expect("a[\"a\"]\n").await;
    assert!(node.metric("longtail_sockjs_conflicts_total").await >= 2.0);
    // A client that goes away has lost its session.
    drop(first);
    let frame = eventually("the end of the session", async || {
        let frame = session.xhr(node.http).await;
        (frame != busy).then_some(frame)
    });
    assert_eq!(frame.await, "o\n");
    let polling = Request::post(&session.path("xhr"), b"").open(node.http);
    let cut = tokio::time::timeout(std::time::Duration::from_millis(200), polling).await;
    assert!(cut.is_err(), "a poll waits");
    assert_eq!(session.xhr(node.http).await, "o\n", "a poll that was cut ends the session, too");
    assert!(node.metric("longtail_sockjs_interrupted_sessions_total").await >= 2.0);
}

#[tokio::test]
async fn cookies_are_set_only_for_balancers() {
    let node = node().await;
    for (method, transport) in [
        ("POST", "xhr"),
        ("POST", "xhr_streaming"),
        ("GET", "eventsource"),
        ("GET", "htmlfile?c=x"),
        ("GET", "jsonp?c=x"),
    ] {
        for (sent, set) in [(None, "JSESSIONID=dummy; path=/"), (Some("a=b; JSESSIONID=abc"), "JSESSIONID=abc; path=/")]
        {
            let session = Session::new("/cookie");
            let mut request = Request::new(method, &session.path(transport));
            if let Some(sent) = sent {
                request = request.header("Cookie", sent);
            }
            let answer = request.open(node.http).await;
            assert_eq!((answer.status, answer.header("set-cookie")), (200, Some(set)), "{transport}");
        }
    }
    let plain = Session::open("/echo", node.http).await;
    let sent = Request::post(&plain.path("xhr_send"), b"[]").header("Cookie", "JSESSIONID=a").send(node.http).await;
    assert_eq!((sent.status, sent.header("set-cookie")), (204, None));
}

#[tokio::test]
async fn http_10_works() {
    let node = node().await;
    let answer = Request::get("/echo").http10().header("Connection", "Keep-Alive").send(node.http).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("19")));
    let session = Session::new("/close");
    let request = Request::post(&session.path("xhr_streaming"), b"").http10().header("Connection", "Keep-Alive");
    let answer = request.send(node.http).await;
    assert_eq!((answer.header("transfer-encoding"), answer.header("content-length")), (None, None));
    assert_eq!(answer.text(), format!("{}\no\nc[3000,\"Go away!\"]\n", "h".repeat(2048)));
}

#[tokio::test]
async fn a_connection_carries_one_response_after_the_other() {
    use tokio::io::AsyncWriteExt as _;
    let node = node().await;
    let session = Session::new("/close");
    let request =
        format!("POST {} HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: 0\r\n\r\n", session.path("xhr_streaming"));
    let mut stream = crate::support::door::connect(node.http).await.expect("connected");
    for count in [2, 1] {
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut response = Response::new(stream, false);
        response.read_head().await.expect("a head");
        response.finish().await;
        let frames = response.text();
        assert_eq!(frames.lines().skip(1).count(), count, "{frames}");
        stream = response.into_stream().0;
    }
}
