//! PHP applications that get the events of clients: a script with `examples/php/Longtail.php` behind PHP's own server,
//! and the worker of docs/application.md.

use crate::support;

use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use support::php::Php;
use support::redis::fresh_dir;
use support::websocket::handshake;
use support::world::start_on;
use support::{
    LineClient, Metrics, Node, RawWebSocket, Reader, RedisServer, Request, Response, Subscription, eventually,
};
use tokio::process::{Child, Command};

/// An application with a session, and with a handler that refuses.
const APPLICATION: &str = r#"
use Longtail\{Answer, Event, Hook};
Hook::fromSecretFile(__DIR__ . '/../SECRET')
    ->on('addItem', function (Event $event, Answer $answer): void {
        $item = ['title' => $event->args[0]['title'], 'by' => $_COOKIE['name'] ?? 'nobody'];
        $answer->publish('todo', $item, ['event' => 'itemAdded', 'exclude' => Answer::SELF, 'key' => $event->id])
            ->publish(['todo', 'log'], null, ['args' => [$event->client, count($event->args)], 'event' => 'counted'])
            ->ack($item, $event->channel);
    })
    ->on('fail', function (): void { throw new Exception('secret-detail'); })
    ->run();
"#;

fn secret_file(text: &str) -> PathBuf {
    let file = fresh_dir("php-secret").join("secret");
    std::fs::write(&file, text).expect("a file");
    file
}

async fn post(node: &Node, event: &Value, cookie: &str) -> Response {
    let body = event.to_string();
    let request = Request::post("/event", body.as_bytes()).header("Content-Type", "application/json");
    request.header("Cookie", cookie).send(node.http).await
}

/// The next object of a line client that is of this type.
async fn next_of(line: &mut LineClient, kind: &str) -> Value {
    loop {
        let object = line.json().await;
        if object["type"] == kind {
            return object;
        }
    }
}

/// The application checks the signature, publishes and answers, for clients of each transport that sends events. Readers
/// of every transport get what it publishes.
#[tokio::test]
async fn an_application_answers_events() {
    let secret = secret_file("a-secret-of-more-than-thirty-two-bytes\n");
    let php = Php::start_with_helper(
        "hook.php",
        &APPLICATION.replace("__DIR__ . '/../SECRET'", &format!("'{}'", secret.display())),
    )
    .await;
    let args = ["--hook-url", &php.url, "--hook-timeout", "20", "--hook-secret-file", &secret.display().to_string()];
    let node = Node::start(&args).await;
    let mut readers = Vec::new();
    for transport in node.transports().await {
        readers.push(Reader::open(&node, &transport, Subscription::to(&["todo"])).await);
    }
    let item = |title: &str, by: &str| json!({"title": title, "by": by});

    let opened = handshake("/ws?client=ann&channel=log").header("Cookie", "name=Ann");
    let mut socket = RawWebSocket::open_by(node.http, opened).await;
    socket.next_of("hello").await;
    socket
        .text(r#"{"type":"event","event":"addItem","data":{"title":"milk"},"channel":"todo","ref":1,"key":"k"}"#)
        .await;
    let ack = loop {
        let object = socket.frame().await.expect("a frame").json();
        match object["type"].as_str() {
            Some("ack") => break object,
            _ => assert_eq!((&object["event"], &object["data"]), (&json!("counted"), &json!(["ann", 1]))),
        }
    };
    assert_eq!(
        (&ack["ref"], &ack["args"], &ack["data"]),
        (&json!(1), &json!(true), &json!([item("milk", "Ann"), "todo"]))
    );
    let mut line = LineClient::connect(node.tcp).await;
    line.send(r#"{"type":"event","event":"addItem","data":{"title":"eggs"},"ref":2}"#).await;
    assert_eq!(next_of(&mut line, "ack").await["data"], json!([item("eggs", "nobody"), null]));
    let said = post(&node, &json!({"event": "addItem", "data": {"title": "bread"}}), "name=Zoe").await;
    assert_eq!((said.status, said.json()), (200, json!({"ack": [item("bread", "Zoe"), null], "send": []})));
    let form = Request::form("/event", "event=addItem&data=%7B%22title%22%3A%22beer%22%7D").send(node.http).await;
    assert_eq!(
        (form.status, form.text().as_str()),
        (200, r#"{"ack":[{"title":"beer","by":"nobody"},null],"send":[]}"#)
    );

    for reader in &mut readers {
        for (title, by) in [("milk", "Ann"), ("eggs", "nobody"), ("bread", "Zoe"), ("beer", "nobody")] {
            let added = reader.next_message().await;
            let data: Value = serde_json::from_str(added.data()).expect("JSON");
            assert_eq!(
                (added.str("event").as_deref(), data),
                (Some("itemAdded"), item(title, by)),
                "{}",
                reader.transport.name
            );
            assert_eq!(
                reader.next_message().await.str("event").as_deref(),
                Some("counted"),
                "{}",
                reader.transport.name
            );
        }
    }
    for (event, status, code) in [("fail", 502, "application_failed"), ("removeItem", 403, "forbidden")] {
        let said = post(&node, &json!({"event": event}), "").await;
        assert_eq!((said.status, said.error_code().as_str()), (status, code), "{}", said.text());
        assert!(!said.text().contains("detail"), "{}", said.text());
    }
    let answered = "longtail_hook_calls_total{type=\"event\",outcome=\"answered\"}";
    assert_eq!(Metrics::of(&node).await.value(answered), 4.0);

    let other = secret_file("another-secret-of-more-than-32-bytes");
    let forger = Node::start(&["--hook-url", &php.url, "--hook-secret-file", &other.display().to_string()]).await;
    let said = post(&forger, &json!({"event": "addItem", "data": {"title": "forged"}}), "").await;
    assert_eq!(said.error_code(), "application_failed", "{}", php.log());
    php.logged("the signature is not that of the body").await;
    for file in [secret, other] {
        std::fs::remove_dir_all(file.parent().expect("a folder")).ok();
    }
}

/// The worker of docs/application.md. The test changes only its address.
fn worker(dir: &std::path::Path, redis: &RedisServer, change: (&str, &str)) -> Child {
    let page = include_str!("../docs/application.md");
    let mut blocks = page.split("\n```php\n").skip(1).map(|rest| rest.split("\n```").next().expect("a block"));
    let script = blocks.find(|block| block.contains("XREADGROUP")).expect("the worker");
    let address = format!("127.0.0.1:{}", redis.port());
    let script = script.replace("127.0.0.1:6379", &address).replace(change.0, change.1);
    std::fs::write(dir.join("worker.php"), script).expect("the script");
    let mut command = Command::new("php");
    command.args(["-n", "-d", "display_errors=stderr", "-d", "error_reporting=-1"]).arg(dir.join("worker.php"));
    let log = std::fs::File::create(dir.join("log")).expect("the log");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command.spawn().expect("php is installed (apt-get install php-cli)")
}

/// Two workers share the events of clients on two nodes, and one of the workers dies.
#[tokio::test]
async fn the_worker_of_the_page_answers_events() {
    let redis = RedisServer::start().await;
    let args = ["--hook-stream", "todo", "--hook-timeout", "60"];
    let nodes = [start_on(&redis, &args).await, start_on(&redis, &args).await];
    let dirs = [fresh_dir("php-worker"), fresh_dir("php-worker")];
    let change = ("random_int(1, 1000000)", "getmypid()");
    let mut workers: Vec<Child> = dirs.iter().map(|dir| worker(dir, &redis, change)).collect();
    let stream = "{longtail:log}:hook:todo";
    eventually("the workers", async || {
        let clients = redis.text(&["CLIENT", "LIST", "TYPE", "normal"]).await;
        (clients.matches("cmd=xreadgroup").count() == 2).then_some(())
    })
    .await;
    let mut other = RawWebSocket::open(&nodes[1], "/ws?channel=todo").await;
    other.next_of("hello").await;
    let mut socket = RawWebSocket::open(&nodes[0], "/ws?channel=todo&client=me").await;
    socket.next_of("hello").await;
    let mut by = Vec::new();
    for n in 0..40 {
        if n == 20 {
            workers.remove(0).kill().await.expect("killed");
        }
        let title = format!("Käse {n}");
        let event = json!({"type": "event", "event": "addItem", "data": {"title": title}, "ref": n});
        socket.text(&event.to_string()).await;
        let ack = socket.next_of("ack").await;
        assert_eq!((&ack["ref"], &ack["data"][0]["title"]), (&json!(n), &json!(title)));
        by.push(ack["data"][0]["id"].as_u64().expect("a worker"));
        let message = other.frame().await.expect("a message").json();
        assert_eq!((&message["event"], &message["data"]), (&json!("itemAdded"), &ack["data"][0]));
    }
    by.sort_unstable();
    by.dedup();
    assert_eq!(by.len(), 2, "both workers have answered");
    let refused = post(&nodes[1], &json!({"event": "removeItem"}), "").await;
    assert_eq!(refused.json()["error"]["message"], "This event does not exist.");
    // The calls of the worker that has died are over, or were answered: they do not delay the others.
    for (dir, node) in dirs.iter().zip(&nodes) {
        let said = std::fs::read_to_string(dir.join("log")).expect("the log");
        assert_eq!(said, "", "{}", node.log());
        std::fs::remove_dir_all(dir).ok();
    }
    assert_eq!(redis.number(&["XLEN", stream]).await, 41);
}
