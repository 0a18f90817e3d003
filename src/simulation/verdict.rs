//! Judges a simulation: what clients wrote down and what the database holds, by the rules of `loadtest/src/history/`; each history
//! of the database for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use plenum_loadtest::history::{Answer, Cast, Line, Logged, Stored, check};
use uuid::Uuid;

use super::stage::{Past, Stage};
use super::tables::{Session, Tables};

/// Adds to the faults of the stage.
pub(super) fn judge(stage: &Stage) {
    let lines = std::mem::take(&mut *stage.lines.lock());
    let past = std::mem::take(&mut *stage.past.lock());
    let tables = stage.world.tables.lock();
    let [epochs, fail_overs] =
        [&stage.world.epochs, &stage.world.fail_overs].map(|count| count.load(Ordering::Relaxed));
    if epochs > fail_overs {
        stage.fault(format!("{epochs} new epochs of {fail_overs} fail-overs"));
    }
    let replicated = stage.world.replicated.lock();
    for (session, lines) in &lines {
        let acked = lines.iter().filter_map(|(_, line)| match line {
            Line::Ok { id, .. } => Some(id),
            _ => None,
        });
        for id in acked.filter(|id| !replicated.contains(*id)) {
            stage.fault(format!("{id} was acked, and no standby was waited for"));
        }
        let lost = lost(session, &past, &tables);
        let mut history = about_votes(lines, &tables.epoch, &lost);
        history.extend(views(stage, lines, &tables.epoch, |(_, ended)| ended));
        history.extend(stored(&tables.sessions[session]));
        complain(stage, "now", &history);
        for (epoch, tables) in &past {
            // Who was acked then is judged by what is left; what was shown then, by what was there.
            let casts = lines.iter().filter(|(_, line)| matches!(line, Line::Invoke(_)));
            let mut history: Vec<Line> = casts.map(|(_, line)| line.clone()).collect();
            // Only the end of a view says that it is a presenter's, and none of these has one.
            history.extend(views(stage, lines, epoch, |(presenter, _)| !presenter));
            history.extend(stored(&tables.sessions[session]));
            complain(stage, epoch, &history);
        }
        let epochs: BTreeSet<&str> = lines.iter().map(|(epoch, _)| epoch.as_str()).collect();
        let known = |epoch: &str| {
            epoch.is_empty() || epoch == tables.epoch || past.iter().any(|(it, _)| it == epoch)
        };
        for epoch in epochs.into_iter().filter(|epoch| !known(epoch)) {
            stage
                .faults
                .lock()
                .push(format!("somebody was shown an epoch that never was: {epoch}"));
        }
    }
}

fn complain(stage: &Stage, epoch: &str, history: &[Line]) {
    for fault in check(history) {
        stage.fault(format!("{fault} ({epoch})"));
    }
}

/// Votes that a fail-over lost. Nobody promises these, and they may be cast again.
fn lost(session: &Uuid, past: &[Past], now: &Tables) -> BTreeSet<Uuid> {
    let held = |tables: &Tables| -> BTreeMap<Uuid, i64> {
        tables.sessions[session].votes.iter().map(|vote| (vote.id, vote.seq)).collect()
    };
    let now = held(now);
    let before = past.iter().flat_map(|(_, tables)| held(tables));
    before.filter(|(id, seq)| now.get(id) != Some(seq)).map(|(id, _)| id).collect()
}

/// A refusal says nothing of another history than its own, and nothing of another try that is on its way still: a poll may
/// open between the two.
fn about_votes(lines: &[(String, Line)], now: &str, lost: &BTreeSet<Uuid>) -> Vec<Line> {
    let mut open: BTreeMap<Uuid, u32> = BTreeMap::new();
    let mut kept = Vec::new();
    for (epoch, line) in lines {
        let keep = match line {
            Line::Invoke(cast) => {
                *open.entry(cast.id).or_default() += 1;
                true
            }
            Line::Refused { id, code } => {
                let tries = open.get_mut(id).unwrap();
                *tries -= u32::from(code != "database_unavailable");
                epoch == now && !lost.contains(id) && *tries == 0
            }
            Line::Ok { id, .. } => {
                *open.get_mut(id).unwrap() -= 1;
                !lost.contains(id)
            }
            _ => false,
        };
        if keep {
            kept.push(line.clone());
        }
    }
    kept
}

/// What was seen of one history, of those views that are wanted.
fn views(
    stage: &Stage,
    lines: &[(String, Line)],
    of: &str,
    wanted: impl Fn((bool, bool)) -> bool,
) -> Vec<Line> {
    let views = stage.views.lock();
    let view = |line: &Line| match line {
        Line::Welcome { client, .. } | Line::Seen { client, .. } | Line::Final { client, .. } => {
            wanted(views[client])
        }
        _ => false,
    };
    let of_then = lines.iter().filter(|(epoch, line)| epoch == of && view(line));
    of_then.map(|(_, line)| line.clone()).collect()
}

fn stored(session: &Session) -> Vec<Line> {
    let unsigned = |number: i64| u64::try_from(number).unwrap();
    let votes = session.votes.iter().map(|vote| {
        let options: Vec<usize> =
            vote.answer.iter().map(|it| usize::try_from(*it).unwrap()).collect();
        let answer = match session.poll(vote.poll).unwrap().kind {
            "rating" => Answer::Rating(options[0]),
            _ => Answer::Choices(options),
        };
        let poll = u32::try_from(vote.poll).unwrap();
        let cast = Cast { id: vote.id, poll, participant: vote.participant, answer };
        Line::Stored(Stored { cast, seq: unsigned(vote.seq) })
    });
    let events = session.log.iter().map(|event| {
        let data = serde_json::from_str(&event.data).unwrap();
        Line::Logged(Logged { seq: unsigned(event.seq), kind: event.kind.to_owned(), data })
    });
    votes.chain(events).collect()
}
