//! One server process on ports of its own.

use super::http::{Request, Response};
use super::json::Published;
use super::ports::free_port;
use super::{SOON, eventually, within};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A running `longtail`, which is killed when this is dropped.
pub struct Node {
    child: Child,
    pub http: SocketAddr,
    pub tcp: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

/// One entry of `GET /info`'s list.
#[derive(Clone, Debug)]
pub struct Transport {
    pub name: String,
    pub path: String,
    pub lifecycle: String,
    pub rollover: bool,
}

impl Transport {
    /// Whether one response carries one batch.
    pub fn is_poll(&self) -> bool {
        matches!(self.lifecycle.as_str(), "poll" | "long-poll")
    }

    /// Whether the request waits for a message.
    pub fn waits(&self) -> bool {
        self.lifecycle != "poll"
    }

    /// Whether the response begins with a `hello` and carries control objects.
    pub fn is_stream(&self) -> bool {
        !self.is_poll()
    }

    /// Whether it is plain HTTP: one request, one response.
    pub fn is_http(&self) -> bool {
        !matches!(self.lifecycle.as_str(), "duplex" | "socket")
    }

    /// Whether the answer runs as a script, so that it needs a `callback`.
    pub fn is_script(&self) -> bool {
        matches!(self.name.as_str(), "jsonp" | "forever-frame")
    }

    /// The path with a query, and with a valid callback if one is needed.
    pub fn url(&self, query: &str) -> String {
        let callback = if self.is_script() && !query.contains("callback=") { "&callback=cb" } else { "" };
        format!("{}?{query}{callback}", self.path)
    }
}

/// Whether an argument is a variable for the environment, such as `LONGTAIL_OPEN=1`.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

/// The argument that limits the file descriptors of a process, such as `ULIMIT_N=256`.
const ULIMIT_N: &str = "ULIMIT_N=";

/// Starts a process, which has not logged its addresses yet. An argument such as `LONGTAIL_OPEN=1` is put
/// into its environment; `ULIMIT_N=256` sets its limit on file descriptors.
fn spawn(args: &[&str]) -> Child {
    let mut command = match args.iter().any(|arg| arg.starts_with(ULIMIT_N)) {
        false => Command::new(env!("CARGO_BIN_EXE_longtail")),
        true => {
            let mut shell = Command::new("sh");
            shell.args(["-c", r#"ulimit -n "$ULIMIT_N" && exec "$0" "$@""#, env!("CARGO_BIN_EXE_longtail")]);
            shell
        }
    };
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LONGTAIL_")) {
        command.env_remove(name);
    }
    for arg in args {
        match arg.split_once('=') {
            Some((name, value)) if is_variable(name) => command.env(name, value),
            _ => command.arg(arg),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the server binary starts")
}

/// Runs the server until it ends by itself; returns its exit code and its output.
pub async fn run_to_end(args: &[&str]) -> (i32, String) {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let run = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut child = spawn(&args);
        let deadline = std::time::Instant::now() + SOON;
        while child.try_wait().expect("wait").is_none() {
            if std::time::Instant::now() > deadline {
                child.kill().expect("kill");
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = child.wait_with_output().expect("output");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), said)
    });
    run.await.expect("the run")
}

/// The address in a log line that has `scheme://ADDRESS`.
fn bound(lines: &[String], scheme: &str) -> Option<SocketAddr> {
    let mark = format!("listening on {scheme}://");
    lines.iter().find_map(|line| {
        let rest = &line[line.find(&mark)? + mark.len()..];
        let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || "[].:".contains(c)));
        rest[..end.unwrap_or(rest.len())].parse().ok()
    })
}

impl Node {
    /// Starts a node on free loopback ports and waits until it is ready.
    pub async fn start(args: &[&str]) -> Node {
        let node = Node::start_unready(args).await;
        eventually("/readyz to answer 200", async || (node.get("/readyz").await.status == 200).then_some(())).await;
        node
    }

    /// Starts a node and waits for its addresses only.
    pub async fn start_unready(args: &[&str]) -> Node {
        // A command comes before its flags.
        let (command, args) = args.split_at(args.iter().take(1).filter(|arg| !arg.contains(['-', '='])).count());
        let mut all = command.to_vec();
        all.extend(["--log-format", "text"]);
        // The ports are not the kernel's choice: an outgoing connection of another program could otherwise take the
        // port of a node that restarts.
        let addresses = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        for (flag, address) in ["--listen", "--tcp-listen"].into_iter().zip(&addresses) {
            if !args.contains(&flag) {
                all.extend([flag, address]);
            }
        }
        if super::door() != super::Door::Plain && !args.contains(&"--tls-cert") {
            all.extend(super::Certificate::common().flags());
        }
        all.extend(args);
        let mut child = spawn(&all);
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let stderr = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().expect("log").push(line);
            }
        });
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let (http, tcp) = {
                let lines = log.lock().expect("log");
                (bound(&lines, "http").or_else(|| bound(&lines, "https")), bound(&lines, "tcp"))
            };
            if let (Some(http), Some(tcp)) = (http, tcp) {
                return Node { child, http, tcp, log };
            }
            let ended = child.try_wait().expect("wait");
            if ended.is_some() || std::time::Instant::now() > deadline {
                child.kill().ok();
                child.wait().ok();
                let lines = log.lock().expect("log").join("\n");
                panic!("the server with {all:?} did not say its addresses (ended: {ended:?}):\n{lines}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines that the node has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("log").join("\n")
    }

    /// Waits until the node has logged this text. A line comes through a pipe, and may come after what it is about.
    pub async fn logged(&self, text: &str) {
        super::eventually(text, async || self.log().contains(text).then_some(())).await;
    }

    /// Bytes of memory that the process itself uses now.
    pub fn resident(&self) -> usize {
        self.status("VmRSS:")
    }

    /// The maximum number of bytes of memory that the process has used.
    pub fn peak_resident(&self) -> usize {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find(|line| line.starts_with(name)).expect(name);
        let kib: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kib << 10
    }

    /// The processor time that the node has used, to a hundredth of a second. A busy machine does not change it.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("its times");
        // After the name, which may contain any character: proc(5)'s fields 14 and 15, in the unit that Linux gives to
        // programs.
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// The value in `/metrics` of a name with these labels; 0 if there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().expect("a number"))
    }

    /// Sends a signal such as `TERM`.
    pub fn signal(&self, name: &str) {
        super::redis::signal(self.child.id(), name);
    }

    /// Waits for the process to end and returns its exit code.
    pub async fn exit_code(&mut self) -> i32 {
        let code = self.ended(SOON).await;
        code.unwrap_or_else(|| panic!("waited {SOON:?} for the server to exit"))
    }

    /// Does the same for a process that may not end in time.
    pub async fn ended(&mut self, limit: Duration) -> Option<i32> {
        let ending = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("wait") {
                    return status.code().unwrap_or(-1);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(limit, ending).await.ok()
    }

    /// The transports this server offers.
    pub async fn transports(&self) -> Vec<Transport> {
        let info = self.get("/info").await.json();
        let list = info["transports"].as_array().expect("/info lists transports");
        list.iter()
            .map(|entry| {
                let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
                Transport {
                    name: text("name"),
                    path: text("path"),
                    lifecycle: text("lifecycle"),
                    rollover: entry["rollover"].as_bool().unwrap_or(false),
                }
            })
            .collect()
    }

    /// One transport by its name.
    pub async fn transport(&self, name: &str) -> Transport {
        let all = self.transports().await;
        let names: Vec<_> = all.iter().map(|t| t.name.clone()).collect();
        let found = all.into_iter().find(|t| t.name == name);
        found.unwrap_or_else(|| panic!("no transport {name} among {names:?}"))
    }

    pub async fn get(&self, path: &str) -> Response {
        Request::get(path).send(self.http).await
    }

    /// Publishes one message with this JSON text (or any text) as its payload.
    pub async fn publish(&self, channel: &str, payload: &str) -> String {
        self.publish_with(&format!("channel={}", super::quote(channel)), payload).await
    }

    /// Publishes a raw body with these query fields, and returns the id.
    pub async fn publish_with(&self, query: &str, payload: &str) -> String {
        let answer = self.try_publish(query, payload).await;
        assert_eq!(answer.status, 200, "publishing {query}: {}", answer.text());
        let id = answer.json()["messages"][0]["id"].as_str().map(str::to_owned);
        id.unwrap_or_else(|| panic!("no id in {}", answer.text()))
    }

    pub async fn try_publish(&self, query: &str, payload: &str) -> Response {
        Request::post(&format!("/publish?{query}"), payload.as_bytes())
            .header("Content-Type", "application/octet-stream")
            .send(self.http)
            .await
    }

    /// Publishes `count` messages whose payloads are 0, 1, 2, …
    pub async fn publish_numbers(&self, channel: &str, count: usize) -> Vec<Published> {
        let payloads: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        self.publish_all(channel, &payloads).await
    }

    /// Publishes these JSON texts to one channel as one array.
    pub async fn publish_all(&self, channel: &str, payloads: &[String]) -> Vec<Published> {
        let list: Vec<(String, String)> = payloads.iter().map(|p| (channel.to_owned(), p.clone())).collect();
        self.publish_list(&list).await
    }

    /// Publishes (channel, JSON text) pairs as arrays of at most 1,000.
    pub async fn publish_list(&self, list: &[(String, String)]) -> Vec<Published> {
        let mut published = Vec::new();
        for part in list.chunks(1000) {
            let objects: Vec<String> =
                part.iter().map(|(channel, data)| format!(r#"{{"channel":"{channel}","data":{data}}}"#)).collect();
            let answer = self.publish_json(&format!("[{}]", objects.join(","))).await;
            assert_eq!(answer.status, 200, "publishing an array: {}", answer.text());
            let answer = answer.json();
            let ids = answer["messages"].as_array().expect("messages");
            assert_eq!(ids.len(), part.len());
            for (id, (channel, data)) in ids.iter().zip(part) {
                assert_eq!(id["channel"], Value::from(channel.as_str()));
                published.push(Published {
                    id: id["id"].as_str().expect("id").to_owned(),
                    channel: channel.clone(),
                    data: data.clone(),
                });
            }
        }
        published
    }

    pub async fn publish_json(&self, body: &str) -> Response {
        Request::post("/publish", body.as_bytes()).header("Content-Type", "application/json").send(self.http).await
    }

    /// The log's position now, by an empty poll.
    pub async fn latest(&self, channel: &str) -> String {
        let batch = self.get(&format!("/poll?channel={channel}")).await.json();
        batch["cursor"].as_str().expect("a batch has a cursor").to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- the node {} said:\n{}", self.http, self.log());
        }
    }
}
