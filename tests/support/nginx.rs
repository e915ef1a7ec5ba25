//! A real nginx in front of a node, with the test's own directives.

use super::redis::{free_port, fresh_dir};
use super::{Node, eventually};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub struct Nginx {
    child: Child,
    dir: PathBuf,
    pub http: SocketAddr,
}

impl Nginx {
    /// Starts an nginx. Its location has `directives` and a `proxy_pass`.
    pub async fn before(node: &Node, directives: &str) -> Nginx {
        let (dir, http) = (fresh_dir("nginx"), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let file = dir.join("nginx.conf");
        let temp = |kind: &str| format!("{kind}_temp_path {}/{kind};\n", dir.display());
        let temps: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temp).concat();
        let config = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n access_log off;\n {temps}\n map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n server {{\n  listen {http};\n  location / {{\n   \
             proxy_pass http://{node};\n   {directives}\n  }}\n }}\n}}\n",
            dir = dir.display(),
            node = node.http,
        );
        std::fs::write(&file, config).expect("nginx's file");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(&file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let nginx = Nginx { child: child.expect("nginx is installed (apt-get install nginx-light)"), dir, http };
        eventually("nginx to reach the node", async || {
            let answer = super::Request::get("/readyz").try_send(http).await?;
            (answer.status == 200).then_some(())
        })
        .await;
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- nginx said:\n{}", std::fs::read_to_string(self.dir.join("error.log")).unwrap_or_default());
        }
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
