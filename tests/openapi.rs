//! docs/openapi.yaml describes the real answers of a server.

use crate::support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use support::guarded::KEY;
use support::redis::fresh_dir;
use support::{Node, Request, Response};

/// Checks each answer against the schema that the document has for its method, path, status and content type. Prints a
/// line for each difference.
const VALIDATE: &str = r#"
import json, sys, jsonschema
api, answers = (json.load(open(name)) for name in sys.argv[1:3])
def resolved(part):
    while "$ref" in part:
        at = api
        for name in part["$ref"][2:].split("/"):
            at = at[name]
        part = at
    return part
resolver = jsonschema.RefResolver("", api)
for answer in answers:
    what = f"{answer['method']} {answer['path']} {answer['status']}"
    response = api["paths"].get(answer["path"], {}).get(answer["method"], {}).get("responses", {}).get(str(answer["status"]))
    if response is None:
        print(what, "is not described")
        continue
    content = resolved(response).get("content", {})
    if not content:
        if answer["body"]: print(what, "has a body")
        continue
    media = content.get(answer["type"])
    if media is None:
        print(what, "has the type", answer["type"])
        continue
    body = json.loads(answer["body"]) if answer["type"] == "application/json" else answer["body"]
    for error in jsonschema.Draft202012Validator(media["schema"], resolver=resolver).iter_errors(body):
        print(what, error.json_path, error.message)
"#;

/// Returns the differences between the document and the answers.
fn differences(api: &Value, answers: &[Value]) -> String {
    let dir = fresh_dir("openapi");
    let write = |name: &str, value: &Value| std::fs::write(dir.join(name), value.to_string()).expect("written");
    write("api.json", api);
    write("answers.json", &Value::from(answers));
    // A python3 that is not the system's may lack the package.
    let has_package = |python: &&str| {
        Command::new(python)
            .args(["-W", "ignore", "-c", "import jsonschema"])
            .output()
            .is_ok_and(|done| done.status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_package).expect("python3-jsonschema");
    let mut python = Command::new(python);
    let done = python.args(["-W", "ignore", "-c", VALIDATE]).args(["api.json", "answers.json"]).current_dir(&dir);
    let done = done.output().expect("python3 runs");
    std::fs::remove_dir_all(dir).ok();
    assert!(done.status.success(), "python3-jsonschema: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("UTF-8")
}

fn answer(method: &str, path: &str, response: &Response) -> Value {
    let kind = response.header("Content-Type").unwrap_or_default().split(';').next().unwrap_or_default();
    json!({ "method": method, "path": path, "status": response.status, "type": kind, "body": response.text() })
}

/// An answer for each row: the path in the document, the target, the body of a `POST`, and the status.
async fn answers() -> Vec<Value> {
    let open = Node::start(&["--max-message-bytes", "100"]).await;
    let guarded = Node::start(&["--publish-key", KEY, "--public", "news", "--publish-rate", "1"]).await;
    let draining = Node::start(&["--drain-delay", "60"]).await;
    draining.signal("TERM");
    support::eventually("the drain", async || (draining.get("/readyz").await.status == 503).then_some(())).await;
    let two = r#"[{"channel":"a","data":1,"key":"k"},{"channels":["a","b"],"args":[1,"x"],"event":"e"}]"#;
    let long = "x".repeat(200);
    let mut answers = Vec::new();
    for (node, path, target, body, status) in [
        (&open, "/publish", "/publish", Some(two), 200),
        (&open, "/publish", "/publish?channel=a&counts=1", Some("text"), 200),
        (&open, "/publish", "/publish?channel=a&volatile=1", Some("1"), 200),
        (&open, "/publish", "/publish?channel=~a", Some("1"), 400),
        (&open, "/publish", "/publish?channel=a", Some(long.as_str()), 413),
        (&guarded, "/publish", "/publish?channel=a", Some("1"), 401),
        (&open, "/poll", "/poll?channel=a&cursor=earliest", None, 200),
        (&open, "/poll", "/poll?channel=a,b&last=1", None, 200),
        (&open, "/poll", "/poll?channel=a&cursor=1-0.aaaaaa", None, 200),
        (&open, "/poll", "/poll?channel=a&cursor=x", None, 400),
        (&guarded, "/poll", "/poll?channel=a", None, 401),
        (&open, "/long-poll", "/long-poll?channel=a&cursor=earliest&limit=1", None, 200),
        (&open, "/long-poll", "/long-poll", None, 400),
        (&open, "/channels", "/channels", None, 200),
        (&open, "/channels", "/channels?limit=1", None, 200),
        (&open, "/channels", "/channels?limit=x", None, 400),
        (&guarded, "/channels", "/channels", None, 401),
        (&open, "/channels/{channel}", "/channels/a", None, 200),
        (&open, "/channels/{channel}", "/channels/unused", None, 200),
        (&open, "/channels/{channel}", "/channels/~a", None, 400),
        (&open, "/info", "/info", None, 200),
        (&open, "/healthz", "/healthz", None, 200),
        (&open, "/readyz", "/readyz", None, 200),
        (&draining, "/readyz", "/readyz", None, 503),
        (&open, "/metrics", "/metrics", None, 200),
        (&guarded, "/metrics", "/metrics", None, 401),
    ] {
        let request = match body {
            Some(body) if body.starts_with('[') => {
                Request::post(target, body.as_bytes()).header("Content-Type", "application/json")
            }
            Some(body) => Request::post(target, body.as_bytes()),
            None => Request::get(target),
        };
        let response = request.send(node.http).await;
        assert_eq!(response.status, status, "{target}: {}", response.text());
        answers.push(answer(if body.is_some() { "post" } else { "get" }, path, &response));
    }
    let etag = format!("\"{}\"", open.get("/poll?channel=a").await.json()["cursor"].as_str().expect("a cursor"));
    let unchanged = Request::get("/poll?channel=a").header("If-None-Match", &etag).send(open.http).await;
    assert_eq!(unchanged.status, 304);
    answers.push(answer("get", "/poll", &unchanged));
    answers
}

#[tokio::test]
async fn the_document_describes_the_answers() {
    let api = crate::deployments::yaml("docs/openapi.yaml").remove(0);
    assert_eq!(api["info"]["version"], env!("CARGO_PKG_VERSION"));
    let answers = answers().await;
    let found = differences(&api, &answers);
    assert!(found.is_empty(), "{found}");
    // Each operation was tried.
    let tried: BTreeSet<(&str, &str)> = answers
        .iter()
        .map(|answer| (answer["path"].as_str().expect("a path"), answer["method"].as_str().expect("a method")))
        .collect();
    for (path, operations) in api["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            assert!(tried.contains(&(path.as_str(), method.as_str())), "{method} {path} was not tried");
        }
    }
    // The check finds an answer that is wrong, and one that is not described.
    let wrong = json!({"method": "get", "path": "/poll", "status": 200, "type": "application/json", "body": r#"{"cursor":"1"}"#});
    let found = differences(&api, &[wrong]);
    assert!(found.contains("'messages' is a required property") && found.contains("does not match"), "{found}");
    let other = json!({"method": "put", "path": "/poll", "status": 200, "type": "text/plain", "body": ""});
    assert_eq!(differences(&api, &[other]), "put /poll 200 is not described\n");
}
