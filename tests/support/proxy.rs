//! A TCP proxy that can be cut: what a network does between a node and its Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Path {
    /// All passes.
    Open,
    /// Nothing passes, and nobody is told: connections stay, new ones come about and are silent.
    Silent,
    /// Connections are reset, new ones at once.
    Reset,
    /// All passes, this many milliseconds later.
    Slow(u64),
}

/// A proxy before one server. Ends with its runtime.
pub struct Proxy {
    pub address: SocketAddr,
    path: Arc<watch::Sender<Path>>,
    upstream: Arc<AtomicU16>,
}

impl Proxy {
    pub async fn start(upstream: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let path = Arc::new(watch::channel(Path::Open).0);
        let watched = path.clone();
        let upstream = Arc::new(AtomicU16::new(upstream));
        let led = upstream.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, led.load(Ordering::Relaxed), watched.subscribe()));
            }
        });
        Proxy { address, path, upstream }
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Leads new connections to another server, and resets those that there are.
    pub async fn lead(&self, upstream: u16) {
        self.upstream.store(upstream, Ordering::Relaxed);
        self.set(Path::Reset);
        // Each connection has seen it: a watch tells its newest value only.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        self.set(Path::Open);
    }

    pub fn set(&self, path: Path) {
        self.path.send_replace(path);
    }
}

async fn carry(client: TcpStream, upstream: u16, mut path: watch::Receiver<Path>) {
    // Dropped with data unread or with this set, a connection is reset.
    client.set_zero_linger().ok();
    if open(&mut path).await.is_none() {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = one_way(client_read, server_write, path.clone()) => {}
        () = one_way(server_read, client_write, path.clone()) => {}
        _ = path.wait_for(|path| *path == Path::Reset) => {}
    }
}

/// Waits while the path is silent, and for as long as it is slow; `None` where it is reset.
async fn open(path: &mut watch::Receiver<Path>) -> Option<()> {
    let now = *path.wait_for(|path| *path != Path::Silent).await.ok()?;
    match now {
        Path::Slow(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
        Path::Open | Path::Silent => {}
        Path::Reset => return None,
    }
    Some(())
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut path: watch::Receiver<Path>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if open(&mut path).await.is_none() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
