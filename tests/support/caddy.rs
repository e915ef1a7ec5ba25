//! A real Caddy in front of a node, with the test's own directives.

use super::redis::{free_port, fresh_dir};
use super::{Node, eventually};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub struct Caddy {
    child: Child,
    dir: PathBuf,
    pub http: SocketAddr,
}

impl Caddy {
    /// Starts a Caddy. Its site has `directives` and a `reverse_proxy`.
    pub async fn before(node: &Node, directives: &str) -> Caddy {
        let (dir, http) = (fresh_dir("caddy"), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let file = dir.join("Caddyfile");
        let config = format!(
            "{{\n admin off\n auto_https off\n}}\nhttp://{http} {{\n bind 127.0.0.1\n {directives}\n reverse_proxy {node} \
             {{\n flush_interval -1\n }}\n}}\n",
            node = node.http,
        );
        std::fs::write(&file, config).expect("Caddy's file");
        let log = std::fs::File::create(dir.join("log")).expect("Caddy's log");
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file).env("HOME", &dir);
        command.env("XDG_DATA_HOME", &dir).env("XDG_CONFIG_HOME", &dir);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let caddy = Caddy { child: child.expect("caddy is installed (apt-get install caddy)"), dir, http };
        eventually("caddy to reach the node", async || {
            let answer = super::Request::get("/readyz").try_send(http).await?;
            (answer.status == 200).then_some(())
        })
        .await;
        caddy
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- caddy said last:\n{}", super::last_lines(&self.dir.join("log")));
        }
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
