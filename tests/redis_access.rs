//! Access to Redis: a user with the least privileges, TLS, and a Cluster.

use crate::sessions::application::Application;
use crate::support;

use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::redis::{free_port, fresh_dir};
use support::server::run_to_end;
use support::token::{SECRET, seconds, token};
use support::{Kind, Node, Reader, RedisServer, Request, Subscription, eventually};

/// The line that docs/redis.md gives, with a password.
fn acl_line() -> Vec<String> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/redis.md");
    let document = std::fs::read_to_string(document).expect("docs/redis.md");
    let line = document.lines().find(|line| line.starts_with("ACL SETUSER longtail")).expect("the ACL line");
    line.replace(">PASSWORD", ">sesame").split(' ').map(str::to_owned).collect()
}

async fn set_user(redis: &RedisServer, line: &[String]) {
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    redis.command(&["ACL", "DELUSER", "longtail"]).await;
    redis.command(&words).await;
}

/// Checks every operation that a node carries out in Redis.
async fn everything_works(redis: &RedisServer, node: &Node) {
    for transport in node.transports().await {
        let mut reader = Reader::open(node, &transport, Subscription::to(&["todo"])).await;
        let id = node.publish("todo", "1").await;
        assert_eq!(reader.next_message().await.id(), Some(id), "{}", transport.name);
    }
    let sse = node.transport("sse").await;
    let mut reader = Reader::open(node, &sse, Subscription::to(&["todo"])).await;
    reader.next_of(Kind::Hello).await;
    redis.command(&["PUBLISH", "push:todo", "2"]).await;
    assert_eq!(reader.next_message().await.data(), "2");
    redis.command(&["PUBLISH", "push:todo", r#"{"data":3,"key":"k"}"#]).await;
    assert_eq!(reader.next_message().await.data(), "3");
    redis.command(&["XADD", "longtail:log", "*", "channel", "todo", "data", "4"]).await;
    assert_eq!(reader.next_message().await.data(), "4");
    redis.command(&["FCALL", "longtail_publish", "1", "longtail:log", "todo", "5"]).await;
    assert_eq!(reader.next_message().await.data(), "5");
    assert_eq!(node.try_publish("channel=todo&volatile=1", "6").await.status, 200);
    assert_eq!(reader.next_message().await.data(), "6");
    assert_eq!(node.try_publish("channel=todo&key=once", "7").await.status, 200);
    if node.get("/info").await.json()["events"] == true {
        answers(redis, node).await;
    }
    node.get("/poll?channel=todo&client=ann").await;
    let counted = node.get("/channels/todo").await.json();
    assert_eq!(counted["complete"], true, "{counted}");
    assert_eq!(node.get("/channels?prefix=t").await.json()["complete"], true);
}

/// Answers an event through the stream of `--hook-stream`.
async fn answers(redis: &RedisServer, node: &Node) {
    let stream = "{longtail:log}:hook:app";
    let event = Request::post("/event", br#"{"event":"e"}"#).header("Content-Type", "application/json");
    let answer = async {
        let entry = eventually("the call", async || {
            let entries = redis.command(&["XREVRANGE", stream, "+", "-", "COUNT", "1"]).await;
            let entries: Vec<(String, Vec<String>)> = redis::from_redis_value(entries).expect("entries");
            entries.into_iter().next()
        })
        .await;
        let taken = ["FCALL", "longtail_answer", "1", "{longtail:log}", &entry.1[1], r#"{"ack":[7]}"#];
        assert_eq!(redis.number(&taken).await, 1);
    };
    let (said, ()) = tokio::join!(event.send(node.http), answer);
    assert_eq!(said.text(), r#"{"ack":[7],"send":[]}"#);
}

/// Users join and leave a channel, in each way that has commands of its own in Redis.
async fn presence_works(nodes: &[Node; 2]) {
    let ann = token(&json!({"sub": "ann", "subscribe": ["room"], "exp": seconds(600)}));
    let members =
        async || nodes[1].get("/channels/room/members").await.json()["members"].as_array().map_or(0, Vec::len);
    let sse = nodes[0].transport("sse").await;
    let subscription = Subscription::to(&["room"]).with("token", &ann);
    let first = Reader::open(&nodes[0], &sse, subscription.clone()).await;
    eventually("a member, when all nodes are known to read such entries", async || {
        (members().await == 1).then_some(())
    })
    .await;
    drop(first);
    // A stream takes the place of a poll of its client, and is closed.
    nodes[0].get(&format!("/poll?channel=room&client=c&token={ann}")).await;
    let reader = Reader::open(&nodes[0], &sse, subscription.clone().with("client", "c")).await;
    assert_eq!(members().await, 1);
    drop(reader);
    eventually("the end of the stay", async || (members().await == 0).then_some(())).await;
    // The node of a stream dies, and the other node removes its members.
    let _reader = Reader::open(&nodes[0], &sse, subscription).await;
    assert_eq!(members().await, 1);
    nodes[0].signal("KILL");
    eventually("the end of the lease", async || (members().await == 0).then_some(())).await;
}

/// Redis refuses no command to a user with the documented privileges.
#[tokio::test]
async fn the_least_privileges() {
    let redis = RedisServer::start_durable().await;
    set_user(&redis, &acl_line()).await;
    let url = redis.url().replace("redis://", "redis://longtail:sesame@");
    let retention =
        ["--retain-messages", "20", "--retain-seconds", "1", "--hook-stream", "app", "--hook-timeout", "60"];
    let mut args = vec!["--redis", url.as_str()];
    args.extend(retention);
    {
        let args = [&args[..], &["--token-secret", SECRET, "--public", "*", "--presence", "room"]].concat();
        presence_works(&[Node::start(&args).await, Node::start(&args).await]).await;
    }
    {
        let nodes = [Node::start(&args).await, Node::start(&args).await];
        everything_works(&redis, &nodes[0]).await;
        // Trimming by count, age and bytes; a log that lost its end; a log that was deleted.
        nodes[1].publish_numbers("todo", 200).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        nodes[1].publish("todo", "1").await;
        let last = redis.text(&["XADD", "longtail:log", "*", "channel", "todo", "data", "1"]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        redis.command(&["XDEL", "longtail:log", &last]).await;
        redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        eventually("publishing", async || {
            (nodes[1].try_publish("channel=todo", "1").await.status == 200).then_some(())
        })
        .await;
        redis.command(&["FLUSHALL"]).await;
        eventually("publishing", async || {
            (nodes[1].try_publish("channel=todo", "1").await.status == 200).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        for node in &nodes {
            assert!(!node.log().contains("NOPERM") && !node.log().contains("permission"), "{}", node.log());
        }
    }
    let denied: Vec<String> = redis::from_redis_value(redis.command(&["ACL", "LOG"]).await)
        .map(|log: Vec<redis::Value>| log.iter().map(|entry| format!("{entry:?}")).collect())
        .expect("the ACL log");
    assert!(denied.is_empty(), "{denied:#?}");
}

/// Calls about channels and members need no more.
#[tokio::test]
async fn the_least_privileges_for_calls_about_channels() {
    let redis = RedisServer::start().await;
    set_user(&redis, &acl_line()).await;
    let url = redis.url().replace("redis://", "redis://longtail:sesame@");
    let application = Application::start(|_| (204, serde_json::Value::Null)).await;
    let types = "occupied,vacated,member_added,member_removed";
    let hook = ["--redis", &url, "--hook-url", &application.url, "--hook-notify", types];
    let node = Node::start(&[&hook[..], &["--token-secret", SECRET, "--presence", "room"]].concat()).await;
    let ann = token(&json!({"sub": "ann", "subscribe": ["room"], "exp": seconds(600)}));
    let subscription = Subscription::to(&["room"]).with("token", &ann);
    let reader = Reader::open(&node, &node.transport("sse").await, subscription).await;
    application.wait("occupied", 1).await;
    application.wait("member_added", 1).await;
    let told = "{longtail:log}:transitions:told";
    eventually("the record", async || (redis.number(&["ZCARD", told]).await == 2).then_some(())).await;
    redis.command(&["DEL", told]).await;
    eventually("the record again", async || (redis.number(&["ZCARD", told]).await == 2).then_some(())).await;
    redis.command(&["DEL", "longtail:log"]).await;
    drop(reader);
    application.wait("vacated", 1).await;
    application.wait("member_removed", 1).await;
    let denied: Vec<redis::Value> = redis::from_redis_value(redis.command(&["ACL", "LOG"]).await).expect("the ACL log");
    assert!(denied.is_empty(), "{denied:#?}");
}

/// With one privilege less, a log line reports it, and every other operation works.
#[tokio::test]
async fn one_privilege_less() {
    let redis = RedisServer::start_durable().await;
    let url = redis.url().replace("redis://", "redis://longtail:sesame@");
    let without = |what: &str| -> Vec<String> {
        let line: Vec<String> = acl_line().into_iter().filter(|word| word != what).collect();
        assert_ne!(line.len(), acl_line().len(), "{what} is not in the line");
        line
    };
    for what in ["+xadd", "+xgroup|create", "~longtail:log", "+evalsha"] {
        redis.command(&["FLUSHALL"]).await;
        set_user(&redis, &without(what)).await;
        let node = Node::start_unready(&["--redis", &url, "--wait-for-log", "--publish-timeout", "1"]).await;
        let answer = node.try_publish("channel=todo", "1").await;
        assert_eq!(answer.status, 503, "{what}: {}", answer.text());
        eventually(&format!("a word about {what} in\n{}", node.log()), async || {
            node.log().contains("docs/redis.md has the ACL line").then_some(())
        })
        .await;
        set_user(&redis, &acl_line()).await;
        redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        eventually("publishing", async || (node.try_publish("channel=todo", "1").await.status == 200).then_some(()))
            .await;
    }
    set_user(&redis, &without("+function|list")).await;
    let node = Node::start(&["--redis", &url]).await;
    node.publish("todo", "1").await;
    eventually("a word about FCALL", async || {
        node.log().contains("FCALL longtail_publish and FCALL longtail_answer are not").then_some(())
    })
    .await;
    set_user(&redis, &without("&push:*")).await;
    let node = Node::start_unready(&["--redis", &url]).await;
    eventually("a word about PUBLISH", async || {
        node.log().contains("this node does not receive PUBLISHes").then_some(())
    })
    .await;
    node.publish("todo", "1").await;
}

fn openssl(dir: &Path, args: &str) {
    let mut command = Command::new("openssl");
    let made = command.args(args.split(' ')).current_dir(dir).output().expect("openssl is installed");
    assert!(made.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&made.stderr));
}

/// An authority, and a certificate for `localhost` and a client, as PEM files.
fn certificates(name: &str) -> PathBuf {
    let dir = fresh_dir(name);
    std::fs::write(dir.join("names"), "subjectAltName=DNS:localhost").expect("a file");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&dir, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
    openssl(&dir, &format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    openssl(
        &dir,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
    dir
}

#[tokio::test]
async fn tls() {
    let dir = certificates("tls");
    let other = certificates("other");
    let file = |dir: &Path, name: &str| dir.join(name).to_string_lossy().into_owned();
    let port = free_port().to_string();
    let (cert, key, ca) = (file(&dir, "server.pem"), file(&dir, "server.key"), file(&dir, "ca.pem"));
    let tls = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let redis = RedisServer::start_with(&tls).await;
    let url = format!("rediss://localhost:{port}/");
    // Redis also asks for a client certificate.
    let ours = ["--redis-tls-ca", &ca, "--redis-tls-cert", &cert, "--redis-tls-key", &key];
    let mut args = vec!["--redis", url.as_str()];
    args.extend(ours);
    let node = Node::start(&args).await;
    everything_works(&redis, &node).await;

    let other_ca = file(&other, "ca.pem");
    let by_address = format!("rediss://127.0.0.1:{port}/");
    let refused: [(&str, &[&str], &str); 4] = [
        (&url, &["--redis-tls-ca", &other_ca, "--redis-tls-cert", &cert, "--redis-tls-key", &key], "ertificate"),
        (&by_address, &ours, "ertificate"),
        (&url, &[], "ertificate"),
        (&url, &["--redis-tls-ca", &ca], "onnection"),
    ];
    for (url, flags, word) in refused {
        let mut args = vec!["--listen", "127.0.0.1:0", "--tcp-listen", "off", "--redis", url];
        args.extend(flags);
        let (code, said) = run_to_end(&args).await;
        let lines = said.lines().filter(|line| line.starts_with("longtail:")).count();
        assert!(code == 69 && lines == 1 && said.contains(word), "{flags:?}: {code} {said}");
    }
    let names = file(&dir, "names");
    for flags in
        [vec!["--redis-tls-ca", "/nowhere.pem"], vec!["--redis-tls-ca", &names], vec!["--redis-tls-cert", &cert]]
    {
        let mut args = vec!["--listen", "127.0.0.1:0", "--tcp-listen", "off", "--redis", &url];
        args.extend(flags.iter().copied());
        let (code, said) = run_to_end(&args).await;
        assert!(code == 64 && said.contains("--redis-tls-"), "{flags:?}: {code} {said}");
    }
    for dir in [dir, other] {
        std::fs::remove_dir_all(dir).ok();
    }
}

/// Three primaries with a third of the slots each.
async fn cluster() -> Vec<RedisServer> {
    let mut members = Vec::new();
    for index in 0..3 {
        let member = RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "3000"]).await;
        let (first, last) = (index * 5462, ((index + 1) * 5462 - 1).min(16383));
        member.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
        members.push(member);
    }
    for member in &members[1..] {
        members[0].command(&["CLUSTER", "MEET", "127.0.0.1", &member.port().to_string()]).await;
    }
    eventually("the Cluster", async || {
        for member in &members {
            let info = member.text(&["CLUSTER", "INFO"]).await;
            if !info.contains("cluster_state:ok") || !info.contains("cluster_known_nodes:3") {
                return None;
            }
        }
        Some(())
    })
    .await;
    members
}

#[tokio::test]
async fn a_cluster() {
    let members = cluster().await;
    let hosts: Vec<String> = members.iter().map(|member| format!("127.0.0.1:{}", member.port())).collect();
    let seeds = format!("redis+cluster://{}", hosts.join(","));
    // One of them owns the log's slot; the plain URL of another one also leads there.
    let slot = members[0].number(&["CLUSTER", "KEYSLOT", "longtail:log"]).await;
    let owner = &members[usize::try_from(slot / 5462).expect("a member")];
    let other = members.iter().find(|member| member.port() != owner.port()).expect("another");
    let seeded = ["--redis", &seeds, "--hook-stream", "app", "--hook-timeout", "60"];
    let nodes = [Node::start(&seeded).await, Node::start(&["--redis", &other.url()]).await];
    everything_works(owner, &nodes[0]).await;
    for member in &members {
        let mut readers = Vec::new();
        for node in &nodes {
            let sse = node.transport("sse").await;
            let mut reader = Reader::open(node, &sse, Subscription::to(&["todo"])).await;
            reader.next_of(Kind::Hello).await;
            readers.push(reader);
        }
        // A PUBLISH to any member arrives, once.
        for n in 0..50 {
            member.command(&["PUBLISH", "push:todo", &n.to_string()]).await;
        }
        for reader in &mut readers {
            for n in 0..50 {
                assert_eq!(reader.next_message().await.data(), n.to_string());
            }
        }
    }
    let length = owner.number(&["XLEN", "longtail:log"]).await;
    nodes[1].publish("todo", "1").await;
    assert_eq!(owner.number(&["XLEN", "longtail:log"]).await, length + 1);
    for node in &nodes {
        assert!(!node.log().contains("connection to the log is lost"), "{}", node.log());
    }
}
