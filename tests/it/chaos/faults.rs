//! The things that break, one at a time: each is injected, lasts a while that the dice say, and is over when this returns.
//! Must never leave anything broken behind. Called by `mod.rs`.

use std::io::Write;
use std::time::Duration;

use super::disk::run;
use super::promotion::primary_replaced;
use super::stage::{Place, Stage};
use crate::support::*;
use fastrand::Rng;

/// How long a fault lasts, in milliseconds, where that is not its own affair.
const LASTS_MS: std::ops::Range<u64> = 300..3_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    InstanceKilled,
    InstanceFrozen,
    InstanceDrained,
    DatabaseKilled,
    DatabaseStopped,
    DatabaseRestarted,
    DatabaseFrozen,
    BackendsTerminated,
    LinkCut,
    LinkFrozen,
    LinkHalfOpen,
    AnswersLost,
    ClientsCut,
    ClientsFrozen,
    ClientsHalfOpen,
    StandbyWaitCancelled,
    TableLocked,
    NoDescriptors,
    DiskFull,
    PowerLoss,
    ClockJumps,
    PrimaryReplaced,
}

use Fault::*;

impl Fault {
    pub(super) const ALL: [Fault; 22] = [
        InstanceKilled,
        InstanceFrozen,
        InstanceDrained,
        DatabaseKilled,
        DatabaseStopped,
        DatabaseRestarted,
        DatabaseFrozen,
        BackendsTerminated,
        LinkCut,
        LinkFrozen,
        LinkHalfOpen,
        AnswersLost,
        ClientsCut,
        ClientsFrozen,
        ClientsHalfOpen,
        StandbyWaitCancelled,
        TableLocked,
        NoDescriptors,
        DiskFull,
        PowerLoss,
        ClockJumps,
        PrimaryReplaced,
    ];

    pub(super) fn words(self) -> &'static str {
        match self {
            InstanceKilled => "kill -9 of an instance",
            InstanceFrozen => "SIGSTOP of an instance",
            InstanceDrained => "SIGTERM of an instance",
            DatabaseKilled => "kill -9 of PostgreSQL",
            DatabaseStopped => "immediate stop of PostgreSQL",
            DatabaseRestarted => "restart of PostgreSQL",
            DatabaseFrozen => "SIGSTOP of PostgreSQL",
            BackendsTerminated => "all database connections terminated",
            LinkCut => "cut between an instance and PostgreSQL",
            LinkFrozen => "freeze between an instance and PostgreSQL",
            LinkHalfOpen => "PostgreSQL's answers do not arrive",
            AnswersLost => "query sent, answer lost",
            ClientsCut => "all clients cut off",
            ClientsFrozen => "freeze between clients and an instance",
            ClientsHalfOpen => "an instance's answers do not arrive",
            StandbyWaitCancelled => "wait for the standby cancelled",
            TableLocked => "table locked, pool starved",
            NoDescriptors => "no file descriptors left",
            DiskFull => "disk full under PostgreSQL",
            PowerLoss => "power loss under PostgreSQL",
            ClockJumps => "an instance's clock jumps by hours",
            PrimaryReplaced => "primary lost, standby promoted, and back",
        }
    }

    pub(super) async fn inject(self, stage: &Stage, dice: &mut Rng) {
        let place = stage.place(dice.usize(..));
        let lasts = Duration::from_millis(dice.u64(LASTS_MS));
        let pass = || tokio::time::sleep(lasts);
        match self {
            InstanceKilled => {
                place.server.lock().await.kill9();
                pass().await;
                stage.replace(place, &[]).await;
            }
            InstanceFrozen => {
                place.server.lock().await.signal(Signal::STOP);
                pass().await;
                place.server.lock().await.signal(Signal::CONT);
            }
            InstanceDrained => {
                let status = place.server.lock().await.stop().await;
                assert_eq!(status.code(), Some(0), "an orderly end");
                stage.replace(place, &[]).await;
            }
            DatabaseKilled | DatabaseStopped | DatabaseRestarted | DatabaseFrozen | PowerLoss => {
                self.at_database(stage, lasts).await;
            }
            BackendsTerminated => {
                let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                           WHERE application_name LIKE 'plenum%'";
                stage.db.count(end).await;
            }
            LinkCut | LinkFrozen | LinkHalfOpen | AnswersLost | ClientsCut | ClientsFrozen
            | ClientsHalfOpen => self.at_links(stage, place, lasts).await,
            StandbyWaitCancelled => standby_wait_cancelled(stage, lasts).await,
            TableLocked => {
                let sql = stage.db.sql().await;
                sql.batch_execute("BEGIN; LOCK TABLE polls IN ACCESS EXCLUSIVE MODE")
                    .await
                    .unwrap();
                pass().await;
                sql.batch_execute("ROLLBACK").await.unwrap();
            }
            NoDescriptors => no_descriptors(place, lasts).await,
            DiskFull => disk_full(stage, lasts).await,
            ClockJumps => clock_jumps(stage, place).await,
            PrimaryReplaced => primary_replaced(stage, lasts).await,
        }
    }

    async fn at_links(self, stage: &Stage, place: &Place, lasts: Duration) {
        let pass = || tokio::time::sleep(lasts);
        match self {
            LinkCut => {
                place.back.refuse();
                pass().await;
                place.back.forward();
            }
            LinkFrozen => {
                place.back.freeze();
                pass().await;
                place.back.forward();
            }
            LinkHalfOpen => {
                place.back.mute();
                pass().await;
                // What was said meanwhile is lost with the connections.
                place.back.cut();
            }
            AnswersLost => {
                stage.places.iter().for_each(|place| place.back.lose_answer_of("cast_votes"));
                pass().await;
                stage.places.iter().for_each(|place| place.back.lose_nothing());
            }
            ClientsCut => {
                stage.places.iter().for_each(|place| place.front.cut());
            }
            ClientsFrozen => {
                place.front.freeze();
                pass().await;
                place.front.forward();
            }
            _ => {
                place.front.mute();
                pass().await;
                place.front.cut();
            }
        }
    }

    async fn at_database(self, stage: &Stage, lasts: Duration) {
        let cluster = &stage.cluster;
        match self {
            DatabaseKilled => cluster.kill9(),
            DatabaseStopped => cluster.stop("immediate"),
            DatabaseRestarted => cluster.stop("fast"),
            DatabaseFrozen => cluster.signal(Signal::STOP),
            _ => {
                let (disk, postmaster) = (stage.disk.as_ref().unwrap(), cluster.postmaster());
                disk.lose_power();
                kill9_with_children(postmaster);
                disk.come_back();
            }
        }
        tokio::time::sleep(lasts).await;
        match self {
            DatabaseFrozen => cluster.signal(Signal::CONT),
            _ => tokio::task::block_in_place(|| cluster.start_again()),
        }
    }
}

/// Commits wait for a standby that is not there, and have their wait cut short: nothing of them may be acked.
async fn standby_wait_cancelled(stage: &Stage, lasts: Duration) {
    let sql = stage.db.sql().await;
    sql.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < lasts {
        tokio::time::sleep(Duration::from_millis(100)).await;
        sql.batch_execute(cancel).await.unwrap();
    }
    sql.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
}

/// Three more, and then neither a client nor a database connection can be had; all clients come anew meanwhile.
async fn no_descriptors(place: &Place, lasts: Duration) {
    let pid = place.server.lock().await.pid().as_raw_nonzero().to_string();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let usual = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let usual = usual.split_whitespace().nth(3).unwrap();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let set =
        |limit: &str| run("prlimit", &["--pid", &pid, &format!("--nofile={limit}:")]).unwrap();
    set(&(open / 2).to_string());
    place.front.cut();
    tokio::time::sleep(lasts).await;
    set(usual);
}

/// PostgreSQL cannot write its log any more, and may go down over it.
async fn disk_full(stage: &Stage, lasts: Duration) {
    let disk = stage.disk.as_ref().unwrap();
    tokio::task::block_in_place(|| disk.fill());
    tokio::time::sleep(lasts).await;
    disk.clear();
    if !stage.cluster.is_up() {
        tokio::task::block_in_place(|| stage.cluster.start_again());
    }
}

/// An instance lives an hour ahead, then two behind, then has the right time again.
async fn clock_jumps(stage: &Stage, place: &Place) {
    let say = |offset: &str| {
        let mut file = std::fs::File::create(stage.clock.path()).unwrap();
        file.write_all(offset.as_bytes()).unwrap();
    };
    say("+0");
    place.server.lock().await.kill9();
    stage.replace(place, &stage.clock_of_its_own()).await;
    for offset in ["+1h", "-2h"] {
        say(offset);
        // It looks once a second.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    place.server.lock().await.kill9();
    stage.replace(place, &[]).await;
}
