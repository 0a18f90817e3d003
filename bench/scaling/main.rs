//! A month of events against three policies of scaling: how many are refused, and what it costs. Prints a table; with
//! `--write` puts it and a plot of the busiest day into docs/CAPACITY.md, with `--check` fails if they differ.
//!
//!     cargo run --example scaling [-- --write | --check]
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for the command line; its numbers are its own"
)]

mod month;
mod plot;
mod policies;

use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;

use month::Event;
use plenum::cluster::desired::{Announced, EARLY, LATE};
use policies::{CAPACITY, Decider, Kind, START};

const SEED: u64 = 4;
/// Seconds between two looks.
const STEP: f64 = 15.0;
const PAGE: &str = "docs/CAPACITY.md";
const IMAGE: &str = "docs/images/scaling-month.svg";
const BEGIN: &str = "<!-- made by cargo run --example scaling: from here -->\n";
const END: &str = "<!-- to here -->";

/// What a month under one policy came to.
#[derive(Debug)]
struct Outcome {
    kind: Kind,
    refused: u32,
    people: u32,
    longest_wait: f64,
    instance_hours: f64,
    most: u32,
    changes: u32,
    /// Connected and room, at every look.
    course: Vec<(u32, u32)>,
}

fn main() {
    let events = month::make(SEED);
    let outcomes: Vec<Outcome> =
        Kind::ALL.iter().map(|kind| live_through(&events, *kind)).collect();
    let table = table(&events, &outcomes);
    let plot = plot::busiest_day(
        &outcomes.iter().map(|one| (one.kind.name(), one.course.as_slice())).collect::<Vec<_>>(),
        STEP,
    );
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let new = format!("{before}{BEGIN}{table}{END}{after}");
    match std::env::args().nth(1).as_deref() {
        Some("--write") => {
            std::fs::write(PAGE, new).unwrap();
            std::fs::write(IMAGE, plot).unwrap();
        }
        Some("--check") => {
            let same = new == page && std::fs::read_to_string(IMAGE).unwrap() == plot;
            assert!(same, "{PAGE} or {IMAGE} is old: cargo run --example scaling -- --write");
        }
        _ => println!("{table}"),
    }
}

/// Whoever finds no room is refused, tries again at every look, and gives up when the session is over.
fn live_through(events: &[Event], kind: Kind) -> Outcome {
    let mut people: Vec<(f64, f64)> =
        events.iter().flat_map(|event| event.people.clone()).collect();
    people.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut next, mut waiting) = (0, VecDeque::<(f64, f64)>::new());
    let mut connected: BinaryHeap<std::cmp::Reverse<u64>> = BinaryHeap::new();
    let (mut ready, mut coming) = (1_u32, Vec::<f64>::new());
    let mut decider = Decider::default();
    let mut outcome = Outcome {
        kind,
        refused: 0,
        people: people.len() as u32,
        longest_wait: 0.0,
        instance_hours: 0.0,
        most: 1,
        changes: 0,
        course: Vec::new(),
    };
    let looks = (month::DAYS as f64 * 24.0 * 3600.0 / STEP) as u64;
    for now in (0..looks).map(|look| look as f64 * STEP) {
        coming.retain(|at| {
            let up = *at <= now;
            ready += u32::from(up);
            !up
        });
        while connected.peek().is_some_and(|leaves| leaves.0 as f64 <= now) {
            connected.pop();
        }
        waiting.retain(|(_, leaves)| *leaves > now);
        let room = (ready * CAPACITY) as usize;
        while connected.len() < room
            && let Some((came, leaves)) = waiting.pop_front()
        {
            outcome.longest_wait = outcome.longest_wait.max(now - came);
            connected.push(std::cmp::Reverse(leaves as u64));
        }
        while let Some((_, leaves)) = people.get(next).filter(|(arrives, _)| *arrives <= now) {
            if connected.len() < room {
                connected.push(std::cmp::Reverse(*leaves as u64));
            } else {
                outcome.refused += 1;
                waiting.push_back((now, *leaves));
            }
            next += 1;
        }
        let announced = announced(events, now);
        let run = ready + coming.len() as u32;
        let desired = decider.decide(kind, now, (connected.len() as u32, run), &announced);
        outcome.changes += u32::from(desired != run);
        // A person's ten minutes are in the decision; the instance itself is up at once.
        let start = if kind == Kind::Manual { 0.0 } else { START as f64 };
        (run..desired).for_each(|_| coming.push(now + start));
        if desired < run {
            ready = ready.min(desired.max(1));
            coming.truncate((desired - ready) as usize);
        }
        outcome.most = outcome.most.max(ready);
        outcome.instance_hours += f64::from(run) * STEP / 3600.0;
        outcome.course.push((connected.len() as u32, ready * CAPACITY));
    }
    outcome
}

/// As the server sees them: within reach of the forecast, with those who have come.
fn announced(events: &[Event], now: f64) -> Vec<Announced> {
    let ahead = START as f64 + EARLY.as_secs_f64();
    events
        .iter()
        .filter(|event| {
            event.announced
                && event.starts - now <= ahead
                && now - event.starts <= LATE.as_secs_f64()
        })
        .map(|event| Announced {
            starts_in: event.starts - now,
            expected: event.expected,
            present: event
                .people
                .iter()
                .filter(|(arrives, leaves)| (*arrives..*leaves).contains(&now))
                .count() as u32,
        })
        .collect()
}

fn table(events: &[Event], outcomes: &[Outcome]) -> String {
    let people: usize = events.iter().map(|event| event.people.len()).sum();
    let peak = outcomes.iter().flat_map(|one| &one.course).map(|(connected, _)| *connected).max();
    let mut text = format!(
        "{} sessions in {} days, {people} participants, at most {} at a time; seed {SEED}, a look every {STEP} s.\n\n",
        events.len(),
        month::DAYS,
        peak.unwrap_or(0)
    );
    text.push_str("| policy | refused at first | share | longest wait | instance-hours | most instances | changes |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    for one in outcomes {
        let share = 100.0 * f64::from(one.refused) / f64::from(one.people);
        let _ = writeln!(
            text,
            "| {} | {} | {share:.2} % | {:.0} s | {:.0} | {} | {} |",
            one.kind.name(),
            one.refused,
            one.longest_wait,
            one.instance_hours,
            one.most,
            one.changes
        );
    }
    text
}
