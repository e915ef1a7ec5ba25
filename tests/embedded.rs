//! A server inside another program, which continues after the server ends.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "rules of the server: a test may block its thread"
)]

#[path = "../examples/embed.rs"]
#[expect(dead_code, reason = "the test runs the example without its main")]
mod embed;
mod support;

use longtail::{AddressOrOff, Config, Server};
use std::time::{Duration, Instant};
use support::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("descriptors").count()
}

/// The numbers of open descriptors and of tasks.
fn left() -> (usize, usize) {
    (open_files(), tokio::runtime::Handle::current().metrics().num_alive_tasks())
}

/// The same numbers, once they have not changed for half a second.
async fn settled() -> (usize, usize) {
    let (mut seen, mut since) = (left(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if left() != seen {
            (seen, since) = (left(), Instant::now());
        }
    }
    seen
}

/// A server that ends leaves no descriptors and no tasks, so a program may run many servers, one after the other.
#[tokio::test]
async fn one_that_has_ended_leaves_nothing() {
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let config = Config { listen, tcp_listen: AddressOrOff(None), ..Config::default() };
    let mut before = None;
    for _ in 0..5 {
        let server = Server::bind(&config).await.expect("bound");
        let address = server.local_addrs()[0];
        let (end, ended) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move {
            let _ = ended.await;
        }));
        let mut client = TcpStream::connect(address).await.expect("connect");
        client.write_all(b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
        let read = client.read(&mut [0; 4096]).await.expect("an answer");
        assert!(read > 0, "the end in place of an answer");
        end.send(()).expect("it runs");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("the end");
        drop(client);
        running.await.expect("it has ended").expect("it was told to");
        // Work that the server handed to other tasks ends by itself. The first server creates some objects that the
        // process makes only once.
        match before {
            None => before = Some(settled().await),
            Some(before) => {
                eventually("no more descriptors and tasks than before", async || (left() == before).then_some(())).await
            }
        }
    }
}

#[tokio::test]
async fn the_example_reads_what_it_publishes() {
    let line = embed::run().await.expect("the example");
    assert!(line.contains(r#""data":{"title":"milk"}"#), "{line}");
}
