//! Publishing over HTTP.

use crate::support;

use serde_json::{Value, json};
use support::{Item, Log, Node, Request, Response, World, quote};

on_both_logs! {
    a_json_object
    an_array_is_appended_in_order
    an_array_is_all_or_nothing
    raw_bodies
    forms
    keys_are_idempotent
    several_channels
    sizes
}

async fn read(node: &Node, channel: &str) -> Vec<Item> {
    let answer = node.get(&format!("/poll?channel={channel}&cursor=earliest&limit=1000")).await;
    support::decode::batch(&answer.text()).into_iter().filter(|item| item.id().is_some()).collect()
}

async fn payloads(node: &Node, channel: &str) -> Vec<String> {
    read(node, channel).await.iter().map(|item| item.data().to_owned()).collect()
}

async fn a_json_object(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    for body in [
        r#"{"channel":"todo","data":{"b":1e400,"a":[12345678901234567890]},"event":"added"}"#,
        "{\"data\":{\"b\":1e400,\"a\":[12345678901234567890]},\r\n\"event\":\"added\",\"channel\":\"todo\"}",
    ] {
        let answer = node.publish_json(body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["messages"].as_array().map(Vec::len), Some(1));
        assert_eq!(answer["messages"][0]["channel"], "todo");
        let last = read(&node, "todo").await.pop().expect("a message");
        assert_eq!(last.id().as_deref(), answer["messages"][0]["id"].as_str());
        assert_eq!(last.data(), r#"{"b":1e400,"a":[12345678901234567890]}"#);
        assert_eq!(last.str("event").as_deref(), Some("added"));
    }
    for (content_type, wanted) in
        [("application/json; charset=utf-8", 200), ("Application/JSON", 200), ("application/json;charset=UTF-8", 200)]
    {
        let answer = Request::post("/publish", br#"{"channel":"types","data":1}"#)
            .header("Content-Type", content_type)
            .send(node.http)
            .await;
        assert_eq!(answer.status, wanted, "{content_type}");
    }
    let kind = node.publish_json(r#"{"channel":"types","data":1}"#).await;
    assert_eq!(kind.header("Content-Type").map(|t| t.starts_with("application/json")), Some(true));
}

async fn an_array_is_appended_in_order(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let list: Vec<_> = (0..1000).map(|n| (format!("c{}", n % 2), n.to_string())).collect();
    let published = node.publish_list(&list).await;
    for parity in 0..2 {
        let wanted: Vec<String> = (0..1000).filter(|n| n % 2 == parity).map(|n| n.to_string()).collect();
        assert_eq!(payloads(&node, &format!("c{parity}")).await, wanted);
    }
    let mut ids = support::message_ids(&published);
    ids.dedup();
    assert_eq!(ids.len(), 1000, "each has an id of its own");
    let empty = node.publish_json("[]").await;
    assert_eq!((empty.status, empty.json()), (200, json!({"messages": []})));
}

async fn an_array_is_all_or_nothing(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let many = format!("[{}]", vec![r#"{"channel":"todo","data":1}"#; 1001].join(","));
    let large = format!(r#"{{"channel":"todo","data":"{}"}}"#, "x".repeat(70_000));
    for (bad, status, code) in [
        (r#"{"channel":"a b","data":1}"#, 400, "bad_channel"),
        (r#"{"channel":"todo"}"#, 400, "bad_request"),
        (r#"{"channel":"todo","data":1,"event":"gap"}"#, 400, "bad_event"),
        ("7", 400, "bad_request"),
        (large.as_str(), 413, "too_large"),
    ] {
        let good = r#"{"channel":"todo","data":1}"#;
        let answer = node.publish_json(&format!("[{good},{bad},{good}]")).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{bad:.100}");
    }
    let answer = node.publish_json(&many).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (413, "too_large"));
    assert_eq!(payloads(&node, "todo").await, Vec::<String>::new());
}

async fn raw(node: &Node, query: &str, content_type: &str, body: &[u8]) -> Response {
    let mut request = Request::post(&format!("/publish?{query}"), body);
    if !content_type.is_empty() {
        request = request.header("Content-Type", content_type);
    }
    request.send(node.http).await
}

async fn raw_bodies(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let curl = "application/x-www-form-urlencoded";
    let cases: [(&str, &str, &str, &str); 17] = [
        ("", "", "{\"title\":\"milk\"}", r#"{"title":"milk"}"#),
        ("", curl, "{\"title\":\"milk\"}", r#"{"title":"milk"}"#),
        ("", curl, "milk=1&data=2", r#""milk=1&data=2""#),
        ("", "text/plain", "milk & \"honey\"", r#""milk & \"honey\"""#),
        ("", "application/json", "{\"channel\":\"other\",\"data\":1}", r#"{"channel":"other","data":1}"#),
        ("", "application/json", "[1,2]", "[1,2]"),
        ("", "application/octet-stream", "123", "123"),
        ("", "image/png", "null", "null"),
        ("", "", "", r#""""#),
        ("", "", "01", r#""01""#),
        ("", "", "NaN", r#""NaN""#),
        ("", "", "{'a':1}", r#""{'a':1}""#),
        ("", "", "1 2", r#""1 2""#),
        ("&as=text", "", "123", r#""123""#),
        ("&as=text", "", "null", r#""null""#),
        ("&as=text", curl, "{\"a\":1}", r#""{\"a\":1}""#),
        ("", "", "true", "true"),
    ];
    for (index, (query, content_type, body, wanted)) in cases.into_iter().enumerate() {
        let channel = format!("raw-{index}");
        let query = format!("channel={channel}{query}");
        let answer = raw(&node, &query, content_type, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{query} {body:?}: {}", answer.text());
        assert_eq!(payloads(&node, &channel).await, [wanted], "{query} as {content_type:?} {body:?}");
    }
    assert_eq!(payloads(&node, "other").await, [""; 0]);

    // An `exclude` that is not a client id, such as the value of a missing header, does not exclude any client.
    let me = "/poll?channel=everybody&cursor=earliest&client=me";
    let excludes = ["exclude=", "exclude=a+b", "socket=", "exclude=me", "socket=me"];
    for (count, query) in excludes.into_iter().enumerate() {
        let answer = raw(&node, &format!("channel=everybody&{query}"), "", b"1").await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let seen = node.get(me).await.text().matches("\"id\"").count();
        assert_eq!(seen, (count + 1).min(3), "{query}");
    }
    let ignored = "longtail_publish_ignored_excludes_total";
    assert_eq!(node.metric(ignored).await, 3.0);
    let json = r#"[{"channel":"everybody","data":4,"exclude":""},{"channel":"everybody","data":5,"socket":null}]"#;
    assert_eq!(node.publish_json(json).await.status, 200);
    assert_eq!(node.get(me).await.text().matches("\"id\"").count(), 5);
    assert_eq!(node.metric(ignored).await, 4.0, "null names nobody");
    node.logged("is not a client id").await;
    let answer = node.publish_json(r#"{"channel":"everybody","data":1,"exept":["me"]}"#).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_request"), "a field that it does not have");

    let client = uuid::Uuid::new_v4();
    let query = format!("channel=all&event=itemAdded&exclude={client}&key=k1");
    let first = node.publish_with(&query, "1").await;
    assert_eq!(node.publish_with(&query, "1").await, first);
    let item = read(&node, "all").await.pop().expect("a message");
    assert_eq!(item.str("event").as_deref(), Some("itemAdded"));
    let url = format!("/poll?channel=all&cursor=earliest&client={client}");
    assert_eq!(node.get(&url).await.json()["messages"], json!([]));
    for bad in ["as=xml", "as=", "volatile=maybe"] {
        let answer = raw(&node, &format!("channel=all&{bad}"), "", b"1").await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_request"), "{bad}");
    }
}

/// A form body that begins with `data=` is the hidden form of an old browser.
async fn forms(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let cases = [
        ("channel=form", "data=%7B%22a%22%3A+1%7D", r#"{"a": 1}"#),
        ("channel=form", "data=a+b%26c", r#""a b&c""#),
        ("channel=form", "data=", r#""""#),
        ("channel=form", "data=1&event=e", "1"),
        ("", "data=2&channel=form", "2"),
        ("", "data=3&channel=form&as=text", r#""3""#),
        ("channel=form&as=text", "data=4", r#""4""#),
        ("", "data=a%0D%0Ab&channel=form", r#""a\r\nb""#),
        // The fields of a form may be empty.
        ("", "data=5&channel=form&channels=&except=", "5"),
        ("", "data=6&channel=&channels=form", "6"),
    ];
    for (query, body, wanted) in cases {
        for content_type in ["application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=UTF-8"] {
            let answer = raw(&node, query, content_type, body.as_bytes()).await;
            assert_eq!(answer.status, 200, "{query} {body}: {}", answer.text());
            let last = payloads(&node, "form").await.pop();
            assert_eq!(last.as_deref(), Some(wanted), "{query} {body}");
        }
    }
    let events: Vec<_> = read(&node, "form").await.iter().filter_map(|i| i.str("event")).collect();
    assert!(events.contains(&"e".to_owned()), "a form names the event: {events:?}");
    // An old browser shows the answer in a hidden frame, and would offer JSON as a download. This also applies to an
    // error.
    for (query, body, status, code) in [
        ("", "data=1", 400, "bad_channel"),
        ("channel=form&volatile=maybe", "data=1", 400, "bad_request"),
        ("channel=form&event=%ff", "data=1", 400, "not_utf8"),
    ] {
        let answer = raw(&node, query, "application/x-www-form-urlencoded", body.as_bytes()).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{query} {body}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{query} {body}");
    }
    // This is not a form: it has another type, or does not begin with `data=`.
    let answer = raw(&node, "channel=plain", "text/plain", b"data=1").await;
    assert_eq!(answer.status, 200);
    assert_eq!(payloads(&node, "plain").await, [r#""data=1""#]);
    let answer = raw(&node, "", "application/x-www-form-urlencoded", b"x=1&channel=plain").await;
    assert_eq!(answer.status, 400, "no channel: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    let answer = raw(&node, "channel=plain", "application/x-www-form-urlencoded", b"data=%ff").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "not_utf8"));
}

/// (query, JSON body or payload, status, code or the channels that the answer names)
async fn several_channels(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let list = |count: usize| (0..count).map(|n| format!("c{n}")).collect::<Vec<_>>();
    let json = |names: &[String]| json!({"channels": names, "data": 1}).to_string();
    let except = |names: &[String]| json!({"channel": "a", "data": 1, "except": names}).to_string();
    let cases: [(&str, String, u16, &str); 20] = [
        ("", r#"{"channels":["a","b"],"data":1}"#.into(), 200, "a,b"),
        ("", r#"{"channels":["b","a","b"],"args":[]}"#.into(), 200, "b,a"),
        ("", r#"{"channels":["a"],"data":1}"#.into(), 200, ""),
        ("channels=a,b", "1".into(), 200, "a,b"),
        ("channels=a&channels=b,c&except=x,y&except=z", "1".into(), 200, "a,b,c"),
        ("", json(&list(100)), 200, "*"),
        ("", json(&list(101)), 400, "too_many_channels"),
        ("", except(&list(100)), 200, ""),
        ("", except(&list(101)), 400, "bad_request"),
        ("", r#"{"channel":"a","channels":["b"],"data":1}"#.into(), 400, "bad_request"),
        ("channel=a&channels=b", "1".into(), 400, "bad_request"),
        ("channels=a,a%20b", "1".into(), 400, "bad_channel"),
        ("channels=", "1".into(), 400, "bad_channel"),
        ("", r#"{"channels":[],"data":1}"#.into(), 400, "bad_channel"),
        ("", r#"{"channels":["a","~s/1"],"data":1}"#.into(), 400, "bad_channel"),
        ("", r#"{"channel":"a","args":{"a":1}}"#.into(), 400, "bad_request"),
        ("", r#"{"channel":"a","args":[1],"data":1}"#.into(), 400, "bad_request"),
        ("", r#"{"channel":"a"}"#.into(), 400, "bad_request"),
        ("channel=a&args=1", "[1]".into(), 400, "bad_request"),
        ("channel=~s/1", "1".into(), 400, "bad_channel"),
    ];
    for (query, body, status, wanted) in cases {
        let content_type = if query.is_empty() { "application/json" } else { "" };
        let answer = raw(&node, query, content_type, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{query} {body:.200}: {}", answer.text());
        if status != 200 {
            assert_eq!(answer.error_code(), wanted, "{query} {body:.200}");
            continue;
        }
        let message = answer.json()["messages"][0].clone();
        let names = message["channels"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        assert!(wanted == "*" || names.join(",") == wanted, "{message}");
        assert!(names.is_empty() || message["channel"] == names[0], "{message}");
    }
    let answer = node.publish_json(r#"{"channel":"~s/1","data":1}"#).await;
    assert!(answer.text().contains("names that begin with ~ are reserved"), "{}", answer.text());

    // An item that is neither a client id nor a channel does not exclude any client, and is reported like an `exclude`.
    let before = node.metric("longtail_publish_ignored_excludes_total").await;
    let ignored = r#"{"channel":"told","data":1,"except":["",7,"a b","me",null]}"#;
    assert_eq!(node.publish_json(ignored).await.status, 200);
    assert_eq!(node.metric("longtail_publish_ignored_excludes_total").await, before + 1.0);
    assert_eq!(node.get("/poll?channel=told&cursor=earliest&client=me").await.json()["messages"], json!([]));
    assert_eq!(payloads(&node, "told").await, ["1"]);

    // One id for all channels, one delivery, and counts of each channel.
    let url = "/publish?channels=x,y&key=k&counts=1";
    let answers = [Request::post(url, b"1").send(node.http).await, Request::post(url, b"2").send(node.http).await];
    let messages = answers.each_ref().map(|answer| answer.json()["messages"][0].clone());
    assert_eq!(messages[0]["id"], messages[1]["id"], "the same key");
    assert_eq!(messages[0]["readers"]["y"]["total"], 0, "{}", messages[0]);
    let both = read(&node, "y,x").await;
    assert_eq!((both.len(), both[0].str("channel").as_deref()), (1, Some("x")));
    assert_eq!(both[0].id().as_deref(), messages[0]["id"].as_str());
}

/// The channel and the key identify a message: the same key gets the first id again and appends nothing.
async fn keys_are_idempotent(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let first = node.publish_with("channel=a&key=k", "1").await;
    assert_eq!(node.publish_with("channel=a&key=k", "1").await, first);
    assert_eq!(node.publish_with("channel=a&key=k", "2").await, first, "the payload is not looked at");
    assert_ne!(node.publish_with("channel=b&key=k", "3").await, first, "another channel");
    assert_ne!(node.publish_with("channel=a&key=K", "4").await, first, "another key");
    assert_ne!(node.publish_with("channel=a", "5").await, first, "no key");
    assert_eq!(payloads(&node, "a").await, ["1", "4", "5"]);

    // The rule holds within one array, and for many requests at once.
    let pair = r#"[{"channel":"c","data":1,"key":"x"},{"channel":"c","data":2,"key":"x"}]"#;
    let ids = node.publish_json(pair).await.json()["messages"].clone();
    assert_eq!(ids[0]["id"], ids[1]["id"]);
    let same = (0..20).map(|n| {
        let payload = n.to_string();
        let node = &node;
        async move { node.publish_with("channel=race&key=x", &payload).await }
    });
    let ids = futures_util::future::join_all(same).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(payloads(&node, "race").await.len(), 1);

    // Keys that could be read as another channel's key do not collide with it.
    let odd = node.publish_with("channel=a:b&key=c", "1").await;
    assert_ne!(node.publish_with("channel=a&key=b:c", "1").await, odd);
    let strange = quote("k\r\n\0é {}*");
    let first = node.publish_with(&format!("channel=s&key={strange}"), "1").await;
    assert_eq!(node.publish_with(&format!("channel=s&key={strange}"), "1").await, first);
}

async fn sizes(log: Log) {
    let World { node, redis: _redis } = World::start(log, &["--max-message-bytes", "1000"]).await;
    let (fits, over) = ("x".repeat(1000), "x".repeat(1001));
    assert_eq!(raw(&node, "channel=todo", "", fits.as_bytes()).await.status, 200);
    let json = |n: usize| format!(r#"{{"channel":"todo","data":"{}"}}"#, "x".repeat(n - 2));
    assert_eq!(node.publish_json(&json(1000)).await.status, 200);
    let form = format!("data={over}&channel=todo");
    let form = raw(&node, "", "application/x-www-form-urlencoded", form.as_bytes()).await;
    for (what, answer) in [
        ("raw", raw(&node, "channel=todo", "", over.as_bytes()).await),
        // The length of a text does not include its quotes, which JSON needs and the sender did not write.
        ("json", node.publish_json(&json(1003)).await),
        ("form", form),
        ("3 MiB", raw(&node, "channel=todo", "", &vec![b'x'; 3 << 20]).await),
    ] {
        assert_eq!((answer.status, answer.error_code().as_str()), (413, "too_large"), "{what}");
    }
    // An array holds 1 MiB in all, whatever one message may hold.
    let part = format!(r#"{{"channel":"todo","data":"{}"}}"#, "x".repeat(900));
    let array = |n: usize| format!("[{}]", vec![part.as_str(); n].join(","));
    assert_eq!(node.publish_json(&array(1000)).await.status, 200);
    let padded = format!("{}{}", " ".repeat(1 << 20), array(1));
    let answer = node.publish_json(&padded).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (413, "too_large"));
    assert_eq!(read(&node, "todo").await.len(), 1000, "a page of them");
}

/// (query, content type, body, status, code)
#[tokio::test]
async fn refusals() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let json = "application/json";
    let events = ["hello", "heartbeat", "gap", "bye", "error", "open"];
    let long = "e".repeat(201);
    let mut bad_events: Vec<String> = events.iter().map(ToString::to_string).collect();
    bad_events.extend(["a\nb", "a\rb", "\0", "\u{7f}", "\u{85}", "a\tb", ""].map(str::to_owned));
    bad_events.extend([long, "é".repeat(101)]);
    for event in bad_events {
        let query = format!("channel=todo&event={}", quote(&event));
        let answer = raw(&node, &query, "", b"1").await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_event"), "{event:?}");
        let body = json!({"channel": "todo", "data": 1, "event": event}).to_string();
        let answer = node.publish_json(&body).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_event"), "{event:?}");
    }
    for good in ["Hello", "gaps", "opened", &"e".repeat(200), &"é".repeat(100)] {
        let query = format!("channel=ok&event={}", quote(good));
        assert_eq!(raw(&node, &query, "", b"1").await.status, 200, "{good}");
    }

    let cases: [(&str, &str, &[u8], u16, &str); 25] = [
        ("", json, b"{", 400, "bad_json"),
        ("", json, b"", 400, "bad_json"),
        ("", json, b"{}{}", 400, "bad_json"),
        ("", json, b"{\"channel\":\"a\",\"data\":01}", 400, "bad_json"),
        ("", json, b"{\"channel\":\"a\",\"data\":1,}", 400, "bad_json"),
        ("", json, b"{\"channel\":\"a\",\"data\":\"\xff\"}", 400, "not_utf8"),
        ("", json, b"\xff", 400, "not_utf8"),
        ("", json, b"1", 400, "bad_request"),
        ("", json, b"null", 400, "bad_request"),
        ("", json, b"\"x\"", 400, "bad_request"),
        ("", json, b"{}", 400, "bad_request|bad_channel"),
        ("", json, b"{\"data\":1}", 400, "bad_request|bad_channel"),
        ("", json, b"{\"channel\":1,\"data\":1}", 400, "bad_request|bad_channel"),
        ("", json, b"{\"channel\":\"\",\"data\":1}", 400, "bad_channel"),
        ("", json, b"{\"channel\":\"a,b\",\"data\":1}", 400, "bad_channel"),
        ("", json, b"{\"channel\":\"a\"}", 400, "bad_request"),
        ("", json, b"{\"channel\":\"a\",\"data\":1,\"volatile\":\"x\"}", 400, "bad_request"),
        ("", json, b"{\"channel\":\"a\",\"data\":1,\"event\":1}", 400, "bad_request|bad_event"),
        ("", json, b"[[]]", 400, "bad_request|bad_channel"),
        ("channel=a%20b", "", b"1", 400, "bad_channel"),
        ("channel=a,b", "", b"1", 400, "bad_channel"),
        ("channel=", "", b"1", 400, "bad_channel"),
        ("channel=todo", "", b"\xff\xfe", 400, "not_utf8"),
        ("channel=todo", "", b"\"\xed\xa0\x80\"", 400, "not_utf8"),
        ("", "text/plain", b"x", 400, "bad_channel|bad_request"),
    ];
    for (query, content_type, body, status, codes) in cases {
        let answer = raw(&node, query, content_type, body).await;
        let what = format!("{query} {:?}: {}", String::from_utf8_lossy(body), answer.text());
        assert_eq!(answer.status, status, "{what}");
        assert!(codes.split('|').any(|code| code == answer.error_code()), "{what}");
    }
    assert_eq!(node.get("/poll?channel=todo,a&cursor=earliest").await.json()["messages"], json!([]));
}

#[tokio::test]
async fn deep_and_wide_json() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    for depth in [100, 10_000] {
        let payload = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        node.publish("deep", &payload).await;
        assert_eq!(payloads(&node, "deep").await.pop(), Some(payload));
    }
    let answer = node.publish_json(&format!(r#"{{"channel":"deep","data":{deep}}}"#)).await;
    assert_eq!(answer.status, 200);
    // The body is not JSON, so it counts as a text.
    let unclosed = "[".repeat(60_000);
    node.publish("deep", &unclosed).await;
    let last = read(&node, "deep").await.pop().and_then(|item| item.str("data"));
    assert_eq!(last, Some(unclosed));
    let answer = node.publish_json(&"[".repeat(1_000_000)).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_json"));
}

#[tokio::test]
async fn other_paths_and_methods() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    for method in ["GET", "PUT", "DELETE"] {
        let answer = Request::new(method, "/publish?channel=todo").send(node.http).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (405, "method_not_allowed"), "{method}");
        let allow = answer.header("Allow").unwrap_or_default();
        assert!(allow.contains("POST"), "{method}: {allow:?}");
    }
    for path in ["/nothing", "/publish/", "/poll/", "/Poll", "//poll", "/poll/../info", "/%70oll"] {
        let answer = node.get(&format!("{path}?channel=todo")).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "not_found"), "{path}");
    }
    for path in ["/healthz", "/readyz", "/info", "/", "/client.js"] {
        assert_eq!(node.get(path).await.status, 200, "{path}");
        let head = Request::new("HEAD", path).send(node.http).await;
        assert_eq!(head.status, 200, "HEAD {path}");
    }
}

#[tokio::test]
async fn channels_count_and_name_the_last_id() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    node.publish("todo", "1").await;
    let last = node.publish("todo", "2").await;
    let answer = node.get("/channels/todo").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains(&last), "{}", answer.text());
    assert!(answer.json().is_object(), "{}", answer.text());
    let answer = node.get("/channels/a%20b").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_channel"));
}

/// Half a body publishes nothing.
#[tokio::test]
async fn a_broken_upload_publishes_nothing() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    for bytes in [
        "POST /publish?channel=todo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf",
        "POST /publish?channel=todo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut stream = tokio::net::TcpStream::connect(node.http).await.expect("connect");
        tokio::io::AsyncWriteExt::write_all(&mut stream, bytes.as_bytes()).await.expect("write");
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await.expect("shutdown");
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.ok();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    let messages: Value = node.get("/poll?channel=todo&cursor=earliest").await.json()["messages"].clone();
    assert_eq!(messages, json!([]));
}
