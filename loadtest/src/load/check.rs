//! The check at the end: acks, events, counts and stored votes must tell one story, vote by vote.
//! Must never be lenient: anything that differs is named and fails the scenario. Called by the kinds.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use uuid::Uuid;

use super::sheet::Sheet;
use super::voter::{Acked, Story};
use crate::failure::Failure;
use crate::message::Results;
use crate::presenter::Presenter;

/// Every stored vote.
#[derive(Debug, Deserialize)]
pub(super) struct Export {
    votes: Vec<StoredVote>,
}

#[derive(Debug, Deserialize)]
struct StoredVote {
    id: Uuid,
    poll: u32,
    participant: String,
    answer: Answer,
    seq: u64,
}

#[derive(Debug, Deserialize)]
struct Answer {
    choices: Vec<u8>,
}

/// Whether connections may be lost in a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Losses {
    Expected,
    None,
}

/// Holds all stories against the export, once the polls are closed and everybody has seen it.
pub(super) async fn verify(
    sheet: &mut Sheet,
    presenter: &Presenter,
    stories: &BTreeMap<String, Story>,
    due: u64,
    losses: Losses,
) -> Result<(), Failure> {
    let export = verify_votes(sheet, presenter, stories, due, losses).await?;
    saw_the_end(sheet, &export, stories);
    resumed(sheet, stories);
    Ok(())
}

/// Of those who stayed until the polls were closed.
pub(super) fn saw_the_end<'a>(
    sheet: &mut Sheet,
    export: &Export,
    stories: impl IntoIterator<Item = (&'a String, &'a Story)>,
) {
    sheet.check(
        "everybody saw the same final counts, those of the stored votes",
        counts(export, stories),
    );
}

/// Nobody got the state instead of what they missed.
pub(super) fn resumed(sheet: &mut Sheet, stories: &BTreeMap<String, Story>) {
    let again = stories.values().filter(|one| one.not_resumed > 0);
    let again: Vec<String> =
        again.map(|one| format!("{} got the state", one.participant)).collect();
    sheet.check("whoever came back was given every missed event", again);
}

/// As `verify`, where nobody stayed to see the end.
pub(super) async fn verify_votes(
    sheet: &mut Sheet,
    presenter: &Presenter,
    stories: &BTreeMap<String, Story>,
    due: u64,
    losses: Losses,
) -> Result<Export, Failure> {
    let export = presenter.export().await?;
    let export: Export = serde_json::from_slice(&export.body)
        .map_err(|error| Failure::told(format!("an export that makes no sense: {error}")))?;
    let acked: u64 = stories.values().map(|one| one.acked.len() as u64).sum();
    let mut faults = Vec::new();
    if acked != due {
        faults.push(format!("{due} votes were due, {acked} were acked"));
    }
    for (participant, story) in stories {
        faults.extend(story.refused.iter().map(|(code, n)| format!("{participant}: {n} {code}")));
    }
    sheet.check("every vote that was due was acked, none refused", faults);
    sheet.check(
        "every acked vote is stored once, unchanged, and nothing else is",
        stored(&export, stories),
    );
    let broken = stories.values().filter(|one| one.fault_count > 0);
    let broken: Vec<String> = broken
        .map(|one| {
            format!("{}: {} faults, first {:?}", one.participant, one.fault_count, one.faults)
        })
        .collect();
    sheet
        .check("no event missing, doubled or out of order; counts add up and never shrink", broken);
    if losses == Losses::None {
        let lost = stories.values().filter(|one| !one.lost.is_empty());
        let lost: Vec<String> =
            lost.map(|one| format!("{}: closed with {:?}", one.participant, one.lost)).collect();
        sheet.check("no connection was lost", lost);
    }
    Ok(export)
}

fn stored(export: &Export, stories: &BTreeMap<String, Story>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut acked: HashMap<Uuid, (&str, &Acked)> = HashMap::new();
    for (participant, story) in stories {
        acked.extend(story.acked.iter().map(|one| (one.id, (participant.as_str(), one))));
    }
    for vote in &export.votes {
        let Some((participant, one)) = acked.remove(&vote.id) else {
            faults.push(format!("{} is stored and was not acked, or is stored twice", vote.id));
            continue;
        };
        let same = vote.participant == participant
            && (vote.poll, vote.seq) == (one.poll, one.seq)
            && vote.answer.choices == [one.choice];
        if !same {
            faults.push(format!("{vote:?} was acked as {one:?}"));
        }
    }
    faults.extend(acked.keys().map(|id| format!("{id} was acked and is not stored")));
    faults
}

fn counts<'a>(
    export: &Export,
    stories: impl IntoIterator<Item = (&'a String, &'a Story)>,
) -> Vec<String> {
    let mut truth: BTreeMap<u32, BTreeMap<u8, u64>> = BTreeMap::new();
    for vote in &export.votes {
        for choice in &vote.answer.choices {
            *truth.entry(vote.poll).or_default().entry(*choice).or_default() += 1;
        }
    }
    let fits = |results: &Results| {
        let truth = truth.get(&results.poll);
        (0_u8..).zip(&results.counts).all(|(choice, count)| {
            truth.and_then(|one| one.get(&choice)).copied().unwrap_or(0) == *count
        })
    };
    let mut faults = Vec::new();
    for (participant, story) in stories {
        let missing = truth.keys().find(|poll| !story.results.contains_key(poll));
        faults.extend(missing.map(|poll| format!("{participant} saw no results of poll {poll}")));
        let wrong = story.results.values().find(|results| !fits(results));
        faults.extend(wrong.map(|results| format!("{participant} saw {results:?} in the end")));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> (Export, BTreeMap<String, Story>) {
        let id = Uuid::from_u128(7);
        let vote = StoredVote {
            id,
            poll: 1,
            participant: "ann".to_owned(),
            answer: Answer { choices: vec![2] },
            seq: 9,
        };
        let results = Results { poll: 1, seq: 10, votes: 1, counts: vec![0, 0, 1, 0] };
        let story = Story {
            participant: "ann".to_owned(),
            acked: vec![Acked { id, poll: 1, choice: 2, seq: 9 }],
            results: BTreeMap::from([(1, results)]),
            ..Story::default()
        };
        (Export { votes: vec![vote] }, BTreeMap::from([("ann".to_owned(), story)]))
    }

    #[test]
    fn what_agrees_has_no_faults() {
        let (export, stories) = evidence();
        assert!(stored(&export, &stories).is_empty() && counts(&export, &stories).is_empty());
    }

    #[test]
    fn a_vote_lost_altered_or_doubled_is_found() {
        let (mut export, stories) = evidence();
        export.votes[0].answer.choices = vec![1];
        assert_eq!(stored(&export, &stories).len(), 1);
        assert_eq!(counts(&export, &stories).len(), 1);
        let (mut export, stories) = evidence();
        export.votes.clear();
        assert!(stored(&export, &stories)[0].contains("is not stored"));
        let (mut export, stories) = evidence();
        let twin = evidence().0.votes.remove(0);
        export.votes.push(twin);
        assert!(stored(&export, &stories)[0].contains("twice"));
        let (export, mut stories) = evidence();
        stories.get_mut("ann").unwrap().results.clear();
        assert!(counts(&export, &stories)[0].contains("saw no results"));
    }
}
