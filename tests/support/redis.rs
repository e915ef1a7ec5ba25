//! A real `redis-server` on a free port, with a directory of its own.

pub use super::ports::free_port;
use super::{SOON, came, eventually};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Redis that this test started. It is killed when this is dropped.
pub struct RedisServer {
    /// The process; `None` in a handle.
    child: Option<Child>,
    port: u16,
    dir: PathBuf,
    args: Vec<String>,
    /// User and password for our own commands, in the form of a URL: `user:password@`.
    login: String,
}

/// Makes a new directory below the build's directory.
pub fn fresh_dir(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// Timeouts that are as long as a test waits: a client's default timeouts are half a second and one second.
pub fn patient() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new().set_connection_timeout(Some(SOON)).set_response_timeout(Some(SOON))
}

/// Sends a signal to a process that this test started.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.expect("sh runs").success(), "kill -{name} {pid}: the process is gone");
    if name == "STOP" {
        // A thread that runs on another core continues for a moment.
        let deadline = Instant::now() + SOON;
        while !is_stopped(pid) {
            assert!(Instant::now() < deadline, "process {pid} goes on after kill -STOP");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether all threads of a process are stopped.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state comes after the name, which may contain any character.
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['T', 't']))
    })
}

/// An argument such as `FAKETIME=+0` is put into its environment.
fn spawn(port: u16, dir: &PathBuf, args: &[String]) -> Child {
    let is_variable = |arg: &&String| {
        arg.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let variables = args.iter().filter(is_variable).filter_map(|arg| arg.split_once('='));
    Command::new("redis-server")
        .envs(variables)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--logfile", "log", "--dir"])
        .arg(dir)
        .args(args.iter().filter(|arg| !is_variable(arg)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed (apt-get install redis-server)")
}

impl RedisServer {
    pub async fn start() -> RedisServer {
        RedisServer::start_with(&[]).await
    }

    /// Starts a Redis that survives `kill -9`: every write is in the file before Redis answers it.
    pub async fn start_durable() -> RedisServer {
        RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    pub async fn start_with(args: &[&str]) -> RedisServer {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        loop {
            let (dir, port) = (fresh_dir("redis"), free_port());
            let child = Some(spawn(port, &dir, &args));
            let mut server = RedisServer { child, port, dir, args: args.clone(), login: String::new() };
            // Another process may have taken the port in the meantime: this one then ends at once.
            loop {
                if server.child.as_mut().is_some_and(|child| child.try_wait().expect("wait").is_some()) {
                    break;
                }
                match server.try_command(&["PING"]).await {
                    Ok(_) => return server,
                    // A server that requires a password is also up.
                    Err(error) if error.code() == Some("NOAUTH") => return server,
                    Err(_) => {}
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    pub fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}/", self.login, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("its process").id()
    }

    /// Another handle, which does not own the process.
    pub fn handle(&self) -> RedisServer {
        let (dir, args, login) = (self.dir.clone(), self.args.clone(), self.login.clone());
        RedisServer { child: None, port: self.port, dir, args, login }
    }

    /// Sets the login of our own commands, in the form `user:password@`.
    pub fn set_login(&mut self, login: &str) {
        login.clone_into(&mut self.login);
    }

    /// Runs one command on a connection of its own.
    pub async fn command(&self, words: &[&str]) -> redis::Value {
        let answer = self.try_command(words).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub async fn connect(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        redis::Client::open(self.url())?.get_multiplexed_async_connection_with_config(&patient()).await
    }

    pub async fn try_command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut connection = self.connect().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer = command.query_async(&mut connection).await;
        came(|| format!("Redis, {}: {answer:?}", words.join(" ")));
        answer
    }

    pub async fn text(&self, words: &[&str]) -> String {
        redis::from_redis_value(self.command(words).await).expect("a text")
    }

    pub async fn number(&self, words: &[&str]) -> i64 {
        redis::from_redis_value(self.command(words).await).expect("a number")
    }

    /// Returns the number that follows `words` in a section of INFO, or 0 if the section does not have them.
    pub async fn number_in(&self, section: &str, words: &str) -> u64 {
        let info = self.text(&["INFO", section]).await;
        let digits = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().to_owned();
        let found = info.lines().find_map(|line| line.strip_prefix(words)).map(digits);
        found.map_or(0, |digits| digits.parse().expect("a number"))
    }

    /// Kills the server, as a crash does.
    pub fn kill(&mut self) {
        let child = self.child.as_mut().expect("its process");
        child.kill().expect("kill -9");
        child.wait().expect("wait");
    }

    /// Shuts the server down normally.
    pub async fn end(&mut self) {
        signal(self.pid(), "TERM");
        eventually("Redis to end", async || self.try_command(&["PING"]).await.err()).await;
        self.child.as_mut().expect("its process").wait().expect("wait");
    }

    /// Starts the server again on the same port and directory. Its former process has to have ended.
    pub async fn restart(&mut self) {
        // Otherwise the new process could not take the port, and the old one would outlive the test.
        let is_over = self.child.as_mut().is_none_or(|child| child.try_wait().expect("wait").is_some());
        assert!(is_over, "Redis still runs: kill() or end() it first");
        self.child = Some(spawn(self.port, &self.dir, &self.args));
        eventually("Redis to be back", async || self.try_command(&["PING"]).await.ok()).await;
    }

    /// Freezes the server (`SIGSTOP`): connections stay, and it does not answer.
    pub fn freeze(&self) {
        signal(self.pid(), "STOP");
    }

    pub fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    /// Waits until at least `nodes` clients listen to a pattern.
    pub async fn listened(&self, nodes: usize) {
        eventually("the nodes to listen to Redis", async || {
            let clients = self.text(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
            let listening = clients.lines().filter(|client| !client.contains(" psub=0 ")).count();
            (listening >= nodes).then_some(())
        })
        .await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        child.kill().ok();
        child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- the Redis at {} said last:\n{}", self.port, super::last_lines(&self.dir.join("log")));
        }
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
