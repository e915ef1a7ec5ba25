//! PHP: scripts, and a script under PHP's own web server. PHP runs without php.ini and without extensions that are not
//! part of it, and shows every warning.

use super::eventually;
use super::redis::{free_port, fresh_dir};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The helper of the examples.
pub const HELPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/php/Longtail.php");

const SETTINGS: [&str; 7] = ["-n", "-d", "display_errors=1", "-d", "error_reporting=-1", "-d", "log_errors=0"];

/// The head of a script that uses the helper.
fn with_helper(script: &str) -> String {
    format!("<?php\ndeclare(strict_types=1);\nrequire '{HELPER}';\n{script}\n")
}

/// Runs a script that uses the helper, with these arguments, and returns what it prints.
pub async fn run(script: &str, arguments: &[&str]) -> String {
    let dir = fresh_dir("php");
    let file = dir.join("script.php");
    std::fs::write(&file, with_helper(script)).expect("the script");
    let mut command = Command::new("php");
    command.args(SETTINGS).arg(&file).args(arguments).kill_on_drop(true);
    let output = command.output().await.expect("php is installed (apt-get install php-cli)");
    std::fs::remove_dir_all(dir).ok();
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && said.is_empty(), "{script}\n{printed}\n{said}");
    for word in ["Warning: ", "Notice: ", "Deprecated: "] {
        assert!(!printed.contains(word), "{script}\n{printed}");
    }
    printed
}

/// A script under PHP's own web server.
pub struct Php {
    _server: Child,
    dir: PathBuf,
    pub address: SocketAddr,
    pub url: String,
}

impl Php {
    /// Serves a script at this path.
    pub async fn start(name: &str, script: &str) -> Php {
        let (dir, port) = (fresh_dir("php"), free_port());
        std::fs::write(dir.join(name), script).expect("the script");
        let log = std::fs::File::create(dir.join("log")).expect("the log");
        let mut command = Command::new("php");
        command.args(["-n", "-d", "display_errors=1", "-S", &format!("127.0.0.1:{port}"), "-t"]).arg(&dir);
        command.stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let server = command.spawn().expect("php is installed (apt-get install php-cli)");
        eventually("php to listen", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Php { _server: server, dir, address, url: format!("http://{address}/{name}") }
    }

    /// Serves a script that uses the helper.
    pub async fn start_with_helper(name: &str, script: &str) -> Php {
        Php::start(name, &with_helper(script)).await
    }

    /// What the server and the script have logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.join("log")).unwrap_or_default()).into_owned()
    }

    /// Waits until this text is in the log.
    pub async fn logged(&self, text: &str) {
        eventually(text, async || self.log().contains(text).then_some(())).await;
    }
}

impl Drop for Php {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
