//! The verdict against evidence that was tampered with: each kind of disagreement must be found.

use super::*;

fn results(counts: [u64; 2]) -> Results {
    Results { poll: 1, seq: 9, votes: counts.iter().sum(), counts: counts.to_vec() }
}

fn outcome(vote: &str, choice: usize) -> Outcome {
    Outcome {
        participant: format!("of {vote}"),
        vote: vote.to_owned(),
        choice,
        acked: Some(5),
        refused: None,
        closed: Some(results([1, 2])),
        returns: 0,
    }
}

fn stored(vote: &str, choice: usize) -> StoredVote {
    StoredVote {
        id: vote.to_owned(),
        poll: 1,
        participant: format!("of {vote}"),
        answer: Answer { choices: vec![choice] },
        seq: 5,
    }
}

fn sound() -> Evidence {
    Evidence {
        poll: 1,
        closed: results([1, 2]),
        rest: results([1, 2]),
        stored: vec![stored("a", 0), stored("b", 1), stored("c", 1)],
        outcomes: vec![outcome("a", 0), outcome("b", 1), outcome("c", 1)],
        failures: Vec::new(),
    }
}

/// Which checks, by their place in the report, find a fault after `tamper`.
fn check(expected: &[usize], tamper: impl FnOnce(&mut Evidence)) {
    let mut evidence = sound();
    tamper(&mut evidence);
    let checks = evidence.checks();
    let faulty = checks.iter().enumerate().filter(|(_, check)| !check.faults.is_empty());
    assert_eq!(faulty.map(|(at, _)| at).collect::<Vec<_>>(), expected);
}

#[test]
fn sound_evidence_agrees() {
    check(&[], |_| {});
}

#[test]
fn an_acked_vote_that_is_not_stored_is_found() {
    check(&[4], |evidence| {
        evidence.stored.pop();
    });
}

#[test]
fn a_vote_stored_twice_altered_or_never_acked_is_found() {
    check(&[4], |evidence| evidence.stored.push(stored("a", 0)));
    check(&[4], |evidence| evidence.stored.push(stored("d", 0)));
    check(&[4], |evidence| evidence.stored[0].answer.choices = vec![1]);
    check(&[4], |evidence| evidence.stored[0].participant.push('x'));
    check(&[4], |evidence| evidence.stored[0].poll = 2);
    check(&[4], |evidence| evidence.stored[0].seq = 6);
}

#[test]
fn counts_that_differ_anywhere_are_found() {
    check(&[1, 2, 3], |evidence| evidence.closed = results([2, 1]));
    check(&[2], |evidence| evidence.rest = results([1, 3]));
    check(&[3], |evidence| evidence.outcomes[1].closed = Some(results([0, 3])));
}

#[test]
fn a_vote_without_an_ack_and_a_lost_participant_are_found() {
    check(&[0, 1, 4], |evidence| evidence.outcomes[0].acked = None);
    check(&[0], |evidence| evidence.failures.push("gone".to_owned()));
}
