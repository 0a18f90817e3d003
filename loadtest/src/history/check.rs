//! The check: reads a history once, then asks rule by rule. Everything here is linear in the history, sorting aside, so a
//! million votes take seconds. Must never be lenient: what it cannot explain is a fault.
//! Called by the integration tests and the fault runs.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::fault::{Fault, Rule};
use super::views::{View, check_views};
use super::{Cast, Line, Logged, Stored, counts};

/// Codes after which the same vote may be tried again; every other one is final (protocol 7, Verdicts).
const TRY_AGAIN: [&str; 4] = ["overloaded", "draining", "database_unavailable", "rate_limited"];
/// The one of them that leaves open whether the vote is stored.
const LEFT_OPEN: &str = "database_unavailable";

/// The history, sorted by what the rules ask for.
#[derive(Debug, Default)]
pub(super) struct Evidence<'a> {
    votes: HashMap<Uuid, Vote<'a>>,
    pub(super) stored: Vec<&'a Stored>,
    pub(super) log: Vec<&'a Logged>,
    pub(super) views: HashMap<u32, View<'a>>,
    faults: Vec<Fault>,
}

/// What one voter knows of one vote.
#[derive(Debug)]
struct Vote<'a> {
    cast: &'a Cast,
    acked: Option<u64>,
    refused: Option<&'a str>,
    tries: u32,
    /// Tries whose answer says whether that try stored the vote; the others stay open for ever.
    settled: u32,
}

/// Every broken rule of a history, in the order of the rules.
#[must_use]
pub fn check(history: &[Line]) -> Vec<Fault> {
    let mut evidence = Evidence::gather(history);
    evidence.check_votes();
    evidence.check_places();
    counts::check(&evidence.stored, &evidence.log, &mut evidence.faults);
    check_views(&evidence.views, &evidence.log, &mut evidence.faults);
    evidence.faults.sort_by(|a, b| (a.rule, &a.what).cmp(&(b.rule, &b.what)));
    evidence.faults
}

impl<'a> Evidence<'a> {
    fn gather(history: &'a [Line]) -> Self {
        let mut evidence = Evidence::default();
        for line in history {
            match line {
                Line::Invoke(cast) => evidence.invoke(cast),
                Line::Ok { id, seq } => evidence.acked(*id, *seq),
                Line::Refused { id, code } => evidence.refused(*id, code),
                // The try stays open, as it is from the start.
                Line::Unknown { .. } => {}
                Line::Stored(stored) => evidence.stored.push(stored),
                Line::Logged(logged) => evidence.log.push(logged),
                Line::Welcome { client, .. }
                | Line::Seen { client, .. }
                | Line::Final { client, .. } => {
                    evidence.views.entry(*client).or_default().push(line);
                }
            }
        }
        evidence
    }

    fn fault(&mut self, rule: Rule, what: String) {
        self.faults.push(Fault::new(rule, what));
    }

    fn invoke(&mut self, cast: &'a Cast) {
        let new = Vote { cast, acked: None, refused: None, tries: 0, settled: 0 };
        let vote = self.votes.entry(cast.id).or_insert(new);
        vote.tries += 1;
        if vote.cast != cast {
            let what = format!("the history contradicts itself about {cast:?}");
            self.fault(Rule::StoredAsCast, what);
        }
    }

    fn acked(&mut self, id: Uuid, seq: u64) {
        let Some(vote) = self.votes.get_mut(&id) else {
            return self.fault(Rule::AckedIsStored, format!("{id} was acked and never cast"));
        };
        vote.settled += 1;
        let before = vote.acked.replace(seq);
        if before.is_some_and(|before| before != seq) {
            let what = format!("{id} was acked with {before:?} and then with {seq}");
            self.fault(Rule::AckNamesItsEvent, what);
        }
    }

    fn refused(&mut self, id: Uuid, code: &'a str) {
        let Some(vote) = self.votes.get_mut(&id) else {
            return self
                .fault(Rule::RefusedIsNotStored, format!("{id} was refused and never cast"));
        };
        if !TRY_AGAIN.contains(&code) {
            vote.refused = Some(code);
        }
        if code != LEFT_OPEN {
            vote.settled += 1;
        }
    }

    /// What each voter knows of each vote, against what is stored.
    fn check_votes(&mut self) {
        let mut faults = Vec::new();
        let mut stored_ids = HashSet::with_capacity(self.stored.len());
        for stored in &self.stored {
            let id = stored.cast.id;
            if !stored_ids.insert(id) {
                faults.push(Fault::new(Rule::OneVote, format!("{id} is stored twice")));
            }
            let Some(vote) = self.votes.get(&id) else {
                faults.push(Fault::new(Rule::StoredWasCast, format!("{stored:?}")));
                continue;
            };
            if *vote.cast != stored.cast {
                let what = format!("cast {:?}, stored {:?}", vote.cast, stored.cast);
                faults.push(Fault::new(Rule::StoredAsCast, what));
            }
            if let Some(code) = vote.refused {
                let what = format!("{id} was refused with {code}");
                faults.push(Fault::new(Rule::RefusedIsNotStored, what));
            }
            if vote.acked.is_none() && vote.refused.is_none() && vote.settled == vote.tries {
                let what = format!("{id} was put off each time, which says that it is not stored");
                faults.push(Fault::new(Rule::RefusedIsNotStored, what));
            }
            if vote.acked.is_some_and(|acked| acked != stored.seq) {
                let what = format!("{id}: ack {:?}, counted by {}", vote.acked, stored.seq);
                faults.push(Fault::new(Rule::AckNamesItsEvent, what));
            }
        }
        for (id, vote) in &self.votes {
            if vote.acked.is_some() && !stored_ids.contains(id) {
                faults.push(Fault::new(Rule::AckedIsStored, format!("{:?}", vote.cast)));
            }
            if vote.acked.is_some() && vote.refused.is_some() {
                let what = format!("{id} was acked and refused with {:?}", vote.refused);
                faults.push(Fault::new(Rule::RefusedIsNotStored, what));
            }
        }
        self.faults.append(&mut faults);
    }

    /// One vote per participant and poll, whatever its id.
    fn check_places(&mut self) {
        let mut places = HashSet::with_capacity(self.stored.len());
        let twice: Vec<String> = self
            .stored
            .iter()
            .filter(|stored| !places.insert((stored.cast.poll, stored.cast.participant)))
            .map(|stored| {
                format!("{} voted twice in poll {}", stored.cast.participant, stored.cast.poll)
            })
            .collect();
        for what in twice {
            self.fault(Rule::OneVote, what);
        }
    }
}

#[cfg(test)]
mod tests;
