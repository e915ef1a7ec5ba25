//! Three nodes behind haproxy, and clients on all transports that send events, while a node is killed every few
//! seconds. Each event reaches the application, and each client gets one answer to each event, in order.

use super::application::Application;
use super::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::world::start_on;
use support::{Haproxy, LONG, RedisServer};

/// How long the answer to one event may take, with all repetitions.
const ANSWER: Duration = Duration::from_secs(120);

/// The size of a run.
struct Run {
    clients: usize,
    events: usize,
    /// The time over which each client spreads its events.
    spread: Duration,
    kill_every: Duration,
    kills: usize,
}

/// A client, which counts what it was told.
struct Client<'a> {
    name: String,
    balancer: &'a Haproxy,
    told_failures: &'a AtomicUsize,
    repetitions: &'a AtomicUsize,
    run: &'a Run,
}

/// What a client has got.
#[derive(Default)]
struct Got {
    /// The answer to each event, in the order in which they came.
    acks: Vec<u64>,
    /// The events that the application has sent back, in the order in which they came.
    events: Vec<u64>,
}

impl Client<'_> {
    /// The fields of an event. A repetition has the same key.
    fn fields(&self, n: usize) -> Value {
        json!({"event": "number", "data": n, "key": format!("{}-{n}", self.name)})
    }

    async fn rest(&self) {
        tokio::time::sleep(self.run.spread / self.run.events as u32).await;
    }

    /// Sends events on the reader's own WebSocket or TCP connection.
    async fn by_command(&self, reader: &mut Reader) -> Got {
        let (mut got, mut attempt) = (Got::default(), 0);
        for n in 0..self.run.events {
            let sent = async {
                let mut is_answered = false;
                while !is_answered {
                    attempt += 1;
                    let mut command = self.fields(n);
                    (command["type"], command["ref"]) = (json!("event"), json!(attempt));
                    reader.try_command(&command.to_string()).await;
                    is_answered = self.answer(reader, attempt, &mut got).await;
                    self.repetitions.fetch_add(usize::from(!is_answered), Ordering::Relaxed);
                }
            };
            within(ANSWER, &format!("the answer to event {n} of {}", self.name), sent).await;
            self.rest().await;
        }
        got
    }

    /// Reads to the answer to an attempt. Returns false if the attempt has failed, or if its connection has ended.
    async fn answer(&self, reader: &mut Reader, attempt: u64, got: &mut Got) -> bool {
        loop {
            let item = reader.any_wherever().await;
            match item.kind {
                Kind::Ack => {
                    assert_eq!(item.number("ref"), Some(attempt), "{}: a second answer: {}", self.name, item.text);
                    got.acks.extend(serde_json::from_str::<Vec<u64>>(item.data()).expect("numbers"));
                    return true;
                }
                // The reader has a new connection.
                Kind::Hello => return false,
                Kind::Error => {
                    assert_ne!(item.code().as_deref(), Some("no_session"), "{}: {}", self.name, item.text);
                    self.told_failures.fetch_add(usize::from(item.raw("ref").is_some()), Ordering::Relaxed);
                }
                _ => note(&item, got, &self.name),
            }
        }
    }

    /// Sends events by requests, which may reach any node.
    async fn by_request(&self, session: &OnceLock<String>) -> Vec<u64> {
        let mut acks = Vec::new();
        let session = eventually("the session", async || session.get()).await;
        for n in 0..self.run.events {
            let mut body = self.fields(n);
            body["session"] = json!(session);
            let body = body.to_string();
            let sent = async {
                loop {
                    let request = Request::post("/event", body.as_bytes()).header("Content-Type", "application/json");
                    let answer = request.try_send(self.balancer.http).await;
                    match answer {
                        Some(answer) if answer.status == 200 => return answer.json()["ack"].clone(),
                        Some(answer) => {
                            assert!(answer.status >= 429, "{}: {} {}", self.name, answer.status, answer.text());
                            self.told_failures.fetch_add(1, Ordering::Relaxed);
                        }
                        None => {}
                    }
                    self.repetitions.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            };
            let ack = within(ANSWER, &format!("the answer to event {n} of {}", self.name), sent).await;
            acks.push(ack[0].as_u64().unwrap_or_else(|| panic!("{}: {ack}", self.name)));
            self.rest().await;
        }
        acks
    }

    /// Reads until the application's last event has come.
    async fn read(&self, reader: &mut Reader, mut got: Got, session: Option<&OnceLock<String>>) -> Got {
        let last = self.run.events as u64 - 1;
        while got.events.last() != Some(&last) {
            let item = reader.any_wherever().await;
            assert_ne!(item.code().as_deref(), Some("no_session"), "{}: {}", self.name, item.text);
            note(&item, &mut got, &self.name);
            if let Some(session) = session
                && reader.subscription.session() != "1"
            {
                session.get_or_init(|| reader.subscription.session().to_owned());
            }
        }
        got
    }

    async fn run(&self, mut reader: Reader) -> Got {
        if !reader.transport.is_http() {
            let got = self.by_command(&mut reader).await;
            return within(ANSWER, "the last event", self.read(&mut reader, got, None)).await;
        }
        let session = OnceLock::new();
        let reading = self.read(&mut reader, Got::default(), Some(&session));
        let (acks, got) = tokio::join!(self.by_request(&session), reading);
        Got { acks, ..got }
    }
}

/// Notes an event of the application. Nothing of a session is lost.
fn note(item: &support::Item, got: &mut Got, client: &str) {
    assert_ne!(item.kind, Kind::Gap, "{client}: {}", item.text);
    if item.kind == Kind::Event {
        got.events.push(data(item.data()).as_u64().unwrap_or_else(|| panic!("{client}: {}", item.text)));
    }
}

/// The numbers in the order in which each came first.
fn first_times(numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut seen = HashSet::new();
    numbers.into_iter().filter(|number| seen.insert(*number)).collect()
}

async fn start_at(redis: &RedisServer, flags: &[&str], http: SocketAddr, tcp: SocketAddr) -> Node {
    let (http, tcp) = (http.to_string(), tcp.to_string());
    start_on(redis, &[flags, &["--listen", &http, "--tcp-listen", &tcp]].concat()).await
}

/// Kills a node every few seconds, and starts it again.
async fn kill(redis: &RedisServer, flags: &[&str], nodes: &mut [Node], run: &Run, done: &AtomicBool) -> usize {
    let (mut kills, every) = (0, run.kill_every);
    while kills < run.kills && !done.load(Ordering::Relaxed) {
        let index = kills % nodes.len();
        let (http, tcp) = (nodes[index].http, nodes[index].tcp);
        let began = Instant::now();
        nodes[index].signal("KILL");
        tokio::time::sleep(every / 2).await;
        nodes[index] = start_at(redis, flags, http, tcp).await;
        tokio::time::sleep(every.saturating_sub(began.elapsed())).await;
        kills += 1;
    }
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_reaches_the_application_and_is_answered_once() {
    // `tests/run --all` runs the long form.
    let is_long = std::env::var_os("LONGTAIL_LONG").is_some();
    let seconds = Duration::from_secs;
    let run = match is_long {
        true => Run { clients: 300, events: 67, spread: seconds(60), kill_every: seconds(5), kills: 100 },
        false => Run { clients: 30, events: 30, spread: seconds(12), kill_every: seconds(4), kills: 3 },
    };
    let application = Application::start(|call| match call["type"].as_str() {
        Some("event") => (200, json!({"ack": [call["args"][0]], "send": [{"event": "got", "data": call["args"][0]}]})),
        _ => (204, Value::Null),
    })
    .await;
    let flags = ["--hook-url", &application.url, "--hook-timeout", "20"];
    let redis = RedisServer::start().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(start_on(&redis, &flags).await);
    }
    for node in &nodes {
        settled(node).await;
    }
    let balancer = Haproxy::start(&nodes).await;
    let (transports, start) = (nodes[0].transports().await, nodes[0].latest("own").await);
    let (told_failures, repetitions, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let clients = (0..run.clients).map(|index| {
        let transport = &transports[index % transports.len()];
        let name = format!("{}-{index}", transport.name);
        let subscription = Subscription::to(&["own"]).from(&start).with("timeout", "2").with("session", "1");
        let reader = Reader::follow(balancer.http, balancer.tcp, transport, subscription.with("client", &name));
        let (told_failures, repetitions) = (&told_failures, &repetitions);
        let client = Client { name, balancer: &balancer, told_failures, repetitions, run: &run };
        async move { (client.name.clone(), client.run(reader).await) }
    });
    let began = Instant::now();
    let clients = async {
        let got = within(LONG, "all clients", futures_util::future::join_all(clients)).await;
        done.store(true, Ordering::Relaxed);
        got
    };
    let (got, kills) = tokio::join!(clients, kill(&redis, &flags, &mut nodes, &run, &done));
    let expected: Vec<u64> = (0..run.events as u64).collect();
    let calls = application.calls("event");
    let mut of_client: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut ids: HashMap<&str, (&str, u64)> = HashMap::new();
    for call in &calls {
        let event = (call["client"].as_str().expect("a client"), call["args"][0].as_u64().expect("a number"));
        of_client.entry(event.0).or_default().push(event.1);
        assert_eq!(*ids.entry(call["id"].as_str().expect("an id")).or_insert(event), event, "an id is of one event");
    }
    let again = calls.len() - ids.len();
    println!(
        "{} clients, {} events in {:?}, {kills} kills: {} calls of which {again} have an id that came before; \
         {} attempts were repeated, and {} failures told",
        run.clients,
        run.clients * run.events,
        began.elapsed(),
        calls.len(),
        repetitions.load(Ordering::Relaxed),
        told_failures.load(Ordering::Relaxed)
    );
    assert_eq!(ids.len(), run.clients * run.events, "each event has one id, and has reached the application");
    for (name, got) in got {
        let calls = of_client.remove(name.as_str()).unwrap_or_default();
        assert_eq!(first_times(calls), expected, "{name}: the calls");
        assert_eq!(got.acks, expected, "{name}: the answers");
        assert_eq!(first_times(got.events), expected, "{name}: the events of the application");
    }
    assert!(kills >= 3, "{kills} kills");
}
