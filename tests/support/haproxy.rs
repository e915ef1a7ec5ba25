//! A real haproxy in front of some nodes: round-robin, no stickiness.

use super::redis::{free_port, fresh_dir};
use super::{Node, eventually};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub struct Haproxy {
    child: Child,
    dir: PathBuf,
    pub http: SocketAddr,
    pub tcp: SocketAddr,
}

impl Haproxy {
    /// Starts a haproxy in front of these nodes, which may stop and come back at their addresses.
    pub async fn start(nodes: &[Node]) -> Haproxy {
        let http: Vec<SocketAddr> = nodes.iter().map(|node| node.http).collect();
        let tcp: Vec<SocketAddr> = nodes.iter().map(|node| node.tcp).collect();
        Haproxy::before(&http, &tcp).await
    }

    pub async fn before(http: &[SocketAddr], tcp: &[SocketAddr]) -> Haproxy {
        let dir = fresh_dir("haproxy");
        let front = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let front_tcp = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let servers = |addresses: &[SocketAddr], checked: &[SocketAddr]| -> String {
            let line = |(index, (address, checked)): (usize, (&SocketAddr, &SocketAddr))| {
                format!("  server n{index} {address} check port {} inter 200ms fall 1 rise 1\n", checked.port())
            };
            addresses.iter().zip(checked).enumerate().map(line).collect()
        };
        // Without `timeout check` a check may take only as long as the interval between two checks. On a busy machine
        // haproxy would then treat a node as dead, and answer its readers and commands with 503. A dead node refuses at
        // once, whatever the timeout is. A request that no server has seen yet may go to another server; no other
        // request is repeated.
        let config = format!(
            "global\n  maxconn 4000\n\
             defaults\n  timeout connect 10s\n  timeout check 10s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 60s\n\
             \x20 option redispatch 1\n  retries 3\n  retry-on conn-failure\n\
             frontend web\n  mode http\n  bind {front}\n  default_backend nodes\n\
             backend nodes\n  mode http\n  balance roundrobin\n  option http-no-delay\n  option httpchk GET /readyz\n{}\
             frontend applets\n  mode tcp\n  bind {front_tcp}\n  default_backend sockets\n\
             backend sockets\n  mode tcp\n  balance roundrobin\n  option httpchk GET /readyz\n{}",
            servers(http, http),
            servers(tcp, http),
        );
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, config).expect("haproxy's file");
        let mut command = Command::new("haproxy");
        let log = std::fs::File::create(dir.join("log")).expect("haproxy's log");
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("haproxy is installed (apt-get install haproxy)");
        let haproxy = Haproxy { child, dir, http: front, tcp: front_tcp };
        eventually("haproxy to reach the nodes", async || {
            let answer = super::Request::get("/readyz").try_send(front).await?;
            (answer.status == 200).then_some(())
        })
        .await;
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- haproxy said last:\n{}", super::last_lines(&self.dir.join("log")));
        }
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
