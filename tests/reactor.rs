//! A server whose reactor fails no longer gets events of its clients. It reports that and exits, and its supervisor
//! starts another one.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use crate::support;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use support::redis::free_port;
use support::{Node, Request, SOON, within};
use tokio::net::TcpStream;

#[cfg(target_arch = "x86_64")]
const EPOLL: (&[i64], TargetArch) = (&[232, 281], TargetArch::x86_64);
#[cfg(target_arch = "aarch64")]
const EPOLL: (&[i64], TargetArch) = (&[22], TargetArch::aarch64);

/// Bad file descriptor.
const EBADF: u32 = 9;

/// The epoll descriptors of a process, in their order: those of tokio come first.
fn epolls(node: &Node) -> Vec<u64> {
    let list = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("its descriptors");
    let mut found: Vec<u64> = list
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = std::fs::read_link(entry.path()).ok()?;
            let is_epoll = target.to_string_lossy().contains("[eventpoll]");
            is_epoll.then(|| entry.file_name().to_string_lossy().parse().expect("a number"))
        })
        .collect();
    found.sort_unstable();
    found
}

/// Makes `epoll_wait` fail in a process for every descriptor except `but`.
fn filter(but: u64) -> BpfProgram {
    let is_other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, but).expect("a condition");
    let rule = SeccompRule::new(vec![is_other]).expect("a rule");
    let rules: BTreeMap<i64, Vec<SeccompRule>> = EPOLL.0.iter().map(|number| (*number, vec![rule.clone()])).collect();
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(EBADF), EPOLL.1)
        .and_then(BpfProgram::try_from)
        .expect("a filter")
}

/// A server process, which is killed when this is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a server whose reactor fails when its first client connects. A filter is inherited, and holds only for its
/// thread: it does not affect the test's own threads.
fn start(args: Vec<String>, filter: BpfProgram) -> Server {
    let starting = std::thread::spawn(move || {
        seccompiler::apply_filter(&filter).expect("a filter of system calls");
        let mut command = Command::new(env!("CARGO_BIN_EXE_longtail"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("the server binary starts")
    });
    Server(starting.join().expect("started"))
}

#[tokio::test]
async fn a_server_that_hears_of_no_client_ends() {
    let node = Node::start(&[]).await;
    let tokio_own = *epolls(&node).first().expect("an epoll");
    assert!(epolls(&node).len() >= 2, "tokio's and the reactor's: {:?}", epolls(&node));
    drop(node);

    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let args = ["--listen", &address.to_string(), "--tcp-listen", "off", "--drain-seconds", "600"].map(str::to_owned);
    let mut server = start(args.to_vec(), filter(tokio_own));
    let ended = within(SOON, "the server to end", async {
        loop {
            if let Some(status) = server.0.try_wait().expect("wait") {
                return status;
            }
            // The server listens after some time, and the first client makes its reactor fail.
            if TcpStream::connect(address).await.is_ok() {
                tokio::time::timeout(SOON / 20, Request::get("/healthz").try_send(address)).await.ok();
            }
            tokio::time::sleep(SOON / 1000).await;
        }
    });
    let ended = ended.await;
    let mut said = String::new();
    server.0.stderr.take().expect("stderr is a pipe").read_to_string(&mut said).expect("what it said");
    assert_eq!(ended.code(), Some(70), "the exit code (EX_SOFTWARE) of a server that said:\n{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(
        matches!(lines[..], [line] if line.contains("socket reactor failed; no client I/O is possible: Bad file descriptor")),
        "one line that says why, of:\n{said}"
    );
}
