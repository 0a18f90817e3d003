//! The check at the end of the demonstration: acks, final counts, REST results and stored votes
//! must tell the same story, vote by vote.
//! Must never be lenient: anything that differs is named and fails the run. Called by `demo`.

use std::collections::HashMap;

use serde::Deserialize;

use super::audience::Outcome;
use super::bars::percent;
use crate::failure::Failure;
use crate::message::Results;
use crate::presenter::Presenter;

/// Everything that must agree.
#[derive(Debug)]
pub(super) struct Evidence {
    poll: u32,
    closed: Results,
    rest: Results,
    stored: Vec<StoredVote>,
    outcomes: Vec<Outcome>,
    failures: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct StoredVote {
    id: String,
    poll: u32,
    participant: String,
    answer: Answer,
    seq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Answer {
    choices: Vec<usize>,
}

#[derive(Deserialize)]
struct Export {
    votes: Vec<StoredVote>,
}

/// One line of the report.
struct Check {
    what: String,
    faults: Vec<String>,
}

impl Evidence {
    /// Reads results and export from the server.
    pub(super) async fn gather(
        presenter: &Presenter,
        poll: u32,
        closed: Results,
        outcomes: Vec<Result<Outcome, Failure>>,
    ) -> Result<Evidence, Failure> {
        let senseless = |error| Failure::told(format!("an answer makes no sense: {error}"));
        let rest = presenter.results(poll).await?;
        let rest = serde_json::from_slice(&rest.body).map_err(senseless)?;
        let export = presenter.export().await?;
        let export: Export = serde_json::from_slice(&export.body).map_err(senseless)?;
        let mut seen = Vec::new();
        let mut failures = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(outcome) => seen.push(outcome),
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        Ok(Evidence { poll, closed, rest, stored: export.votes, outcomes: seen, failures })
    }

    /// Prints the final result and every check; whether all passed.
    pub(super) fn report(&self, options: &[&str]) -> bool {
        println!("Final result, {} votes:", self.closed.votes);
        for (option, count) in options.iter().zip(&self.closed.counts) {
            println!("  {count:>5}  {}  {option}", percent(*count, self.closed.votes));
        }
        println!("\nDo they agree?");
        let mut agreed = true;
        for check in self.checks() {
            let mark = if check.faults.is_empty() { "yes" } else { "NO " };
            println!("  {mark}  {}", check.what);
            for fault in check.faults.iter().take(5) {
                println!("         {fault}");
            }
            agreed &= check.faults.is_empty();
        }
        let verdict = if agreed {
            "Agreement: every acked vote is stored once, as it was cast, and counted once."
        } else {
            "DISAGREEMENT: see the lines that say NO."
        };
        println!("\n{verdict}");
        agreed
    }

    fn checks(&self) -> Vec<Check> {
        vec![
            self.check_acks(),
            self.check_counts(),
            self.check_rest(),
            self.check_everyone(),
            self.check_stored(),
        ]
    }

    fn check_acks(&self) -> Check {
        let mut faults = self.failures.clone();
        for outcome in self.outcomes.iter().filter(|outcome| outcome.acked.is_none()) {
            let code = outcome.refused.as_deref().unwrap_or("no answer");
            faults.push(format!("vote {}: {code}", outcome.vote));
        }
        let acked = self.outcomes.iter().filter(|outcome| outcome.acked.is_some()).count();
        let returns: u32 = self.outcomes.iter().map(|outcome| outcome.returns).sum();
        let mut what = format!("{acked} votes cast, {acked} acks received");
        if returns > 0 {
            what = format!("{what}, {returns} connections lost and resumed on the way");
        }
        Check { what, faults }
    }

    fn check_counts(&self) -> Check {
        let mut counts = vec![0_u64; self.closed.counts.len()];
        let acked = self.outcomes.iter().filter(|outcome| outcome.acked.is_some());
        for outcome in acked.clone() {
            if let Some(count) = counts.get_mut(outcome.choice) {
                *count += 1;
            }
        }
        let mut faults = Vec::new();
        if counts != self.closed.counts || self.closed.votes != acked.count() as u64 {
            let Results { votes, counts: closed, .. } = &self.closed;
            faults.push(format!("acked {counts:?}, closed with {closed:?} of {votes}"));
        }
        Check { what: "the acked votes add up to the counts in poll.closed".to_owned(), faults }
    }

    fn check_rest(&self) -> Check {
        let (rest, closed) = (&self.rest, &self.closed);
        let mut faults = Vec::new();
        if rest != closed {
            faults.push(format!("REST {rest:?}, event {closed:?}"));
        }
        Check { what: "GET results gives the same counts".to_owned(), faults }
    }

    fn check_everyone(&self) -> Check {
        let mut faults = Vec::new();
        for outcome in &self.outcomes {
            if outcome.closed.as_ref() != Some(&self.closed) {
                faults.push(format!("{} saw {:?}", outcome.participant, outcome.closed));
            }
        }
        let what = "every participant saw the same final counts, and no event was missing";
        Check { what: what.to_owned(), faults }
    }

    fn check_stored(&self) -> Check {
        let mut faults = Vec::new();
        let mut stored: HashMap<&str, &StoredVote> = HashMap::new();
        for vote in &self.stored {
            if vote.poll != self.poll {
                faults.push(format!("vote {} is stored for poll {}", vote.id, vote.poll));
            } else if stored.insert(&vote.id, vote).is_some() {
                faults.push(format!("vote {} is stored twice", vote.id));
            }
        }
        for outcome in &self.outcomes {
            let Some(seq) = outcome.acked else { continue };
            match stored.remove(outcome.vote.as_str()) {
                None => faults.push(format!("vote {} was acked and is not stored", outcome.vote)),
                Some(vote) => {
                    let same = vote.answer.choices == [outcome.choice]
                        && vote.participant == outcome.participant
                        && vote.seq == seq;
                    if !same {
                        faults.push(format!("{vote:?} was acked as {outcome:?}"));
                    }
                }
            }
        }
        faults.extend(stored.keys().map(|id| format!("vote {id} is stored and was not acked")));
        let what = format!(
            "the export holds each acked vote once, unaltered, and nothing else ({} votes)",
            self.stored.len()
        );
        Check { what, faults }
    }
}

#[cfg(test)]
mod tests;
