//! Request smuggling and header injection: behind a real nginx and a real haproxy, which refuse all publishes, no
//! hidden request gets through inside another one. No text of a client appears in a header of the answer.

use crate::support;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::redis::{free_port, fresh_dir};
use support::{Node, Request, Response, SOON, each_transport, eventually, http::raw, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A proxy that refuses `/publish` itself.
struct Guard {
    child: Child,
    name: &'static str,
    address: SocketAddr,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

async fn start(name: &'static str, config: &str, command: &[&str], address: SocketAddr) -> Guard {
    let dir = fresh_dir(name);
    let file = dir.join("proxy.conf");
    std::fs::write(&file, config.replace("DIR", dir.to_str().expect("UTF-8"))).expect("write");
    let mut command_ = Command::new(command[0]);
    command_.args(&command[1..]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command_.spawn().unwrap_or_else(|_| panic!("{name} is installed (apt-get install {name})"));
    let guard = Guard { child, name, address };
    eventually("the proxy", async || {
        let answer = Request::get("/readyz").try_send(address).await?;
        (answer.status == 200).then_some(())
    })
    .await;
    guard
}

/// The proxies keep and share their connections to the server, because smuggling needs that.
async fn guards(server: SocketAddr) -> [Guard; 2] {
    let (nginx, haproxy) = (address(), address());
    let nginx_config = format!(
        "daemon off; master_process off; pid DIR/pid; error_log DIR/log;\n\
         events {{ worker_connections 200; }}\n\
         http {{ access_log off; client_body_temp_path DIR/a; proxy_temp_path DIR/b; fastcgi_temp_path DIR/c;\n\
         uwsgi_temp_path DIR/d; scgi_temp_path DIR/e;\n\
         upstream node {{ server {server}; keepalive 4; }}\n\
         server {{ listen {nginx}; location / {{ proxy_pass http://node; proxy_http_version 1.1;\n\
         proxy_set_header Connection ''; proxy_set_header Host localhost; proxy_request_buffering off; }}\n\
         location = /publish {{ return 403; }} }} }}"
    );
    let haproxy_config = format!(
        "global\n  maxconn 200\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 10s\n  timeout server 10s\n  http-reuse always\n\
         frontend web\n  bind {haproxy}\n  http-request deny if {{ path /publish }}\n  default_backend node\n\
         backend node\n  http-request set-header Host localhost\n  server n {server}\n"
    );
    [
        start("nginx", &nginx_config, &["nginx", "-c"], nginx).await,
        start("haproxy", &haproxy_config, &["haproxy", "-db", "-f"], haproxy).await,
    ]
}

const SMUGGLED: &str = "POST /publish?channel=smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1";

/// Requests whose length one parser may read differently from another, each with one more request behind it.
fn ambiguous() -> Vec<String> {
    let form = "channel=a";
    let mut requests = Vec::new();
    let mut add = |version: &str, headers: &str, body: &str| {
        let method = "POST /poll HTTP/";
        let kind = "Content-Type: application/x-www-form-urlencoded";
        requests.push(format!("{method}{version}\r\nHost: localhost\r\n{kind}\r\n{headers}\r\n\r\n{body}"));
    };
    let chunked = format!("{:x}\r\n{form}\r\n0\r\n\r\n", form.len());
    let whole = chunked.len() + SMUGGLED.len();
    // By the length, all bytes are the body; by the chunks, the body ends earlier.
    for coding in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: \"chunked\"",
        "Transfer_Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "TrAnSfEr-EnCoDiNg: cHuNkEd",
    ] {
        for version in ["1.1", "1.0"] {
            add(version, &format!("Content-Length: {whole}\r\n{coding}"), &format!("{chunked}{SMUGGLED}"));
            add(version, &format!("{coding}\r\nContent-Length: {whole}"), &format!("{chunked}{SMUGGLED}"));
            // The other way round: by the length, the body ends before the chunks do.
            let part = format!("{:x}\r\n", SMUGGLED.len());
            let body = format!("{part}{SMUGGLED}\r\n0\r\n\r\n");
            add(version, &format!("Content-Length: {}\r\n{coding}", part.len()), &body);
        }
    }
    // Lengths that parsers read in two ways.
    let body = format!("{form}{SMUGGLED}");
    let (short, long) = (form.len(), body.len());
    for lengths in [
        format!("Content-Length: {short}\r\nContent-Length: {long}"),
        format!("Content-Length: {long}\r\nContent-Length: {short}"),
        format!("Content-Length: {long}, {short}"),
        format!("Content-Length: {short}, {long}"),
        format!("Content-Length: +{long}"),
        format!("Content-Length: 0x{long:x}"),
        format!("Content-Length: {long} {short}"),
        format!("Content-Length : {long}"),
        format!("Content-Length: {long}\nX: y"),
        format!("Content_Length: {long}"),
    ] {
        add("1.1", &lengths, &body);
    }
    // Chunks that parsers read in two ways.
    for size in ["9;a=\n", "9\n", "09\r", "0x9\r\n", "+9\r\n", "9 \r\n", "10000000000000009\r\n", "9;\r\n", "-9\r\n"] {
        let line = if size.ends_with('\n') { size.to_owned() } else { format!("{size}\n") };
        add("1.1", "Transfer-Encoding: chunked", &format!("{line}{form}\r\n0\r\n\r\n{SMUGGLED}"));
        let part = format!("{:x}", SMUGGLED.len());
        let line = line.replacen('9', &part, 1);
        add("1.1", "Transfer-Encoding: chunked", &format!("{line}{SMUGGLED}\r\n0\r\n\r\n"));
    }
    requests
}

/// Sends the request and then shuts the sending side.
async fn send(address: SocketAddr, request: &str) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    stream.write_all(request.as_bytes()).await.ok();
    let _ = stream.shutdown().await;
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn no_request_is_hidden_in_another_one() {
    let node = Node::start(&["--request-timeout", "1"]).await;
    let guards = guards(node.http).await;
    for guard in &guards {
        // The guard refuses a publish, and lets a poll through.
        let answer = Request::post("/publish?channel=smuggled", b"1").send(guard.address).await;
        assert_eq!(answer.status, 403, "{}", guard.name);
        let answer = Request::form("/poll", "channel=a").send(guard.address).await;
        assert_eq!(answer.status, 200, "{}: {}", guard.name, answer.text());
        let requests = ambiguous();
        assert!(requests.len() > 100, "{} requests", requests.len());
        for part in requests.chunks(16) {
            futures_util::future::join_all(part.iter().map(|request| send(guard.address, request))).await;
            for _ in 0..4 {
                // The next client on the connections behind the guard gets an answer to its own request.
                let answer = Request::get("/poll?channel=innocent").send(guard.address).await;
                assert_eq!(answer.status, 200, "{}: {}", guard.name, answer.text());
            }
        }
        for path in ["/./publish", "/x/../publish", "//publish", "/%70ublish", "/publish/", "/publish;x", "/PUBLISH"] {
            Request::post(&format!("{path}?channel=smuggled"), b"1").try_send(guard.address).await;
            let absolute = format!("http://localhost{path}?channel=smuggled");
            Request::post(&absolute, b"1").try_send(guard.address).await;
        }
        let answer = node.get("/poll?channel=smuggled&cursor=earliest").await.json();
        assert_eq!(answer["messages"], serde_json::json!([]), "got through {}", guard.name);
    }
}

/// Without a proxy: a request that parsers read in two ways ends its connection, whatever the answer.
#[tokio::test]
async fn an_ambiguous_request_is_the_last_of_its_connection() {
    let node = Node::start(&["--request-timeout", "1"]).await;
    let form = "channel=a";
    let chunked = format!("{:x}\r\n{form}\r\n0\r\n\r\n", form.len());
    for (version, headers) in [
        ("1.1", format!("Content-Length: {}\r\nTransfer-Encoding: chunked", chunked.len())),
        ("1.1", format!("Transfer-Encoding: chunked\r\nContent-Length: {}", chunked.len())),
        ("1.0", "Transfer-Encoding: chunked".to_owned()),
        ("1.1", "Transfer-Encoding: chunked, identity".to_owned()),
        ("1.1", "Transfer-Encoding: gzip".to_owned()),
        ("1.1", "Content-Length: 5\r\nContent-Length: 6".to_owned()),
        ("1.1", "Content-Length: +5".to_owned()),
    ] {
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let request =
            format!("POST /poll HTTP/{version}\r\nHost: localhost\r\n{kind}\r\n{headers}\r\n\r\n{chunked}{SMUGGLED}");
        send(node.http, &request).await;
        let answer = node.get("/poll?channel=smuggled&cursor=earliest").await.json();
        assert_eq!(answer["messages"], serde_json::json!([]), "{version} {headers:?}");
    }
    // A request that can be read in only one way is followed by the next one: the request in the body is valid.
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let request = format!(
        "POST /poll HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {}\r\n\r\n{form}{SMUGGLED}",
        form.len()
    );
    send(node.http, &request).await;
    let answer = node.get("/poll?channel=smuggled&cursor=earliest").await.json();
    assert_eq!(answer["messages"][0]["data"], 1, "{answer}");
}

/// The server does not read the body of a `GET` if a stream or a waiting poll takes over the connection: bytes after
/// the answer are not a request, even if they come late.
#[tokio::test]
async fn the_body_of_a_get_is_no_request() {
    for args in [&[][..], &["--plain-requests", "false"]] {
        let node = Node::start(args).await;
        node.publish("a", "1").await;
        for target in
            ["/xhr-stream?channel=a&cursor=earliest&max_bytes=1", "/sse?channel=b", "/long-poll?channel=b&timeout=3"]
        {
            let mut stream = TcpStream::connect(node.http).await.expect("connect");
            let head =
                format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", SMUGGLED.len());
            stream.write_all(head.as_bytes()).await.expect("write");
            // By now the head of a stream is sent, and a poll waits.
            if target.starts_with("/long-poll") {
                let first = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut [0; 4096])).await;
                assert!(first.is_err(), "it waits: {target} {args:?}, {first:?}");
            } else {
                let first = within(SOON, target, stream.read(&mut [0; 4096])).await;
                assert!(first.as_ref().is_ok_and(|count| *count > 0), "a head: {target} {args:?}, {first:?}");
            }
            stream.write_all(SMUGGLED.as_bytes()).await.ok();
            let _ = tokio::time::timeout(Duration::from_secs(4), stream.read_to_end(&mut Vec::new())).await;
        }
        let answer = node.get("/poll?channel=smuggled&cursor=earliest").await.json();
        assert_eq!(answer["messages"], serde_json::json!([]), "{args:?}");
    }
}

/// The name of the host counts, wherever the request has it.
#[tokio::test]
async fn the_authority_decides_which_host_it_is() {
    let node = Node::start(&[]).await;
    let cases = [
        ("GET http://evil.example/info HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
        ("GET http://localhost/info HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200),
        ("GET http://localhost@evil.example/info HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /info HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        ("GET /info HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n", 400),
        ("GET /info HTTP/1.1\r\nHost: localhost:80@evil.example\r\n\r\n", 400),
        ("GET /info HTTP/1.1\r\nHost: localhost/evil.example\r\n\r\n", 400),
        ("GET /info HTTP/1.1\r\n\r\n", 400),
        ("GET http://localhost/info HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 403),
        ("GET http://evil.example/info HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 403),
        ("GET /info HTTP/1.0\r\n\r\n", 200),
    ];
    for (request, status) in cases {
        let answer: Response = raw(node.http, request.as_bytes()).await.expect("an answer");
        assert_eq!(answer.status, status, "{request:?}: {}", answer.text());
    }
}

/// All text of a client is data: no line of an answer's head comes from it.
#[tokio::test]
async fn nothing_is_injected_into_a_head() {
    let node = Node::start(&[]).await;
    let evil = "x%0d%0aX-Injected:%201%0d%0a%0d%0a%3Cscript%3E";
    let fields = [
        "channel", "cursor", "client", "callback", "domain", "event", "key", "exclude", "token", "timeout", "format",
        "last",
    ];
    each_transport(
        &node,
        |t| t.is_http(),
        async |transport| {
            for field in fields {
                let mut url = transport.url(&format!("channel=a&timeout=1&max_seconds=1&{field}={evil}"));
                if field == "callback" {
                    url = format!("{}?channel=a&callback={evil}&timeout=1&max_seconds=1", transport.path);
                }
                let answer = Request::get(&url).open(node.http).await;
                assert_eq!(answer.header("X-Injected"), None, "{url}");
            }
        },
    )
    .await;
    let names =
        ["Origin", "Host", "Last-Event-ID", "If-None-Match", "Cookie", "Accept", "Access-Control-Request-Headers"];
    for name in names {
        for value in
            ["http://localhost\rX-Injected: 1", "http://localhost\u{0}\rX-Injected: 1", "\"x\"\u{b}X-Injected: 1"]
        {
            for target in ["/poll?channel=a", "/multipart?channel=a&max_seconds=1", "/info"] {
                let host = if name == "Host" { "" } else { "Host: localhost\r\n" };
                let request = format!("OPTIONS {target} HTTP/1.1\r\n{host}{name}: {value}\r\n\r\n");
                for request in [request.clone(), request.replacen("OPTIONS", "GET", 1)] {
                    if let Some(answer) = raw(node.http, request.as_bytes()).await {
                        assert_eq!(answer.header("X-Injected"), None, "{request:?}");
                        let values = answer.headers.iter().all(|(_, value)| !value.contains(['\r', '\n', '\0']));
                        assert!(values, "{request:?}: {:?}", answer.headers);
                    }
                }
            }
        }
    }
}
