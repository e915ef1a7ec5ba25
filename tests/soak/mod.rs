//! A soak: three nodes, all ways to publish, readers that stay, hop and lag, a random fault every few seconds, and
//! a judge that knows nothing of the server. No message is lost without a gap, doubled or stuck.
//!
//! `tests/soak/run` runs it; every random decision comes from one seed, which is printed and kept in the checkpoint.

mod edits;
mod faults;
mod history;
mod judge;
#[cfg(test)]
mod judge_tests;
mod node_side;
mod publishers;
mod readers;
mod redis_side;
mod report;
mod track;
mod world;

use faults::{Deck, Topology};
use report::Report;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use world::World;

/// The topologies, which are used in turn, each for a phase.
const TOPOLOGIES: [Topology; 6] =
    [Topology::Single, Topology::Pair, Topology::Sentinels, Topology::Short, Topology::Single, Topology::Pair];

/// The minimum time of a phase, so that a short run has few phases.
const PHASE: Duration = Duration::from_secs(25);

struct Settings {
    seconds: u64,
    seed: u64,
    checkpoint: PathBuf,
    /// The run ends after this number of failed rounds. After each, the run continues in a fresh world.
    failures: usize,
    /// The only topology to use, if it is set.
    only: Option<String>,
}

/// Reads the settings from the environment, as `tests/soak/run` sets it.
fn settings() -> Settings {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let number = |name: &str| variable(name).map(|value| value.parse::<u64>().expect("a number"));
    let checkpoint = variable("SOAK_CHECKPOINT").map(PathBuf::from);
    Settings {
        seconds: number("SOAK_SECONDS").unwrap_or(1800),
        seed: number("SOAK_SEED").unwrap_or_else(|| fastrand::u64(1..1 << 48)),
        checkpoint: checkpoint.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak/checkpoint.jsonl")),
        failures: number("SOAK_FAILURES").unwrap_or(1) as usize,
        only: variable("SOAK_ONLY"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half an hour: tests/soak/run runs it"]
async fn nothing_is_lost_doubled_unannounced_or_stuck() {
    let settings = settings();
    println!("seed {}, {} s, checkpoint {}", settings.seed, settings.seconds, settings.checkpoint.display());
    let mut report = Report::new(settings.seed, settings.checkpoint.clone());
    report.line(json!({"begin": settings.seconds}));
    let (began, all) = (Instant::now(), Duration::from_secs(settings.seconds));
    let length = (all / TOPOLOGIES.len() as u32).max(PHASE);
    let mut topologies = TOPOLOGIES.into_iter().cycle().enumerate();
    let is_wanted = |topology: Topology| {
        settings.only.as_ref().is_none_or(|only| format!("{topology:?}").eq_ignore_ascii_case(only))
    };
    while began.elapsed() < all && report.failures < settings.failures {
        let Some((phase, topology)) = topologies.find(|(_, topology)| is_wanted(*topology)) else { break };
        let until = (Instant::now() + length).min(began + all);
        run_phase(phase, topology, until, &settings, &mut report).await;
    }
    let verdict = report.end();
    assert!(report.failures == 0, "{verdict}\nall faults:\n{}", report.story.join("\n"));
}

/// Rounds over one topology. Random decisions depend only on the seed and on the numbers of the phase and the world.
async fn run_phase(phase: usize, topology: Topology, until: Instant, settings: &Settings, report: &mut Report) {
    let mut deck = Deck::of(topology, fastrand::Rng::with_seed(settings.seed.wrapping_add(phase as u64 * 1_000_003)));
    let mut rng = fastrand::Rng::with_seed(settings.seed.wrapping_mul(31).wrapping_add(phase as u64));
    let mut round = 0;
    while Instant::now() < until && report.failures < settings.failures {
        let mut world = World::start(topology, rng.fork()).await;
        let mut is_whole = true;
        // Something is published before the first fault.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        while is_whole && Instant::now() < until {
            let plan = deck.plan();
            let outcomes = world.round(&plan).await;
            is_whole = outcomes.violations.is_empty();
            report.round((phase, topology, round), &plan, &outcomes);
            round += 1;
        }
        if is_whole {
            let outcomes = world.finish().await;
            is_whole = outcomes.violations.is_empty();
            report.round((phase, topology, round), &faults::Plan::default(), &outcomes);
        }
        report.add(world.judge.figures);
        if !is_whole {
            keep_logs(&world, settings, report.failures);
        }
    }
}

/// Writes what the nodes have logged into files beside the checkpoint.
fn keep_logs(world: &World, settings: &Settings, failure: usize) {
    for node in 0..3 {
        let file = settings.checkpoint.with_extension(format!("failure-{failure}.node-{node}.log"));
        std::fs::write(&file, world.nodes.log(node)).ok();
        println!("    the log of node {node} is {}", file.display());
    }
}
