//! Instances that go away under load, behind HAProxy: told to, one after the other, as a deploy does; and killed. No vote is
//! lost, everybody comes back with `after`, and nobody is turned away by a restart that was announced.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::*;

const PARTICIPANTS: usize = 400;
const VOTES_PER_SECOND: u32 = 100;

/// An instance that can be started again where it was.
struct Place {
    server: Server,
    flags: Vec<String>,
}

impl Place {
    async fn new(db: &TestDb, name: &str) -> Place {
        let mut flags: Vec<String> =
            Kind::HaProxy.flags().iter().map(ToString::to_string).collect();
        flags.push(format!("--instance-id={name}"));
        let server = start(db, &flags).await;
        flags.retain(|flag| !flag.starts_with("--agent-listen"));
        let agent = server.agent.unwrap();
        flags.extend(["--listen".to_owned(), server.listen.to_string()]);
        flags.extend(["--ops-listen".to_owned(), server.ops.to_string()]);
        flags.push(format!("--agent-listen={agent}"));
        Place { server, flags }
    }

    async fn again(&mut self, db: &TestDb) {
        self.server = start(db, &self.flags).await;
    }
}

async fn start(db: &TestDb, flags: &[String]) -> Server {
    Server::with(db, &flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Everybody, at work, and the session they are in.
struct Crowd {
    session: Session,
    told: Arc<Told>,
    last: watch::Sender<i64>,
    roamers: JoinSet<(Vec<Ballot>, Roamer)>,
}

impl Crowd {
    /// So many participants who vote so many times each, together `VOTES_PER_SECOND`.
    async fn start(balancer: &Balancer, participants: usize, votes: usize) -> Crowd {
        let session = Session::create(&balancer.api, json!({"title": "A hall"})).await;
        let mut polls = Vec::new();
        for _ in 0..votes {
            polls.push(session.choice(2).await);
        }
        let (last, ends) = watch::channel(0);
        let mut crowd = Crowd { session, told: Arc::default(), last, roamers: JoinSet::new() };
        let between = Duration::from_secs(1) / VOTES_PER_SECOND;
        let every = between * u32::try_from(participants).unwrap();
        for nth in 0..participants {
            let roamer = Roamer::new(&balancer.base(), &crowd.session.code, &crowd.told);
            let first = between * u32::try_from(nth).unwrap();
            crowd.roamers.spawn(roamer.run(polls.clone(), (first, every), ends.clone()));
        }
        crowd.all_here(SOON, participants).await;
        crowd
    }

    /// Waits until all are connected.
    async fn all_here(&self, seconds: u64, participants: usize) {
        eventually(seconds, "everybody is here", async || {
            (self.told.here.load(Ordering::Relaxed) == participants).then_some(())
        })
        .await;
    }

    fn acked(&self) -> usize {
        self.told.acked.load(Ordering::Relaxed)
    }

    /// Lets them finish, and checks every vote and every event that anybody saw.
    async fn finish(self, db: &TestDb, votes: usize) {
        let Crowd { session, told, last, roamers } = self;
        eventually(120, "every vote is acked", async || {
            (told.acked.load(Ordering::Relaxed) >= votes).then_some(())
        })
        .await;
        last.send_replace(session.retitle("the end").await["last_seq"].as_i64().unwrap());
        let ended = within(30, "everybody saw the last event", roamers.join_all()).await;
        let ballots: Vec<Ballot> = ended.iter().flat_map(|(ballots, _)| ballots.clone()).collect();
        assert_eq!(ballots.len(), votes);
        assert!(ballots.iter().all(Ballot::is_acked));
        session.check_stored(db, &ballots).await;
        let log = session.log(&session.presenter).await;
        for (_, roamer) in &ended {
            for (seq, seen) in &roamer.events {
                let logged = &log[usize::try_from(*seq).unwrap() - 1];
                assert_eq!((&logged["kind"], &logged["data"]), (&seen.0, &seen.1), "event {seq}");
            }
        }
    }
}

/// Newcomers and callers of REST, twenty a second of each, until `over`: how many there were. None may be turned away.
async fn newcomers(base: String, session: Session, mut over: watch::Receiver<bool>) -> usize {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let mut count = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = over.changed() => return count,
        }
        // A connection of its own for each call: no connection that was kept open hides a refusal.
        let session = Session { api: Api::new(&base), ..session.clone() };
        let token = session.join().await.token;
        assert_eq!(session.get("", &token).await.status, 200);
        Guest::hello(&base, json!({"token": token, "after": 0})).await;
        count += 1;
    }
}

/// A deploy: four instances restarted one by one while 400 people vote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_vote_and_turns_nobody_away() {
    const VOTES_EACH: usize = 7;
    let db = TestDb::fresh().await;
    let mut places = Vec::new();
    for nth in 1..=4 {
        places.push(Place::new(&db, &format!("i{nth}")).await);
    }
    let servers: Vec<&Server> = places.iter().map(|place| &place.server).collect();
    let balancer = Balancer::start(Kind::HaProxy, &servers).await;
    let crowd = Crowd::start(&balancer, PARTICIPANTS, VOTES_EACH).await;
    let (over, ends) = watch::channel(false);
    let newcomers = tokio::spawn(newcomers(balancer.base(), crowd.session.clone(), ends));
    let begin = Instant::now();
    for (nth, place) in (1..).zip(&mut places) {
        let name = format!("i{nth}");
        place.server.signal(Signal::TERM);
        // The balancer knows before any client is sent away.
        balancer.sees_all(&[("plenum_streams", &name, "D"), ("plenum_rest", &name, "D")]).await;
        assert_eq!(crowd.told.here.load(Ordering::Relaxed), PARTICIPANTS, "sent away too soon");
        assert_eq!(place.server.exited(14).await.code(), Some(0));
        place.again(&db).await;
        balancer.sees_all(&[("plenum_streams", &name, "UP"), ("plenum_rest", &name, "UP")]).await;
    }
    let (took, acked) = (begin.elapsed(), crowd.acked());
    over.send_replace(true);
    let newcomers = within(SOON, "the last newcomer", newcomers).await.unwrap();
    eprintln!("four restarts in {took:?}: {acked} votes acked, {newcomers} newcomers");
    assert!(newcomers > 100, "{newcomers}");
    crowd.all_here(SOON, PARTICIPANTS).await;
    let resumed = crowd.told.resumed.load(Ordering::Relaxed);
    assert!(resumed >= PARTICIPANTS, "only {resumed} came back");
    let refusals = crowd.told.refusals();
    assert!(refusals.is_empty(), "{} turned away: {:?}", refusals.len(), refusals.first());
    crowd.finish(&db, PARTICIPANTS * VOTES_EACH).await;
}

/// Killed in mid-burst: all who were there go on elsewhere, and the instance is back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_instance_costs_its_clients_a_moment_and_nobody_a_vote() {
    const CLIENTS: usize = 200;
    const VOTES_EACH: usize = 3;
    let db = TestDb::fresh().await;
    let mut places = [Place::new(&db, "i1").await, Place::new(&db, "i2").await];
    let balancer = Balancer::start(Kind::HaProxy, &[&places[0].server, &places[1].server]).await;
    let crowd = Crowd::start(&balancer, CLIENTS, VOTES_EACH).await;
    let acked = crowd.acked();
    eventually(SOON, "votes flow", async || (crowd.acked() > acked + 100).then_some(())).await;
    places[0].server.kill9();
    let killed = Instant::now();
    places[0].again(&db).await;
    let back = killed.elapsed();
    eventually(SOON, "those who lost their connection notice", async || {
        let resumed = crowd.told.resumed.load(Ordering::Relaxed);
        (resumed >= CLIENTS / 2 - 10).then_some(())
    })
    .await;
    crowd.all_here(SOON, CLIENTS).await;
    let together = killed.elapsed();
    eprintln!("ready again after {back:?}, everybody back after {together:?}");
    // One second for the optimised program; this one is not.
    assert!(back < Duration::from_secs(4), "{back:?}");
    assert!(together < Duration::from_secs(3), "{together:?}");
    crowd.finish(&db, CLIENTS * VOTES_EACH).await;
}

/// A hall is on one instance, the only one; a second one starts, and with `--rebalance` gets its half within seconds, while
/// everybody votes. Nobody is turned away or moved twice, also not once it is even.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_instance_gets_its_share_of_a_full_hall() {
    const VOTES_EACH: usize = 7;
    let db = TestDb::fresh().await;
    let mut places = [Place::new(&db, "i1").await, Place::new(&db, "i2").await];
    for place in &mut places {
        place.flags.push(String::from("--rebalance"));
        place.server.kill9();
    }
    places[0].again(&db).await;
    let balancer = Balancer::start(Kind::HaProxy, &[&places[0].server, &places[1].server]).await;
    balancer.sees_all(&[("plenum_streams", "i1", "UP"), ("plenum_streams", "i2", "DOWN")]).await;
    let crowd = Crowd::start(&balancer, PARTICIPANTS, VOTES_EACH).await;
    assert_eq!(places[0].server.metric("plenum_connections", &[]).await, PARTICIPANTS as f64);
    places[1].again(&db).await;
    let begun = Instant::now();
    let of = async |name: &str| {
        let [first, second] = &places;
        [first.server.metric(name, &[]).await, second.server.metric(name, &[]).await]
    };
    let half = PARTICIPANTS as f64 / 2.0;
    let no_more_than = async |ratio: f64| {
        eventually(15, "the fullest has not so many", async || {
            let [first, second] = of("plenum_connections").await;
            (first <= half * ratio && first + second == 2.0 * half).then_some(begun.elapsed())
        })
        .await
    };
    let (took, settled) = (no_more_than(1.3).await, no_more_than(1.1).await);
    // Those who were told last have gone too, and each who was is on the other one.
    let moved = eventually(SOON, "everybody has arrived", async || {
        let [moved, back] = of("plenum_connections_moved_total").await;
        let arrived = of("plenum_connections").await == [2.0 * half - moved, moved];
        (arrived && back == 0.0).then_some(moved)
    })
    .await;
    crowd.all_here(SOON, PARTICIPANTS).await;
    eprintln!("1.3 after {took:?}, 1.1 after {settled:?}, {moved} moved");
    let told = Arc::clone(&crowd.told);
    crowd.finish(&db, PARTICIPANTS * VOTES_EACH).await;
    assert_eq!(told.resumed.load(Ordering::Relaxed) as f64, moved, "each of them once");
    assert_eq!(told.refusals(), Vec::<String>::new());
    assert_eq!(of("plenum_connections_moved_total").await, [moved, 0.0]);
}
