//! The table of a fault run: one line per fault, with what it did to clients and what the checker found in its rounds.
//! Must never leave out a fault that was injected. Called by `mod.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use plenum_loadtest::history::Rule;

use super::faults::Fault;
use super::record::Outage;

#[derive(Debug)]
pub(super) struct Report {
    seed: u64,
    skipped: Vec<String>,
    rows: BTreeMap<Fault, Row>,
    votes: usize,
    rounds: usize,
    violations: Vec<String>,
}

#[derive(Debug, Default)]
struct Row {
    times: usize,
    in_flight: usize,
    longest: Duration,
    lost: usize,
    doubled: usize,
    altered: usize,
}

impl Report {
    pub(super) fn new(seed: u64, skipped: Vec<String>) -> Report {
        Report { seed, skipped, rows: BTreeMap::new(), votes: 0, rounds: 0, violations: Vec::new() }
    }

    pub(super) fn add(&mut self, fault: Fault, outage: Outage) {
        let row = self.rows.entry(fault).or_default();
        row.in_flight += outage.in_flight;
        row.longest = row.longest.max(outage.longest);
    }

    /// A round is over: what it held, and what was found broken, which is laid at the door of each of its faults.
    pub(super) fn round(&mut self, faults: &[Fault], votes: usize, found: Vec<(Rule, String)>) {
        self.rounds += 1;
        self.votes += votes;
        let count = |rules: &[Rule]| found.iter().filter(|(rule, _)| rules.contains(rule)).count();
        for fault in faults {
            self.rows.entry(*fault).or_default().times += 1;
        }
        let mut distinct = faults.to_vec();
        distinct.sort();
        distinct.dedup();
        for fault in distinct {
            let row = self.rows.entry(fault).or_default();
            row.lost += count(&[Rule::AckedIsStored]);
            row.doubled += count(&[Rule::OneVote]);
            row.altered += count(&[Rule::StoredAsCast, Rule::StoredWasCast]);
        }
        eprintln!("round {}: {votes} votes, {} violations, {faults:?}", self.rounds, found.len());
        self.violations.extend(found.into_iter().map(|(_, what)| what).take(20));
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }

    pub(super) fn print(&self) {
        let Report { seed, votes, rounds, .. } = self;
        eprintln!(
            "\nseed {seed}: {votes} votes in {rounds} rounds, {} violations",
            self.violations.len()
        );
        eprintln!(
            "| fault | times | votes in flight | lost | duplicated | altered | longest outage |"
        );
        eprintln!("| --- | --: | --: | --: | --: | --: | --: |");
        for (fault, row) in &self.rows {
            eprintln!(
                "| {} | {} | {} | {} | {} | {} | {:.1} s |",
                fault.words(),
                row.times,
                row.in_flight,
                row.lost,
                row.doubled,
                row.altered,
                row.longest.as_secs_f64()
            );
        }
        for reason in &self.skipped {
            eprintln!("skipped: {reason}");
        }
    }
}
