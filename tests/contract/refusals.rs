//! Bad input: every transport refuses the same input with the same codes, each in a form that its clients can read.

use crate::support::{
    Item, LineClient, Log, Node, Request, Subscription, Transport, World, decode::Decoder, each_transport, quote,
    websocket::handshake,
};

through_every_door! {
    once {
        bad_input_has_a_stable_code
        bad_queries
        numbers_are_clamped_or_refused
        callbacks
        the_forever_frame_sets_a_parent_domain
    }
}

/// Channels and further fields that are refused with one of these codes.
struct Row {
    channels: Vec<String>,
    fields: Vec<(&'static str, String)>,
    codes: &'static [&'static str],
}

fn table() -> Vec<Row> {
    let channel = |name: &str| vec![name.to_owned()];
    let many: Vec<String> = (0..101).map(|n| format!("c{n}")).collect();
    let mut rows = vec![Row { channels: many, fields: vec![], codes: &["too_many_channels"] }];
    let bad = ["~", "~s/1", "a b", "é", "a\r\nb", "a\0b", "a%b", "a*", "a?b", "a&b", "<a>", "a\"b"];
    let long = "x".repeat(201);
    for name in bad.into_iter().chain([long.as_str()]) {
        rows.push(Row { channels: channel(name), fields: vec![], codes: &["bad_channel"] });
    }
    let huge = "9".repeat(5000);
    for cursor in [
        "x",
        "-1",
        "0",
        "1-",
        "1-2-3.abc",
        "1.2-3",
        "-1-0.abc",
        "99999999999999999999999999-0.abc",
        "1-0.a b",
        "LATEST",
        "1-0.<script>",
        huge.as_str(),
    ] {
        let fields = vec![("cursor", cursor.to_owned())];
        rows.push(Row { channels: channel("a"), fields, codes: &["bad_cursor"] });
    }
    for last in ["x", "1.5", "1e3", "0x10"] {
        let fields = vec![("last", last.to_owned())];
        rows.push(Row { channels: channel("a"), fields, codes: &["bad_request", "bad_cursor"] });
    }
    rows
}

fn query(channels: &[String], fields: &[(&str, String)]) -> String {
    let mut query = format!("channel={}", quote(&channels.join(",")));
    for (name, value) in fields {
        query.push_str(&format!("&{name}={}", quote(value)));
    }
    query
}

/// Sends a request over HTTP and returns the code of the refusal.
async fn refused(node: &Node, transport: &Transport, query: &str) -> Option<String> {
    let url = transport.url(query);
    if transport.lifecycle == "duplex" {
        let answer = handshake(&url).send(node.http).await;
        assert_eq!(answer.status, 400, "{url}: before the upgrade");
        return Some(answer.error_code());
    }
    let answer = Request::get(&url).send(node.http).await;
    let name = &transport.name;
    if !transport.is_script() {
        assert_eq!(answer.status, 400, "{name}?{query:.300}: {}", answer.text());
        return Some(answer.error_code());
    }
    // A script or a frame cannot read a status: its callback gets the error.
    assert_eq!(answer.status, 200, "{name}?{query:.300}: {}", answer.text());
    let mut decoder = Decoder::new(answer.header("Content-Type").expect("a type"), "cb");
    decoder.feed(&answer.body);
    decoder.finish();
    decoder.pop().expect("a call").code()
}

async fn bad_input_has_a_stable_code() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let name = &transport.name;
            for Row { channels, fields, codes } in table() {
                let asked = query(&channels, &fields);
                let code = if transport.lifecycle == "socket" {
                    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
                    let mut subscription = Subscription::to(&channels);
                    for (field, value) in &fields {
                        subscription = subscription.with(field, value);
                    }
                    let mut client = LineClient::connect(node.tcp).await;
                    client.send(&subscription.command()).await;
                    let error = Item::parse(&client.line().await.expect("an error"));
                    error.code()
                } else {
                    refused(&node, &transport, &asked).await
                };
                let code = code.unwrap_or_else(|| panic!("{name}?{asked:.300} was not refused"));
                assert!(codes.contains(&code.as_str()), "{name}?{asked:.300}: {code}");
            }
        },
    )
    .await;
}

/// A channel that is not UTF-8, no channel at all, an empty name or cursor: only HTTP can express these.
async fn bad_queries() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    each_transport(
        &node,
        |t| t.is_http(),
        async |transport| {
            for (query, wanted) in [
                ("channel=%ff%fe", "bad_channel"),
                ("", "bad_channel"),
                ("channel=", "bad_channel"),
                ("channel=a,,b", "bad_channel"),
                ("channel=a&cursor=", "bad_cursor"),
                ("channel=a&cursor=%ff", "bad_cursor"),
            ] {
                let code = refused(&node, &transport, query).await;
                assert_eq!(code.as_deref(), Some(wanted), "{}?{query}", transport.name);
            }
        },
    )
    .await;
}

/// Whole numbers out of range are clamped; anything else is 400.
async fn numbers_are_clamped_or_refused() {
    let World { node, .. } = World::start(Log::Memory, &["--heartbeat-seconds", "1"]).await;
    node.publish("todo", "1").await;
    let huge = "9".repeat(40);
    each_transport(
        &node,
        |t| t.is_http(),
        async |transport| {
            let name = &transport.name;
            let fields: &[&str] = match (transport.is_poll(), transport.waits(), transport.rollover) {
                (true, false, _) => &["limit"],
                (true, true, _) => &["limit", "timeout"],
                (false, _, true) => &["max_bytes", "max_seconds"],
                (false, _, false) => &["last"],
            };
            for field in fields {
                for good in ["0", "1", "007", "1000000", huge.as_str()] {
                    let url = transport.url(&format!("channel=todo&cursor=earliest&{field}={good}"));
                    let mut answer = Request::get(&url).open(node.http).await;
                    assert_eq!(answer.status, 200, "{name}: {field}={good}");
                    assert!(answer.read_some().await.is_some(), "{name}: {field}={good}");
                }
                for bad in ["", "x", "1.5", "1e1", "0x1", "1 ", "%31%00"] {
                    let query = format!("channel=todo&cursor=earliest&{field}={}", bad.replace(' ', "%20"));
                    let code = refused(&node, &transport, &query).await;
                    let code = code.unwrap_or_default();
                    let wanted = code == "bad_request" || (*field == "last" && code == "bad_cursor");
                    assert!(wanted, "{name}: {field}={bad:?} gave {code:?}");
                }
            }
        },
    )
    .await;
}

async fn callbacks() {
    let World { node, .. } = World::start(Log::Memory, &["--heartbeat-seconds", "1"]).await;
    let (longest, too_long) = ("c".repeat(64), "c".repeat(65));
    each_transport(&node, Transport::is_script, async |transport| {
        let name = &transport.name;
        let channel = "channel=todo&timeout=1&max_seconds=1";
        for good in ["cb", "$", "_", "a.b.c", "$a9._b", "parent.x", longest.as_str()] {
            let url = format!("{}?{channel}&callback={}", transport.path, quote(good));
            let answer = Request::get(&url).send(node.http).await;
            assert_eq!(answer.status, 200, "{name}: {good}");
            let called = answer.text().contains(&format!("{good}("));
            assert!(called, "{name}: {good}: {}", answer.text());
        }
        for bad in [
            "",
            " ",
            "1a",
            "a b",
            "a..b",
            ".a",
            "a.",
            "a.1",
            "a[0]",
            "a-b",
            "é",
            "a;b",
            "alert(1)//",
            "<script>",
            "</script>",
            "a\r\nSet-Cookie: x=y",
            "a\0",
            "\u{2028}",
            too_long.as_str(),
        ] {
            // A bad cursor beside it changes nothing, because the callback is checked first.
            for more in ["", "&cursor=bad"] {
                let url = format!("{}?{channel}{more}&callback={}", transport.path, quote(bad));
                let answer = Request::get(&url).send(node.http).await;
                assert_eq!(answer.status, 400, "{name}: {bad:?}: {}", answer.text());
                let kind = answer.header("Content-Type").unwrap_or_default();
                assert!(kind.starts_with("text/plain"), "{name}: {bad:?}: {kind}");
                assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"), "{name}");
                assert_eq!(answer.header("Set-Cookie"), None);
                let echoed = bad.trim().len() > 1 && answer.text().contains(bad);
                assert!(!echoed, "{name} echoes {bad:?}: {}", answer.text());
            }
        }
        let answer = Request::get(&format!("{}?{channel}", transport.path)).send(node.http).await;
        assert_eq!(answer.status, 400, "{name}: a callback is required");
    })
    .await;
}

/// `domain` is a parent domain of the request's host, with a dot in it.
async fn the_forever_frame_sets_a_parent_domain() {
    let World { node, .. } = World::start(Log::Memory, &["--open"]).await;
    let frame = |domain: &str| {
        let target = format!("/forever-frame?channel=a&callback=cb&max_seconds=1&domain={}", quote(domain));
        Request::get(&target).host("push.app.example.com:8080")
    };
    for good in ["app.example.com", "example.com"] {
        let answer = frame(good).send(node.http).await;
        assert_eq!(answer.status, 200, "{good}: {}", answer.text());
        let set = format!("document.domain=\"{good}\"");
        let page = answer.text().replace(' ', "").replace('\'', "\"");
        assert!(page.contains(&set), "{page}");
        assert_eq!(answer.header("Origin-Agent-Cluster"), Some("?0"));
        // Only pages of the domain may frame it. The guard checks the page around it after the domain is set.
        let policy = answer.header("Content-Security-Policy").unwrap_or_default();
        assert!(policy.ends_with(&format!("frame-ancestors 'self' {good}:* *.{good}:*")), "{policy}");
        assert!(page.find(&set) < page.find("parent=null"), "{page}");
    }
    for bad in [
        "com",
        "",
        "evil.com",
        "xample.com",
        ".example.com",
        "example.com.",
        "\"+alert(1)+\"",
        "</script>",
        "a.example.com",
        "example.com:8080",
    ] {
        let mut answer = frame(bad).send(node.http).await;
        if answer.status == 200 {
            let mut decoder = Decoder::new(answer.header("Content-Type").expect("a type"), "cb");
            decoder.feed(&std::mem::take(&mut answer.body));
            let error = decoder.pop().and_then(|item| item.code());
            assert_eq!(error.as_deref(), Some("bad_request"), "domain={bad}");
        } else {
            assert_eq!(answer.status, 400, "domain={bad}: {}", answer.text());
        }
    }
}
