//! A sound history, and one history for every way to break a rule: each must be found, by its own rule and no other.

use serde_json::{Value, json};

use super::super::{Answer, History, State, digest, read, write};
use super::*;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn cast(n: u128) -> Cast {
    let option = usize::try_from(n % 2).unwrap();
    Cast { id: id(n), poll: 1, participant: id(100 + n), answer: Answer::Choices(vec![option]) }
}

fn stored(n: u128, seq: u64) -> Line {
    Line::Stored(Stored { cast: cast(n), seq })
}

fn poll(state: &str) -> Value {
    json!({"n": 1, "kind": "choice", "options": ["a", "b"], "results": "live", "state": state})
}

fn results(seq: u64, counts: [u64; 2]) -> Value {
    json!({"poll": 1, "seq": seq, "votes": counts.iter().sum::<u64>(), "counts": counts})
}

/// 1 opened, 2 one vote, 3 three votes, 4 closed.
fn log() -> Vec<Logged> {
    let event = |seq, kind: &str, data| Logged { seq, kind: kind.to_owned(), data };
    vec![
        event(1, "poll.opened", poll("open")),
        event(2, "poll.results", results(2, [0, 1])),
        event(3, "poll.results", results(3, [1, 2])),
        event(4, "poll.closed", json!({"poll": poll("closed"), "results": results(4, [1, 2])})),
    ]
}

fn seen(client: u32, event: &Logged, prev: u64) -> Line {
    let digest = digest(&event.kind, &event.data);
    Line::Seen { client, seq: event.seq, prev, digest }
}

/// Votes 1 to 3 are acked, one of them after a try that got no answer; vote 4 came too late; of vote 5 nothing is known.
/// Client 1 saw everything, client 2 came back and was spared the results that newer ones stand in for.
fn sound() -> History {
    let log = log();
    let mut history: History = (1..=5).map(|n| Line::Invoke(cast(n))).collect();
    history.extend([
        Line::Ok { id: id(1), seq: 2 },
        Line::Unknown { id: id(2) },
        Line::Invoke(cast(2)),
        Line::Ok { id: id(2), seq: 3 },
        Line::Refused { id: id(3), code: "overloaded".to_owned() },
        Line::Invoke(cast(3)),
        Line::Ok { id: id(3), seq: 3 },
        Line::Refused { id: id(4), code: "poll_closed".to_owned() },
        Line::Unknown { id: id(5) },
        stored(1, 2),
        stored(2, 3),
        stored(3, 3),
        Line::Welcome { client: 1, seq: 0, resumed: false },
        Line::Welcome { client: 2, seq: 1, resumed: false },
        Line::Welcome { client: 2, seq: 1, resumed: true },
        seen(2, &log[3], 1),
    ]);
    history.extend(log.iter().map(|event| seen(1, event, event.seq - 1)));
    let mut state = State::default();
    log.iter().for_each(|event| state.apply(&event.kind, &event.data));
    history.extend([1, 2].map(|client| Line::Final {
        client,
        presenter: false,
        state: state.clone(),
    }));
    history.extend(log.into_iter().map(Line::Logged));
    history
}

/// The rules that a history breaks, each once.
fn broken(history: &[Line]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = check(history).iter().map(|fault| fault.rule).collect();
    rules.dedup();
    rules
}

/// Which rules are broken after `tamper`.
fn expect(expected: &[Rule], tamper: impl FnOnce(&mut History)) {
    let mut history = sound();
    tamper(&mut history);
    let found = check(&history);
    assert_eq!(broken(&history), expected, "{found:?}");
}

fn change(history: &mut History, mut edit: impl FnMut(&mut Line)) {
    history.iter_mut().for_each(&mut edit);
}

fn remove(history: &mut History, gone: impl Fn(&Line) -> bool) {
    let before = history.len();
    history.retain(|line| !gone(line));
    assert!(history.len() < before, "nothing was removed");
}

#[test]
fn a_sound_history_breaks_no_rule() {
    expect(&[], |_| {});
}

#[test]
fn an_unknown_vote_may_be_stored_or_not() {
    let unknown = |history: &mut History| {
        history.retain(|line| *line != Line::Ok { id: id(3), seq: 3 });
        history.push(Line::Invoke(cast(3)));
    };
    expect(&[], unknown);
}

#[test]
fn an_acked_vote_that_is_lost_is_found() {
    // Its count is wrong then, too: the log counted it.
    expect(&[Rule::AckedIsStored, Rule::CountsAreExact], |history| {
        remove(history, |line| *line == stored(1, 2));
    });
    expect(&[Rule::AckedIsStored], |history| history.push(Line::Ok { id: id(77), seq: 1 }));
}

#[test]
fn a_vote_that_was_altered_is_found() {
    let alter = |edit: fn(&mut Cast)| {
        move |history: &mut History| {
            change(history, |line| match line {
                Line::Stored(stored) if stored.cast.id == id(1) => edit(&mut stored.cast),
                _ => {}
            });
        }
    };
    expect(&[Rule::StoredAsCast], alter(|cast| cast.participant = id(9)));
    expect(
        &[Rule::StoredAsCast, Rule::CountsAreExact],
        alter(|cast| {
            cast.answer = Answer::Choices(vec![0]);
        }),
    );
    expect(
        &[Rule::StoredAsCast, Rule::CountsAreExact],
        alter(|cast| {
            cast.answer = Answer::Choices(vec![2]);
        }),
    );
    expect(
        &[Rule::StoredAsCast, Rule::CountsAreExact, Rule::CloseIsFinal],
        alter(|cast| {
            cast.poll = 2;
        }),
    );
}

#[test]
fn a_vote_that_nobody_cast_is_found() {
    expect(&[Rule::StoredWasCast, Rule::CountsAreExact], |history| history.push(stored(9, 3)));
}

#[test]
fn a_vote_stored_twice_is_found() {
    expect(&[Rule::OneVote, Rule::CountsAreExact], |history| history.push(stored(1, 2)));
    // Twice the same participant, under another id.
    expect(&[Rule::OneVote], |history| {
        change(history, |line| match line {
            Line::Stored(Stored { cast, .. }) | Line::Invoke(cast) if cast.id == id(3) => {
                cast.participant = id(101);
            }
            _ => {}
        });
    });
}

#[test]
fn a_refused_vote_that_is_stored_is_found() {
    expect(&[Rule::RefusedIsNotStored], |history| {
        history.push(Line::Refused { id: id(2), code: "already_voted".to_owned() });
    });
    expect(&[Rule::RefusedIsNotStored], |history| {
        remove(history, |line| *line == Line::Ok { id: id(2), seq: 3 });
        history.push(Line::Refused { id: id(2), code: "poll_closed".to_owned() });
    });
}

#[test]
fn an_overloaded_vote_that_is_stored_is_found() {
    // Nothing but `overloaded` was ever said of it, so no try of it is open.
    expect(&[Rule::RefusedIsNotStored], |history| {
        remove(history, |line| *line == Line::Ok { id: id(3), seq: 3 });
        history.push(Line::Refused { id: id(3), code: "overloaded".to_owned() });
    });
}

#[test]
fn an_ack_that_names_another_event_is_found() {
    expect(&[Rule::AckNamesItsEvent], |history| {
        change(history, |line| match line {
            Line::Ok { id: of, seq } if *of == id(1) => *seq = 3,
            _ => {}
        });
    });
    expect(&[Rule::AckNamesItsEvent], |history| history.push(Line::Ok { id: id(1), seq: 3 }));
}

#[test]
fn a_count_that_no_recount_gives_is_found() {
    let miscount = |at: u64| {
        move |history: &mut History| {
            change(history, |line| match line {
                Line::Logged(event) if event.seq == at => event.data["votes"] = json!(9),
                _ => {}
            });
        }
    };
    // The clients saw the right one.
    expect(&[Rule::CountsAreExact, Rule::SameHistory], miscount(2));
    expect(&[Rule::CountsAreExact, Rule::SameHistory], miscount(3));
    // Counted by an event that is none of its poll, or of none at all.
    let counted_by = |seq: u64| {
        move |history: &mut History| {
            change(history, |line| match line {
                Line::Ok { id: of, seq: named } if *of == id(1) => *named = seq,
                Line::Stored(stored) if stored.cast.id == id(1) => stored.seq = seq,
                _ => {}
            });
        }
    };
    expect(&[Rule::CountsAreExact], counted_by(99));
    expect(&[Rule::CountsAreExact, Rule::CloseIsFinal], counted_by(1));
}

#[test]
fn a_hole_in_the_log_is_found() {
    expect(&[Rule::LogIsGapless, Rule::SameHistory], |history| {
        remove(history, |line| matches!(line, Line::Logged(event) if event.seq == 2));
    });
    expect(&[Rule::LogIsGapless], |history| {
        history.push(Line::Logged(log()[3].clone()));
    });
}

#[test]
fn a_vote_accepted_after_the_close_is_found() {
    expect(
        &[Rule::CountsAreExact, Rule::CloseIsFinal, Rule::NothingMissed, Rule::FinalState],
        |history| {
            let late = Logged { seq: 5, kind: "poll.results".to_owned(), data: results(5, [1, 3]) };
            history.extend([Line::Ok { id: id(5), seq: 5 }, stored(5, 5), Line::Logged(late)]);
            // With the counts that the server would have shown, only the close itself is broken.
            assert!(check(history).iter().any(|fault| fault.rule == Rule::CloseIsFinal));
            change(history, |line| match line {
                Line::Logged(event) if event.seq == 5 => event.data = results(5, [1, 4]),
                _ => {}
            });
        },
    );
}

#[test]
fn clients_that_saw_different_histories_are_found() {
    expect(&[Rule::SameHistory], |history| {
        change(history, |line| {
            if let Line::Seen { client: 1, seq: 3, digest, .. } = line {
                *digest += 1;
            }
        });
    });
}

#[test]
fn an_event_that_a_client_missed_is_found() {
    // The opening: nothing may stand in for it.
    expect(&[Rule::NothingMissed], |history| {
        remove(history, |line| matches!(line, Line::Seen { client: 1, seq: 1, .. }));
    });
    // The last one.
    expect(&[Rule::NothingMissed], |history| {
        remove(history, |line| matches!(line, Line::Seen { client: 2, seq: 4, .. }));
    });
    // Out of order, twice, and before any welcome.
    expect(&[Rule::NothingMissed], |history| {
        history.insert(history.len() - 6, seen(1, &log()[2], 2))
    });
    expect(&[Rule::NothingMissed], |history| history.insert(0, seen(1, &log()[0], 0)));
    // Come back elsewhere than where it left.
    expect(&[Rule::NothingMissed], |history| {
        change(history, |line| {
            if let Line::Welcome { client: 2, seq, resumed: true } = line {
                *seq = 3;
            }
        });
    });
}

#[test]
fn a_client_that_ends_with_another_state_is_found() {
    let end = |edit: fn(&mut State)| {
        move |history: &mut History| {
            change(history, |line| {
                if let Line::Final { client: 1, state, .. } = line {
                    edit(state);
                }
            });
        }
    };
    expect(&[Rule::FinalState], end(|state| state.polls.clear()));
    expect(&[Rule::FinalState], end(|state| state.results.clear()));
    expect(
        &[Rule::FinalState],
        end(|state| {
            state.results.insert(1, results(4, [2, 1]));
        }),
    );
}

#[test]
fn participants_are_not_asked_for_what_they_may_not_see() {
    let hidden = |poll: &mut Value| poll["results"] = json!("presenter");
    let mut history: History = sound();
    change(&mut history, |line| match line {
        Line::Logged(event) if event.kind == "poll.opened" => hidden(&mut event.data),
        Line::Logged(event) if event.kind == "poll.closed" => hidden(&mut event.data["poll"]),
        _ => {}
    });
    history.retain(|line| {
        !matches!(line, Line::Welcome { .. } | Line::Seen { .. } | Line::Final { .. })
    });
    let log: Vec<Logged> = history
        .iter()
        .filter_map(|line| match line {
            Line::Logged(event) => Some(event.clone()),
            _ => None,
        })
        .collect();
    let mut closed = log[3].clone();
    closed.data.as_object_mut().unwrap().remove("results");
    let mut state = State::default();
    [&log[0], &closed].iter().for_each(|event| state.apply(&event.kind, &event.data));
    history.extend([
        Line::Welcome { client: 1, seq: 0, resumed: false },
        seen(1, &log[0], 0),
        seen(1, &closed, 1),
        Line::Final { client: 1, presenter: false, state },
    ]);
    assert_eq!(check(&history), []);
    history.insert(history.len() - 1, seen(1, &log[2], 1));
    assert_eq!(
        broken(&history),
        [Rule::SameHistory, Rule::NothingMissed],
        "counts that were hidden"
    );
}

/// A poll that shows its counts after its close opens again: presenters keep the counts that they have, participants must
/// forget them, for the poll is open.
#[test]
fn counts_of_a_poll_that_opens_again_stay_with_presenters_alone() {
    let poll = |state| {
        let mut poll = poll(state);
        poll["results"] = json!("after_close");
        poll
    };
    let event = |seq, kind: &str, data| Logged { seq, kind: kind.to_owned(), data };
    let log = [
        event(1, "poll.opened", poll("open")),
        event(2, "poll.results", results(2, [0, 1])),
        event(3, "poll.closed", json!({"poll": poll("closed"), "results": results(3, [0, 1])})),
        event(4, "poll.opened", poll("open")),
    ];
    let history = |presenter_knows: bool, participant_knows: bool| {
        let mut history = vec![Line::Invoke(cast(1)), Line::Ok { id: id(1), seq: 2 }, stored(1, 2)];
        for (client, presenter, knows) in
            [(1, true, presenter_knows), (2, false, participant_knows)]
        {
            history.push(Line::Welcome { client, seq: 0, resumed: false });
            let mut prev = 0;
            for event in log.iter().filter(|it| presenter || it.kind != "poll.results") {
                history.push(seen(client, event, prev));
                prev = event.seq;
            }
            let mut state = State { presenter, ..State::default() };
            state.polls.insert(1, poll("open"));
            if knows {
                state.results.insert(1, results(3, [0, 1]));
            }
            history.push(Line::Final { client, presenter, state });
        }
        history.extend(log.iter().cloned().map(Line::Logged));
        check(&history).into_iter().map(|fault| (fault.rule, fault.what)).collect::<Vec<_>>()
    };
    let wrong = |client| {
        vec![(Rule::FinalState, format!("client {client}: knows other counts than the server"))]
    };
    assert_eq!(history(true, false), []);
    assert_eq!(history(false, false), wrong(1));
    assert_eq!(history(true, true), wrong(2));
}

#[test]
fn a_history_survives_the_way_through_a_file() {
    let history = sound();
    let mut file = Vec::new();
    write(&history, &mut file).unwrap();
    assert_eq!(read(file.as_slice()).unwrap(), history);
    let error = read(b"{\"line\":\"unknown\",\"id\":7}".as_slice()).unwrap_err();
    assert!(error.to_string().starts_with("line 1"), "{error}");
}
