//! The checkpoint file, and the summary at the end.

use super::faults::{Plan, Topology};
use super::judge::{Figures, Kind, Violation};
use super::world::Outcomes;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How many violations of a round are written in full. The others get only their first line.
const IN_FULL: usize = 2;
const IN_SHORT: usize = 20;

pub struct Report {
    seed: u64,
    file: PathBuf,
    began: Instant,
    /// The faults so far, for the report of a failure.
    pub story: Vec<String>,
    counts: BTreeMap<Kind, usize>,
    /// The longest recovery, by the fault's name.
    worst: BTreeMap<String, Duration>,
    rounds: usize,
    sent: usize,
    pub failures: usize,
    figures: Figures,
}

impl Report {
    pub fn new(seed: u64, file: PathBuf) -> Report {
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).expect("a directory for the checkpoint");
        }
        std::fs::write(&file, "").expect("the checkpoint file");
        Report {
            seed,
            file,
            began: Instant::now(),
            story: Vec::new(),
            counts: BTreeMap::new(),
            worst: BTreeMap::new(),
            rounds: 0,
            sent: 0,
            failures: 0,
            figures: Figures::default(),
        }
    }

    pub fn line(&self, mut line: serde_json::Value) {
        line["t"] = json!(self.began.elapsed().as_secs());
        line["seed"] = json!(self.seed.to_string());
        let mut file = std::fs::OpenOptions::new().append(true).open(&self.file).expect("the checkpoint file");
        writeln!(file, "{line}").expect("written");
    }

    pub fn round(&mut self, place: (usize, Topology, usize), plan: &Plan, outcomes: &Outcomes) {
        let (phase, topology, round) = place;
        let (elapsed, seconds) = (self.began.elapsed().as_secs(), outcomes.recovered.as_secs_f64());
        let faults: Vec<String> = plan.redis.iter().chain(&plan.nodes).map(|(_, fault)| format!("{fault:?}")).collect();
        let verdict = if outcomes.violations.is_empty() { "ok" } else { "FAILED" };
        let told =
            format!("{elapsed:4} s  {phase}.{round} {topology:?} {verdict} {seconds:.1} s  {}", faults.join(" + "));
        println!("{told}");
        self.story.push(told);
        self.rounds += 1;
        self.sent += outcomes.sent;
        for fault in &faults {
            let name = fault.split(' ').next().unwrap_or_default().to_owned();
            let worst = self.worst.entry(name).or_default();
            *worst = outcomes.recovered.max(*worst);
        }
        for Violation { kind, .. } in &outcomes.violations {
            *self.counts.entry(*kind).or_default() += 1;
        }
        self.failures += usize::from(!outcomes.violations.is_empty());
        let words: Vec<String> = outcomes.violations.iter().enumerate().take(IN_SHORT).map(in_words).collect();
        words.iter().for_each(|words| println!("    {words}"));
        if outcomes.violations.len() > IN_SHORT {
            println!("    and {} more", outcomes.violations.len() - IN_SHORT);
        }
        self.line(json!({
            "phase": phase, "topology": format!("{topology:?}"), "round": round, "faults": faults, "verdict": verdict,
            "recovered_s": seconds, "published_s": outcomes.published.as_secs_f64(), "slowest": outcomes.slowest,
            "entries": outcomes.entries, "sent": self.sent, "violations": words, "counts": self.words(),
            "worst_s": self.worst_s(),
        }));
    }

    /// Adds the figures of a phase that is over.
    pub fn add(&mut self, figures: Figures) {
        self.figures.gaps += figures.gaps;
        self.figures.needless += figures.needless;
        self.figures.skipped += figures.skipped;
        self.figures.read_again += figures.read_again;
        self.figures.unheard += figures.unheard;
    }

    fn words(&self) -> String {
        let count = |kind| self.counts.get(&kind).copied().unwrap_or_default();
        format!(
            "{} lost, {} doubled, {} unannounced, {} stuck, {} out of order, {} ghosts, {} other",
            count(Kind::Lost),
            count(Kind::Doubled),
            count(Kind::Unannounced),
            count(Kind::Stuck),
            count(Kind::Disorder),
            count(Kind::Ghost),
            count(Kind::Other)
        )
    }

    fn worst_s(&self) -> BTreeMap<&str, f64> {
        self.worst.iter().map(|(name, worst)| (name.as_str(), worst.as_secs_f64())).collect()
    }

    /// The last line, which is the verdict.
    pub fn end(&self) -> String {
        let worst = self.worst.values().max().copied().unwrap_or_default();
        let figures = self.figures;
        let told = format!(
            "seed {}: {} rounds in {} s, {} messages: {}; worst recovery {:.1} s. Gaps told: {} ({} needless, {} entries skipped, {} read again); PUBLISHes forgiven: {}",
            self.seed,
            self.rounds,
            self.began.elapsed().as_secs(),
            self.sent,
            self.words(),
            worst.as_secs_f64(),
            figures.gaps,
            figures.needless,
            figures.skipped,
            figures.read_again,
            figures.unheard
        );
        self.line(json!({"end": if self.failures == 0 { "passed" } else { "FAILED" }, "verdict": told, "worst_s": self.worst_s()}));
        for (name, worst) in &self.worst {
            println!("{:5.1} s  {name}", worst.as_secs_f64());
        }
        println!("{told}");
        told
    }
}

fn in_words((index, violation): (usize, &Violation)) -> String {
    let words = &violation.words;
    let words = if index < IN_FULL { words } else { words.lines().next().unwrap_or_default() };
    format!("{:?}: {words}", violation.kind)
}
