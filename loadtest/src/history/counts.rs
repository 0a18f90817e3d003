//! The log against the votes: no hole, every count a recount, nothing after a close. Walks both once, side by side.
//! Must never take a number from the server's own tallies. Called by `check` alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fault::{Fault, Rule};
use super::{Answer, Logged, Stored, number};

/// One poll while the log is walked.
#[derive(Debug, Default)]
struct Poll {
    open: bool,
    votes: u64,
    counts: Vec<u64>,
}

pub(super) fn check(stored: &[&Stored], log: &[&Logged], faults: &mut Vec<Fault>) {
    let mut votes = stored.to_vec();
    votes.sort_by_key(|vote| vote.seq);
    let mut votes = votes.into_iter().peekable();
    let mut polls: BTreeMap<u32, Poll> = BTreeMap::new();
    for (event, seq) in log.iter().zip(1..) {
        if event.seq != seq {
            let what = format!("event {} stands where {seq} should", event.seq);
            return faults.push(Fault::new(Rule::LogIsGapless, what));
        }
        while let Some(vote) = votes.next_if(|vote| vote.seq <= event.seq) {
            count(vote, event, &mut polls, faults);
        }
        match event.kind.as_str() {
            "poll.opened" => open(&event.data, &mut polls),
            "poll.closed" => {
                let n = number(&event.data["poll"]["n"]);
                let poll = polls.entry(n).or_default();
                poll.open = false;
                compare(event, &event.data["results"], n, poll, faults);
            }
            "poll.results" => {
                let n = number(&event.data["poll"]);
                compare(event, &event.data, n, polls.entry(n).or_default(), faults);
            }
            _ => {}
        }
    }
    for vote in votes {
        let what =
            format!("{} is counted by {}, which the log does not hold", vote.cast.id, vote.seq);
        faults.push(Fault::new(Rule::CountsAreExact, what));
    }
}

fn open(poll: &Value, polls: &mut BTreeMap<u32, Poll>) {
    let opened = polls.entry(number(&poll["n"])).or_default();
    opened.open = true;
    let size = match poll["options"].as_array() {
        Some(options) => options.len(),
        None => number(&poll["max"]) as usize,
    };
    opened.counts.resize(size, 0);
}

/// Counts a vote at the event that names it, which must be results of its own poll while that is open.
fn count(vote: &Stored, event: &Logged, polls: &mut BTreeMap<u32, Poll>, faults: &mut Vec<Fault>) {
    let (id, n) = (vote.cast.id, vote.cast.poll);
    let poll = polls.entry(n).or_default();
    if !poll.open {
        let what = format!("{id} is counted by {} in poll {n}, which is not open then", vote.seq);
        faults.push(Fault::new(Rule::CloseIsFinal, what));
    }
    let named = event.kind == "poll.results" && number(&event.data["poll"]) == n;
    if vote.seq != event.seq || !named {
        let what = format!("{id} names event {}, which counts no vote of poll {n}", vote.seq);
        faults.push(Fault::new(Rule::CountsAreExact, what));
    }
    poll.votes += 1;
    let chosen = match &vote.cast.answer {
        Answer::Choices(options) => options.clone(),
        Answer::Rating(step) => vec![step.wrapping_sub(1)],
    };
    let opened = !poll.counts.is_empty(); // where not, it was said above
    for option in chosen {
        match poll.counts.get_mut(option) {
            Some(count) => *count += 1,
            None if !opened => {}
            None => {
                let what = format!("{id} chose option {option}, which poll {n} does not have");
                faults.push(Fault::new(Rule::StoredAsCast, what));
            }
        }
    }
}

fn compare(event: &Logged, results: &Value, n: u32, poll: &Poll, faults: &mut Vec<Fault>) {
    let expected = serde_json::json!({
        "poll": n, "seq": event.seq, "votes": poll.votes, "counts": poll.counts
    });
    if *results != expected {
        let what = format!("event {}: {results}, recounted {expected}", event.seq);
        faults.push(Fault::new(Rule::CountsAreExact, what));
    }
}
