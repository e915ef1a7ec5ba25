//! `longtail healthcheck`: the exit status for containers. It finds the listener by the server's own settings.

use crate::support;

use support::command::{Done, run};
use support::redis::free_port;
use support::{Certificate, Node, Request, eventually};
use tokio::net::TcpListener;

async fn healthcheck(args: &[&str]) -> Done {
    run(&[&["healthcheck"], args].concat(), "").await
}

/// The settings are flags or variables, as those of the server are.
#[tokio::test]
async fn it_takes_the_settings_of_the_server() {
    let node = Node::start(&["--admin-listen", "127.0.0.1:0"]).await;
    let listen = node.http.to_string();
    let variable = format!("LONGTAIL_LISTEN={listen}");
    for (args, out) in [
        (&["--listen", &listen][..], "ready\n"),
        (&[&variable], "ready\n"),
        (&[&variable, "--live"], "ok\n"),
        (&[&variable, "LONGTAIL_REDIS=redis://other/", "LONGTAIL_PUBLIC=a"], "ready\n"),
    ] {
        let done = healthcheck(args).await;
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, out, ""), "{args:?}");
    }
}

/// With a certificate for a public name, the check does a TLS handshake. A server behind a proxy on this machine
/// expects the proxy's header.
#[tokio::test]
async fn it_speaks_what_the_listener_expects() {
    let tls = Certificate::common().flags();
    let proxied = ["--proxy-protocol", "--trusted-proxy", "127.0.0.0/8"];
    for access in [&tls[..], &proxied, &[&tls[..], &proxied].concat(), &["--publish-key", "k"]] {
        let node = Node::start_unready(access).await;
        let listen = node.http.to_string();
        let args = [&["--listen", &listen], access].concat();
        eventually("the server to be ready", async || (healthcheck(&args).await.out == "ready\n").then_some(())).await;
    }
}

#[tokio::test]
async fn its_exit_status_is_0_or_1() {
    // A node that drains is alive, but no client should connect to it.
    let node = Node::start(&["--drain-delay", "60"]).await;
    let listen = node.http.to_string();
    node.signal("TERM");
    eventually("the drain", async || (node.get("/readyz").await.status == 503).then_some(())).await;
    let done = healthcheck(&["--listen", &listen]).await;
    let wanted = format!("longtail healthcheck: http://{listen}/readyz: 503 draining\n");
    assert_eq!((done.code, done.err), (1, wanted));
    assert_eq!(healthcheck(&["--listen", &listen, "--live"]).await.code, 0);
    drop(node);

    let done = healthcheck(&["--listen", &listen]).await;
    assert!(done.code == 1 && done.err.contains("cannot reach http://") && done.err.contains("refused"), "{done}");
    // A program that accepts and says nothing, and one that is no HTTP server.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = silent.local_addr().expect("an address").to_string();
    let done = healthcheck(&["--listen", &silent, "--timeout", "1"]).await;
    assert!(done.code == 1 && done.err.ends_with("no answer in 1 s\n"), "{done}");
    let raw = Node::start(&[]).await;
    let done = healthcheck(&["--listen", &raw.tcp.to_string()]).await;
    assert!(done.code == 1 && done.out.is_empty(), "{done}");
    // Mistakes in the settings.
    let done = healthcheck(&["LONGTAIL_LISTEN=127.0.0.1:0"]).await;
    assert!(done.code == 64 && done.err.starts_with("longtail: LONGTAIL_LISTEN 127.0.0.1:0: "), "{done}");
    let port = free_port();
    let done = healthcheck(&["--listen", &format!("127.0.0.1:{port}"), "--timeout", "0"]).await;
    assert_eq!(done.code, 64, "{done}");
}

/// The check asks the listener for operators, which has room also when clients have taken all connections.
#[tokio::test]
async fn a_full_server_is_healthy() {
    let admin = format!("127.0.0.1:{}", free_port());
    let node = Node::start(&["--admin-listen", &admin, "--max-connections", "1"]).await;
    let _reader = Request::get("/sse?channel=a").open(node.http).await;
    let done = healthcheck(&["--listen", &node.http.to_string(), "--admin-listen", &admin]).await;
    assert_eq!((done.code, done.out.as_str()), (0, "ready\n"), "{done}");
}
