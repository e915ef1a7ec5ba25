//! The binary's other commands, run as a user runs them.

use super::{SOON, came, within};
use std::fmt;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The result of a command.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The whole result, for the message of an assertion.
impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { code, out, err } = self;
        write!(f, "exit code {code}\n--- standard output:\n{out}--- standard error:\n{err}")
    }
}

fn longtail(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longtail"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LONGTAIL_")) {
        command.env_remove(name);
    }
    for arg in args {
        match arg.split_once('=') {
            Some((name, value)) if name.starts_with("LONGTAIL_") => command.env(name, value),
            _ => command.arg(arg),
        };
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a command to its end, with `input` on its standard input.
pub async fn run(args: &[&str], input: &str) -> Done {
    let what = format!("longtail {} to end", args.join(" "));
    within(SOON, &what, async {
        let mut child = longtail(args).spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A command that reads nothing may already be gone.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output = child.wait_with_output().await.expect("its output");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Done { code: code(output.status), out: text(output.stdout), err: text(output.stderr) }
    })
    .await
}

/// Runs a command whose standard output, and optionally its standard error, is a pipe without a reader. Returns its
/// exit code and, if the test reads it, its standard error.
pub async fn run_unread(args: &[&str], input: &str, is_stderr_read: bool) -> (i32, String) {
    within(SOON, &format!("longtail {} to end", args.join(" ")), async {
        let mut child = longtail(args).spawn().expect("the binary starts");
        drop(child.stdout.take());
        if !is_stderr_read {
            drop(child.stderr.take());
        }
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output = child.wait_with_output().await.expect("its output");
        (code(output.status), String::from_utf8(output.stderr).expect("UTF-8"))
    })
    .await
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

/// A command that keeps running.
pub struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub fn start(args: &[&str]) -> Running {
        let mut child = longtail(args).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Running { child, lines }
    }

    /// The next line that it prints; `None` at its end.
    pub async fn line(&mut self) -> Option<String> {
        let line = within(SOON, "a line", self.lines.next_line()).await.expect("UTF-8");
        came(|| format!("a line: {line:?}"));
        line
    }

    /// The next line, which has to end in `end`.
    pub async fn line_ends(&mut self, end: &str) -> String {
        let line =
            self.line().await.unwrap_or_else(|| panic!("the end of the output, not a line that ends with {end:?}"));
        assert!(line.ends_with(end), "not a line that ends with {end:?}: {line:?}");
        line
    }

    /// The first line on the command's standard error.
    pub async fn remark(&mut self) -> String {
        let mut line = Vec::new();
        let stderr = self.child.stderr.as_mut().expect("a pipe");
        within(SOON, "a remark", async {
            while line.last() != Some(&b'\n') {
                line.push(stderr.read_u8().await.expect("a remark, no end"));
            }
        })
        .await;
        String::from_utf8(line).expect("UTF-8")
    }

    /// Ends the command as Ctrl-C does; returns its exit code and its standard error.
    pub async fn interrupt(mut self) -> (i32, String) {
        super::redis::signal(self.child.id().expect("it runs"), "INT");
        self.end().await
    }

    /// Waits for the end of the command.
    pub async fn end(&mut self) -> (i32, String) {
        let status = within(SOON, "its end", self.child.wait()).await.expect("a status");
        let mut said = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut said).await.expect("UTF-8");
        (code(status), said)
    }
}
