//! `--authorize-url` with an application that is in trouble: connections that end, answers with too many bytes, and
//! answers without a decision.

use crate::support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::application::ServerRequest;
use support::php::Php;
use support::{Node, Request, Response, eventually, within};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// The reaction of the application to a question.
enum Do {
    /// Writes these bytes, and waits for the next question on the same connection.
    Write(String),
    /// Writes the first part, and the rest after a pause.
    WriteThen(String, Duration, String),
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Does not answer.
    Wait,
}

/// A question: the cookie, the number of its connection, and its number on that connection.
struct Asked<'a> {
    cookie: &'a str,
    connection: usize,
    nth: usize,
}

/// An application that answers by a rule and keeps its connections open.
struct Application {
    url: String,
    connections: Arc<AtomicUsize>,
    questions: Arc<AtomicUsize>,
}

impl Application {
    async fn start(rule: impl Fn(Asked<'_>) -> Do + Send + Sync + 'static) -> Application {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let url = format!("http://{}/authorize", listener.local_addr().expect("an address"));
        let (connections, questions, rule) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::new(rule));
        let counts = (connections.clone(), questions.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = counts.0.fetch_add(1, Ordering::SeqCst);
                let (rule, questions) = (rule.clone(), counts.1.clone());
                tokio::spawn(async move { serve(stream, connection, &*rule, &questions).await });
            }
        });
        Application { url, connections, questions }
    }

    fn count(&self) -> (usize, usize) {
        (self.connections.load(Ordering::SeqCst), self.questions.load(Ordering::SeqCst))
    }

    async fn node(&self) -> Node {
        Node::start(&["--authorize-url", &self.url]).await
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    rule: &(impl Fn(Asked<'_>) -> Do + ?Sized),
    questions: &AtomicUsize,
) {
    for nth in 0.. {
        let Some(question) = ServerRequest::read(&mut stream).await else { return };
        let cookie = question.header("cookie").unwrap_or_default();
        questions.fetch_add(1, Ordering::SeqCst);
        match rule(Asked { cookie, connection, nth }) {
            Do::Write(text) => drop(stream.write_all(text.as_bytes()).await),
            Do::WriteThen(text, pause, rest) => {
                stream.write_all(text.as_bytes()).await.ok();
                tokio::time::sleep(pause).await;
                stream.write_all(rest.as_bytes()).await.ok();
            }
            Do::Close => return,
            Do::Reset => return drop(stream.set_zero_linger()),
            Do::Wait => tokio::time::sleep(Duration::from_secs(60)).await,
        }
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn allow(channel: &str) -> String {
    answer("200 OK", &format!(r#"{{"channels":["{channel}"],"ttl":60}}"#))
}

async fn poll(node: &Node, channel: &str, cookie: &str) -> Response {
    Request::get(&format!("/poll?channel={channel}")).header("Cookie", cookie).send(node.http).await
}

/// Bytes after an answer are never the answer to another user's question.
#[tokio::test]
async fn an_answer_decides_about_one_user() {
    for pause in [0, 5, 50, 400] {
        let application = Application::start(move |asked| match asked.cookie {
            "user=one" if pause == 0 => Do::Write(allow("a") + &allow("a")),
            "user=one" => Do::WriteThen(allow("a"), Duration::from_millis(pause), allow("a")),
            _ => Do::Write(answer("403 Forbidden", "")),
        })
        .await;
        let node = application.node().await;
        for silence in [0, 200].map(Duration::from_millis) {
            for n in 0..5 {
                // Each request is another question, since the client id is a part of the question.
                let id = format!("6ba7b810-9dad-41d1-80b4-{n:06}{:06}", silence.as_millis());
                let one = Request::get(&format!("/poll?channel=a&client={id}")).header("Cookie", "user=one");
                let one = one.send(node.http);
                assert_eq!(one.await.status, 200);
                tokio::time::sleep(silence).await;
                let two = poll(&node, "a", "user=two").await;
                assert_eq!((two.status, two.error_code().as_str()), (403, "forbidden"), "{pause} ms: {}", two.text());
            }
        }
        assert_eq!(application.count().1, 20, "each question was answered by itself");
    }
}

/// An application may close a connection at any time, even at the moment when a question is sent.
#[tokio::test]
async fn a_question_whose_connection_ends_is_asked_once_more() {
    // Each connection carries one answer, in whatever way the connection ends after that.
    for reset in [false, true] {
        let application = Application::start(move |asked| match asked.nth {
            0 => Do::Write(allow("a")),
            _ if reset => Do::Reset,
            _ => Do::Close,
        })
        .await;
        let node = application.node().await;
        for n in 0..6 {
            let answer = poll(&node, "a", &format!("n={n}")).await;
            assert_eq!(answer.status, 200, "reset {reset}, user {n}: {}", answer.text());
        }
    }
    // The question is repeated only once.
    type Rule = fn(Asked<'_>) -> Do;
    let rules: [(Rule, usize, u16); 4] = [
        (|_| Do::Close, 2, 403),
        (|_| Do::Reset, 2, 403),
        (|asked| if asked.connection == 0 { Do::Close } else { Do::Write(allow("a")) }, 2, 200),
        (|asked| if asked.connection == 0 { Do::Reset } else { Do::Write(allow("a")) }, 2, 200),
    ];
    for (n, (rule, asked, status)) in rules.into_iter().enumerate() {
        let application = Application::start(rule).await;
        let node = Node::start(&["--authorize-url", &application.url]).await;
        let answer = poll(&node, "a", "n=1").await;
        assert_eq!((answer.status, application.count().1), (status, asked), "{n}: {}", answer.text());
        assert_eq!(answer.header("Retry-After").is_some(), status == 403, "{n}: {}", answer.text());
    }
}

#[tokio::test]
async fn the_time_for_an_answer_is_a_setting() {
    let application = Application::start(|_| Do::Wait).await;
    let node = Node::start(&["--authorize-url", &application.url, "--authorize-timeout", "1"]).await;
    let began = Instant::now();
    let answer = poll(&node, "a", "n=1").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "forbidden"));
    assert!(began.elapsed() >= Duration::from_millis(900), "refused after {:?}", began.elapsed());
    node.logged("no answer within 1 s").await;
    // The application answers after three seconds, which is longer than the default timeout.
    let application = Application::start(|_| Do::WriteThen(String::new(), Duration::from_secs(3), allow("a"))).await;
    let node = Node::start(&["--authorize-url", &application.url, "LONGTAIL_AUTHORIZE_TIMEOUT=20"]).await;
    assert_eq!(poll(&node, "a", "n=1").await.status, 200);
}

/// An answer without a decision refuses the request, and the log describes it once.
#[tokio::test]
async fn what_decides_nothing_is_logged_once() {
    let odd = "HTTP/1.1 301 Moved\r\nLocation: https://secret.example/\r\nContent-Length: 0\r\n\r\n";
    let list = r#"{"channels":["a"],"ttl":60}"#;
    for (text, logged, may_pass) in [
        (odd.to_owned(), "status 301", false),
        (answer("302 Found", list), "status 302", false),
        (answer("404 Not Found", "<html>secret"), "status 404", false),
        (answer("405 Method Not Allowed", ""), "status 405", false),
        ("HTTP/1.1 204 No Content\r\n\r\n".into(), "status 204", false),
        (answer("429 Too Many Requests", ""), "status 429", false),
        (answer("500 Internal Server Error", list), "status 500", true),
        (answer("200 OK", ""), "an empty body", true),
        (answer("200 OK", "<html>secret"), "an HTML page", true),
        (answer("200 OK", &format!("<br />\n<b>Warning</b>: secret\n{list}")), "a warning of PHP in front of", true),
        (answer("200 OK", r#"{"allowed":["secret"]}"#), "JSON without a list of channels", true),
        ("SSH-2.0-OpenSSH_9.2 secret\r\n".into(), "without an answer in HTTP", true),
    ] {
        let application = Application::start(move |_| Do::Write(text.clone())).await;
        let node = application.node().await;
        for n in 0..4 {
            let answer = poll(&node, "a", &format!("n={n}")).await;
            assert_eq!((answer.status, answer.error_code().as_str()), (403, "forbidden"), "{logged}");
            assert_eq!(answer.header("Retry-After").is_some(), may_pass, "{logged}");
        }
        let warnings = || -> Vec<String> {
            node.log().lines().filter(|line| line.contains("--authorize-url")).map(ToOwned::to_owned).collect()
        };
        eventually("a warning", async || (!warnings().is_empty()).then_some(())).await;
        let warnings = warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(logged), "{logged}: {warnings:#?}");
        assert!(warnings[0].contains("WARN") && !node.log().contains("secret"), "{warnings:#?}");
    }
    // The log does not contain decisions.
    let application = Application::start(|asked| match asked.cookie {
        "n=0" => Do::Write(answer("401 Unauthorized", "")),
        "n=1" => Do::Write(answer("403 Forbidden", "<html>")),
        _ => Do::Write(allow("a")),
    })
    .await;
    let node = application.node().await;
    for n in 0..4 {
        poll(&node, "a", &format!("n={n}")).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!node.log().contains("--authorize-url"), "{}", node.log());
}

/// A refusal names the channels, even if the application refuses everything.
#[tokio::test]
async fn a_refusal_of_everything_names_the_channels() {
    for (status, code, refused) in [
        ("403 Forbidden", "forbidden", 403),
        ("401 Unauthorized", "unauthorized", 401),
        ("404 Not Found", "forbidden", 403),
    ] {
        let application = Application::start(move |_| Do::Write(answer(status, ""))).await;
        let node = application.node().await;
        let answer = poll(&node, "board:1,board:2", "n=1").await;
        assert_eq!((answer.status, answer.error_code().as_str()), (refused, code));
        assert!(answer.text().contains("board:1, board:2"), "{status}: {}", answer.text());
    }
}

/// Answers that real scripts send: a ttl that PHP has computed, and a warning in front of the JSON.
#[tokio::test]
async fn scripts_of_php() {
    const READ: &str = "<?php $asked = json_decode(file_get_contents('php://input'), true);\n";
    for (script, status, logged) in [
        ("echo json_encode(['channels' => $asked['channels'], 'ttl' => 120 / 2]);", 200, ""),
        (
            "ini_set('serialize_precision', -1); echo json_encode(['channels' => $asked['channels'], 'ttl' => 6e1], \
             JSON_PRESERVE_ZERO_FRACTION);",
            200,
            "",
        ),
        (
            "echo json_encode(['channels' => [$asked['channel'] ?? $_SESSION['x']] + $asked['channels']]);",
            403,
            "a warning of PHP in front of the JSON",
        ),
        ("nothing();", 403, "an error of PHP"),
        ("header('Location: /login.php');", 403, "status 302"),
    ] {
        let php = Php::start("authorize.php", &format!("{READ}{script}")).await;
        let node = Node::start(&["--authorize-url", &php.url, "--authorize-timeout", "20"]).await;
        let answer = poll(&node, "a", "n=1").await;
        assert_eq!(answer.status, status, "{script}: {} {}", answer.text(), node.log());
        let said = async || (logged.is_empty() || node.log().contains(logged)).then_some(());
        within(support::SOON, &format!("a line with {logged:?}"), async { eventually("it", said).await }).await;
    }
}
