//! Fault runs: three instances and a PostgreSQL of their own, hundreds of voters, and a seeded schedule of things that
//! break. When all is quiet, the history checker compares what clients were told with what is stored.
//! `make test` runs each fault once; `make chaos SEED=… MINUTES=…` runs a longer schedule, which that seed repeats.
//!
//! ```text
//! voters, watchers ─► proxy ─► instance ─► proxy ─► PostgreSQL (on a disk of its own, where that can be made)
//! ```

mod crowd;
mod disk;
mod faults;
mod presenter;
mod promotion;
mod record;
mod report;
mod stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use plenum_loadtest::history::{Answer, Cast, Line, Logged, Stored, check};

use crate::support::*;
use crowd::Crowd;
use faults::Fault;
use record::Record;
use report::Report;
use stage::Stage;

/// Sessions that run side by side in one round, so that batches hold votes of several.
const SESSIONS: usize = 2;
/// Faults of one round; then everything is checked.
const FAULTS_PER_ROUND: usize = 8;
/// Between two faults, in milliseconds.
const CALM_MS: std::ops::Range<u64> = 300..1_500;

async fn pause(dice: &mut Rng, ms: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(dice.u64(ms))).await;
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Each fault once; with `PLENUM_CHAOS_MINUTES`, faults drawn by `PLENUM_CHAOS_SEED` until the time is over.
#[test]
fn whatever_breaks_no_vote_is_lost_doubled_or_altered() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let seed = setting("PLENUM_CHAOS_SEED").unwrap_or(1);
        let mut dice = Rng::with_seed(seed);
        let stage = Arc::new(Stage::set().await);
        let (able, skipped) = stage.able();
        let mut report = Report::new(seed, skipped);
        match setting("PLENUM_CHAOS_MINUTES") {
            None => {
                for faults in able.chunks(FAULTS_PER_ROUND) {
                    round(&stage, faults, 40, &mut dice, &mut report).await;
                }
            }
            Some(minutes) => {
                let end = Instant::now() + Duration::from_secs(60 * minutes);
                let voters = setting("PLENUM_CHAOS_VOTERS").unwrap_or(300);
                while Instant::now() < end {
                    let faults: Vec<Fault> =
                        (0..FAULTS_PER_ROUND).map(|_| able[dice.usize(..able.len())]).collect();
                    let voters = usize::try_from(voters).unwrap();
                    round(&stage, &faults, voters, &mut dice, &mut report).await;
                }
            }
        }
        report.print();
        assert_eq!(report.violations(), Vec::<String>::new());
    });
}

/// Fresh sessions, voters at work, one fault after another, then quiet and the check.
async fn round(
    stage: &Arc<Stage>,
    faults: &[Fault],
    voters: usize,
    dice: &mut Rng,
    report: &mut Report,
) {
    let mut crowds = Vec::new();
    for _ in 0..SESSIONS {
        crowds.push(Crowd::gather(stage, voters, dice.u64(..)).await);
    }
    let mut windows = Vec::new();
    for fault in faults {
        pause(dice, CALM_MS).await;
        let begun = Instant::now();
        eprintln!("{}", fault.words());
        fault.inject(stage, dice).await;
        windows.push((*fault, begun, Instant::now()));
        for crowd in &crowds {
            crowd.goes_on(&format!("{fault:?}")).await;
        }
    }
    let mut found = Vec::new();
    let mut votes = 0;
    for crowd in crowds {
        let (session, record) = crowd.dismiss().await;
        let history = evidence(stage, &session, &record).await;
        votes += history.iter().filter(|line| matches!(line, Line::Stored(_))).count();
        found.extend(check(&history).iter().map(|fault| (fault.rule, fault.to_string())));
        for (fault, begun, ended) in &windows {
            report.add(*fault, record.during(*begun, *ended));
        }
    }
    report.round(&windows.iter().map(|(fault, ..)| *fault).collect::<Vec<_>>(), votes, found);
}

/// What clients were told, and what the database holds.
async fn evidence(stage: &Stage, session: &Session, record: &Record) -> Vec<Line> {
    let mut history = record.take();
    let sql = stage.db.sql().await;
    let votes = "SELECT v.id, v.poll, v.participant, v.answer::int[], b.seq, p.kind FROM votes v
                 JOIN vote_batches b USING (session_id, batch, poll)
                 JOIN polls p ON p.session_id = v.session_id AND p.n = v.poll WHERE v.session_id::text = $1";
    for row in sql.query(votes, &[&session.id]).await.unwrap() {
        let chosen: Vec<i32> = row.get(3);
        let chosen: Vec<usize> = chosen.iter().map(|n| usize::try_from(*n).unwrap()).collect();
        let answer = match row.get::<_, &str>(5) {
            "rating" => Answer::Rating(chosen[0]),
            _ => Answer::Choices(chosen),
        };
        let poll = u32::try_from(row.get::<_, i32>(1)).unwrap();
        let cast = Cast { id: row.get(0), poll, participant: row.get(2), answer };
        history.push(Line::Stored(Stored { cast, seq: row.get::<_, i64>(4).cast_unsigned() }));
    }
    let log =
        "SELECT seq, kind, data::text FROM event_log WHERE session_id::text = $1 ORDER BY seq";
    for row in sql.query(log, &[&session.id]).await.unwrap() {
        let data = serde_json::from_str(row.get(2)).unwrap();
        let (seq, kind) = (row.get::<_, i64>(0).cast_unsigned(), row.get(1));
        history.push(Line::Logged(Logged { seq, kind, data }));
    }
    let miscounted = "SELECT count(*) FROM tallies t WHERE t.session_id::text = $1 AND t.votes <>
        (SELECT count(*) FROM votes v WHERE v.session_id = t.session_id AND v.poll = t.poll)";
    let miscounted: i64 = sql.query_one(miscounted, &[&session.id]).await.unwrap().get(0);
    assert_eq!(miscounted, 0, "polls whose tally is not the number of their votes");
    history
}
