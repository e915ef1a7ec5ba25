//! A server within a program of its own, which goes on behind it.

use longtail::Server;
use longtail::config::{Cli, Config};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("descriptors").count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Neither descriptors nor tasks: a program may run many, one after the other.
#[tokio::test]
async fn one_that_has_ended_leaves_nothing() {
    let flags = ["longtail", "--open", "--listen", "127.0.0.1:0", "--tcp-listen", "off"];
    let config: Config = clap::Parser::try_parse_from(flags).map(|cli: Cli| cli.config).expect("flags");
    let mut left = Vec::new();
    for _ in 0..5 {
        let server = Server::bind(&config).await.expect("bound");
        let address = server.local_addrs()[0];
        let (end, ended) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move {
            let _ = ended.await;
        }));
        let mut client = TcpStream::connect(address).await.expect("connect");
        client.write_all(b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
        assert!(client.read(&mut [0; 4096]).await.expect("an answer") > 0);
        end.send(()).expect("it runs");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("the end");
        drop(client);
        running.await.expect("it has ended");
        // What it has left to others ends by itself.
        for _ in 0..100 {
            if left.first().is_none_or(|first| *first == (open_files(), tasks())) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        left.push((open_files(), tasks()));
    }
    assert!(left.iter().all(|now| *now == left[0]), "descriptors and tasks: {left:?}");
}
