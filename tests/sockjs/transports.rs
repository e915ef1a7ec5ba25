//! The frames of each transport, to the byte and to the chunk.

use super::*;
use crate::support::websocket::handshake;

const ESCAPED: &str = r#"["  \u0000\n\r "]"#;

#[tokio::test]
async fn xhr_polls_and_sends() {
    let node = node().await;
    let session = Session::new("/echo");
    let open = Request::post(&session.path("xhr"), b"").header("Origin", "test").send(node.http).await;
    assert_eq!((open.status, open.text().as_str()), (200, "o\n"));
    assert_eq!(open.header("content-type"), Some("application/javascript; charset=UTF-8"));
    not_cached(&open);
    for_page(&open, Some("test"));
    let sent = Request::post(&session.path("xhr_send"), b"[\"x\"]").header("Origin", "test").send(node.http).await;
    assert_eq!((sent.status, sent.header("content-type")), (204, Some("text/plain; charset=UTF-8")));
    not_cached(&sent);
    for_page(&sent, Some("test"));
    assert_eq!(session.xhr(node.http).await, "a[\"x\"]\n");
    // Another server in the path is the same session.
    let other = session.path("xhr_send").replace("/000/", "/999/");
    assert_eq!(Request::post(&other, b"[\"y\"]").send(node.http).await.status, 204);
    assert_eq!(session.xhr(node.http).await, "a[\"y\"]\n");
    assert_eq!(Request::post("/echo/0/nobody/xhr_send", b"[\"x\"]").send(node.http).await.status, 404);
}

#[tokio::test]
async fn bodies_are_arrays_of_texts_whatever_their_type() {
    let node = node().await;
    let session = Session::open("/echo", node.http).await;
    for (body, words) in [
        ("[\"x", "Broken JSON encoding."),
        ("", "Payload expected."),
        ("\"x\"", "Broken JSON encoding."),
        ("{}", "Broken"),
    ] {
        let answer = Request::post(&session.path("xhr_send"), body.as_bytes()).send(node.http).await;
        assert!(answer.status == 500 && answer.text().contains(words), "{body}: {}", answer.text());
    }
    let types =
        ["text/plain", "T", "application/json", "application/xml", "", "application/json; charset=utf-8", "text/xml"];
    for kind in types {
        let request = Request::post(&session.path("xhr_send"), b"[\"a\"]").header("Content-Type", kind);
        assert_eq!(request.send(node.http).await.status, 204, "{kind}");
    }
    session.send(node.http, "[]").await;
    session.send(node.http, "[1,{\"a\":\"b\"}]").await;
    let expected = format!("a[{}\"1\",\"{{\\\"a\\\":\\\"b\\\"}}\"]\n", "\"a\",".repeat(types.len()));
    assert_eq!(session.xhr(node.http).await, expected);
    let many = format!("[{}1]", "1,".repeat(1000));
    let answer = Request::post(&session.path("xhr_send"), many.as_bytes()).send(node.http).await;
    assert_eq!(answer.status, 413);
    let long = format!("[\"{}\"]", "x".repeat(200_000));
    let answer = Request::post(&session.path("xhr_send"), long.as_bytes()).send(node.http).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn characters_that_browsers_lose_are_escaped() {
    let node = node().await;
    let session = Session::open("/echo", node.http).await;
    let is_lost = |unit: &u32| matches!(unit, 0x200c..=0x200f | 0x2028..=0x202f | 0x2060..=0x206f | 0xfff0..=0xffff);
    let lost: Vec<char> = (0x100..=0xffff).filter(is_lost).filter_map(char::from_u32).collect();
    let bare: String = lost.iter().collect();
    let escaped: String = lost.iter().map(|it| format!("\\u{:04x}", u32::from(*it))).collect();
    session.send(node.http, &format!("[\"{bare}\"]")).await;
    assert_eq!(session.xhr(node.http).await, format!("a[\"{escaped}\"]\n"));
    // What comes with escapes goes out with them: half of a surrogate pair, too.
    session.send(node.http, "[\"\\ud800\\u0041\\\"\"]").await;
    assert_eq!(session.xhr(node.http).await, "a[\"\\ud800\\u0041\\\"\"]\n");
}

#[tokio::test]
async fn xhr_streams_end_after_their_limit_and_go_on() {
    let node = node().await;
    let session = Session::new("/echo");
    let answer = Request::post(&session.path("xhr_streaming"), b"").header("Origin", "test").open(node.http).await;
    assert_eq!(answer.header("content-type"), Some("application/javascript; charset=UTF-8"));
    not_cached(&answer);
    for_page(&answer, Some("test"));
    let mut stream = Streamed(answer);
    stream.expect(&format!("{}\n", "h".repeat(2048))).await;
    stream.expect("o\n").await;
    let message = "x".repeat(128);
    for _ in 0..31 {
        session.send(node.http, &format!("[\"{message}\"]")).await;
        stream.expect(&format!("a[\"{message}\"]\n")).await;
    }
    stream.ends().await;
    session.send(node.http, "[\"between\"]").await;
    let mut stream = session.stream(node.http).await;
    stream.expect("a[\"between\"]\n").await;
}

#[tokio::test]
async fn event_streams() {
    let node = node().await;
    let session = Session::new("/echo");
    let answer = Request::get(&session.path("eventsource")).open(node.http).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    not_cached(&answer);
    let mut stream = Streamed(answer);
    stream.expect("\r\n").await;
    stream.expect("data: o\r\n\r\n").await;
    for (sent, event) in [
        ("[\"x\"]", "data: a[\"x\"]\r\n\r\n".to_owned()),
        (ESCAPED, format!("data: a{ESCAPED}\r\n\r\n")),
        ("[\"100%\"]", "data: a[\"100%25\"]\r\n\r\n".to_owned()),
    ] {
        session.send(node.http, sent).await;
        stream.expect(&event).await;
    }
    let message = "x".repeat(4096);
    session.send(node.http, &format!("[\"{message}\"]")).await;
    stream.expect(&format!("data: a[\"{message}\"]\r\n\r\n")).await;
    stream.ends().await;
}

#[tokio::test]
async fn htmlfile_pages() {
    let node = node().await;
    let session = Session::new("/echo");
    let answer = Request::get(&session.path("htmlfile?c=%63allback")).open(node.http).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=UTF-8")));
    not_cached(&answer);
    let mut stream = Streamed(answer);
    let head = stream.chunk().await;
    assert!(head.len() > 1024 && head.contains("var c = parent.callback;"), "{head}");
    stream.expect("<script>\np(\"o\");\n</script>\r\n").await;
    session.send(node.http, "[\"x\"]").await;
    stream.expect("<script>\np(\"a[\\\"x\\\"]\");\n</script>\r\n").await;
    session.send(node.http, "[\"</script>\"]").await;
    stream.expect("<script>\np(\"a[\\\"\\u003c/script>\\\"]\");\n</script>\r\n").await;
    session.send(node.http, &format!("[\"{}\"]", "x".repeat(4096))).await;
    assert!(stream.chunk().await.len() > 4096);
    stream.ends().await;
    let window = Request::get(&session.path("htmlfile?c=x")).header("Sec-Fetch-Dest", "document").send(node.http).await;
    assert_eq!(window.status, 403, "only a frame may open the page");
}

#[tokio::test]
async fn jsonp_polls_and_sends() {
    let node = node().await;
    let session = Session::new("/echo");
    let poll = async || Request::get(&session.path("jsonp?c=%63allback")).send(node.http).await;
    let open = poll().await;
    assert_eq!(open.header("content-type"), Some("application/javascript; charset=UTF-8"));
    not_cached(&open);
    assert_eq!(open.text(), "/**/callback(\"o\");\r\n");
    let send = async |kind: &str, body: &str| {
        let request = Request::post(&session.path("jsonp_send"), body.as_bytes()).header("Content-Type", kind);
        request.send(node.http).await
    };
    let form = "application/x-www-form-urlencoded";
    for (kind, body) in [(form, "d=%5B%22abc%22%5D"), ("text/plain", "[\"%61bc\"]"), (form, "d=%5B%5D")] {
        let answer = send(kind, body).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
        not_cached(&answer);
    }
    for (body, words) in
        [("d=%5B%22x", "Broken JSON"), ("", "Payload expected."), ("d=", "Payload"), ("p=p", "Payload")]
    {
        let answer = send(form, body).await;
        assert!(answer.status == 500 && answer.text().contains(words), "{body}: {}", answer.text());
    }
    assert_eq!(poll().await.text(), "/**/callback(\"a[\\\"abc\\\",\\\"%61bc\\\"]\");\r\n");
    for transport in ["jsonp", "htmlfile"] {
        for (query, words) in [
            ("", "\"callback\" parameter required"),
            ("?c=%20", "invalid \"callback\" parameter"),
            ("?c=abc(", "invalid \"callback\" parameter"),
            ("?c=%3Cb%3E", "invalid \"callback\" parameter"),
        ] {
            let answer = Request::get(&format!("/echo/a/a/{transport}{query}")).send(node.http).await;
            assert!(answer.status == 500 && answer.text().contains(words), "{transport}{query}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn web_sockets() {
    let node = node().await;
    let (mut one, mut other) =
        (web_socket(node.http, "/echo/0/same/websocket").await, web_socket(node.http, "/echo/0/same/websocket").await);
    for (socket, text) in [(&mut one, "a"), (&mut other, "b")] {
        for frame in ["", "[]", &format!("[\"{text}\"]")] {
            socket.text(frame).await;
        }
        expect(socket, &format!("a[\"{text}\"]")).await;
        socket.text(&format!("\"{text}\"")).await;
        expect(socket, &format!("a[\"{text}\"]")).await;
    }
    one.text("[\"a").await;
    assert_eq!(one.frame().await.expect("a close").close_code(), 1002);
    let mut closed = web_socket(node.http, "/close/0/0/websocket").await;
    expect(&mut closed, "c[3000,\"Go away!\"]").await;
    let close = closed.frame().await.expect("a close");
    assert_eq!((close.close_code(), &close.payload[2..]), (3000, &b"Go away!"[..]));
    for request in [
        Request::get("/echo/0/0/websocket"),
        Request::get("/echo/0/0/websocket").header("Upgrade", "WebSocket").header("Connection", "close"),
    ] {
        let answer = request.send(node.http).await;
        assert!(answer.status == 400 && answer.text().contains("WebSocket"), "{}", answer.text());
    }
    assert_eq!(handshake("/no_socket/0/0/websocket").send(node.http).await.status, 404);
    let accepted = handshake("/echo/0/0/websocket").open(node.http).await;
    assert_eq!((accepted.status, accepted.header("content-length")), (101, None));
}

#[tokio::test]
async fn web_sockets_without_frames() {
    let node = node().await;
    let mut socket = RawWebSocket::open(&node, "/echo/websocket").await;
    for text in ["Hello world!\u{ffff}", "123", "\"a\"", "[\"a\"]", "", " {} "] {
        socket.text(text).await;
        expect(&mut socket, text).await;
    }
    let mut closed = RawWebSocket::open(&node, "/close/websocket").await;
    let close = closed.frame().await.expect("a close");
    assert_eq!((close.close_code(), &close.payload[2..]), (3000, &b"Go away!"[..]));
}
