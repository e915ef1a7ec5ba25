//! A TCP proxy that can be cut: what a network does between a node and its Redis.

use std::net::SocketAddr;
use std::sync::Arc;
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
}

/// A proxy before one server. Ends with its runtime.
pub struct Proxy {
    pub address: SocketAddr,
    path: Arc<watch::Sender<Path>>,
}

impl Proxy {
    pub async fn start(upstream: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let path = Arc::new(watch::channel(Path::Open).0);
        let watched = path.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, upstream, watched.subscribe()));
            }
        });
        Proxy { address, path }
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

/// Waits while the path is silent; `None` where it is reset.
async fn open(path: &mut watch::Receiver<Path>) -> Option<()> {
    let now = path.wait_for(|path| *path != Path::Silent).await.ok()?;
    (*now == Path::Open).then_some(())
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
