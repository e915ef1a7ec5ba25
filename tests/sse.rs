//! Server-sent events, as a browser's `EventSource` reads them.

use crate::support;

use support::{Item, Kind, Log, Node, Reader, Request, Response, Subscription, World, http::find};

on_both_logs! {
    last_event_id_wins
    a_stream_that_is_to_prove_itself
    a_heartbeat_moves_the_last_event_id
}

/// Reads an event stream's bytes until they contain this.
async fn read_until(response: &mut Response, mark: &str) -> String {
    support::within(support::SOON, mark, async {
        while find(&response.body, mark.as_bytes()).is_none() {
            let part = response.read_some().await;
            assert!(part.is_some(), "ended before {mark:?}: {}", response.text());
        }
    })
    .await;
    response.text()
}

async fn open(node: &Node, query: &str) -> Response {
    let response = Request::get(&format!("/sse?{query}")).open(node.http).await;
    assert_eq!(response.status, 200);
    response
}

async fn last_event_id_wins(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let sse = node.transport("sse").await;
    let published = node.publish_numbers("todo", 6).await;
    for (cursor, header) in [(Some("earliest"), 3), (Some("latest"), 1), (None, 4)] {
        let mut subscription = Subscription::to(&["todo"]);
        if let Some(cursor) = cursor {
            subscription = subscription.from(cursor);
        }
        let subscription = subscription.header("Last-Event-ID", &published[header].id);
        let mut reader = Reader::open(&node, &sse, subscription).await;
        let hello = reader.next_of(Kind::Hello).await;
        assert_eq!(hello.str("cursor").as_ref(), Some(&published[header].id));
        reader.expect(&published[header + 1..]).await;
    }
    // Only this transport accepts the header.
    let answer = Request::get("/poll?channel=todo&cursor=earliest")
        .header("Last-Event-ID", &published[3].id)
        .send(node.http)
        .await;
    assert_eq!(answer.json()["messages"].as_array().map(Vec::len), Some(6));
    let answer =
        Request::get("/sse?channel=todo&cursor=earliest").header("Last-Event-ID", "nonsense").send(node.http).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_cursor"));
}

/// A script that tests a path sees the heartbeats, and need not wait long for the first one.
async fn a_stream_that_is_to_prove_itself(log: Log) {
    let World { node, redis: _redis } = World::start(log, &["--heartbeat-seconds", "60"]).await;
    let mut response = open(&node, "channel=quiet&probe=1").await;
    let text = read_until(&mut response, "event: heartbeat\nid: ").await;
    assert!(text.contains("event: hello\n"), "{text}");
    let began = std::time::Instant::now();
    for name in ["xhr-stream", "multipart", "forever-frame", "ws", "ndjson"] {
        let transport = node.transport(name).await;
        let mut reader = Reader::open(&node, &transport, Subscription::to(&["quiet"]).with("probe", "1")).await;
        reader.next_of(Kind::Hello).await;
        reader.next_of(Kind::Heartbeat).await;
    }
    assert!(began.elapsed().as_secs() < 50, "the first heartbeats are early, not after {:?}", began.elapsed());
}

/// A heartbeat is a comment and a block that has only an id, so it fires no event.
async fn a_heartbeat_moves_the_last_event_id(log: Log) {
    let World { node, redis: _redis } = World::start(log, &["--heartbeat-seconds", "1"]).await;
    let mut response = open(&node, "channel=quiet").await;
    read_until(&mut response, "\n\n").await;
    let last = node.publish("busy", "1").await;
    let text = read_until(&mut response, &format!("id: {last}\n\n")).await;
    let block = text.trim_end().rsplit("\n\n").next().expect("a block");
    for line in block.lines() {
        assert!(line.starts_with(':') || line.starts_with("id: "), "{line:?} in a heartbeat");
    }
    let comment = text.lines().any(|line| line.starts_with(": ") || line == ":");
    assert!(comment, "a heartbeat has a comment: {text:?}");
}

#[tokio::test]
async fn retry_is_sent_first() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let mut response = open(&node, "channel=todo").await;
    let text = read_until(&mut response, "event: hello").await;
    let first = text.lines().next().expect("a line");
    let retry = first.strip_prefix("retry: ").or(first.strip_prefix("retry:"));
    assert!(retry.is_some_and(|ms| ms.trim().parse::<u64>().is_ok()), "{text:?}");

    // The rule also holds after padding, which is a comment.
    let mut response = open(&node, "channel=todo&padding=1").await;
    let text = read_until(&mut response, "event: hello").await;
    let field = text.lines().find(|line| !line.is_empty() && !line.starts_with(':'));
    assert!(field.is_some_and(|line| line.starts_with("retry:")), "{field:?}");
    assert!(text.starts_with(':') || text.starts_with("retry:"), "{:.80}", text);
}

#[tokio::test]
async fn control_objects_are_named_events() {
    let World { mut node, .. } = World::start(Log::Memory, &["--retain-messages", "5"]).await;
    let old = node.publish("todo", "0").await;
    let published = node.publish_numbers("todo", 300).await;
    let mut response = open(&node, &format!("channel=todo&cursor={old}")).await;
    let last = &published[299].id;
    let text = read_until(&mut response, &format!("id: {last}")).await;
    let blocks: Vec<&str> = text.split("\n\n").collect();
    let hello = blocks.iter().find(|b| b.contains("event: hello")).expect("a hello");
    assert!(hello.contains(&format!("id: {old}")), "{hello}");
    let gap = blocks.iter().find(|b| b.contains("event: gap")).expect("a gap");
    assert!(gap.contains("id: ") && gap.contains(&old), "{gap}");
    for block in blocks.iter().filter(|b| b.contains("\"data\":")) {
        assert!(!block.contains("event:"), "a message is an unnamed event: {block}");
    }
    read_until(&mut response, "\n\n").await;
    node.signal("TERM");
    let text = read_until(&mut response, "event: bye").await;
    assert!(text.contains("event: bye"), "{text}");
    response.finish().await;
    let bye = response.text();
    let bye = bye.trim_end().rsplit("\n\n").next().expect("a block").to_owned();
    assert!(bye.contains(&format!("id: {last}")) && bye.contains("4001"), "{bye}");
    drop(response);
    assert_eq!(node.exit_code().await, 0);
}

/// (published text, its `data:` lines, the text that arrives in the page)
const BARE: [(&str, &str); 8] = [
    (r#"{"title":"milk"}"#, r#"data: {"title":"milk"}"#),
    ("a text", "data: a text"),
    ("two\nlines", "data: two\ndata: lines"),
    ("cr\rlf\ncrlf\r\nend", "data: cr\ndata: lf\ndata: crlf\ndata: end"),
    (" leading", "data:  leading"),
    ("id: x\n\nevent: y", "data: id: x\ndata: \ndata: event: y"),
    ("[1e400]", "data: [1e400]"),
    ("\u{feff}bom\u{2028}", "data: \u{feff}bom\u{2028}"),
];

#[tokio::test]
async fn format_data_sends_the_bare_payload() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    for (payload, _) in BARE {
        node.publish_with("channel=plain&event=itemAdded", payload).await;
    }
    let json_text = r#""a JSON \"string\"\nwith a line""#;
    node.publish("plain", json_text).await;
    let last = node.publish("plain", r#""end""#).await;
    let mut response = open(&node, "channel=plain&cursor=earliest&format=data").await;
    let text = read_until(&mut response, &format!("id: {last}")).await;
    let blocks: Vec<&str> = text.split("\n\n").filter(|b| b.contains("itemAdded")).collect();
    assert_eq!(blocks.len(), BARE.len(), "{text}");
    for (block, (payload, lines)) in blocks.iter().zip(BARE) {
        assert!(block.contains("event: itemAdded"), "{payload:?}: {block:?}");
        assert!(block.contains("id: "), "{payload:?}: {block:?}");
        let data: Vec<&str> = block.split('\n').filter(|line| line.starts_with("data")).collect();
        let wanted: Vec<&str> = lines.split('\n').collect();
        let blank = |line: &str| if line == "data:" { "data: ".to_owned() } else { line.to_owned() };
        let data: Vec<String> = data.iter().map(|line| blank(line)).collect();
        assert_eq!(data, wanted, "{payload:?}");
    }
    // A text is sent unchanged, even if it was published as JSON.
    assert!(text.contains("data: a JSON \"string\"\ndata: with a line\n"), "{text}");
    for bad in ["xml", "", "Data"] {
        let answer = node.get(&format!("/sse?channel=plain&format={bad}")).await;
        assert_eq!(answer.status, 400, "format={bad}");
    }
}

/// Text, event and channel cannot break out of their line.
#[tokio::test]
async fn lines_cannot_be_injected() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    for payload in ["a\n\nevent: bye\ndata: x\n\n", "a\r\revent: bye\r\r", "a\r\n\r\nid: x\r\n\r\n"] {
        node.publish("todo", payload).await;
    }
    let last = node.publish("todo", r#""end""#).await;
    for format in ["", "&format=data"] {
        let mut response = open(&node, &format!("channel=todo&cursor=earliest{format}")).await;
        let text = read_until(&mut response, &format!("id: {last}")).await;
        let events: Vec<&str> =
            text.split(['\n', '\r']).filter(|line| line.starts_with("event:") && *line != "event: message").collect();
        assert_eq!(events, ["event: hello"], "{text:?}");
        assert!(!text.split(['\n', '\r']).any(|line| line == "id: x"), "{text:?}");
    }
}

/// A 503 is final for an `EventSource`, so a temporary refusal is a 200 with `retry` and `bye`.
#[tokio::test]
async fn a_full_node_says_bye() {
    let World { node, .. } = World::start(Log::Memory, &["--max-connections", "2"]).await;
    let mut kept = Vec::new();
    // The connections that asked whether it is ready may still be closing.
    let text = loop {
        assert!(kept.len() < 3, "{} streams of two", kept.len());
        let mut response = open(&node, "channel=todo").await;
        let text = read_until(&mut response, "data: ").await;
        if text.contains("event: bye") {
            response.finish().await;
            break response.text();
        }
        kept.push(response);
    };
    assert!(!kept.is_empty(), "not one stream is let in");
    assert!(text.starts_with("retry:"), "{text:?}");
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    let bye = Item::parse(data);
    assert_eq!((bye.kind, bye.number("code")), (Kind::Bye, Some(4004)), "{text}");
}

/// A client whose path drops silent connections asks for more heartbeats than the server would send, and never for
/// fewer.
#[tokio::test]
async fn a_stream_may_ask_for_more_heartbeats() {
    let World { node, .. } = World::start(Log::Memory, &["--heartbeat-seconds", "60"]).await;
    for name in ["sse", "xhr-stream", "multipart", "forever-frame", "ws", "ndjson"] {
        let transport = node.transport(name).await;
        for (asked, told) in [("1", 1), ("0", 1), ("60", 60), ("61", 60), ("99999999", 60)] {
            let subscription = Subscription::to(&["quiet"]).with("heartbeat", asked);
            let mut reader = Reader::open(&node, &transport, subscription).await;
            let hello = reader.next_of(Kind::Hello).await;
            assert_eq!(hello.number("heartbeat"), Some(told), "{name}: heartbeat={asked}");
            if told == 1 && name != "sse" {
                reader.next_of(Kind::Heartbeat).await;
            }
        }
    }
    for bad in ["", "x", "1.5"] {
        let answer = Request::get(&format!("/sse?channel=quiet&heartbeat={bad}")).send(node.http).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_request"), "{bad:?}");
    }
}
