//! Random histories of servers that separate and join again, compared with a model of the truth.
//!
//! The scripts, the opening of the log with its proof, the checks of the tail and the pages are the real code, on a
//! real Redis. A history is a list of steps. If a history fails, the test prints its seed and its steps, without the
//! steps that the failure does not need.

mod model;
mod world;

use super::Connection;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use world::{SERVERS, Step, World, databases};

/// The number of histories that run at the same time.
const WORKERS: usize = 4;

/// A `redis-server` that this test has started. It is killed when this value is dropped.
pub(crate) struct Server {
    child: Child,
    dir: PathBuf,
}

impl Server {
    pub(crate) async fn start() -> Server {
        let dir = std::env::temp_dir().join(format!("longtail-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--databases", &(WORKERS * SERVERS).to_string(), "--unixsocket"])
            .arg(dir.join("s"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed (apt-get install redis-server)");
        let server = Server { child, dir };
        for _ in 0..1000 {
            if tokio::net::UnixStream::connect(server.dir.join("s")).await.is_ok() {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server listens within 10 s");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.dir.join("s").display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended, and its directory may have been deleted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn steps(seed: u64) -> (usize, Vec<Step>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let kept = if random.u8(..4) == 0 { 6 } else { 1000 };
    let length = random.usize(10..=40);
    let mut number = || random.usize(..1 << 16);
    let step = |_| Step { kind: (number() % 102) as u8, a: number(), b: number(), c: number() };
    (kept, (0..length).map(step).collect())
}

struct Report {
    judged: usize,
    gaps: usize,
    outcome: Result<(), String>,
    trace: Vec<String>,
}

async fn run(url: &str, databases: &[Connection], kept: usize, steps: &[Step]) -> Report {
    let mut world = World::new(url, databases.to_vec(), kept).await;
    let mut outcome = Ok(());
    for step in steps {
        outcome = world.step(*step).await;
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = world.join(steps.len()).await;
    }
    Report { judged: world.judged, gaps: world.gaps, outcome, trace: world.trace }
}

/// The kind of a fault.
fn kind(fault: &str) -> &str {
    fault.split([':', '\n']).next().unwrap_or_default()
}

/// Removes steps for as long as the history still fails in the same way.
async fn shrink(
    url: &str,
    databases: &[Connection],
    kept: usize,
    mut steps: Vec<Step>,
    fault: &str,
) -> (Vec<Step>, Report) {
    let mut report = run(url, databases, kept, &steps).await;
    for _ in 0..3 {
        let before = steps.len();
        for index in (0..steps.len()).rev() {
            let mut fewer = steps.clone();
            fewer.remove(index);
            let tried = run(url, databases, kept, &fewer).await;
            if tried.outcome.as_ref().is_err_and(|it| kind(it) == kind(fault)) {
                (steps, report) = (fewer, tried);
            }
        }
        if steps.len() == before {
            break;
        }
    }
    (steps, report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_the_log_readers_are_told_the_truth() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let count = number("LONGTAIL_HISTORIES").unwrap_or(if std::env::var_os("LONGTAIL_LONG").is_some() {
        10_000
    } else {
        1_000
    });
    let first = number("LONGTAIL_SEED").unwrap_or(0);
    let most = number("LONGTAIL_FAULTS").unwrap_or(1) as usize;
    let server = Server::start().await;
    let next = Arc::new(AtomicU64::new(first));
    let (judged, gaps, faults) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let (url, next, judged, gaps, faults) =
            (server.url(), next.clone(), judged.clone(), gaps.clone(), faults.clone());
        workers.push(tokio::spawn(async move {
            let databases = databases(&url, worker * SERVERS).await;
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count || faults.load(Ordering::Relaxed) >= most {
                    return;
                }
                let (kept, steps) = steps(seed);
                let report = run(&url, &databases, kept, &steps).await;
                judged.fetch_add(report.judged, Ordering::Relaxed);
                gaps.fetch_add(report.gaps, Ordering::Relaxed);
                if let Err(fault) = report.outcome {
                    faults.fetch_add(1, Ordering::Relaxed);
                    let (fewer, shrunk) = shrink(&url, &databases, kept, steps, &fault).await;
                    let (trace, still) = (shrunk.trace.join("\n"), shrunk.outcome.err());
                    let still = still.unwrap_or_else(|| format!("(not again when it was repeated) {fault}"));
                    println!("==== seed {seed}, {} steps, kept {kept}: {still}\n{trace}\n", fewer.len());
                }
            }
        }));
    }
    for worker in workers {
        worker.await.expect("a worker");
    }
    let figure = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    println!(
        "{count} histories from seed {first}: {} cursors judged, {} gaps, {} faults",
        figure(&judged),
        figure(&gaps),
        figure(&faults)
    );
    assert_eq!(figure(&faults), 0, "histories in which a reader was not told the truth (see above)");
}
