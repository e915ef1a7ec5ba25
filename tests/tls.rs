//! TLS: versions, protocols, other bytes on the same port, certificates that change, and unusable files.

use crate::support;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};
use support::door::{self, Stream};
use support::server::run_to_end;
use support::{
    Certificate, Item, Kind, LineClient, Node, Reader, Request, Response, SOON, Subscription, eventually, within,
    write_past,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A node with the common certificate, ready.
async fn start(args: &[&str]) -> Node {
    let mut all = Certificate::common().flags().to_vec();
    all.extend(args);
    Node::start(&all).await
}

async fn get(stream: Stream, target: &str) -> Response {
    let mut stream = stream;
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Response::new(stream, false);
    answer.read_head().await.expect("an answer");
    answer.finish().await;
    answer
}

/// The TLS version and the protocol on which server and client agree; `None` if the handshake fails.
async fn agree(
    address: SocketAddr,
    certificate: &Certificate,
    protocols: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Option<(String, String)> {
    let client = certificate.client(protocols, versions);
    let stream = TcpStream::connect(address).await.expect("connect");
    let stream = client.connect(ServerName::try_from("localhost").expect("a name"), stream).await.ok()?;
    let connection = stream.get_ref().1;
    let protocol = String::from_utf8_lossy(connection.alpn_protocol().unwrap_or_default()).into_owned();
    Some((format!("{:?}", connection.protocol_version().expect("a version")), protocol))
}

#[tokio::test]
async fn versions_and_protocols() {
    let node = start(&[]).await;
    let common = Certificate::common();
    for (version, name) in [(&TLS12, "TLSv1_2"), (&TLS13, "TLSv1_3")] {
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], "h2"),
            (&["http/1.1", "h2"], "h2"),
            (&["http/1.1"], "http/1.1"),
            (&["http/1.0"], "http/1.0"),
            (&[], ""),
        ] {
            let got = agree(node.http, common, offered, &[version]).await;
            assert_eq!(got, Some((name.to_owned(), agreed.to_owned())), "{offered:?}");
        }
        assert_eq!(agree(node.http, common, &["spdy/3"], &[version]).await, None, "nothing in common");
    }
    let metrics = get(door::secure(node.http, common, &[]).await.expect("TLS"), "/metrics").await.text();
    assert!(metrics.contains("longtail_tls_handshakes_total{outcome=\"failed\"} 2"), "{metrics}");
}

/// The protocol that was agreed on is the one that is spoken: a proxy may decide by it.
#[tokio::test]
async fn the_protocol_agreed_on_holds() {
    let node = start(&[]).await;
    let http1 = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let settings = |answer: &[u8]| answer.get(3) == Some(&4) && !answer.starts_with(b"HTTP");
    for (offered, bytes, wants) in [
        (&["h2"][..], &http1[..], "nothing"),
        (&["h2"], http2, "settings"),
        (&["http/1.1"], http1, "200"),
        (&["http/1.1"], http2, "nothing"),
        (&["http/1.0"], http1, "200"),
        (&["http/1.0"], http2, "nothing"),
        (&[], http1, "200"),
        (&[], http2, "settings"),
    ] {
        let mut stream = door::secure(node.http, Certificate::common(), offered).await.expect("TLS");
        stream.write_all(bytes).await.expect("write");
        let mut answer = Vec::new();
        let read = async { while answer.len() < 12 && stream.read_buf(&mut answer).await.is_ok_and(|n| n > 0) {} };
        within(SOON, "an answer or the end", read).await;
        let found = match &answer[..] {
            answer if answer.starts_with(b"HTTP/1.1 ") => String::from_utf8_lossy(&answer[9..12]).into_owned(),
            _ if wants == "settings" && settings(&answer) => "settings".to_owned(),
            // A GOAWAY counts as the end, too.
            _ => "nothing".to_owned(),
        };
        assert_eq!(found, wants, "{offered:?} {:?}", String::from_utf8_lossy(bytes));
    }
}

/// curl, a common client, connects.
#[tokio::test]
async fn curl() {
    let node = start(&[]).await;
    let common = Certificate::common();
    for (flag, version, seen) in
        [("--http2", "2", "2.0"), ("--http1.1", "1.1", "1.1"), ("--http1.0", "1", "1.0"), ("--tls-max=1.2", "2", "2.0")]
    {
        let mut flags: Vec<&str> = flag.split('=').collect();
        let url = format!("https://{}/diagnose/echo", node.http);
        flags.extend(["-sS", "--cacert", &common.certificate, "-w", "\n%{http_version} %{ssl_verify_result}", &url]);
        let output = Command::new("curl").args(&flags).output().expect("curl is installed (apt-get install curl)");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{flag}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(said.ends_with(&format!("\n{version} 0")), "{flag}: {said}");
        assert!(said.contains(&format!("\"http\":\"{seen}\"")), "{flag}: {said}");
    }
}

/// On the same port, a client on this machine is served without TLS.
#[tokio::test]
async fn plain_http_from_this_machine_is_served() {
    let node = start(&[]).await;
    assert_eq!(node.get("/info").await.json()["tls"], true);
    node.publish("todo", "1").await;
    let common = Certificate::common();
    let target = "/poll?channel=todo&cursor=earliest";
    let answer = get(door::secure(node.http, common, &["http/1.1"]).await.expect("TLS"), target).await;
    assert_eq!(answer.json()["messages"][0]["data"], 1);
}

/// This machine's address in its network. The call sends nothing.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("192.0.2.1:9").expect("a route: this test wants a network interface beside loopback");
    socket.local_addr().expect("an address").ip()
}

/// A client from a network is redirected to https, or refused, before the server handles its request.
#[tokio::test]
async fn plain_http_from_elsewhere_is_sent_to_https() {
    let node = start(&["--listen", "0.0.0.0:0", "--tcp-listen", "127.0.0.1:0", "--open"]).await;
    let address = SocketAddr::new(own_address(), node.http.port());
    for (host, location) in [
        ("push.example:8080", "https://push.example:8080/sse?channel=a"),
        ("push.example:80", "https://push.example/sse?channel=a"),
        ("push.example", "https://push.example/sse?channel=a"),
    ] {
        let answer = Request::get("/sse?channel=a").host(host).send(address).await;
        assert_eq!((answer.status, answer.header("Location")), (301, Some(location)));
    }
    let answer = Request::post("/publish?channel=a", b"1").send(address).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_request"));
    assert!(answer.text().contains("https://"), "{}", answer.text());
    assert_eq!(node.metric("longtail_refused_total{reason=\"bad_request\"}").await, 1.0);
    let answer = node.get("/poll?channel=a&cursor=earliest").await.json();
    assert_eq!(answer["messages"], serde_json::json!([]), "nothing was published");
    let common = Certificate::common();
    let answer = get(door::secure(address, common, &[]).await.expect("TLS"), "/info").await;
    assert_eq!(answer.status, 200, "with TLS it is served");
}

/// Raw TCP with TLS and without, on one port.
#[tokio::test]
async fn raw_tcp() {
    let node = start(&[]).await;
    let id = node.publish("todo", "1").await;
    let subscribe = "{\"type\":\"subscribe\",\"channels\":[\"todo\"],\"cursor\":\"earliest\"}\n";
    let mut plain = LineClient::connect(node.tcp).await;
    plain.send_bytes(subscribe.as_bytes()).await;
    let stream = door::secure(node.tcp, Certificate::common(), &[]).await.expect("TLS");
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(subscribe.as_bytes()).await.expect("write");
    for wanted in [Kind::Hello, Kind::Ack, Kind::Message] {
        let mut line = String::new();
        within(SOON, "a line", stream.read_line(&mut line)).await.expect("a line");
        let lines = [Item::parse(line.trim()), Item::parse(&plain.line().await.expect("a line"))];
        for item in lines {
            assert_eq!(item.kind, wanted, "{}", item.text);
            assert!(wanted != Kind::Message || item.id().as_ref() == Some(&id), "the message {id}: {}", item.text);
        }
    }
}

/// After a stream has ended, its connection is free for the next request, with TLS and without.
#[tokio::test]
async fn a_connection_outlives_its_stream() {
    let node = start(&[]).await;
    node.publish("todo", "1").await;
    let mut stream = door::secure(node.http, Certificate::common(), &["http/1.1"]).await.expect("TLS");
    for _ in 0..3 {
        let request = "GET /xhr-stream?channel=todo&cursor=earliest&max_bytes=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("write");
        let mut answer = Response::new(stream, false);
        answer.read_head().await.expect("an answer");
        within(SOON, "the rollover", answer.finish()).await;
        assert!(answer.text().contains("\"code\":4000"), "{}", answer.text());
        stream = answer.into_stream().0;
    }
    assert_eq!(get(stream, "/info").await.status, 200);
}

#[tokio::test]
async fn a_certificate_is_read_again() {
    let (first, second) = (Certificate::make("first", &[]), Certificate::make("second", &["-newkey", "rsa:2048"]));
    let node = Node::start(&first.flags()).await;
    let told = async |text: &str, times: usize| {
        eventually(text, async || (node.log().matches(text).count() >= times).then_some(())).await;
    };
    let is_served =
        async |certificate: &Certificate| agree(node.http, certificate, &[], rustls::DEFAULT_VERSIONS).await.is_some();
    assert_eq!((is_served(&first).await, is_served(&second).await), (true, false), "which one is served");

    // A stream that began before the change.
    let mut stream = door::secure(node.http, &first, &["http/1.1"]).await.expect("TLS");
    stream.write_all(b"GET /ndjson?channel=todo HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
    let mut running = Response::new(stream, false);
    running.read_head().await.expect("a head");
    within(SOON, "the hello", running.read_some()).await.expect("a hello");

    let keep = |certificate: &Certificate| {
        let read = |path: &str| std::fs::read(path).expect("a file");
        (read(&certificate.certificate), read(&certificate.key))
    };
    let (original, (cert, key)) = (keep(&first), keep(&second));
    std::fs::write(&first.certificate, &cert).expect("write");
    // Half of a change has no effect: the key does not fit yet.
    node.signal("HUP");
    told("the old certificate stays in use", 1).await;
    assert!(node.log().lines().any(|line| line.contains("does not fit")), "{}", node.log());
    std::fs::write(&first.key, &key).expect("write");
    node.signal("HUP");
    told("the certificate was reloaded", 1).await;
    assert!(is_served(&second).await, "the new certificate is not served");
    let old = Certificate { certificate: restored(&original.0), key: String::new() };
    assert!(!is_served(&old).await, "the old certificate is still served");

    for bad in ["", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&first.certificate, bad).expect("write");
        let before = node.log().matches("the old certificate stays in use").count();
        node.signal("HUP");
        told("the old certificate stays in use", before + 1).await;
        assert!(is_served(&second).await, "what was read before stays");
    }

    let id = node.publish("todo", "1").await;
    let text = within(SOON, "the message", async {
        while !running.text().contains(&id) {
            running.read_some().await.expect("more, and not the end");
        }
        running.text()
    });
    let text = text.await;
    assert!(text.contains("\"data\":1"), "the stream from before goes on: {text}");
}

/// Writes a certificate's bytes into a new file.
fn restored(bytes: &[u8]) -> String {
    let path = format!("{}/tls-{}-restored.pem", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    std::fs::write(&path, bytes).expect("write");
    path
}

#[tokio::test]
async fn sighup_without_a_certificate_ends_nothing() {
    let node = Node::start(&[]).await;
    node.signal("HUP");
    node.logged("nothing to reload").await;
    assert_eq!(node.get("/info").await.json()["tls"], false);
}

#[tokio::test]
async fn bad_files_are_refused_at_start_with_the_mend() {
    let (good, other) = (Certificate::make("good", &[]), Certificate::make("other", &[]));
    let locked = format!("{}.locked", good.key);
    let arguments = ["pkey", "-in", &good.key, "-out", &locked, "-aes256", "-passout", "pass:secret"];
    let made = Command::new("openssl").args(arguments).output().expect("openssl");
    assert!(made.status.success(), "openssl {arguments:?}: {made:?}");
    let (cert, key) = (good.certificate.as_str(), good.key.as_str());
    let cases = [
        (vec!["--tls-cert", cert], "need each other"),
        (vec!["--tls-key", key], "need each other"),
        (vec!["--tls-cert", "/nonexistent.pem", "--tls-key", key], "/nonexistent.pem"),
        (vec!["--tls-cert", cert, "--tls-key", "/nonexistent.pem"], "/nonexistent.pem"),
        (vec!["--tls-cert", key, "--tls-key", key], "holds no certificate"),
        (vec!["--tls-cert", cert, "--tls-key", cert], "holds no usable private key"),
        (vec!["--tls-cert", cert, "--tls-key", &locked], "without a pass phrase"),
        (vec!["--tls-cert", cert, "--tls-key", &other.key], "does not fit"),
    ];
    for (flags, mend) in cases {
        let mut all = vec!["--listen", "127.0.0.1:0", "--tcp-listen", "off"];
        all.extend(&flags);
        let (code, said) = run_to_end(&all).await;
        assert_eq!(code, 64, "{flags:?}: {said}");
        assert!(said.contains(mend), "{flags:?}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{flags:?}: {said}");
    }
}

/// A handshake that does not begin, or does not end, does not hold resources for long.
#[tokio::test]
async fn slow_handshakes_are_ended() {
    let node = start(&["--request-timeout", "1"]).await;
    let begun = Instant::now();
    for beginning in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        for address in [node.http, node.tcp] {
            let mut stream = TcpStream::connect(address).await.expect("connect");
            stream.write_all(beginning).await.expect("write");
            let mut rest = Vec::new();
            within(SOON, "the end", stream.read_to_end(&mut rest)).await.ok();
        }
    }
    assert!(begun.elapsed() > Duration::from_secs(5), "each has its second: {:?}", begun.elapsed());
    let metrics = node.get("/metrics").await.text();
    assert!(metrics.contains("longtail_tls_handshakes_total{outcome=\"slow\"} 4"), "{metrics}");
}

/// A reader that never reads is disconnected, with TLS and without.
#[tokio::test]
async fn a_slow_reader_is_ended() {
    let node = start(&["--write-timeout", "1", "--retain-bytes", "4MiB"]).await;
    let mut slow = Vec::new();
    for target in ["/sse?channel=todo", "/multipart?channel=todo&max_bytes=1000000000"] {
        let mut stream = door::secure(node.http, Certificate::common(), &[]).await.expect("TLS");
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("write");
        let read = stream.read(&mut [0; 16]).await.expect("a head");
        assert!(read > 0, "the end in place of a head: {target}");
        slow.push(stream);
    }
    let transport = node.transport("sse").await;
    let mut witness = Reader::open(&node, &transport, Subscription::to(&["todo"])).await;
    write_past(&node, &mut witness, slow).await;
}
