//! `--hook-url`: the application gets events of clients, and its answer says what happens next.

use crate::support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::application::ServerRequest;
use support::guarded::{KEY, bearer};
use support::redis::fresh_dir;
use support::server::run_to_end;
use support::token::{SECRET, token};
use support::websocket::handshake;
use support::{LineClient, Metrics, Node, RawWebSocket, Request, Response, SOON, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// A call as the application got it.
#[derive(Clone, Debug)]
struct Call {
    request: ServerRequest,
    body: Value,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name)
    }
}

/// The application's reaction to a call.
enum Do {
    /// It answers with a status and a body.
    Answer(u16, String),
    /// It answers after a time.
    Late(Duration, u16, String),
    /// It writes these bytes and ends the connection.
    Write(Vec<u8>),
    /// It never answers.
    Hang,
}

fn ack(value: &Value) -> Do {
    Do::Answer(200, json!({"ack": value}).to_string())
}

/// A small application: an HTTP server that answers by a rule and records the calls.
struct Application {
    url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    /// The connections that are open now.
    open: Arc<AtomicUsize>,
}

impl Application {
    /// `rule` gets the call and its number, beginning with 0.
    async fn start(rule: impl Fn(&Call, usize) -> Do + Send + Sync + 'static) -> Application {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let url = format!("http://{}/hook.php?key=hidden", listener.local_addr().expect("an address"));
        let (calls, open, rule) = (Arc::<Mutex<Vec<Call>>>::default(), Arc::<AtomicUsize>::default(), Arc::new(rule));
        let (noted, counted) = (calls.clone(), open.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (calls, open, rule) = (noted.clone(), counted.clone(), rule.clone());
                tokio::spawn(async move {
                    open.fetch_add(1, Ordering::SeqCst);
                    serve(stream, &calls, &*rule).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Application { url, calls, open }
    }

    async fn node(&self, args: &[&str]) -> Node {
        Node::start(&[&["--hook-url", &self.url], args].concat()).await
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("calls").clone()
    }
}

async fn serve(mut stream: TcpStream, calls: &Mutex<Vec<Call>>, rule: &(impl Fn(&Call, usize) -> Do + Send + Sync)) {
    let Some(call) = read(&mut stream).await else { return };
    let number = {
        let mut calls = calls.lock().expect("calls");
        calls.push(call.clone());
        calls.len() - 1
    };
    let bytes = |status: u16, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
    };
    let bytes = match rule(&call, number) {
        Do::Answer(status, body) => bytes(status, &body),
        Do::Late(time, status, body) => {
            sleep(time).await;
            bytes(status, &body)
        }
        Do::Write(bytes) => bytes,
        // It notices when the server closes the connection.
        Do::Hang => return while stream.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {},
    };
    let _ = stream.write_all(&bytes).await;
}

async fn read(stream: &mut TcpStream) -> Option<Call> {
    let request = ServerRequest::read(stream).await?;
    assert!(request.head.starts_with("POST /hook.php?key=hidden HTTP/1.1"), "{}", request.head);
    let body = serde_json::from_str(&request.body).expect("JSON");
    Some(Call { request, body })
}

async fn post(node: &Node, body: &Value) -> Response {
    Request::post("/event", body.to_string().as_bytes())
        .header("Content-Type", "application/json")
        .send(node.http)
        .await
}

/// A way in which a client sends an event, and the answer as `(ack, error)`.
enum Way {
    Ws(RawWebSocket),
    Tcp(LineClient),
    Post,
}

const WAYS: [&str; 3] = ["ws", "tcp", "post"];

impl Way {
    async fn open(node: &Node, name: &str) -> Way {
        match name {
            "ws" => Way::Ws(RawWebSocket::open(node, "/ws?client=me").await),
            "tcp" => Way::Tcp(LineClient::connect(node.tcp).await),
            _ => Way::Post,
        }
    }

    async fn send(&mut self, command: &Value) {
        match self {
            Way::Ws(socket) => socket.text(&command.to_string()).await,
            Way::Tcp(client) => client.send(&command.to_string()).await,
            Way::Post => unreachable!("a request has its answer"),
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            let object = match self {
                Way::Ws(socket) => socket.frame().await.expect("an object").json(),
                Way::Tcp(client) => client.json().await,
                Way::Post => unreachable!("a request has its answer"),
            };
            if object["type"] != "hello" && object["type"] != "heartbeat" {
                return object;
            }
        }
    }

    /// Sends an event, and returns the arguments of the answer, or the error.
    async fn ask(&mut self, node: &Node, event: &Value) -> Result<Value, Value> {
        if let Way::Post = self {
            let answer = post(node, event).await;
            let body = answer.json();
            if answer.status == 200 {
                assert_eq!(body["send"], json!([]), "{body}");
                return Ok(body["ack"].clone());
            }
            return Err(body["error"].clone());
        }
        let mut command = event.clone();
        command["type"] = "event".into();
        command["ref"] = 7.into();
        self.send(&command).await;
        let answer = self.next().await;
        assert_eq!(answer["ref"], 7, "{answer}");
        if answer["type"] == "ack" {
            assert_eq!(answer["args"] == true, answer["data"].is_array(), "{answer}");
            return Ok(answer["data"].clone());
        }
        assert_eq!(answer["type"], "error", "{answer}");
        Err(answer)
    }
}

#[tokio::test]
async fn the_application_gets_the_fields_of_an_event() {
    let application = Application::start(|_, _| Do::Answer(204, String::new())).await;
    let node = application.node(&[]).await;
    for (event, args, channel) in [
        (json!({"event": "addItem", "data": {"title": "milk"}}), json!([{"title": "milk"}]), Value::Null),
        (json!({"event": "a b é", "data": null, "channel": "todo"}), json!([null]), json!("todo")),
        (json!({"event": "move", "args": [1, [2], "x"]}), json!([1, [2], "x"]), Value::Null),
        (json!({"event": "ping me"}), json!([]), Value::Null),
    ] {
        for way in WAYS {
            let answer = Way::open(&node, way).await.ask(&node, &event).await;
            assert_eq!(answer, Ok(Value::Null), "{way}: an empty answer");
            let call = application.calls().last().cloned().expect("a call");
            assert_eq!(call.header("content-type"), Some("application/json"));
            let body = &call.body;
            assert_eq!((&body["event"], &body["args"]), (&event["event"], &args), "{way}: {body}");
            assert_eq!((&body["channel"], body.get("channel").is_some()), (&channel, channel.is_string()), "{way}");
            assert_eq!(body["id"].as_str().map(str::len), Some(32), "{way}: {body}");
            let fixed = json!({"type": "event", "protocol": "longtail", "session": null, "endpoint": "/", "user": null,
                "data": null, "channels": [], "ack": true});
            for (name, value) in fixed.as_object().expect("fields") {
                assert_eq!(body.get(name), Some(value), "{way}: {name} in {body}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_is_known_by_its_id_its_channels_and_its_headers() {
    let application = Application::start(|_, _| Do::Answer(204, String::new())).await;
    let node = application.node(&["--allow-origin", "https://app.example"]).await;
    let last = || application.calls().last().cloned().expect("a call");
    let (cookie, password) = (("Cookie", "sid=7; a=b"), ("Authorization", "Basic YTpi"));

    let request = handshake("/ws?channel=a,b&client=me").header(cookie.0, cookie.1).header(password.0, password.1);
    let mut socket = RawWebSocket::open_by(node.http, request).await;
    socket.next_of("hello").await;
    socket.text(r#"{"type":"event","event":"e"}"#).await;
    let answer = socket.next_of("ack").await;
    assert_eq!(answer, json!({"type": "ack"}), "without a reference and arguments");
    let call = last();
    assert_eq!((call.header("cookie"), call.header("authorization")), (Some("sid=7; a=b"), Some("Basic YTpi")));
    assert_eq!((&call.body["client"], &call.body["ack"]), (&json!("me"), &json!(false)));
    let mut channels: Vec<&str> =
        call.body["channels"].as_array().expect("channels").iter().filter_map(Value::as_str).collect();
    channels.sort_unstable();
    assert_eq!(channels, ["a", "b"]);

    let body = r#"{"event":"e","client":"you"}"#.as_bytes();
    let by_json = Request::post("/event", body).header("Content-Type", "application/json; charset=utf-8");
    assert_eq!(by_json.header(cookie.0, cookie.1).send(node.http).await.status, 200);
    assert_eq!((last().header("cookie"), &last().body["client"]), (Some("sid=7; a=b"), &json!("you")));

    // A page of another site can make a browser send these bodies with the user's cookies, and without an `Origin` in
    // an old browser.
    let form = "event=e&data=milk&client=you";
    for request in [Request::form("/event", form), Request::post("/event", body).header("Content-Type", "text/plain")] {
        let refused = request.header(cookie.0, cookie.1).send(node.http).await;
        assert_eq!((refused.status, refused.error_code().as_str()), (403, "forbidden_origin"));
    }
    // A browser offers JSON in a hidden frame as a download.
    let form_with_json = Request::form("/event", r#"{"event":"e","client":"a b"}"#);
    for (request, status, kind) in [
        (Request::form("/event", form).header(cookie.0, cookie.1), 403, "text/plain; charset=utf-8"),
        (Request::form("/event", "data=1"), 400, "text/plain; charset=utf-8"),
        (form_with_json, 400, "application/json; charset=utf-8"),
    ] {
        let refused = request.send(node.http).await;
        assert_eq!((refused.status, refused.header("content-type")), (status, Some(kind)), "{}", refused.text());
    }
    let by_page = Request::form("/event", form).header(cookie.0, cookie.1).header("Origin", "https://app.example");
    let answer = by_page.send(node.http).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert_eq!((last().header("cookie"), &last().body["args"]), (Some("sid=7; a=b"), &json!(["milk"])));
    assert_eq!(last().body["ack"], false, "the page cannot read the answer to a form");
    let other = Request::form("/event", form).header("Origin", "https://evil.example").send(node.http).await;
    assert_eq!(other.error_code(), "forbidden_origin");
    assert_eq!(application.calls().len(), 3);
}

/// Every page may send events to an open server. The application gets the cookies and the password of the user only
/// from the server's own pages, from pages that the operator names, and from programs.
#[tokio::test]
async fn an_open_server_does_not_forward_cookies_of_foreign_pages() {
    let application = Application::start(|_, _| Do::Answer(204, String::new())).await;
    for allowed in [&["--allow-origin", "https://app.example"][..], &["--allow-origin", "*"]] {
        let node = application.node(&[&["--open"], allowed].concat()).await;
        let own = format!("http://{}", node.http);
        let by_json = |request: Request| request.header("Content-Type", "application/json");
        let body = br#"{"event":"e"}"#;
        for (origin, is_trusted) in [
            (None, true),
            (Some(own.as_str()), true),
            (Some("https://app.example"), allowed[1] != "*"),
            (Some("https://evil.example"), false),
            (Some("https://app.example.evil.example"), false),
            (Some("http://localhost:1"), false),
            (Some("null"), false),
        ] {
            let of_page = |request: Request| {
                let request = request.header("Cookie", "sid=7").header("Authorization", "Basic YTpi");
                origin.into_iter().fold(request, |request, origin| request.header("Origin", origin))
            };
            for way in ["ws", "json", "form"] {
                if way == "ws" {
                    let mut socket = RawWebSocket::open_by(node.http, of_page(handshake("/ws"))).await;
                    socket.text(r#"{"type":"event","event":"e"}"#).await;
                    socket.next_of("ack").await;
                } else if way == "json" {
                    let answer = of_page(by_json(Request::post("/event", body))).send(node.http).await;
                    let cors = (answer.status, answer.header("access-control-allow-origin").is_some());
                    assert_eq!(cors, (200, origin.is_some()), "{origin:?}");
                } else if origin.is_some() {
                    let answer = of_page(Request::form("/event", "event=e&data=1")).send(node.http).await;
                    assert_eq!(answer.status, 200, "{origin:?}: {}", answer.text());
                }
                let call = application.calls().pop().expect("a call");
                let expected = if is_trusted { (Some("sid=7"), Some("Basic YTpi")) } else { (None, None) };
                assert_eq!((call.header("cookie"), call.header("authorization")), expected, "{way}: {origin:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_names_the_user() {
    let application = Application::start(|_, _| Do::Answer(204, String::new())).await;
    let node = application.node(&["--token-secret", SECRET, "--publish-key", KEY]).await;
    let event = |client: &str| json!({"event": "e", "client": client}).to_string();
    let send = async |client: &str, header: &str, query: &str| {
        Request::post(&format!("/event?{query}"), event(client).as_bytes())
            .header("Content-Type", "application/json")
            .header("Authorization", header)
            .send(node.http)
            .await
    };
    let ann = token(&json!({"sub": "ann"}));
    let bound = token(&json!({"sub": "ben", "client": "b"}));
    for (client, header, query, user) in [
        ("a", bearer(&ann), String::new(), json!({"id": "ann"})),
        ("a", "Basic eA==".to_owned(), format!("token={ann}"), json!({"id": "ann"})),
        ("b", bearer(&bound), String::new(), json!({"id": "ben"})),
        ("a", bearer(KEY), String::new(), Value::Null),
    ] {
        assert_eq!(send(client, &header, &query).await.status, 200, "{header}");
        assert_eq!(application.calls().last().expect("a call").body["user"], user, "{header}");
    }
    for (client, header, status, code) in
        [("a", bearer(&bound), 403, "forbidden"), ("a", bearer("a.b.c"), 401, "unauthorized")]
    {
        let refused = send(client, &header, "").await;
        assert_eq!((refused.status, refused.error_code().as_str()), (status, code));
    }
    assert_eq!(application.calls().len(), 4);
    // The id of a call belongs to the user, too: a client id is public.
    let mut ids = Vec::new();
    for (user, client) in [("ann", r#""a""#), ("ben", r#""a""#), ("ann", r#""a""#), ("ann", "null"), ("ben", "null")] {
        let body = format!(r#"{{"event":"e","client":{client},"key":"k"}}"#);
        let request = Request::post("/event", body.as_bytes()).header("Content-Type", "application/json");
        let token = token(&json!({"sub": user}));
        let answer = request.header("Authorization", &bearer(&token)).send(node.http).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        ids.push(application.calls().pop().expect("a call").body["id"].clone());
    }
    assert!(ids[0] == ids[2] && ids[0] != ids[1] && ids[3] != ids[4], "{ids:?}");
    let mut socket = RawWebSocket::open(&node, "/ws").await;
    socket.text(&json!({"type": "event", "event": "e", "token": bound, "ref": 1}).to_string()).await;
    socket.next_of("ack").await;
    let call = application.calls().pop().expect("a call");
    assert_eq!((&call.body["user"]["id"], &call.body["client"]), (&json!("ben"), &json!("b")));
}

#[tokio::test]
async fn answers_are_carried_out() {
    let application = Application::start(|call, _| Do::Answer(200, call.body["args"][0].to_string())).await;
    let node = application.node(&[]).await;
    for way in WAYS {
        for (answer, expected) in [
            (json!({}), json!(null)),
            (json!([]), json!(null)),
            (json!({"ack": [1, "b"]}), json!([1, "b"])),
            (json!({"ack": {"id": 5}}), json!({"id": 5})),
            (json!({"ack": [], "unknown": {"a": 1}, "join": [], "send": null}), json!([])),
        ] {
            let got = Way::open(&node, way).await.ask(&node, &json!({"event": "e", "data": answer})).await;
            assert_eq!(got, Ok(expected), "{way}: {answer}");
        }
        let refuse = json!({"message": "no milk", "data": {"left": [0]}});
        let refuse = json!({"refuse": refuse, "publish": [{"channel": "c", "data": 1}], "join": ["a"]});
        let error = Way::open(&node, way).await.ask(&node, &json!({"event": "e", "data": refuse})).await;
        let error = error.expect_err("refused");
        assert_eq!(
            (&error["code"], &error["message"], &error["data"]),
            (&json!("forbidden"), &json!("no milk"), &json!({"left": [0]})),
            "{way}"
        );
        for field in ["join", "leave", "rooms", "leave_rooms"] {
            let answer = json!({"ack": [1], "publish": [{"channel": "c", "data": 1}], field: ["a"]});
            let error = Way::open(&node, way).await.ask(&node, &json!({"event": "e", "data": answer})).await;
            assert_eq!(error.expect_err("no session")["code"], "no_session", "{way}: {field}");
        }
    }
    let poll = node.get("/poll?channel=c&cursor=earliest").await.json();
    assert_eq!(poll["messages"], json!([]), "an answer that is refused has no effect");
    assert_eq!(post(&node, &json!({"event": "e", "data": {"join": ["a"]}})).await.status, 409);
    let metrics = Metrics::of(&node).await;
    assert_eq!(metrics.value(r#"longtail_hook_calls_total{type="event",outcome="answered"}"#), 15.0);
    assert_eq!(metrics.value(r#"longtail_hook_calls_total{type="event",outcome="refused"}"#), 3.0);
    assert_eq!(metrics.value(r#"longtail_hook_calls_total{type="event",outcome="no_session"}"#), 13.0);
    assert_eq!(metrics.value("longtail_hook_waiting"), 0.0);
}

#[tokio::test]
async fn messages_of_an_answer_come_before_the_acknowledgement() {
    let application = Application::start(|call, _| {
        let args = &call.body["args"];
        let messages = json!([
            {"channel": "todo", "event": "itemAdded", "data": args[0], "exclude": "self"},
            {"channel": "log", "data": "kept", "key": "k"},
            {"channel": "todo", "data": "to all"},
        ]);
        Do::Answer(200, json!({"ack": ["done"], "publish": messages}).to_string())
    })
    .await;
    // The application may publish where the client may not.
    let node = application.node(&["--public", "*", "--publish-key", KEY]).await;
    let mut sender = RawWebSocket::open(&node, "/ws?channel=todo,log&client=me").await;
    let mut other = RawWebSocket::open(&node, "/ws?channel=todo,log&client=you").await;
    sender.next_of("hello").await;
    other.next_of("hello").await;
    for _ in 0..2 {
        sender.text(r#"{"type":"event","event":"addItem","data":"milk","ref":1}"#).await;
        sender.next_of("ack").await;
    }
    let poll = node.get("/poll?channel=todo,log&cursor=earliest").await.json();
    let data: Vec<&Value> =
        poll["messages"].as_array().expect("messages").iter().map(|message| &message["data"]).collect();
    assert_eq!(
        data,
        ["milk", "kept", "to all", "milk", "to all"],
        "they are in the log when the client has the answer"
    );
    for expected in ["milk", "kept", "to all", "milk", "to all"] {
        let message = other.frame().await.expect("a message").json();
        assert_eq!(message["data"], expected, "{message}");
    }
}

#[tokio::test]
async fn the_sender_is_left_out() {
    let application = Application::start(|_, _| {
        let messages = json!([{"channel": "todo", "data": 1, "exclude": "self"}, {"channel": "todo", "data": 2}]);
        Do::Answer(200, json!({ "publish": messages }).to_string())
    })
    .await;
    let node = application.node(&[]).await;
    let mut sender = RawWebSocket::open(&node, "/ws?channel=todo&client=me").await;
    sender.next_of("hello").await;
    sender.text(r#"{"type":"event","event":"e","ref":1}"#).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let object = sender.frame().await.expect("an object").json();
        seen.push(if object["type"] == "ack" { json!("ack") } else { object["data"].clone() });
    }
    seen.sort_by_key(ToString::to_string);
    assert_eq!(seen, [json!("ack"), json!(2)]);
    // Without a client id, no client is excluded.
    assert_eq!(post(&node, &json!({"event": "e"})).await.status, 200);
    for expected in [1, 2] {
        assert_eq!(sender.frame().await.expect("a message").json()["data"], expected);
    }
}

#[tokio::test]
async fn bad_answers_fail_the_event() {
    let long = format!("{{\"ack\":[\"{}\"]}}", "x".repeat(1 << 20));
    let many = json!({"publish": vec![json!({"channel": "c", "data": 1}); 101]}).to_string();
    let unsound =
        json!({"publish": [{"channel": "c", "data": 1}, {"channel": "secret channel", "data": 1}]}).to_string();
    let unknown = json!({"publish": [{"channel": "c", "data": 1, "secret": 1}]}).to_string();
    let heavy = json!({"publish": [{"channel": "c", "data": "x".repeat(70_000)}]}).to_string();
    for (status, body, logged, calls) in [
        (200, "secret", "a text that is not JSON", 1),
        (200, "", "an empty body", 1),
        (200, "<html>secret", "an HTML page", 1),
        (200, "[1]", "not an object", 1),
        (200, r#"{"publish":"secret"}"#, "a field of the wrong type", 1),
        (200, r#"{"refuse":"secret"}"#, "a field of the wrong type", 1),
        (200, &*long, "more than 1048576 bytes", 1),
        (200, &*many, "more than 100 items", 1),
        (200, &*unsound, "a publish object that is refused: bad_channel", 1),
        (200, &*unknown, "a publish object that is refused: bad_request", 1),
        (200, &*heavy, "a publish object that is refused: too_large", 1),
        (201, "{}", "status 201", 1),
        (302, "", "status 302", 1),
        (403, "secret", "status 403", 1),
        (404, "", "status 404", 1),
        (500, "secret", "status 500", 2),
        (503, "", "status 503", 2),
    ] {
        let answer = body.to_owned();
        let application = Application::start(move |_, _| Do::Answer(status, answer.clone())).await;
        let node = application.node(&["--hook-timeout", "20"]).await;
        let mut socket = Way::open(&node, "ws").await;
        for _ in 0..2 {
            let error = socket.ask(&node, &json!({"event": "e"})).await.expect_err("failed");
            assert_eq!(error["code"], "application_failed", "{logged}: {error}");
        }
        let failed = post(&node, &json!({"event": "e"})).await;
        assert_eq!((failed.status, failed.error_code().as_str()), (502, "application_failed"), "{logged}");
        node.logged(logged).await;
        let log = node.log();
        assert_eq!(log.matches("--hook-url").count(), 1, "once for each change: {log}");
        assert!(!log.contains("secret") && !log.contains("hidden"), "{log}");
        assert_eq!(application.calls().len(), 3 * calls, "{logged}");
        let metrics = Metrics::of(&node).await;
        assert_eq!(metrics.value(r#"longtail_hook_calls_total{type="event",outcome="failed"}"#), 3.0);
        assert_eq!(metrics.value("longtail_hook_repeats_total"), 3.0 * (calls - 1) as f64, "{logged}");
        assert_eq!(metrics.value(r#"longtail_refused_total{reason="application_failed"}"#), 3.0);
        let poll = node.get("/poll?channel=c&cursor=earliest").await.json();
        assert_eq!(poll["messages"], json!([]), "nothing of a bad answer has an effect");
    }
}

#[tokio::test]
async fn a_call_is_repeated_once_with_the_same_id() {
    type Rule = fn() -> Do;
    let broken: [(&str, Rule); 5] = [
        ("an error", || Do::Answer(500, String::new())),
        ("a connection that ends", || Do::Write(Vec::new())),
        ("bytes that are not HTTP", || Do::Write(b"hello\r\n\r\n".to_vec())),
        ("an answer that breaks off", || Do::Write(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{".to_vec())),
        ("no answer", || Do::Hang),
    ];
    for (what, first) in broken {
        let application = Application::start(move |_, n| if n == 0 { first() } else { ack(&json!([n])) }).await;
        let node = application.node(&["--hook-timeout", "6"]).await;
        let answer = Way::Post.ask(&node, &json!({"event": "e", "data": 1})).await;
        assert_eq!(answer, Ok(json!([1])), "{what}");
        let calls = application.calls();
        assert_eq!(calls.len(), 2, "{what}");
        assert_eq!(calls[0].body, calls[1].body, "{what}");
        assert!(!node.log().contains("--hook-url"), "the application works: {}", node.log());
    }
}

#[tokio::test]
async fn a_slow_answer_counts_while_the_call_is_repeated() {
    let application = Application::start(|_, n| match n {
        0 => Do::Late(Duration::from_millis(3500), 200, r#"{"ack":["first"]}"#.into()),
        _ => Do::Hang,
    })
    .await;
    let node = application.node(&["--hook-timeout", "4"]).await;
    assert_eq!(Way::Post.ask(&node, &json!({"event": "e"})).await, Ok(json!(["first"])));
    assert_eq!(application.calls().len(), 2);
}

#[tokio::test]
async fn an_application_that_never_answers_fails_the_event_in_time() {
    let application = Application::start(|_, _| Do::Hang).await;
    let node = application.node(&["--hook-timeout", "3"]).await;
    let begun = Instant::now();
    let failed = post(&node, &json!({"event": "e"})).await;
    assert_eq!((failed.status, failed.error_code().as_str()), (502, "application_failed"));
    assert!(begun.elapsed() >= Duration::from_millis(2950), "{:?}", begun.elapsed());
    assert_eq!(application.calls().len(), 2);
    eventually("no connection", async || (application.open.load(Ordering::SeqCst) == 0).then_some(())).await;
    node.logged("no answer within 3 s").await;
}

#[tokio::test]
async fn an_id_belongs_to_a_client_and_a_key() {
    let application = Application::start(|_, _| Do::Answer(204, String::new())).await;
    let node = application.node(&[]).await;
    let id = async |event: Value| {
        assert_eq!(post(&node, &event).await.status, 200);
        application.calls().pop().expect("a call").body["id"].as_str().expect("an id").to_owned()
    };
    let first = id(json!({"event": "e", "client": "a", "key": "k"})).await;
    assert_eq!(id(json!({"event": "e", "client": "a", "key": "k"})).await, first);
    let mut socket = RawWebSocket::open(&node, "/ws?client=a").await;
    socket.text(r#"{"type":"event","event":"e","key":"k","ref":1}"#).await;
    socket.next_of("ack").await;
    assert_eq!(application.calls().pop().expect("a call").body["id"], *first, "on another transport");
    for other in [
        json!({"event": "e", "client": "b", "key": "k"}),
        json!({"event": "e", "client": "a", "key": "l"}),
        json!({"event": "e", "key": "k"}),
        json!({"event": "e", "client": "a"}),
    ] {
        assert_ne!(id(other.clone()).await, first, "{other}");
    }
    assert_ne!(id(json!({"event": "e", "client": "a"})).await, id(json!({"event": "e", "client": "a"})).await);
}

#[tokio::test]
async fn events_of_one_client_are_called_in_order_one_at_a_time() {
    let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let seen = (now.clone(), most.clone());
    let application = Application::start(move |call, _| {
        if call.body["client"] == "me" {
            let running = seen.0.fetch_add(1, Ordering::SeqCst) + 1;
            seen.1.fetch_max(running, Ordering::SeqCst);
            let now = seen.0.clone();
            let time = Duration::from_millis(call.body["args"][0].as_u64().expect("a number") % 7);
            tokio::spawn(async move {
                sleep(time).await;
                now.fetch_sub(1, Ordering::SeqCst);
            });
            return Do::Late(time + Duration::from_millis(3), 200, json!({"ack": call.body["args"]}).to_string());
        }
        Do::Hang
    })
    .await;
    let node = application.node(&["--hook-timeout", "30"]).await;
    // Another client whose call hangs does not delay this client.
    let mut other = RawWebSocket::open(&node, "/ws?client=you").await;
    other.text(r#"{"type":"event","event":"e","ref":1}"#).await;
    for way in ["ws", "tcp"] {
        let mut way = match way {
            "ws" => Way::open(&node, way).await,
            _ => {
                let mut way = Way::open(&node, way).await;
                way.send(&json!({"type": "subscribe", "channels": ["c"], "client": "me", "ref": "s"})).await;
                assert_eq!(way.next().await["type"], "ack");
                way
            }
        };
        let before = application.calls().len();
        for n in 0..60 {
            way.send(&json!({"type": "event", "event": "e", "data": n, "ref": n})).await;
        }
        for n in 0..60 {
            assert_eq!(way.next().await, json!({"type": "ack", "ref": n, "data": [n], "args": true}));
        }
        let calls = application.calls();
        let order: Vec<_> = calls[before..].iter().filter(|call| call.body["client"] == "me").collect();
        assert_eq!(order.len(), 60);
        assert!(order.iter().enumerate().all(|(n, call)| call.body["args"][0] == n), "in order");
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_client_goes_on_while_its_event_waits() {
    let application = Application::start(|_, _| Do::Hang).await;
    let node = application.node(&["--hook-timeout", "4"]).await;
    for way in ["ws", "tcp"] {
        let mut way = Way::open(&node, way).await;
        way.send(&json!({"type": "subscribe", "channels": ["todo"], "ref": "s"})).await;
        assert_eq!(way.next().await["type"], "ack");
        way.send(&json!({"type": "event", "event": "e", "ref": "event"})).await;
        way.send(&json!({"type": "ping", "ref": "ping"})).await;
        assert_eq!(way.next().await["ref"], "ping");
        way.send(&json!({"type": "publish", "channel": "todo", "data": 1, "ref": "publish"})).await;
        let mut seen = [way.next().await, way.next().await];
        seen.sort_by_key(|object| object["type"] != "ack");
        assert_eq!((&seen[0]["ref"], &seen[1]["data"]), (&json!("publish"), &json!(1)), "an answer and a message");
        let last = way.next().await;
        assert_eq!((&last["ref"], &last["code"]), (&json!("event"), &json!("application_failed")));
    }
}

/// A connection without a channel may be silent for `--request-timeout`. While the application takes longer than that
/// to answer, the client has nothing to send.
#[tokio::test]
async fn a_slow_answer_does_not_count_as_silence_of_the_client() {
    let application =
        Application::start(|_, _| Do::Late(Duration::from_millis(1500), 200, r#"{"ack":[1]}"#.to_owned())).await;
    let node = application.node(&["--hook-timeout", "6", "--request-timeout", "1"]).await;
    let mut client = Way::open(&node, "tcp").await;
    for _ in 0..2 {
        assert_eq!(client.ask(&node, &json!({"event": "e"})).await, Ok(json!([1])));
        sleep(Duration::from_millis(400)).await;
    }
    let Way::Tcp(mut client) = client else { unreachable!("it is TCP") };
    let answered = Instant::now();
    assert_eq!(client.line().await, None);
    let silent = answered.elapsed() + Duration::from_millis(400);
    assert!(silent > Duration::from_millis(800) && silent < Duration::from_secs(4), "closed after {silent:?}");
}

#[tokio::test]
async fn one_client_cannot_fill_the_queue() {
    let application = Application::start(|call, _| match call.body["event"].as_str() {
        Some("slow") => Do::Hang,
        _ => Do::Answer(204, String::new()),
    })
    .await;
    let node = application.node(&["--hook-timeout", "5"]).await;
    let slow = json!({"event": "slow", "client": "me"}).to_string();
    let mut flood = Vec::new();
    for _ in 0..101 {
        let (http, body) = (node.http, slow.clone());
        let request = Request::post("/event", body.as_bytes()).header("Content-Type", "application/json");
        flood.push(tokio::spawn(async move { request.send(http).await }));
    }
    let waiting = async || {
        let value = Metrics::of(&node).await.value("longtail_hook_waiting");
        (value >= 100.0).then_some(()).ok_or(value)
    };
    eventually("a hundred calls", waiting).await;
    let refused = post(&node, &json!({"event": "slow", "client": "me"})).await;
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "rate_limited"));
    assert!(refused.header("retry-after").is_some());
    let others = post(&node, &json!({"event": "fast", "client": "you"})).await;
    assert_eq!(others.status, 200, "{}", others.text());
    let mut codes = Vec::new();
    for request in flood {
        codes.push(within(SOON, "an answer", request).await.expect("a request").error_code());
    }
    let count = |wanted: &str| codes.iter().filter(|code| *code == wanted).count();
    assert_eq!(count("rate_limited"), 1, "{codes:?}");
    assert_eq!(count("application_failed") + count("not_ready"), 100, "{codes:?}");
    // A call that has waited too long for its turn does not reach the application.
    let calls = application.calls().len();
    assert!(calls < 20 && (1..10).contains(&count("application_failed")), "{calls} {codes:?}");
    assert_eq!(Metrics::of(&node).await.value("longtail_hook_waiting"), 0.0);
}

/// One address has more events than the application answers in time. The events of other addresses do not wait for them.
/// Those that the application never got are refused as passing.
#[tokio::test]
async fn the_backlog_of_one_address_does_not_delay_others() {
    let application = Application::start(|call, _| match call.body["event"].as_str() {
        Some("slow") => Do::Hang,
        _ => Do::Answer(204, String::new()),
    })
    .await;
    let node = application.node(&["--hook-timeout", "1", "--trusted-proxy", "127.0.0.0/8"]).await;
    let send = |ip: String, event: Value| {
        let (http, body) = (node.http, event.to_string());
        let request = Request::post("/event", body.as_bytes()).header("Content-Type", "application/json");
        let request = request.header("X-Forwarded-For", &ip);
        async move { request.send(http).await }
    };
    let mut flood = Vec::new();
    for n in 0..300 {
        let event = json!({"event": "slow", "client": format!("c{n}")});
        flood.push(tokio::spawn(send("192.0.2.1".to_owned(), event)));
    }
    let waiting = async || {
        let value = Metrics::of(&node).await.value("longtail_hook_waiting");
        (value >= 250.0).then_some(()).ok_or(value)
    };
    eventually("a backlog", waiting).await;
    for n in 0..20 {
        let began = Instant::now();
        let answer = send(format!("198.51.100.{n}"), json!({"event": "fast", "client": "you"})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        // A call that hangs takes a second.
        assert!(began.elapsed() < Duration::from_millis(900), "{n}: {:?}", began.elapsed());
    }
    let mut codes = BTreeMap::<String, usize>::new();
    for request in flood {
        let answer = within(SOON, "an answer", request).await.expect("a request");
        if answer.error_code() == "not_ready" {
            assert_eq!(answer.status, 503);
            assert!(answer.header("retry-after").is_some());
        }
        *codes.entry(answer.error_code()).or_default() += 1;
    }
    assert!(codes.len() == 2 && codes["application_failed"] >= 32 && codes["not_ready"] >= 50, "{codes:?}");
    let metrics = Metrics::of(&node).await;
    let counted = metrics.value("longtail_hook_calls_total{type=\"event\",outcome=\"overloaded\"}");
    assert_eq!(counted, codes["not_ready"] as f64);
}

#[tokio::test]
async fn an_application_that_is_gone_is_told_once_and_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("http://{address}/hook.php?key=hidden");
    let node = Node::start(&["--hook-url", &url]).await;
    let mut socket = Way::open(&node, "ws").await;
    for _ in 0..20 {
        let error = socket.ask(&node, &json!({"event": "e"})).await.expect_err("failed");
        assert_eq!(error["code"], "application_failed", "{error}");
    }
    let log = node.log();
    assert_eq!(log.matches("no connection").count(), 1, "{log}");
    assert!(log.contains("start it, or correct the address") && !log.contains("hidden"), "{log}");
    node.publish("todo", "1").await;

    let listener = TcpListener::bind(address).await.expect("the address is free");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n").await;
        }
    });
    assert_eq!(socket.ask(&node, &json!({"event": "e"})).await, Ok(Value::Null));
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let application = Application::start(|_, _| {
        let messages = json!([{"channel": "todo", "data": "done"}]);
        Do::Late(Duration::from_millis(300), 200, json!({ "publish": messages }).to_string())
    })
    .await;
    let node = application.node(&[]).await;
    let mut socket = RawWebSocket::open(&node, "/ws").await;
    socket.text(r#"{"type":"event","event":"e","ref":1}"#).await;
    eventually("the call", async || (!application.calls().is_empty()).then_some(())).await;
    drop(socket);
    // The application was called, so its answer is carried out.
    let published = async || {
        let poll = node.get("/poll?channel=todo&cursor=earliest").await.json();
        (poll["messages"][0]["data"] == "done").then_some(()).ok_or(poll)
    };
    eventually("the message", published).await;
    assert_eq!(Metrics::of(&node).await.value("longtail_hook_waiting"), 0.0);
}

#[tokio::test]
async fn without_a_hook_there_are_no_events() {
    for args in [&[][..], &["--hook-url", "http://127.0.0.1:1/", "--hook-notify", "connect"]] {
        let node = Node::start(args).await;
        for way in WAYS {
            let error = Way::open(&node, way).await.ask(&node, &json!({"event": "e"})).await;
            assert_eq!(error.expect_err("no hook")["code"], "no_hook", "{way}");
        }
        assert_eq!(post(&node, &json!({"event": "e"})).await.status, 404);
        assert_eq!(node.get("/info").await.json()["events"], false);
    }
    let node = Node::start(&["--hook-url", "http://127.0.0.1:1/"]).await;
    assert_eq!(node.get("/info").await.json()["events"], true);
    let wrong = node.get("/event").await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST, OPTIONS")));
}

#[tokio::test]
async fn bad_events_are_refused_before_the_application_is_called() {
    let application = Application::start(|_, _| Do::Answer(204, String::new())).await;
    let node = application.node(&["--max-message-bytes", "100"]).await;
    let long = "x".repeat(101);
    for (event, code) in [
        (json!({}), "bad_event"),
        (json!({"event": ""}), "bad_event"),
        (json!({"event": "hello"}), "bad_event"),
        (json!({"event": "e", "data": 1, "args": []}), "bad_request"),
        (json!({"event": "e", "args": "x"}), "bad_request"),
        (json!({"event": "e", "channel": "a b"}), "bad_channel"),
        (json!({"event": "e", "key": ""}), "bad_request"),
        (json!({"event": 7}), "bad_request"),
        (json!({"event": "e", "data": long}), "too_large"),
    ] {
        assert_eq!(Way::Post.ask(&node, &event).await.expect_err("refused")["code"], code, "{event}");
        let mut socket = Way::open(&node, "ws").await;
        assert_eq!(socket.ask(&node, &event).await.expect_err("refused")["code"], code, "{event}");
        if code != "too_large" {
            assert_eq!(socket.ask(&node, &json!({"event": "e"})).await, Ok(Value::Null), "the connection goes on");
        }
    }
    for (body, code) in [(&b"{"[..], "bad_json"), (b"[]", "bad_request"), (b"\xff", "not_utf8"), (b"", "bad_json")] {
        let answer = Request::post("/event", body).header("Content-Type", "application/json").send(node.http).await;
        assert_eq!(answer.error_code(), code);
    }
    let huge = Request::post("/event", &vec![b' '; 10_000]).send(node.http).await;
    assert_eq!((huge.status, huge.error_code().as_str()), (413, "too_large"));
    assert_eq!(application.calls().len(), 8);
}

#[tokio::test]
async fn events_of_a_client_have_a_rate() {
    let application = Application::start(|_, _| Do::Answer(204, String::new())).await;
    let node = application.node(&["--event-rate", "2"]).await;
    let mut socket = Way::open(&node, "ws").await;
    let mut refused = 0;
    for _ in 0..20 {
        if let Err(error) = socket.ask(&node, &json!({"event": "e"})).await {
            assert_eq!(error["code"], "rate_limited", "{error}");
            refused += 1;
        }
    }
    assert!(refused > 0 && application.calls().len() == 20 - refused, "{refused}");
    assert_eq!(post(&node, &json!({"event": "e", "client": "you"})).await.status, 200, "another client");
}

/// The signature as an application computes it, with another program.
fn signed(secret: &str, time: &str, body: &str) -> String {
    use std::io::Write;
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-hmac", secret]).stdin(std::process::Stdio::piped());
    let mut child = openssl.stdout(std::process::Stdio::piped()).spawn().expect("openssl is installed");
    child.stdin.take().expect("input").write_all(format!("{time}.{body}").as_bytes()).expect("written");
    let output = child.wait_with_output().expect("an output");
    String::from_utf8_lossy(&output.stdout).trim().rsplit(' ').next().expect("a hash").to_owned()
}

#[tokio::test]
async fn calls_are_signed_and_the_secret_is_reloaded() {
    let application = Application::start(|_, _| Do::Answer(204, String::new())).await;
    let dir = fresh_dir("hook");
    let file = dir.join("secret");
    std::fs::write(&file, "a-secret-of-more-than-thirty-two-bytes\n").expect("written");
    let node = application.node(&["--hook-secret-file", &file.display().to_string()]).await;
    let sign = async || {
        assert_eq!(post(&node, &json!({"event": "e", "data": "é"})).await.status, 200);
        let call = application.calls().pop().expect("a call");
        let header = call.header("longtail-signature").expect("a signature").to_owned();
        let (time, hash) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).expect("two parts");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
        assert!(now.abs_diff(time.parse().expect("seconds")) < 120, "{header}");
        (time.to_owned(), hash.to_owned(), call.request.body)
    };
    let (time, hash, body) = sign().await;
    assert_eq!(hash, signed("a-secret-of-more-than-thirty-two-bytes", &time, &body));
    std::fs::write(&file, "another-secret-of-more-than-32-bytes").expect("written");
    node.signal("HUP");
    node.logged("--hook-secret-file was reloaded").await;
    let (time, hash, body) = sign().await;
    assert_eq!(hash, signed("another-secret-of-more-than-32-bytes", &time, &body));
    std::fs::write(&file, "\n").expect("written");
    node.signal("HUP");
    node.logged("the old secret of --hook-secret-file").await;
    let (time, hash, body) = sign().await;
    assert_eq!(hash, signed("another-secret-of-more-than-32-bytes", &time, &body));
    std::fs::remove_dir_all(dir).ok();
}

#[tokio::test]
async fn flags_that_cannot_work_are_refused_at_start() {
    for (args, said) in [
        (&["--hook-url", "http://a:b@c/"][..], "without a user name and password"),
        (&["--hook-url", "/hook.php"], "use a URL such as"),
        (&["--hook-secret-file", "/nonexistent"], "--hook-url"),
        (&["--hook-url", "http://a/", "--hook-secret-file", "/nonexistent"], "--hook-secret-file: /nonexistent"),
        (&["--hook-url", "http://a/", "--hook-secret-file", "/dev/null"], "the secret is empty"),
        (&["--hook-url", "http://a/", "--hook-notify", "events"], "use connect, event, ack, disconnect"),
        (&["--hook-url", "http://a/", "--hook-timeout", "0"], "--hook-timeout"),
    ] {
        let (code, output) = run_to_end(args).await;
        assert!(code != 0 && output.contains(said), "{args:?}: {code}: {output}");
        assert!(!output.contains("a:b@c"), "{output}");
    }
}

/// The script of docs/application.md under PHP's own server, as a reader of the page would start it.
#[tokio::test]
async fn the_example_of_the_documentation_works_in_php() {
    let page = include_str!("../docs/application.md");
    let script = page.split("```php\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a script");
    let (dir, port) = (fresh_dir("hook-php"), support::ports::free_port());
    let (file, secret) = (dir.join("secret"), "a-secret-of-more-than-thirty-two-bytes");
    std::fs::write(dir.join("hook.php"), script).expect("the script");
    std::fs::write(&file, format!("{secret}\n")).expect("the secret");
    let mut php = tokio::process::Command::new("php");
    // The script keeps its answers in the folder for temporary files.
    php.args(["-n", "-d", &format!("sys_temp_dir={}", dir.display()), "-S", &format!("127.0.0.1:{port}"), "-t"])
        .arg(&dir);
    php.env("LONGTAIL_SECRET", format!("{secret}\n")).kill_on_drop(true);
    php.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let _php = php.spawn().expect("php is installed (apt-get install php-cli)");
    eventually("php to listen", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    let url = format!("http://127.0.0.1:{port}/hook.php");
    let start = async |file: &std::path::Path| {
        Node::start(&["--hook-url", &url, "--hook-timeout", "20", "--hook-secret-file", &file.display().to_string()])
            .await
    };
    let node = start(&file).await;
    let mut sender = RawWebSocket::open(&node, "/ws?client=me").await;
    sender.next_of("hello").await;
    let mut other = RawWebSocket::open(&node, "/ws?channel=todo").await;
    other.next_of("hello").await;
    let event = json!({"type": "event", "event": "addItem", "data": {"title": "milk"}, "key": "k", "ref": 1});
    sender.text(&event.to_string()).await;
    let first = sender.next_of("ack").await;
    assert_eq!((&first["data"][0]["title"], &first["args"]), (&json!("milk"), &json!(true)), "{}", node.log());
    let message = other.frame().await.expect("a message").json();
    assert_eq!((&message["event"], &message["data"]), (&json!("itemAdded"), &first["data"][0]));
    sender.text(&event.to_string()).await;
    assert_eq!(sender.next_of("ack").await, first, "the application has seen this id");
    for (event, message) in [("addItem", "An item needs a title."), ("removeItem", "This event does not exist.")] {
        let refused = post(&node, &json!({"event": event, "data": {}})).await;
        assert_eq!((refused.status, &refused.json()["error"]["message"]), (403, &json!(message)));
    }

    let wrong = dir.join("wrong");
    std::fs::write(&wrong, "another-secret-of-more-than-32-bytes").expect("the secret");
    let node = start(&wrong).await;
    let failed = post(&node, &json!({"event": "addItem", "data": {"title": "milk"}})).await;
    assert_eq!(failed.error_code(), "application_failed");
    node.logged("status 403").await;
    std::fs::remove_dir_all(dir).ok();
}
