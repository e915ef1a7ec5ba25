//! A server inside another program: starts it, publishes a message over HTTP, reads it over raw TCP, and stops.
//! `cargo run --example embed` runs it, and so does tests/embedded.rs.

use http_body_util::Full;
use hyper::{Request, body::Bytes};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use longtail::{AddressOrOff, Config, Server};
use std::error::Error;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", run().await?);
    Ok(())
}

/// Gives the line that the reader has received.
pub async fn run() -> Result<String, Box<dyn Error>> {
    // Port 0 picks a free port. On loopback, a server without other settings lets everybody subscribe and publish.
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config { listen: vec![any], tcp_listen: AddressOrOff(Some(any)), ..Config::default() };
    let server = Server::bind(&config).await?;
    let (http, tcp) = (server.local_addrs()[0], server.tcp_addr().ok_or("raw TCP is off")?);
    let (shutdown, stopping) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopping.await;
    }));

    let mut socket = TcpStream::connect(tcp).await?;
    socket.write_all(b"{\"type\":\"subscribe\",\"channels\":[\"news\"]}\n").await?;
    let mut lines = BufReader::new(socket).lines();
    line_with("\"ack\"", &mut lines).await?;

    let client = Client::builder(TokioExecutor::new()).build_http();
    let publish = Request::post(format!("http://{http}/publish?channel=news"));
    let response = client.request(publish.body(Full::new(Bytes::from("{\"title\":\"milk\"}")))?).await?;
    assert!(response.status().is_success(), "{}", response.status());
    let message = line_with("\"data\"", &mut lines).await?;

    // The drain waits for clients, so they go first.
    drop((lines, client));
    let _ = shutdown.send(());
    running.await??;
    Ok(message)
}

/// Reads lines until one contains this text.
async fn line_with(text: &str, lines: &mut Lines<BufReader<TcpStream>>) -> Result<String, Box<dyn Error>> {
    loop {
        let line = lines.next_line().await?.ok_or("the connection has ended")?;
        if line.contains(text) {
            return Ok(line);
        }
    }
}
