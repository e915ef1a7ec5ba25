//! Under systemd: the server's notifications, the sockets that systemd hands over, and the units.

use crate::support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::redis::{free_port, fresh_dir};
use support::{LineClient, Node, RedisServer, Request, SOON, eventually, server::run_to_end, within};
use tokio::net::UnixDatagram;

/// A service manager's socket.
struct Manager {
    socket: UnixDatagram,
    dir: PathBuf,
}

impl Manager {
    fn new() -> Manager {
        // The socket is not below the build's directory, because the path of a socket has at most 107 bytes.
        let dir = std::env::temp_dir().join(format!("notify-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).expect("a directory");
        Manager { socket: UnixDatagram::bind(dir.join("s")).expect("a socket"), dir }
    }

    fn variable(&self) -> String {
        format!("NOTIFY_SOCKET={}/s", self.dir.display())
    }

    /// Reads until a line begins with `wanted`.
    async fn told(&self, wanted: &str) -> String {
        let mut buffer = [0; 4096];
        within(SOON, wanted, async {
            loop {
                let count = self.socket.recv(&mut buffer).await.expect("a message");
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                if let Some(line) = text.lines().find(|line| line.starts_with(wanted)) {
                    return line.to_owned();
                }
            }
        })
        .await
    }

    /// Whether no line that begins with `unwanted` arrives within `time`.
    async fn is_not_told(&self, unwanted: &str, time: Duration) -> bool {
        let told = self.told(unwanted);
        tokio::time::timeout(time, told).await.is_err()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

#[tokio::test]
async fn the_manager_is_told() {
    let manager = Manager::new();
    let mut node = Node::start(&[&manager.variable(), "WATCHDOG_USEC=600000"]).await;
    manager.told("READY=1").await;
    manager.told("WATCHDOG=1").await;
    manager.told("WATCHDOG=1").await;
    let _reader = Request::get("/sse?channel=todo").open(node.http).await;
    manager.told("STATUS=1 readers of 1 channels").await;
    node.signal("TERM");
    manager.told("STOPPING=1").await;
    assert_eq!(node.exit_code().await, 0);
}

/// A process that is stopped sends nothing, and the watchdog detects that.
#[tokio::test]
async fn a_stalled_process_is_not_alive() {
    let manager = Manager::new();
    let node = Node::start(&[&manager.variable(), "WATCHDOG_USEC=300000"]).await;
    manager.told("WATCHDOG=1").await;
    node.signal("STOP");
    // Reads the lines that were sent before it stopped.
    while manager.socket.try_recv(&mut [0; 4096]).is_ok() {}
    assert!(
        manager.is_not_told("WATCHDOG=1", Duration::from_millis(900)).await,
        "a stopped process says that it lives"
    );
    node.signal("CONT");
    manager.told("WATCHDOG=1").await;
}

/// The server is ready when it has read its log, or at once if it may wait for the log.
#[tokio::test]
async fn ready_means_that_the_log_is_read() {
    let manager = Manager::new();
    let mut redis = RedisServer::start().await;
    let url = redis.url();
    redis.kill();
    let node = Node::start_unready(&[&manager.variable(), "--redis", &url, "--wait-for-log"]).await;
    manager.told("READY=1").await;
    manager.told("STATUS=0 readers of 0 channels, 0 messages retained; the log cannot be reached").await;
    drop(node);
    redis.restart().await;
    let manager = Manager::new();
    let _node = Node::start(&[&manager.variable(), "--redis", &url]).await;
    manager.told("STATUS=reading the log").await;
    manager.told("READY=1").await;
}

/// A process that a test started. It is killed when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Process {
    /// Connects to `address` again and again until the process ends, and returns its exit code.
    async fn code_when_asked(&mut self, address: SocketAddr) -> Option<i32> {
        within(SOON, "its end", async {
            loop {
                if let Some(status) = self.0.try_wait().expect("wait") {
                    return status.code();
                }
                tokio::net::TcpStream::connect(address).await.ok();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
}

/// Our binary behind systemd's own tool, which binds these addresses and starts it at the first connection.
fn activated(listen: &[SocketAddr], names: &str, args: &[&str]) -> Process {
    let mut command = Command::new("systemd-socket-activate");
    for address in listen {
        command.arg("-l").arg(address.to_string());
    }
    command.arg(format!("--fdname={names}")).arg(env!("CARGO_BIN_EXE_longtail")).args(args);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    Process(child.expect("systemd-socket-activate is installed (apt-get install systemd)"))
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[tokio::test]
async fn sockets_are_taken_over() {
    let (http, tcp, other) = (free(), free(), free());
    // The flags are ignored if there are sockets: this port is in use, and that does not matter.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let args = ["--listen", &address, "--tcp-listen", &address];
    let _process = activated(&[http, tcp, other], "http:tcp:more", &args);
    for address in [http, other] {
        let ready = eventually("an answer", async || Request::get("/readyz").try_send(address).await).await;
        assert!(matches!(ready.status, 200 | 503), "{}", ready.status);
    }
    let mut client = LineClient::connect(tcp).await;
    client.send(r#"{"type":"subscribe","channels":["todo"]}"#).await;
    assert_eq!(client.json().await["type"], "hello");
    let info = Request::get("/info").send(http).await.json();
    assert_eq!(info["tcp"], tcp.to_string());
}

/// An open server stays on loopback, no matter which program has bound the socket.
#[tokio::test]
async fn a_socket_that_others_can_reach_is_refused() {
    let address = SocketAddr::from(([0, 0, 0, 0], free_port()));
    let mut process = activated(&[address], "http", &[]);
    let here = SocketAddr::from(([127, 0, 0, 1], address.port()));
    assert_eq!(process.code_when_asked(here).await, Some(64));
}

#[tokio::test]
async fn two_raw_tcp_sockets_are_one_too_many() {
    let (one, two) = (free(), free());
    let mut process = activated(&[one, two], "tcp:tcp", &[]);
    assert_eq!(process.code_when_asked(one).await, Some(64));
    // Without a service manager, these variables have no effect.
    let (code, said) = run_to_end(&["LISTEN_FDS=1", "LISTEN_PID=1", "--listen", "192.0.2.1:1"]).await;
    assert_eq!((code, said.contains("192.0.2.1:1")), (64, true), "{said}");
}

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

/// `systemd-analyze` finds nothing wrong with our units, and little that they leave open.
#[test]
fn the_units_are_sound_and_hardened() {
    let dir = fresh_dir("units");
    for unit in ["longtail.service", "longtail-http.socket", "longtail-tcp.socket"] {
        let text = std::fs::read_to_string(packaging(unit)).expect("a unit");
        let text = text.replace("/usr/bin/longtail", env!("CARGO_BIN_EXE_longtail"));
        std::fs::write(dir.join(unit), text).expect("a copy");
    }
    let units = ["longtail.service", "longtail-http.socket", "longtail-tcp.socket"].map(|unit| dir.join(unit));
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output();
    let verified = verified.expect("systemd-analyze is installed (apt-get install systemd)");
    let said = String::from_utf8_lossy(&verified.stderr);
    // This test does not judge units of other packages on this machine.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("longtail")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");

    let security = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&units[0])
        .output()
        .expect("systemd-analyze");
    let told = String::from_utf8_lossy(&security.stdout);
    let level =
        told.lines().find_map(|line| line.split_once("exposure level for longtail.service: ")).expect("a level");
    let exposure: f64 = level.1.split_whitespace().next().and_then(|level| level.parse().ok()).expect("a number");
    println!("exposure {exposure} of 10");
    assert!(exposure <= 1.5, "{told}");
    std::fs::remove_dir_all(dir).ok();
}
