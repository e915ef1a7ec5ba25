//! A TCP proxy that can be cut, for network faults between a node and its Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Path {
    /// All bytes pass.
    Open,
    /// All bytes pass, each piece later by this time.
    Late(Duration),
    /// All bytes pass, this many in a second on each connection.
    Slow(usize),
    /// No bytes pass, and no side is told: connections stay, and new ones open and are silent.
    Silent,
    /// Connections are reset; new ones are reset at once.
    Reset,
}

/// The present behaviour of the proxy.
#[derive(Clone, Copy)]
struct State {
    path: Path,
    upstream: u16,
    /// Connections of an earlier round are reset.
    round: u64,
}

/// A proxy in front of one server. It ends with its runtime.
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<watch::Sender<State>>,
}

impl Proxy {
    pub async fn start(upstream: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(watch::channel(State { path: Path::Open, upstream, round: 0 }).0);
        let watched = state.clone();
        tokio::spawn(async move {
            // An accept fails while the process has no free descriptor.
            loop {
                match listener.accept().await {
                    Ok((client, _)) => drop(tokio::spawn(carry(client, watched.subscribe()))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        Proxy { address, state }
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    pub fn set(&self, path: Path) {
        self.state.send_modify(|state| state.path = path);
    }

    /// Changes the server for new connections. Connections to the previous server are reset.
    pub fn lead(&self, upstream: u16) {
        self.state.send_modify(|state| {
            state.upstream = upstream;
            state.round += 1;
        });
    }
}

async fn carry(client: TcpStream, mut state: watch::Receiver<State>) {
    // A connection is reset if it is dropped with unread data, or with this option.
    client.set_zero_linger().ok();
    let round = state.borrow().round;
    if open(&mut state, round).await.is_none() {
        return;
    }
    let upstream = state.borrow().upstream;
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = one_way(client_read, server_write, state.clone(), round) => {}
        () = one_way(server_read, client_write, state.clone(), round) => {}
        _ = state.wait_for(|state| state.path == Path::Reset || state.round != round) => {}
    }
}

/// Waits while the path is silent, and for its delay; `None` if the path is reset.
async fn open(state: &mut watch::Receiver<State>, round: u64) -> Option<()> {
    let now = *state.wait_for(|state| state.path != Path::Silent || state.round != round).await.ok()?;
    if now.round != round {
        return None;
    }
    match now.path {
        Path::Late(delay) => tokio::time::sleep(delay).await,
        Path::Reset => return None,
        Path::Open | Path::Silent | Path::Slow(_) => {}
    }
    Some(())
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    round: u64,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if open(&mut state, round).await.is_none() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        let path = state.borrow().path;
        if let Path::Slow(rate) = path {
            tokio::time::sleep(Duration::from_secs_f64(count as f64 / rate as f64)).await;
        }
    }
}
