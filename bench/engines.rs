//! The two engines at work, by their public handles, on a real PostgreSQL: admission and batcher, the
//! vote function, and the hub with real sockets.
//! Must never stand in for the load test: no client, no HTTP. Called by `make bench`.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plenum::config::database::Address;
use plenum::domain::{
    Answer, Ballot, Draft, EventKind, LoggedEvent, ParticipantId, PollKind, PollNumber,
    ResultsMode, Seq, SessionId, Timestamp, Verdict, Vote, VoteId,
};
use plenum::drain::Drain;
use plenum::feed::{Feed, Settings, Target, TargetGone, Who};
use plenum::metrics::Metrics;
use plenum::outbox::Outbox;
use plenum::ring::{Cursor, Ring};
use plenum::store::connection::{Database, Role};
use plenum::store::control::NewSession;
use plenum::store::embedded::Embedded;
use plenum::store::history::{Evidence, History};
use plenum::store::votes::VoteLink;
use plenum::store::{Store, migrate, partitions};
use plenum::vote::{Answers, Offer, Votes};
use plenum::wire::frame;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use uuid::Uuid;

/// A database with one session and an open poll.
struct Ground {
    runtime: Runtime,
    embedded: Option<Embedded>,
    _folder: tempfile::TempDir,
    database: Database,
    store: Store,
    drain: Drain,
    metrics: Arc<Metrics>,
    session: SessionId,
}

impl Ground {
    fn lay() -> Ground {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let drain = Drain::new(metrics.tasks.clone());
        let session = SessionId(Uuid::now_v7());
        let (embedded, database, store) = runtime.block_on(async {
            let embedded = Embedded::start(folder.path()).await.unwrap();
            let address = Address::parse(&embedded.url()).unwrap();
            let history = History::new(&metrics);
            let database = Database::new(&address, Role::Primary, &history).unwrap();
            migrate::migrate(&database, &drain).await.unwrap();
            partitions::keep_up(&database, &drain).await.unwrap();
            let store = Store::new(&database, &[], &drain, metrics.clone());
            store.settle(Evidence::None).await.unwrap(); // makes the epoch
            let new = NewSession {
                id: session,
                codes: &["12345678".to_owned()],
                title: "Bench",
                starts_at: None,
                expected_participants: None,
                presenter_hash: [7; 32],
            };
            store.create_session(&new).await.unwrap();
            let draft = Draft {
                kind: PollKind::Choice,
                question: "Which?".to_owned(),
                options: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
                size: 4,
                max_choices: 1,
                results: ResultsMode::Live,
            };
            store.create_poll(session, &draft).await.unwrap();
            store.open_poll(session, PollNumber(1)).await.unwrap();
            (embedded, database, store)
        });
        let embedded = Some(embedded);
        Ground { runtime, embedded, _folder: folder, database, store, drain, metrics, session }
    }

    /// One vote of somebody new.
    fn vote(&self) -> Vote {
        Vote {
            session: self.session,
            poll: PollNumber(1),
            participant: ParticipantId(Uuid::now_v7()),
            id: VoteId(Uuid::new_v4()),
            ballot: Ballot::Answer(Answer::Choices(vec![1])),
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(embedded) = self.embedded.take() {
            self.runtime.block_on(embedded.stop()).unwrap();
        }
    }
}

/// Counts answers, and tells when all have come.
#[derive(Default)]
struct Count {
    left: AtomicUsize,
    done: Notify,
}

impl Answers for Count {
    fn answer(&self, _: VoteId, _: PollNumber, verdict: &Verdict) {
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    fn flush(&self) {}
}

fn votes(c: &mut Criterion) {
    let ground = Ground::lay();
    let mut group = c.benchmark_group("votes");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    let mut link =
        ground.runtime.block_on(VoteLink::connect(&ground.database, &ground.drain)).unwrap();
    for size in [1_usize, 100, 1_000] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_with_input(
            BenchmarkId::new("vote function, votes a call", size),
            &size,
            |b, size| {
                b.iter_custom(|rounds| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        let votes: Vec<Vote> = (0..*size).map(|_| ground.vote()).collect();
                        let begin = Instant::now();
                        let cast = link.cast(Uuid::now_v7(), &votes);
                        let committed = ground.runtime.block_on(cast).unwrap();
                        spent += begin.elapsed();
                        assert_eq!(committed.verdicts.len(), *size);
                    }
                    spent
                });
            },
        );
    }
    let votes = {
        let _on = ground.runtime.enter();
        let offer = Offer(Arc::new(|_, _| {}));
        Votes::start(&ground.database, 1, &ground.drain, &ground.metrics, &offer)
    };
    for size in [1_usize, 1_000, 5_000] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_with_input(
            BenchmarkId::new("admission to answer, votes at once", size),
            &size,
            |b, size| {
                b.iter_custom(|rounds| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        let all: Vec<Vote> = (0..*size).map(|_| ground.vote()).collect();
                        let count = Arc::new(Count::default());
                        count.left.store(*size, Ordering::Release);
                        let begin = Instant::now();
                        all.into_iter().for_each(|vote| votes.cast(vote, count.clone()));
                        ground.runtime.block_on(count.done.notified());
                        spent += begin.elapsed();
                    }
                    spent
                });
            },
        );
    }
    group.finish();
}

/// A socket that follows the session; what is written to it is read away.
struct Follower(Arc<Outbox>);

impl Target for Follower {
    fn send(&self, _: Option<Seq>, parts: &[&str]) {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.0.preload(frame::text(&parts));
    }

    async fn ready(&self) -> Result<(), TargetGone> {
        Ok(())
    }

    fn attach(&self, ring: Arc<Ring>, cursor: Cursor) {
        self.0.subscribe(ring, cursor);
    }

    fn socket(&self) -> Option<&Arc<Outbox>> {
        Some(&self.0)
    }
}

async fn socket_pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

fn hub(c: &mut Criterion) {
    const SOCKETS: usize = 500;
    let ground = Ground::lay();
    let (_sender, instances) = tokio::sync::watch::channel(Vec::new());
    let settings = Settings {
        public_url: "http://localhost".to_owned(),
        poll_interval: Duration::from_secs(3_600),
        instance_id: "bench".to_owned(),
        instances,
    };
    let session = ground.session;
    let (feed, subscriptions, data, head) = ground.runtime.block_on(async {
        let feed = Feed::start(settings, &ground.store, &ground.drain, &ground.metrics);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut subscriptions = Vec::new();
        for _ in 0..SOCKETS {
            let (mut client, server) = socket_pair(&listener).await;
            let follower = Follower(Outbox::new(server.into()));
            let who = Who::Participant {
                id: ParticipantId(Uuid::now_v7()),
                token: String::new(),
                new: true,
            };
            subscriptions.push(feed.follow(session, &who, None, &follower).await.unwrap());
            ground.drain.spawn_client(async move {
                let mut sink = [0; 4_096];
                while client.read(&mut sink).await.is_ok_and(|count| count > 0) {}
            });
        }
        let snapshot = ground.store.snapshot(session).await.unwrap().unwrap();
        let data: Arc<str> = serde_json::to_string(&snapshot.session).unwrap().into();
        (feed, subscriptions, data, snapshot.seq)
    });
    let mut group = c.benchmark_group("hub");
    group.throughput(Throughput::Elements(SOCKETS as u64));
    let mut seq = head;
    group.bench_function("one event to 500 sockets", |b| {
        b.iter_custom(|rounds| {
            let begin = Instant::now();
            for _ in 0..rounds {
                seq = seq.next();
                let event = LoggedEvent {
                    session,
                    seq,
                    at: Timestamp::now(),
                    kind: EventKind::SessionUpdated,
                    results_hidden: false,
                    data: data.clone(),
                };
                let delivered = ground.metrics.delivered.get();
                feed.offer(event, tokio::time::Instant::now());
                while ground.metrics.delivered.get() < delivered + SOCKETS as u64 {
                    std::thread::yield_now();
                }
            }
            begin.elapsed()
        });
    });
    group.finish();
    drop(subscriptions);
}

criterion_group!(benches, votes, hub);
criterion_main!(benches);
