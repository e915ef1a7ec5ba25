//! `examples/php/Longtail.php` in real PHP: publishing by HTTP and by Redis, tokens, the answers to the authorize URL
//! and to the hook.

use crate::support;

use ring::hmac;
use serde_json::{Value, json};
use std::net::SocketAddr;
use support::guarded::{KEY, bearer, get, guarded};
use support::php::{HELPER, Php, run};
use support::redis::free_port;
use support::token::{SECRET, seconds};
use support::world::start_on;
use support::{Certificate, Node, RedisServer, Request, Response, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Begins scripts: prints a result in JSON, or the exception that came instead.
const SHOW: &str = r#"
function show(callable $run): void {
    try {
        $shown = $run();
    } catch (Longtail\PublishException $e) {
        $shown = ['error' => $e->error, 'why' => $e->getMessage(), 'status' => $e->status,
            'retry' => $e->retryAfter !== null, 'perhaps' => $e->mayBePublished];
    } catch (InvalidArgumentException $e) {
        $shown = ['wrong' => $e->getMessage()];
    }
    echo json_encode($shown, JSON_THROW_ON_ERROR), "\n";
}
"#;

/// Runs a script that prints lines of JSON.
async fn lines(script: &str, arguments: &[&str]) -> Vec<Value> {
    let printed = run(&format!("{SHOW}{script}"), arguments).await;
    let lines = printed.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {printed}")));
    lines.collect()
}

/// The messages of a channel: (id, event, data).
async fn read(node: &Node, query: &str) -> Vec<(String, String, String)> {
    let answer = get(node, &format!("/poll?cursor=earliest&{query}"), &[("Authorization", &bearer(KEY))]).await;
    let items = support::decode::batch(&answer.text()).into_iter().filter(|item| item.id().is_some());
    items
        .map(|item| (item.id().expect("an id"), item.str("event").unwrap_or_default(), item.data().to_owned()))
        .collect()
}

#[tokio::test]
async fn publishing_by_http() {
    let node = guarded(&[]).await;
    let script = r#"
        $longtail = new Longtail\HttpPublisher($argv[1] . '/', $argv[2], ['timeout' => 60]);
        show(fn () => $longtail->publish('a', ['title' => 'Käse / "€"']));
        show(fn () => $longtail->publish('a', null, ['event' => 'itemAdded', 'exclude' => 'me', 'key' => 'order-17']));
        show(fn () => $longtail->publish('a', null, ['event' => 'itemAdded', 'exclude' => 'me', 'key' => 'order-17']));
        show(fn () => $longtail->publish('a', false, ['volatile' => true, 'exclude' => null]));
        show(fn () => $longtail->publishAll([]));
        show(fn () => $longtail->publishAll([['channel' => 'a', 'data' => 1.0], ['channel' => 'b', 'data' => 'x', 'key' => false]]));
    "#;
    let url = format!("http://{}", node.http);
    let said = lines(script, &[&url, KEY]).await;
    let id = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{said:?}")).to_owned();
    assert_eq!(said[1], said[2], "the same key twice");
    assert_eq!((&said[3], &said[4]), (&Value::Null, &json!([])), "a volatile message, and an empty list");
    let (first, second, third, fourth) = (id(&said[0]), id(&said[1]), id(&said[5][0]), id(&said[5][1]));
    let message = |id: &str, event: &str, data: &str| (id.to_owned(), event.to_owned(), data.to_owned());
    let all = [
        message(&first, "message", r#"{"title":"Käse / \"€\""}"#),
        message(&second, "itemAdded", "null"),
        message(&third, "message", "1.0"),
    ];
    assert_eq!(read(&node, "channel=a").await, all);
    assert_eq!(read(&node, "channel=a&client=me").await, [all[0].clone(), all[2].clone()], "without its own message");
    assert_eq!(read(&node, "channel=b").await, [message(&fourth, "message", r#""x""#)]);
}

/// A refusal by the server is an exception with the server's code, after one attempt.
#[tokio::test]
async fn refusals_of_the_server_are_exceptions() {
    let node = guarded(&["--max-message-bytes", "100"]).await;
    let url = format!("http://{}", node.http);
    for (key, call, status, code) in [
        ("null", "publish('a', 1)", 401, "unauthorized"),
        ("'another-key'", "publish('a', 1)", 401, "unauthorized"),
        ("(new Longtail\\Tokens($argv[3]))->sign(['publish' => ['b']], 60)", "publish('a', 1)", 403, "forbidden"),
        ("$argv[2]", "publish('a b', 1)", 400, "bad_channel"),
        ("$argv[2]", "publish('a', 1, ['event' => 'hello'])", 400, "bad_event"),
        ("$argv[2]", "publish('a', 1, ['key' => str_repeat('x', 201)])", 400, "bad_request"),
        ("$argv[2]", "publish('a', str_repeat('x', 101))", 413, "too_large"),
        ("$argv[2]", "publish('a', str_repeat('x', 3000000))", 413, "too_large"),
        (
            "$argv[2]",
            "publishAll([['channel' => 'a', 'data' => 1], ['channel' => ',', 'data' => 1]])",
            400,
            "bad_channel",
        ),
    ] {
        let script =
            format!("show(fn () => (new Longtail\\HttpPublisher($argv[1], {key}, ['timeout' => 60]))->{call});");
        let said = lines(&script, &[&url, KEY, SECRET]).await.remove(0);
        assert_eq!((&said["error"], &said["status"]), (&json!(code), &json!(status)), "{call}: {said}");
        assert_eq!((&said["retry"], &said["perhaps"]), (&json!(false), &json!(false)), "{call}: {said}");
        assert!(said["why"].as_str().is_some_and(|why| why.len() > 10), "{said}");
    }
    assert_eq!(read(&node, "channel=a").await, [], "nothing was published");
}

/// A server that treats its nth connection as the nth item of the list says, and reports each request's body.
async fn scripted(answers: &'static [&'static str]) -> (String, mpsc::UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/base", listener.local_addr().expect("an address"));
    let (heard, bodies) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for n in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let text = request(&mut stream).await;
            let (head, body) = text.split_once("\r\n\r\n").expect("a request");
            assert!(head.starts_with("POST /base/publish HTTP/1.1\r\n"), "{head}");
            heard.send(serde_json::from_str(body).expect("JSON")).ok();
            match answers[usize::min(n, answers.len() - 1)] {
                "silence" => tokio::time::sleep(support::SOON).await,
                answer => stream.write_all(answer.as_bytes()).await.unwrap_or_default(),
            }
        }
    });
    (url, bodies)
}

/// Reads a request, with its body.
async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
            if body.len() >= length.parse().expect("a number") {
                return text;
            }
        }
        assert!(stream.read_buf(&mut bytes).await.expect("a request") > 0, "{text}");
    }
}

const DONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{\"messages\":[{\"id\":\"C1\",\"channel\":\"a\"}]}";
const CHUNKED: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    5;x=y\r\n{\"mes\r\n00023\r\nsages\":[{\"id\":\"C1\",\"channel\":\"a\"}]}\r\n0\r\n\r\n";
const UNKNOWN: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\r\n\
    {\"error\":{\"code\":\"outcome_unknown\",\"message\":\"it may be in the log\"}}";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n\
    {\"error\":{\"code\":\"log_unavailable\",\"message\":\"it is not in the log\"}}";
const TOO_MANY: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\n\r\n\
    {\"error\":{\"code\":\"rate_limited\",\"message\":\"slow down\"}}";
const BROKEN_OFF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{\"messages\":[";
const HALF_A_CHUNK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"mes\r\n";
const PROXY: &str = "HTTP/1.1 502 Bad Gateway\r\n\r\n<html>";
const PAGE: &str = "HTTP/1.1 404 Not Found\r\n\r\n<html>";

/// After a network failure or a 503, the message is sent again with the same key, three times in all. Without a key it
/// is only sent again if the first attempt certainly failed.
#[tokio::test]
async fn what_may_be_repeated_is_repeated() {
    // (answers, options, attempts, error; empty if the message is published)
    let table: [(&'static [&'static str], &str, usize, &str); 19] = [
        (&[DONE], "", 1, ""),
        (&[CHUNKED], "", 1, ""),
        (&["", DONE], "", 2, ""),
        (&["SSH-2.0", BROKEN_OFF, DONE], "", 3, ""),
        (&[HALF_A_CHUNK, UNKNOWN, DONE], "'key' => 'mine'", 3, ""),
        (&[UNAVAILABLE, DONE], "'key' => 'mine'", 2, ""),
        (&[PROXY, DONE], "", 2, ""),
        (&[UNKNOWN], "", 3, "outcome_unknown"),
        (&[""], "", 3, "no_answer"),
        (&["silence"], "", 1, "no_answer"),
        (&[PROXY], "", 3, "bad_answer"),
        (&[PAGE], "", 1, "bad_answer"),
        (&[TOO_MANY], "", 1, "rate_limited"),
        (&["HTTP/1.1 200 OK\r\n\r\n{\"messages\":[]}"], "", 1, "bad_answer"),
        (&[UNAVAILABLE, DONE], "'key' => false", 2, ""),
        (&[""], "'key' => false", 1, "no_answer"),
        (&[UNKNOWN], "'key' => false", 1, "outcome_unknown"),
        (&[PROXY], "'volatile' => true", 1, "bad_answer"),
        (&[""], "'volatile' => true", 1, "no_answer"),
    ];
    for (answers, options, attempts, error) in table {
        let (url, mut bodies) = scripted(answers).await;
        let timeout = if answers == ["silence"] { "0.3" } else { "60" };
        let script = format!(
            "show(fn () => (new Longtail\\HttpPublisher($argv[1], null, ['timeout' => {timeout}]))->publish('a', 1, [{options}]));"
        );
        let said = lines(&script, &[&url]).await.remove(0);
        let mut heard = Vec::new();
        while let Ok(body) = bodies.try_recv() {
            heard.push(body);
        }
        assert_eq!(heard.len(), attempts, "{answers:?} {options}: {said} {heard:?}");
        assert!(heard.iter().all(|body| *body == heard[0]), "the key changes: {heard:?}");
        let key = heard[0]["key"].as_str().map(str::to_owned);
        match options {
            "" => assert!(key.is_some_and(|key| key.len() >= 20), "{heard:?}"),
            "'key' => 'mine'" => assert_eq!(key.as_deref(), Some("mine")),
            _ => assert_eq!(key, None, "{heard:?}"),
        }
        if error.is_empty() {
            assert_eq!(said, "C1", "{answers:?}");
        } else {
            assert_eq!(said["error"], error, "{answers:?}: {said}");
            let is_known = ["rate_limited"].contains(&error) || answers == [PAGE];
            assert_eq!(said["perhaps"], !is_known, "{answers:?}: {said}");
        }
    }
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let said = lines("show(fn () => (new Longtail\\HttpPublisher($argv[1]))->publish('a', 1));", &[&nowhere]).await;
    assert_eq!((&said[0]["error"], &said[0]["perhaps"]), (&json!("no_connection"), &json!(false)), "{said:?}");
    assert!(said[0]["why"].as_str().is_some_and(|why| why.contains("refused")), "{said:?}");
}

/// The server appends the message, and its answer is lost: the repeat finds the message in the log.
#[tokio::test]
async fn a_lost_answer_does_not_double_the_message() {
    let node = guarded(&[]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let upstream: SocketAddr = node.http;
    let proxy = tokio::spawn(async move {
        for loses in [true, false] {
            let (mut client, _) = listener.accept().await.expect("a publisher");
            let sent = request(&mut client).await;
            let mut server = TcpStream::connect(upstream).await.expect("the node");
            server.write_all(sent.as_bytes()).await.expect("sent");
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).await.expect("an answer");
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
            if !loses {
                client.write_all(&answer).await.expect("sent");
            }
        }
    });
    let script =
        "show(fn () => (new Longtail\\HttpPublisher($argv[1], $argv[2], ['timeout' => 60]))->publish('a', 7));";
    let said = lines(script, &[&url, KEY]).await;
    proxy.await.expect("two requests");
    let all = read(&node, "channel=a").await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(said[0], all[0].0, "the cursor of the first attempt");
}

#[tokio::test]
async fn publishing_by_https() {
    let certificate = Certificate::common();
    let node = Node::start(&certificate.flags()).await;
    let url = format!("https://127.0.0.1:{}", node.http.port());
    let script = "
        show(fn () => (new Longtail\\HttpPublisher($argv[1], null, ['ssl' => ['cafile' => $argv[2]]]))->publish('a', str_repeat('x', 60000)));
        show(fn () => (new Longtail\\HttpPublisher($argv[1]))->publish('a', 2));";
    let said = lines(script, &[&url, &certificate.certificate]).await;
    let answer = node.get("/poll?channel=a&cursor=earliest").await.json();
    assert_eq!(answer["messages"].as_array().map(Vec::len), Some(1), "{said:?}");
    assert_eq!(said[0], answer["messages"][0]["id"], "{said:?}");
    assert_eq!(said[1]["error"], "no_connection", "a certificate that nobody has signed: {said:?}");
    assert!(said[1]["why"].as_str().is_some_and(|why| why.contains("certificate")), "{said:?}");
}

/// Every address of Redis, and every client of Redis, reaches a reader.
#[tokio::test]
async fn publishing_by_redis() {
    let dir = support::redis::fresh_dir("php-redis");
    let (socket, tls_port) = (dir.join("redis.sock").display().to_string(), free_port().to_string());
    let certificate = Certificate::common();
    let password = "p@ss/word";
    let mut redis = RedisServer::start_with(&[
        "--requirepass",
        password,
        "--unixsocket",
        &socket,
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &certificate.certificate,
        "--tls-key-file",
        &certificate.key,
        "--tls-ca-cert-file",
        &certificate.certificate,
        "--tls-auth-clients",
        "no",
    ])
    .await;
    redis.set_login(":p%40ss%2Fword@");
    redis.command(&["ACL", "SETUSER", "writer", "on", ">secret", "~*", "&*", "+publish", "+select"]).await;
    let node = start_on(&redis, &[]).await;
    redis.listened(1).await;
    let port = redis.port();
    let ca = format!("['ssl' => ['cafile' => '{}']]", certificate.certificate);
    let connected = |how: &str| format!("new Longtail\\RedisPublisher({how})");
    let publishers = [
        connected(&format!("'redis://:p%40ss%2Fword@127.0.0.1:{port}'")),
        connected(&format!("'redis://writer:secret@127.0.0.1:{port}/3'")),
        connected(&format!("'tcp://:p%40ss%2Fword@127.0.0.1:{port}/', ['timeout' => 60, 'prefix' => 'push:']")),
        connected(&format!("'rediss://:p%40ss%2Fword@localhost:{tls_port}/0', {ca}")),
        connected(&format!("'unix://{socket}?pass=p%40ss%2Fword&db=1'")),
        connected(&format!("'redis+unix://{socket}?user=writer&pass=secret'")),
        connected(&format!("new Predis\\Client(['port' => {port}, 'password' => '{password}'])")),
        connected(&format!("new Other({port}, '{password}')")),
    ];
    let mut script = String::from(
        "require 'Predis/autoload.php';
        /** A client with the method of phpredis. */
        class Other {
            private $redis;
            public function __construct(int $port, string $password) { $this->redis = new Predis\\Client(compact('port', 'password')); }
            public function publish($channel, $payload) { return $this->redis->publish($channel, $payload); }
        }\n",
    );
    for publisher in &publishers {
        script.push_str(&format!(
            "show(function () {{ $redis = {publisher}; return [
                $redis->publish('plain', ['title' => 'Käse']),
                $redis->publish('plain', 'a text'),
                $redis->publish('plain', ['data' => 1, 'key' => 'k']),
                $redis->publish('with', 7, ['event' => 'added', 'exclude' => 'me']),
            ]; }});\n"
        ));
    }
    let said = lines(&format!("set_include_path('/usr/share/php');\n{script}"), &[]).await;
    for (publisher, said) in publishers.iter().zip(&said) {
        assert_eq!(*said, json!([1, 1, 1, 1]), "{publisher}");
    }
    let count = publishers.len();
    for (query, expected) in [
        ("channel=plain", vec![r#"{"title":"Käse"}"#, r#""a text""#, r#"{"data":1,"key":"k"}"#]),
        ("channel=with", vec!["7"]),
        ("channel=with&client=me", vec![]),
    ] {
        let expected: Vec<&str> = std::iter::repeat_n(expected, count).flatten().collect();
        let mut data = Vec::new();
        eventually(&format!("{} messages", expected.len()), async || {
            let items = read(&node, query).await;
            (items.len() >= expected.len()).then_some(())
        })
        .await;
        for (_, event, text) in read(&node, query).await {
            assert_eq!(event, if query.contains("with") { "added" } else { "message" });
            data.push(text);
        }
        assert_eq!(data, expected, "{query}");
    }
    std::fs::remove_dir_all(dir).ok();
}

#[tokio::test]
async fn troubles_with_redis_are_exceptions() {
    let mut redis = RedisServer::start_with(&["--requirepass", "secret"]).await;
    redis.set_login(":secret@");
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (good, port) = (redis.url(), redis.port());
    for (url, error, word) in [
        (format!("redis://127.0.0.1:{port}"), "redis_error", "NOAUTH"),
        (format!("redis://:wrong@127.0.0.1:{port}"), "redis_error", "WRONGPASS"),
        (format!("redis://:secret@127.0.0.1:{port}/99999"), "redis_error", "out of range"),
        (format!("redis://127.0.0.1:{}", free_port()), "no_connection", "refused"),
        (format!("redis://{}", silent.local_addr().expect("an address")), "no_answer", "in time"),
        (format!("rediss://127.0.0.1:{port}"), "no_connection", "SSL"),
    ] {
        // These two servers never answer.
        let timeout = if ["in time", "SSL"].contains(&word) { 0.5 } else { 60.0 };
        let script = format!(
            "show(fn () => (new Longtail\\RedisPublisher($argv[1], ['timeout' => {timeout}]))->publish('a', 1));"
        );
        let said = lines(&script, &[&url]).await.remove(0);
        assert_eq!(said["error"], error, "{url}: {said}");
        assert!(said["why"].as_str().is_some_and(|why| why.contains(word) && !why.contains("wrong")), "{url}: {said}");
        assert_eq!(said["perhaps"], error == "no_answer", "{url}: {said}");
    }
    // No node listens; then Redis closes the connection, and the next message opens another one.
    let script = "$redis = new Longtail\\RedisPublisher($argv[1], ['timeout' => 60]);
        show(fn () => $redis->publish('a', 1));
        $own = stream_socket_client('tcp://127.0.0.1:' . parse_url($argv[1], PHP_URL_PORT));
        fwrite($own, \"AUTH secret\\r\\nCLIENT KILL TYPE normal SKIPME yes\\r\\n\");
        show(fn () => [fgets($own), fgets($own)]);
        show(fn () => $redis->publish('a', 1));";
    let said = lines(script, &[&good]).await;
    assert_eq!((&said[0], &said[1][1], &said[2]), (&json!(0), &json!(":1\r\n"), &json!(0)), "{said:?}");
}

/// The form of messages that have several channels, several arguments or several exceptions.
#[tokio::test]
async fn all_fields_are_written_as_the_contract_says() {
    let redis = RedisServer::start().await;
    let client = redis::Client::open(redis.url()).expect("a URL");
    let mut listener = client.get_async_pubsub().await.expect("a connection");
    listener.psubscribe("go:*").await.expect("subscribed");
    let mut heard = listener.on_message();
    // (arguments of publish(), channel in Redis, payload in Redis, body of POST /publish)
    for (call, name, payload, body) in [
        ("'a', 1", "a", "1", r#"{"channel":"a","data":1}"#),
        ("'a', (object) []", "a", "{}", r#"{"channel":"a","data":{}}"#),
        ("'a', ['args' => 1]", "a", r#"{"data":{"args":1}}"#, r#"{"channel":"a","data":{"args":1}}"#),
        ("'a', 1, ['volatile' => false, 'except' => [], 'event' => null]", "a", "1", r#"{"channel":"a","data":1}"#),
        ("['a', 'b'], 1", "a", r#"{"channels":["a","b"],"data":1}"#, r#"{"channels":["a","b"],"data":1}"#),
        (
            "'a', null, ['args' => [1, ['x' => null]], 'event' => 'e']",
            "a",
            r#"{"args":[1,{"x":null}],"event":"e"}"#,
            r#"{"channel":"a","args":[1,{"x":null}],"event":"e"}"#,
        ),
        (
            "'a', null, ['except' => ['me', 'b'], 'exclude' => 'you', 'volatile' => true]",
            "a",
            r#"{"data":null,"except":["me","b"],"exclude":"you","volatile":true}"#,
            r#"{"channel":"a","data":null,"except":["me","b"],"exclude":"you","volatile":true}"#,
        ),
    ] {
        let (url, mut bodies) = scripted(&[DONE]).await;
        let script = format!(
            "show(fn () => (new Longtail\\RedisPublisher($argv[1], ['prefix' => 'go:']))->publish({call}));
            show(fn () => (new Longtail\\HttpPublisher($argv[2]))->publish({call}));"
        );
        let said = lines(&script, &[&redis.url(), &url]).await;
        assert_eq!(said, [json!(1), json!("C1")], "{call}");
        let message = futures_util::StreamExt::next(&mut heard).await.expect("a message");
        assert_eq!(message.get_channel_name(), format!("go:{name}"), "{call}");
        assert_eq!(message.get_payload::<String>().expect("a text"), payload, "{call}");
        let mut sent = bodies.recv().await.expect("a request");
        sent.as_object_mut().expect("an object").remove("key");
        assert_eq!(sent, serde_json::from_str::<Value>(body).expect("JSON"), "{call}");
    }
}

#[tokio::test]
async fn wrong_arguments_are_exceptions_that_name_them() {
    let http = |call: &str| format!("(new Longtail\\HttpPublisher('http://127.0.0.1:1'))->{call}");
    let redis = |call: &str| format!("(new Longtail\\RedisPublisher('redis://127.0.0.1:1'))->{call}");
    let table = [
        (http("publish('', 1)"), "channel has to be a text"),
        (http("publish([], 1)"), "name a channel"),
        (http("publish(['a', 2], 1)"), "channels has to be a list of texts"),
        (http("publish('a', 1, ['exlude' => 'me'])"), "no field exlude"),
        (http("publish('a', 1, ['event' => 5])"), "event has to be"),
        (http("publish('a', 1, ['exclude' => ''])"), "exclude has to be"),
        (http("publish('a', 1, ['except' => 'me'])"), "except has to be"),
        (http("publish('a', 1, ['volatile' => 'yes'])"), "volatile has to be"),
        (http("publish('a', 1, ['key' => ''])"), "key has to be"),
        (http("publish('a', 1, ['args' => [1]])"), "either data or args"),
        (http("publish('a', null, ['args' => 1])"), "args has to be a list"),
        (http("publish('a', 1, ['channel' => 'b'])"), "and not options"),
        (http(r#"publish('a', "\xff")"#), "JSON: Malformed UTF-8"),
        (http("publish('a', NAN)"), "JSON: Inf and NaN"),
        (http("publishAll([['channel' => 'a']])"), "either data or args"),
        (http("publishAll([['data' => 1]])"), "name a channel"),
        (http("publishAll(['a'])"), "not an array"),
        (redis("publish('a', 1, ['key' => false])"), "key has to be"),
        (redis("publish('a', 1, ['exlude' => 'me'])"), "no field exlude"),
        ("new Longtail\\HttpPublisher('127.0.0.1:8080')".into(), "the URL has to be like"),
        ("new Longtail\\HttpPublisher('http://user:pass@127.0.0.1/')".into(), "the URL has to be like"),
        (r#"new Longtail\HttpPublisher("http://127.0.0.1/a\r\nb")"#.into(), "the URL has to be like"),
        (r#"new Longtail\HttpPublisher('http://127.0.0.1', "a\r\nb: c")"#.into(), "the server key"),
        ("new Longtail\\HttpPublisher('http://127.0.0.1', '')".into(), "the server key"),
        ("new Longtail\\HttpPublisher('http://127.0.0.1', null, ['tries' => 3])".into(), "no option tries"),
        ("new Longtail\\HttpPublisher('http://127.0.0.1', null, ['timeout' => 0])".into(), "the option timeout"),
        ("new Longtail\\RedisPublisher('127.0.0.1')".into(), "the URL of Redis"),
        ("new Longtail\\RedisPublisher('http://127.0.0.1')".into(), "the URL of Redis"),
        ("new Longtail\\RedisPublisher('redis://127.0.0.1/first')".into(), "the database"),
        ("new Longtail\\RedisPublisher(new stdClass())".into(), "no method publish()"),
        ("new Longtail\\Tokens('')".into(), "the secret is empty"),
        ("Longtail\\Tokens::fromFile('/nowhere')".into(), "/nowhere cannot be read"),
        ("(new Longtail\\Tokens('s'))->sign(['subscribe' => ['a']], 0)".into(), "the ttl"),
        ("(new Longtail\\Tokens('s'))->sign(['subscribe' => ['a']], -5)".into(), "the ttl"),
        ("(new Longtail\\Tokens('s'))->sign(['subscribe' => 'a'], 5)".into(), "subscribe has to be a list"),
        ("(new Longtail\\Tokens('s'))->sign(['sub' => ''], 5)".into(), "sub has to be"),
        ("(new Longtail\\Tokens('s'))->sign(['aud' => 'x'], 5)".into(), "leave out exp"),
        ("(new Longtail\\Tokens('s'))->sign(['info' => str_repeat('x', 9000)], 5)".into(), "at most 8 KiB"),
        ("new Longtail\\Hook('')".into(), "the secret is empty"),
        ("new Longtail\\Hook(['a', ''])".into(), "the secret is empty"),
        ("new Longtail\\Hook([])".into(), "the list of secrets is empty"),
        ("Longtail\\Signature::problem('t=1,v1=a', '', [''])".into(), "the secret is empty"),
        ("new Longtail\\Authorizer(fn () => [], 0)".into(), "the ttl"),
    ];
    let script: String = table.iter().map(|(call, _)| format!("show(fn () => {call});\n")).collect();
    let said = lines(&script, &[]).await;
    assert_eq!(said.len(), table.len());
    for ((call, words), said) in table.iter().zip(&said) {
        assert!(said["wrong"].as_str().is_some_and(|why| why.contains(words)), "{call}: {said}");
    }
}

#[tokio::test]
async fn tokens_are_accepted_until_they_expire() {
    let node = guarded(&[]).await;
    let script = "
        $tokens = new Longtail\\Tokens($argv[1]);
        file_put_contents($argv[2], $argv[1] . \"\\n\");
        show(fn () => $tokens->sign(['subscribe' => ['a', 'room:*'], 'publish' => ['a'], 'sub' => 7], 600));
        show(fn () => Longtail\\Tokens::fromFile($argv[2])->sign(['subscribe' => ['a'], 'client' => 'me', 'info' => ['name' => 'Zoë']], 600));
        show(fn () => (new Longtail\\Tokens('another'))->sign(['subscribe' => ['a']], 600));
        show(fn () => $tokens->sign(['subscribe' => ['a'], 'sub' => null], 1));";
    let file = support::redis::fresh_dir("php-secret").join("secret");
    let said = lines(script, &[SECRET, file.to_str().expect("a path")]).await;
    let tokens: Vec<&str> = said.iter().map(|token| token.as_str().expect("a token")).collect();
    assert!(tokens.iter().all(|token| !token.contains(['=', '+', '/'])), "{tokens:?}");
    let poll = async |token: &str, query: &str| {
        let answer = get(&node, &format!("/poll?{query}&token={token}"), &[]).await;
        if answer.status == 200 { String::new() } else { answer.error_code() }
    };
    for (token, query, code) in [
        (tokens[0], "channel=a,room:7", ""),
        (tokens[0], "channel=b", "forbidden"),
        (tokens[1], "channel=a&client=me", ""),
        (tokens[1], "channel=a&client=you", "forbidden"),
        (tokens[2], "channel=a", "unauthorized"),
    ] {
        assert_eq!(poll(token, query).await, code, "{query}");
    }
    let publish = async |channel: &str| {
        let target = format!("/publish?channel={channel}");
        Request::post(&target, b"1").header("Authorization", &bearer(tokens[0])).send(node.http).await.status
    };
    assert_eq!((publish("a").await, publish("b").await), (200, 403));
    let expired = eventually("the token to expire", async || {
        let answer = get(&node, &format!("/poll?channel=a&token={}", tokens[3]), &[]).await;
        (answer.status != 200).then(|| answer.text())
    })
    .await;
    assert!(expired.contains("expired"), "{expired}");
    std::fs::remove_file(file).ok();
}

fn signature(secret: &str, time: i64, body: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), format!("{time}.{body}").as_bytes());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signed(secret: &str, from_now: i64, body: &str) -> String {
    let time = seconds(from_now);
    format!("t={time},v1={}", signature(secret, time, body))
}

#[tokio::test]
async fn signatures() {
    const BODY: &str = r#"{"type":"connect","data":"ä"}"#;
    let (good, other) = (signature("new", 1_700_000_000, BODY), signature("other", 1_700_000_000, BODY));
    // (header, secrets, now, problem; empty if the signature is good)
    let table = [
        (format!("t=1700000000,v1={good}"), "'new'", 1_700_000_000, ""),
        (format!("t=1700000000,v1={good}"), "'new'", 1_700_000_300, ""),
        (format!("t=1700000000,v1={good}"), "'new'", 1_699_999_700, ""),
        (format!("t=1700000000, v1={good}, v2=x"), "['old', 'new']", 1_700_000_000, ""),
        (format!("t=1700000000,v1={good}"), "['new', 'next']", 1_700_000_000, ""),
        (format!("v1={other},t=1700000000,v1={good}"), "'new'", 1_700_000_000, ""),
        (format!("t=1700000000,v1={good}"), "'new'", 1_700_000_301, "old"),
        (format!("t=1700000000,v1={good}"), "'new'", 1_699_999_699, "old"),
        (format!("t=1700000000,v1={other}"), "'new'", 1_700_000_000, "not that of the body"),
        (format!("t=1700000000,v1={good}"), "['old', 'next']", 1_700_000_000, "not that of the body"),
        (format!("t=1700000001,v1={good}"), "'new'", 1_700_000_000, "not that of the body"),
        (format!("t=1700000000,v1={}", good.to_uppercase()), "'new'", 1_700_000_000, "not that of the body"),
        (format!("t=1700000000,v1={}", &good[..63]), "'new'", 1_700_000_000, "not that of the body"),
        ("t=1700000000,v1=".into(), "'new'", 1_700_000_000, "not that of the body"),
        (format!("t=1700000000,v2={good}"), "'new'", 1_700_000_000, "no signature"),
        (format!("t=1700000000 ,x,v1={good},t=-1,t=1e9"), "'new'", 1_700_000_000, ""),
        (format!("v1={good}"), "'new'", 1_700_000_000, "no signature"),
        (format!("t=99999999999999999999,v1={good}"), "'new'", 1_700_000_000, "no signature"),
        (good.clone(), "'new'", 1_700_000_000, "no signature"),
        (String::new(), "'new'", 1_700_000_000, "no signature"),
    ];
    let mut script = String::new();
    for (header, secrets, now, _) in &table {
        script.push_str(&format!(
            "show(fn () => Longtail\\Signature::problem('{header}', $argv[1], {secrets}, 300, {now}));\n"
        ));
    }
    script.push_str(&format!(
        "show(fn () => Longtail\\Signature::problem('t=1700000000,v1={good}', $argv[1] . ' ', 'new', 300, 1700000000));"
    ));
    script.push_str("show(fn () => Longtail\\Signature::header($argv[1], 'new', 1700000000));");
    script.push_str(
        "show(fn () => Longtail\\Signature::problem(Longtail\\Signature::header($argv[1], 'new'), $argv[1], 'new'));",
    );
    let said = lines(&script, &[BODY]).await;
    for ((header, secrets, now, problem), said) in table.iter().zip(&said) {
        let is_right =
            if problem.is_empty() { said.is_null() } else { said.as_str().is_some_and(|s| s.contains(problem)) };
        assert!(is_right, "{header} {secrets} {now}: {said}");
    }
    let [changed, header, fresh] = &said[table.len()..] else { panic!("{said:?}") };
    assert!(changed.as_str().is_some_and(|said| said.contains("not that of the body")), "{changed}");
    assert_eq!(*header, format!("t=1700000000,v1={good}"));
    assert!(fresh.is_null(), "{fresh}");
}

const HOOK: &str = r#"
use Longtail\{Answer, Binary, Event, Hook};
(new Hook(['old-secret', 'secret']))
    ->onConnect(function (Event $event, Answer $answer): void {
        if (($event->call['auth']['token'] ?? '') !== 'good') {
            $answer->refuse('not signed in', ['login' => '/login.php']);
            return;
        }
        $answer->user(7, ['name' => 'Zoë', 'cookie' => $_COOKIE['PHPSESSID'] ?? null])->join('board:12', 'board:13')->data(['n' => 1])->ttl(60)
            ->send('welcome', 'Zoë', $event->ip ?? $event->call['ip']);
    })
    ->on('addItem', function (Event $event, Answer $answer): void {
        $answer->publish('board:12', $event->args[0], ['event' => 'itemAdded', 'exclude' => Answer::SELF]);
        if ($event->wantsAck) {
            $answer->ack(true, ['by' => $event->userId(), 'id' => $event->id]);
        }
    })
    ->on('move', function (Event $event, Answer $answer): void {
        $answer->leave('board:12')->joinRooms('a', 'b')->leaveRooms('c')->publish(['x', 'y'], null, ['args' => [1, 2]])
            ->ask('sure?', 'move', 5)->disconnect('namespace');
    })
    ->on('image', function (Event $event, Answer $answer): void {
        $answer->ack(strlen($event->args[0]->bytes), $event->args[1]['deep'][0]->bytes, new Binary("\x00\xff"));
    })
    ->on('nothing', function (): void {})
    ->on('show', function (Event $event, Answer $answer): void {
        $answer->ack(get_object_vars($event));
    })
    ->on('warning', function (Event $event, Answer $answer): void {
        echo $event->args['none'];
        $answer->ack('fine');
    })
    ->on('throw', function (): void { throw new Exception('secret-detail'); })
    ->on('error', function (): void { strlen(); })
    ->on('exit', function (): void { exit('leaves'); })
    ->on('many', function (Event $event, Answer $answer): void {
        for ($n = 0; $n < $event->args[0]; $n++) {
            $answer->join("c:$n");
        }
    })
    ->on('large', function (Event $event, Answer $answer): void { $answer->ack(str_repeat('x', $event->args[0])); })
    ->on('*', function (Event $event, Answer $answer): void { $answer->ack('other: ' . $event->event); })
    ->onAck('move', function (Event $event, Answer $answer): void { $answer->send('moved', $event->args); })
    ->onDisconnect(function (Event $event, Answer $answer): void {
        $answer->publish('board:12', ['reason' => $event->reason], ['event' => 'left']);
    })
    ->onChannel('member_added', function (Event $event, Answer $answer): void {
        $answer->publish($event->channel, $event->userId());
    })
    ->run();
"#;

async fn call(php: &Php, signature: &str, body: &str) -> Response {
    let request = Request::post("/hook.php", body.as_bytes()).header("Content-Type", "application/json");
    let request = request.header("Longtail-Signature", signature).header("Cookie", "PHPSESSID=s1");
    request.send(php.address).await
}

/// Calls in the form of the contract, by HTTP, and the answer to each.
#[tokio::test]
async fn hooks_are_answered() {
    let php = Php::start_with_helper("hook.php", HOOK).await;
    let session = r#""protocol":"socket.io","session":"s","client":"c1","endpoint":"/","user":{"id":"7"},"data":{"n":1},"channels":["/"]"#;
    let event = |name: &str, args: &str| {
        format!(r#"{{"type":"event","id":"e1",{session},"event":"{name}","args":{args},"ack":true}}"#)
    };
    let connect = |auth: &str| {
        format!(
            r#"{{"type":"connect","id":"e0","protocol":"longtail","session":null,"client":"c1","endpoint":"/",
            "ip":"192.0.2.7","origin":null,"transport":"ws","query":"a=1","auth":{auth}}}"#
        )
    };
    let no_ack = event("addItem", r#"[{"title":"milk"}]"#).replace("true", "false");
    for (body, status, answer) in [
        (
            connect(r#"{"token":"good"}"#),
            200,
            json!({"user": {"id": "7", "info": {"name": "Zoë", "cookie": "s1"}}, "join": ["board:12", "board:13"],
                "data": {"n": 1}, "ttl": 60, "send": [{"event": "welcome", "args": ["Zoë", "192.0.2.7"]}]}),
        ),
        (connect("null"), 200, json!({"refuse": {"message": "not signed in", "data": {"login": "/login.php"}}})),
        (
            event("addItem", r#"[{"title":"milk"}]"#),
            200,
            json!({"publish": [{"channel": "board:12", "data": {"title": "milk"}, "event": "itemAdded", "exclude": "self"}],
                "ack": [true, {"by": "7", "id": "e1"}]}),
        ),
        (
            no_ack,
            200,
            json!({"publish": [{"channel": "board:12", "data": {"title": "milk"}, "event": "itemAdded", "exclude": "self"}]}),
        ),
        (
            event("move", "[]"),
            200,
            json!({"leave": ["board:12"], "rooms": ["a", "b"], "leave_rooms": ["c"],
                "publish": [{"channels": ["x", "y"], "args": [1, 2]}],
                "send": [{"event": "sure?", "args": [5], "ack": "move"}], "disconnect": "namespace"}),
        ),
        (
            event("image", r#"[{"$binary":"AAECAw=="},{"deep":[{"$binary":"aGk="}]}]"#),
            200,
            json!({"ack": [4, "hi", {"$binary": "AP8="}]}),
        ),
        (event("nothing", "[]"), 204, Value::Null),
        (
            event("show", r#"[123456789012345678901234567890,{"$binary":"*"},{}]"#),
            200,
            json!({"ack": [{"id": "e1", "type": "event", "protocol": "socket.io", "session": "s", "client": "c1", "endpoint": "/",
                "user": {"id": "7"}, "data": {"n": 1}, "channels": ["/"], "event": "show",
                "args": ["123456789012345678901234567890", {"$binary": "*"}, []], "wantsAck": true, "channel": null,
                "ref": "", "reason": null, "call": {}}]}),
        ),
        (event("warning", "[]"), 200, json!({"ack": ["fine"]})),
        (event("what", "[]"), 200, json!({"ack": ["other: what"]})),
        (event("many", "[100]"), 200, json!({"join": (0..100).map(|n| format!("c:{n}")).collect::<Vec<_>>()})),
        (
            format!(r#"{{"type":"ack","id":"e2",{session},"args":["yes"],"ref":"move"}}"#),
            200,
            json!({"send": [{"event": "moved", "args": [["yes"]]}]}),
        ),
        (format!(r#"{{"type":"ack","id":"e3",{session},"args":[],"ref":"other"}}"#), 204, Value::Null),
        (
            format!(r#"{{"type":"disconnect","id":"e4",{session},"reason":"transport close"}}"#),
            200,
            json!({"publish": [{"channel": "board:12", "data": {"reason": "transport close"}, "event": "left"}]}),
        ),
        (
            r#"{"type":"member_added","id":"e5","channel":"room","user":{"id":"9"},"cursor":"C1"}"#.into(),
            200,
            json!({"publish": [{"channel": "room", "data": "9"}]}),
        ),
        (r#"{"type":"vacated","id":"e6","channel":"room","cursor":"C1"}"#.into(), 204, Value::Null),
        (r#"{"type":"a type of later","id":"e7"}"#.into(), 204, Value::Null),
    ] {
        let secret = if status == 204 { "old-secret" } else { "secret" };
        let said = call(&php, &signed(secret, 0, &body), &body).await;
        assert_eq!(said.status, status, "{body}: {} {}", said.text(), php.log());
        if status == 204 {
            assert_eq!(said.text(), "", "{body}");
            continue;
        }
        assert_eq!(said.header("Content-Type"), Some("application/json"), "{body}");
        let mut json = said.json();
        if let Some(all) = json.pointer_mut("/ack/0/call") {
            *all = json!({});
        }
        assert_eq!(json, answer, "{body}");
    }
    php.logged("a handler printed: ").await;
}

/// An exception of a handler is a 500 without details; what is not a call of Longtail is refused.
#[tokio::test]
async fn hooks_in_trouble() {
    let php = Php::start_with_helper("hook.php", HOOK).await;
    let event = |name: &str, args: &str| format!(r#"{{"type":"event","id":"e1","event":"{name}","args":{args}}}"#);
    for (name, args, logged) in [
        ("throw", "[]", "secret-detail"),
        ("error", "[]", "ArgumentCountError"),
        ("exit", "[]", ""),
        ("many", "[101]", "at most 100 items"),
        ("large", "[1048576]", "1 MiB"),
        ("addItem", "[]", "a handler printed"),
        ("image", "[1]", "TypeError"),
    ] {
        let body = event(name, args);
        let said = call(&php, &signed("secret", 0, &body), &body).await;
        let expected = if name == "addItem" { 200 } else { 500 };
        assert_eq!(said.status, expected, "{body}: {}", said.text());
        assert!(!said.text().contains("detail") && !said.text().contains(".php"), "{}", said.text());
        let log = php.log();
        assert!(log.contains(logged), "{name}: {log}");
    }
    let good = event("nothing", "[]");
    for (header, body, status) in [
        (signed("wrong", 0, &good), good.clone(), 401),
        (signed("secret", -400, &good), good.clone(), 401),
        (signed("secret", 400, &good), good.clone(), 401),
        (signed("secret", 0, &good), good.replace("e1", "e2"), 401),
        (String::new(), good.clone(), 401),
        (signed("secret", 0, "[1]"), "[1]".into(), 400),
        (signed("secret", 0, ""), String::new(), 400),
        (signed("secret", 0, "{}"), "{}".into(), 400),
        (signed("secret", 0, "{"), "{".into(), 400),
        (signed("secret", 0, r#"{"type":"event"}"#), r#"{"type":"event"}"#.into(), 400),
        (signed("secret", 0, r#"{"type":["event"]}"#), r#"{"type":["event"]}"#.into(), 400),
        (signed("secret", -200, &good), good.clone(), 204),
    ] {
        let said = call(&php, &header, &body).await;
        assert_eq!(said.status, status, "{header} {body}: {}", said.text());
    }
    let said = Request::get("/hook.php").send(php.address).await;
    assert_eq!((said.status, said.header("Allow")), (405, Some("POST")));
}

/// An event without a handler, and a hook without a secret.
#[tokio::test]
async fn a_small_hook() {
    let script = "(new Longtail\\Hook(null))->on('a', fn ($event, $answer) => $answer->ack(...$event->args))->run();";
    let php = Php::start_with_helper("hook.php", script).await;
    for (body, status, answer) in [
        (r#"{"type":"event","event":"a","args":[1,2]}"#, 200, json!({"ack": [1, 2]})),
        (r#"{"type":"event","event":"b","args":[]}"#, 200, json!({"refuse": {"message": "there is no such event"}})),
        (r#"{"type":"connect"}"#, 204, Value::Null),
    ] {
        let said = call(&php, "", body).await;
        assert_eq!(said.status, status, "{body}: {}", said.text());
        assert!(status == 204 || said.json() == answer, "{body}: {}", said.text());
    }
}

/// The server asks a script that uses the helper.
#[tokio::test]
async fn the_authorize_url_is_answered() {
    let script = r#"
        (new Longtail\Authorizer(function (Longtail\Question $question): ?array {
            $user = $_COOKIE['user'] ?? null;
            if ($user === 'broken') {
                echo 'some text';
                throw new Exception('secret-detail');
            }
            if ($user === null) {
                return null;
            }
            return $question->action === 'subscribe' ? ["board:$user", 'board:all'] : [];
        }, 30))->run();
    "#;
    let php = Php::start_with_helper("authorize.php", script).await;
    let node = Node::start(&["--authorize-url", &php.url, "--authorize-timeout", "20"]).await;
    for (cookie, channels, status, code) in [
        ("user=12", "board:12", 200, ""),
        ("user=12", "board:12,board:all", 200, ""),
        ("user=12", "board:13", 403, "forbidden"),
        ("user=12", "board:12,board:13", 403, "forbidden"),
        ("x=1", "board:12", 401, "unauthorized"),
        ("user=broken", "board:12", 403, "forbidden"),
    ] {
        let answer = get(&node, &format!("/poll?channel={channels}"), &[("Cookie", cookie)]).await;
        assert_eq!(answer.status, status, "{cookie} {channels}: {} {}", answer.text(), node.log());
        assert!(code.is_empty() || answer.error_code() == code, "{}", answer.text());
    }
    node.logged("status 500").await;
    assert!(!node.log().contains("detail"), "{}", node.log());
    php.logged("secret-detail").await;
    let ask = async |body: &str| {
        let request = Request::post("/authorize.php", body.as_bytes()).header("Cookie", "user=12");
        request.send(php.address).await
    };
    let question = r#"{"action":"subscribe","channels":["board:12","board:14"],"client":null,"transport":"ws","ip":"::1","origin":null}"#;
    assert_eq!(ask(question).await.text(), r#"{"channels":["board:12"],"ttl":30}"#);
    let publish = ask(&question.replace("subscribe", "publish")).await;
    assert_eq!((publish.status, publish.text()), (200, r#"{"channels":[],"ttl":30}"#.into()));
    for body in ["", "[]", "{}", r#"{"action":"read","channels":["a"]}"#, r#"{"action":"subscribe","channels":[1]}"#] {
        assert_eq!(ask(body).await.status, 400, "{body}");
    }
    assert_eq!(Request::get("/authorize.php").send(php.address).await.status, 405);
}

/// The user that the script names is a member of channels with presence.
#[tokio::test]
async fn the_authorizer_names_the_user() {
    let script = r#"
        (new Longtail\Authorizer(fn (Longtail\Question $question): array => $question->channels))
            ->identify(fn (Longtail\Question $question): ?array => match ($_COOKIE['user'] ?? '') {
                '' => null,
                'bad' => ['info' => 1],
                default => ['id' => (int) $_COOKIE['user'], 'info' => ['name' => 'Ann'], 'more' => 1],
            })->run();
    "#;
    let php = Php::start_with_helper("authorize.php", script).await;
    let question =
        r#"{"action":"subscribe","channels":["board:12"],"client":null,"transport":"ws","ip":"::1","origin":null}"#;
    for (cookie, status, user) in [
        ("user=7", 200, json!({"id": "7", "info": {"name": "Ann"}})),
        ("x=1", 200, Value::Null),
        ("user=bad", 500, Value::Null),
    ] {
        let request = Request::post("/authorize.php", question.as_bytes()).header("Cookie", cookie);
        let said = request.send(php.address).await;
        assert_eq!(said.status, status, "{cookie}: {}", said.text());
        assert!(status != 200 || said.json()["user"] == user, "{cookie}: {}", said.text());
    }
}

/// The time-out is for all attempts together.
#[tokio::test]
async fn a_server_that_hangs_does_not_hold_up_the_page() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (unavailable, _bodies) = scripted(&[UNAVAILABLE]).await;
    // (server, what is sent, seconds, error)
    for (url, data, timeout, error) in [
        (format!("http://{}", silent.local_addr().expect("an address")), "1", 0.5, "no_answer"),
        (format!("http://{}", silent.local_addr().expect("an address")), "str_repeat('x', 20000000)", 0.5, "no_answer"),
        (unavailable, "1", 1.5, "log_unavailable"),
    ] {
        let script = format!(
            "$begun = microtime(true);
            $publisher = new Longtail\\HttpPublisher($argv[1], null, ['timeout' => {timeout}, 'attempts' => 100]);
            show(fn () => $publisher->publish('a', {data}));
            show(fn () => microtime(true) - $begun);"
        );
        let said = lines(&script, &[&url]).await;
        assert_eq!(said[0]["error"], error, "{said:?}");
        let took = said[1].as_f64().expect("seconds");
        // The upper limit is for a busy machine.
        let least = if error == "no_answer" { timeout } else { 0.0 };
        assert!((least..timeout + 20.0).contains(&took), "{took}");
    }
}

/// The blocks of PHP in docs/php.md.
fn blocks_of_the_page() -> impl Iterator<Item = &'static str> {
    let page = include_str!("../docs/php.md");
    page.split("\n```php\n").skip(1).map(|rest| rest.split("\n```").next().expect("a block"))
}

/// The scripts of docs/php.md run. The test changes only their addresses and file names. The blocks for frameworks and the
/// page of the tutorial do not begin in this way.
#[tokio::test]
async fn the_code_of_the_page_runs() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let node = guarded(&["--redis", &url]).await;
    redis.listened(1).await;
    let secret = support::redis::fresh_dir("php-page").join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).expect("a file");
    let mut done = Vec::new();
    for block in blocks_of_the_page().filter(|block| block.starts_with("require 'Longtail.php';\n")) {
        let file = secret.display().to_string();
        let block = [
            ("require 'Longtail.php';", ""),
            ("http://127.0.0.1:8080", &format!("http://{}", node.http)),
            ("redis://127.0.0.1:6379", &url),
            ("getenv('LONGTAIL_PUBLISH_KEY')", &format!("'{KEY}'")),
            ("'token-secret'", &format!("'{file}'")),
            ("'hook-secret'", &format!("'{file}'")),
        ]
        .iter()
        .fold(block.to_owned(), |block, (from, to)| block.replace(from, to));
        let result = async |name: &str| lines(&format!("{block}\nshow(fn () => ${name});"), &[]).await.remove(0);
        if block.contains("RedisPublisher") {
            assert_eq!(result("nodes").await, 1);
            done.push("redis");
        } else if block.contains("publishAll") {
            assert_eq!(result("cursors").await.as_array().map(Vec::len), Some(2));
            done.push("list");
        } else if block.contains("HttpPublisher") {
            assert!(result("cursor").await.is_string());
            done.push("http");
        } else if block.contains("Tokens") {
            let token = result("token").await;
            let path = format!("/poll?channel=user:7,room:5&token={}", token.as_str().expect("a token"));
            assert_eq!(get(&node, &path, &[]).await.status, 200);
            done.push("token");
        } else if block.contains("Authorizer") {
            let php = Php::start_with_helper("hook.php", &block).await;
            let said = call(&php, "", r#"{"action":"subscribe","channels":["user:7"]}"#).await;
            assert_eq!(said.status, 401, "nobody is signed in: {} {}", said.text(), php.log());
            done.push("authorizer");
        } else {
            let php = Php::start_with_helper("hook.php", &block).await;
            for (body, answer) in [
                (r#"{"type":"connect"}"#, json!({"refuse": {"message": "sign in first"}})),
                (
                    r#"{"type":"event","event":"addItem","args":["milk"]}"#,
                    json!({"publish": [{"channel": "board:12", "data": "milk", "event": "itemAdded", "exclude": "self"}],
                        "ack": [true]}),
                ),
            ] {
                let said = call(&php, &signed(SECRET, 0, body), body).await;
                assert_eq!((said.status, said.json()), (200, answer), "{}", php.log());
            }
            done.push("hook");
        }
    }
    assert_eq!(done, ["http", "list", "redis", "token", "authorizer", "hook"]);
    std::fs::remove_file(secret).ok();
}

/// The tutorial of docs/php.md: users sign in, and only they read. What one of them adds is in the log.
#[tokio::test]
async fn the_page_that_reads_signs_users_in_and_publishes() {
    let node = guarded(&[]).await;
    let [authorize, page] = ["(new Longtail\\Authorizer(", "<!doctype html>"].map(|part| {
        let is_it = |block: &&str| block.starts_with("<?php\nrequire __DIR__") && block.contains(part);
        blocks_of_the_page().find(is_it).unwrap_or_else(|| panic!("no block with {part}")).to_owned()
    });
    let [authorize, page] = [authorize, page].map(|block| {
        block
            .replace("__DIR__ . '/../Longtail.php'", &format!("'{HELPER}'"))
            .replace("'http://127.0.0.1:8080'", &format!("'http://{}'", node.http))
            .replace("getenv('LONGTAIL_PUBLISH_KEY')", &format!("'{KEY}'"))
    });
    let (authorizer, list) = (Php::start("authorize.php", &authorize).await, Php::start("index.php", &page).await);
    let form = |body: &str| {
        Request::post("/index.php", body.as_bytes()).header("Content-Type", "application/x-www-form-urlencoded")
    };
    let question = r#"{"action":"subscribe","channels":["list","user:ann","user:bob"],"client":null,"transport":"ws","ip":"::1","origin":null}"#;
    let ask = |cookie: &str| Request::post("/authorize.php", question.as_bytes()).header("Cookie", cookie);

    let stranger = form("title=nothing").send(list.address).await;
    assert!(stranger.text().contains("Your name"), "{}", stranger.text());
    assert_eq!(ask("x=1").send(authorizer.address).await.status, 401);

    let signed_in = form("name=ann").send(list.address).await;
    let cookies = signed_in.text();
    assert!(cookies.contains("Longtail.connect("), "{cookies}");
    let cookie = signed_in.header("set-cookie").expect("a session").split(';').next().expect("a cookie").to_owned();
    let allowed = ask(&cookie).send(authorizer.address).await;
    assert_eq!(allowed.status, 200, "{} {}", allowed.text(), authorizer.log());
    assert_eq!(allowed.json()["user"], json!({"id": "ann", "info": {"name": "Ann"}}), "{}", allowed.text());
    assert_eq!(allowed.json()["channels"], json!(["list", "user:ann"]), "{}", allowed.text());

    let added = form("title=milk").header("Cookie", &cookie).send(list.address).await;
    assert_eq!(added.status, 204, "{} {}", added.text(), list.log());
    let key = format!("Bearer {KEY}");
    let read = get(&node, "/poll?channel=list&cursor=earliest", &[("Authorization", &key)]).await;
    assert_eq!(read.json()["messages"][0]["data"], json!({"title": "milk", "by": "ann"}), "{}", read.text());
}
