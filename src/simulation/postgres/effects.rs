//! What each statement does and answers, with the locks of `sql/functions/` around it: batches share-lock their polls and hold
//! the head over the flush, opening and closing lock the poll for themselves. Called when the weather lets it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::message::Cell;
use super::statements::{Params, Statement};
use crate::limits::LOCK_TIMEOUT;
use crate::mutation::mutation;
use crate::simulation::tables::{Ballot, Event, Session, Tables, Verdict};
use crate::simulation::world::World;

type Rows = Vec<Vec<Cell>>;

/// A statement that was rolled back: its SQLSTATE.
pub(super) type Refused = &'static str;

const LOCK_NOT_AVAILABLE: Refused = "55P03";
/// No retry helps: a value that the function cannot take.
const DATA_EXCEPTION: Refused = "22000";
/// There is no such poll, and while the weather is bad a vote in it fails its whole batch.
pub(in crate::simulation) const CURSED: i32 = 13;
/// A flush to disk.
const FLUSH: Duration = Duration::from_millis(2);

macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$(Box::new($cell) as Cell),*] };
}

pub(super) async fn run(
    world: Arc<World>,
    statement: Statement,
    params: Params,
    instance: usize,
) -> Result<Rows, Refused> {
    match statement {
        Statement::Cast => cast(&world, &params).await,
        Statement::Open | Statement::Close | Statement::Patch => {
            change(&world, statement, &params).await
        }
        Statement::Notify => {
            notify(&world, &params.get::<String>(0), instance);
            Ok(vec![row![None::<String>]])
        }
        _ => Ok(at_once(&world, statement, &params)),
    }
}

async fn locked<T>(lock: impl Future<Output = T>) -> Result<T, Refused> {
    timeout(LOCK_TIMEOUT, lock).await.map_err(|_| LOCK_NOT_AVAILABLE)
}

async fn cast(world: &World, params: &Params) -> Result<Rows, Refused> {
    let (batch, ballots) = ballots(params);
    if world.weather.lock().cursed && ballots.iter().any(|ballot| ballot.poll == CURSED) {
        return Err(DATA_EXCEPTION);
    }
    let polls: BTreeSet<(Uuid, i32)> = ballots.iter().map(|it| (it.session, it.poll)).collect();
    let mut shared = Vec::new();
    for (session, poll) in &polls {
        shared.push(locked(world.poll_lock(*session, *poll).read_owned()).await?);
    }
    let fit = world.tables.lock().fit(&ballots);
    let sessions: BTreeSet<Uuid> = polls.iter().map(|(session, _)| *session).collect();
    let mut heads = Vec::new();
    for session in sessions {
        heads.push(locked(world.head_lock(session).lock_owned()).await?);
    }
    sleep(FLUSH).await;
    let at = world.clock();
    let (verdicts, events) = world.tables.lock().cast(at, batch, &ballots, &fit);
    world.note(|| {
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        format!("committed {} votes, events {seqs:?}", ballots.len())
    });
    let numbers = |of: fn(&Verdict) -> i16| {
        verdicts.as_ref().map(|all| all.iter().map(of).collect::<Vec<i16>>())
    };
    let first: Vec<&Event> = events.iter().collect();
    let poll = |event: &&Event| {
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        i32::try_from(data["poll"].as_i64().unwrap()).unwrap()
    };
    Ok(vec![row![
        numbers(|verdict| verdict.0),
        verdicts.as_ref().map(|all| all.iter().map(|verdict| verdict.1).collect::<Vec<_>>()),
        verdicts.as_ref().map(|all| all.iter().map(|it| it.2.clone()).collect::<Vec<_>>()),
        (!first.is_empty()).then_some(at),
        first.iter().map(|event| event.session).collect::<Vec<Uuid>>(),
        first.iter().map(|event| event.seq).collect::<Vec<i64>>(),
        first.iter().map(poll).collect::<Vec<i32>>(),
        first.iter().map(|event| event.hidden).collect::<Vec<bool>>(),
        first.iter().map(|event| event.data.clone()).collect::<Vec<String>>(),
    ]])
}

fn ballots(params: &Params) -> (Uuid, Vec<Ballot>) {
    let (sessions, polls): (Vec<Uuid>, Vec<i32>) = (params.get(1), params.get(2));
    let (participants, ids): (Vec<Uuid>, Vec<Uuid>) = (params.get(3), params.get(4));
    let (kinds, tops): (Vec<i16>, Vec<i16>) = (params.get(5), params.get(6));
    let (widths, answers): (Vec<i16>, Vec<String>) = (params.get(7), params.get(8));
    let ballot = |at: usize| Ballot {
        session: sessions[at],
        poll: polls[at],
        participant: participants[at],
        id: ids[at],
        kind: kinds[at],
        top: tops[at],
        width: widths[at],
        answer: answers[at].clone(),
    };
    (params.get(0), (0..ids.len()).map(ballot).collect())
}

async fn change(world: &World, statement: Statement, params: &Params) -> Result<Rows, Refused> {
    let session: Uuid = params.get(0);
    let numbers: Vec<i32> = match statement {
        Statement::Patch => {
            let tables = world.tables.lock();
            tables.sessions[&session].polls.iter().map(|poll| poll.n).collect()
        }
        _ => vec![params.get(1)],
    };
    let mut own = Vec::new();
    for n in &numbers {
        mutation!("close_without_lock", break;);
        own.push(locked(world.poll_lock(session, *n).write_owned()).await?);
    }
    let _head = locked(world.head_lock(session).lock_owned()).await?;
    sleep(FLUSH).await;
    let at = world.clock();
    let mut tables = world.tables.lock();
    let stored = tables.sessions.get_mut(&session).unwrap();
    let (outcome, body, event) = match statement {
        Statement::Patch => {
            stored.patch(at, &serde_json::from_str(&params.get::<String>(1)).unwrap())
        }
        _ => stored.set_open(at, numbers[0], statement == Statement::Open),
    };
    world.note(|| format!("{statement:?} {numbers:?}: {outcome}, head {}", stored.head()));
    let event = event.as_ref();
    Ok(vec![row![
        outcome,
        body.map(|body| body.to_string()),
        session,
        event.map(|event| event.seq),
        event.map(|event| event.at),
        event.map(|event| event.kind),
        event.map(|event| event.hidden),
        event.map(|event| event.data.clone()),
    ]])
}

/// To every other listener, if the weather does not lose it.
fn notify(world: &World, payload: &str, instance: usize) {
    let mut dice =
        super::Dice::of(world.seed, "hint", u64::try_from(world.elapsed().as_millis()).unwrap());
    let lost = world.weather.lock().mood.hints_lost;
    world.listeners.lock().retain(|(listener, tell)| {
        let times = match () {
            () if *listener == instance || dice.percent(lost) => 0,
            () if dice.percent(lost) => 2,
            () => 1,
        };
        // A listener that is full loses it, which must not matter.
        (0..times).for_each(|_| drop(tell.try_send(payload.to_owned())));
        !tell.is_closed()
    });
}

fn at_once(world: &World, statement: Statement, params: &Params) -> Rows {
    let tables = &mut *world.tables.lock();
    match statement {
        Statement::Snapshot => snapshot(tables, params.get(0)),
        Statement::Tail => tail(tables, &params.get::<Vec<Uuid>>(0), &params.get::<Vec<i64>>(1)),
        Statement::Replay => replay(tables, params),
        Statement::Resume => {
            let head = |it: &Session| row![it.head(), 1_i64, tables.epoch.clone()];
            tables.sessions.get(&params.get(0)).map(head).into_iter().collect()
        }
        Statement::MyVotes => my_votes(tables, params.get(0), params.get(1)),
        Statement::Session => {
            let row =
                |it: &Session| row![it.json().to_string(), it.head(), it.presenter_hash.clone()];
            tables.sessions.get(&params.get(0)).map(row).into_iter().collect()
        }
        Statement::Code => {
            let code: String = params.get(0);
            tables.sessions.values().filter(|it| it.code == code).map(|it| row![it.id]).collect()
        }
        Statement::Polls => {
            let drafts: bool = params.get(1);
            let polls = tables.sessions.get(&params.get(0)).map(|it| &it.polls);
            let shown = polls.into_iter().flatten().filter(|it| drafts || it.state != "draft");
            shown.map(|poll| row![poll.json().to_string()]).collect()
        }
        Statement::Settle => settle(world, tables, params),
        Statement::Heartbeat => {
            let now = world.elapsed().as_secs_f64();
            let said = (params.get(1), params.get(2), params.get(3), params.get(4), now);
            tables.instances.insert(params.get(0), said);
            let alive = now - params.get::<f64>(5);
            let alive = tables.instances.iter().filter(|(_, said)| said.4 > alive);
            alive.map(|(id, it)| row![id.clone(), it.0, it.1, it.2.clone(), it.3]).collect()
        }
        Statement::Goodbye => {
            let gone: String = params.get(0);
            tables.instances.remove(&gone);
            tables.presence.retain(|(instance, _), _| *instance != gone);
            vec![row![None::<String>]]
        }
        Statement::TellPresence => tell_presence(tables, params),
        Statement::Presence => {
            let (sessions, others): (Vec<Uuid>, Vec<String>) = (params.get(0), params.get(1));
            let wanted = tables.presence.iter().filter(|((instance, session), _)| {
                others.contains(instance) && sessions.contains(session)
            });
            wanted.map(|((_, session), marks)| row![*session, marks.clone()]).collect()
        }
        Statement::PresenceTold => {
            let here: String = params.get(0);
            let told = tables.presence.keys().filter(|(instance, _)| *instance == here);
            told.map(|(_, session)| row![*session]).collect()
        }
        Statement::Cast
        | Statement::Open
        | Statement::Close
        | Statement::Patch
        | Statement::Notify => unreachable!("these wait"),
    }
}

fn snapshot(tables: &Tables, session: Uuid) -> Rows {
    let Some(session) = tables.sessions.get(&session) else { return vec![] };
    let opened: Vec<_> = session.polls.iter().filter(|poll| poll.state != "draft").collect();
    let list = |values: Vec<serde_json::Value>| serde_json::Value::from(values).to_string();
    vec![row![
        session.json().to_string(),
        session.head(),
        list(opened.iter().map(|poll| poll.json()).collect()),
        list(opened.iter().map(|poll| poll.results()).collect()),
        opened.iter().map(|poll| poll.n).collect::<Vec<i32>>(),
        opened.iter().map(|poll| poll.results_seq).collect::<Vec<i64>>(),
        tables.epoch.clone(),
    ]]
}

fn event_row(event: &Event) -> Vec<Cell> {
    row![event.session, event.seq, event.at, event.kind, event.hidden, event.data.clone()]
}

fn tail(tables: &Tables, sessions: &[Uuid], seqs: &[i64]) -> Rows {
    let mut rows = Rows::new();
    let none =
        || row![None::<i64>, None::<OffsetDateTime>, None::<String>, None::<bool>, None::<String>];
    let mut add = |mut row: Vec<Cell>, gone: Option<bool>, behind: Option<bool>| {
        row.extend(row![gone, behind, tables.epoch.clone()]);
        rows.push(row);
    };
    for (id, after) in sessions.iter().zip(seqs) {
        let named = || row![*id].into_iter().chain(none()).collect::<Vec<Cell>>();
        let Some(session) = tables.sessions.get(id) else {
            add(named(), Some(true), None);
            continue;
        };
        if session.head() < *after {
            add(named(), Some(false), Some(true));
        }
        for event in session.log.iter().filter(|event| event.seq > *after) {
            add(event_row(event), Some(false), Some(false));
        }
    }
    if rows.is_empty() {
        let mut row = row![None::<Uuid>];
        row.extend(none());
        row.extend(row![None::<bool>, None::<bool>, tables.epoch.clone()]);
        rows.push(row);
    }
    rows
}

fn replay(tables: &Tables, params: &Params) -> Rows {
    let (after, upto, newest): (i64, i64, Vec<i64>) = (params.get(1), params.get(2), params.get(3));
    let limit = usize::try_from(params.get::<i64>(4)).unwrap();
    let log = tables.sessions.get(&params.get(0)).map(|session| &session.log);
    log.into_iter()
        .flatten()
        .filter(|event| event.seq > after && event.seq <= upto)
        .filter(|event| event.kind != "poll.results" || newest.contains(&event.seq))
        .take(limit)
        .map(event_row)
        .collect()
}

fn my_votes(tables: &Tables, session: Uuid, participant: Uuid) -> Rows {
    let Some(session) = tables.sessions.get(&session) else { return vec![] };
    let mut own: Vec<_> =
        session.votes.iter().filter(|vote| vote.participant == participant).collect();
    own.sort_by_key(|vote| vote.poll);
    let row = |vote: &&crate::simulation::tables::Vote| {
        row![vote.poll, session.poll(vote.poll).unwrap().kind, vote.answer.clone()]
    };
    own.iter().map(row).collect()
}

fn settle(world: &World, tables: &mut Tables, params: &Params) -> Rows {
    let server = world.server.lock();
    let here = (server.place.as_str(), server.timeline, server.durability);
    let knows = (params.get(1), params.get(2), params.get(3), params.get(4));
    let made = tables.settle(here, &params.get::<String>(0), knows, params.get(5));
    if made {
        world.epochs.fetch_add(1, Ordering::Relaxed);
        world.note(|| String::from("a new epoch"));
    }
    vec![row![tables.epoch.clone(), server.place.clone(), server.timeline, server.durability, made]]
}

fn tell_presence(tables: &mut Tables, params: &Params) -> Rows {
    let (sessions, marks): (Vec<Uuid>, Vec<Option<String>>) = (params.get(1), params.get(2));
    for (session, marks) in sessions.into_iter().zip(marks) {
        let key = (params.get(0), session);
        match marks {
            Some(marks) => {
                let list = marks.trim_matches(['{', '}']).split(',');
                let marks = list.filter_map(|mark| mark.parse().ok()).collect();
                tables.presence.insert(key, marks);
            }
            None => drop(tables.presence.remove(&key)),
        }
    }
    vec![row![None::<String>]]
}
