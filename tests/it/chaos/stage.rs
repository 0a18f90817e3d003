//! What a fault run is played on: PostgreSQL on a disk of its own, three instances, and a proxy on either side of each.
//! Must never change while a fault is injected but through it. Called by every module of `chaos`.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::disk::{self, Disk};
use super::faults::Fault;
use crate::support::*;

/// Instances.
const PLACES: usize = 3;
/// What instances run with: rates that no voter of a fault run reaches.
const FLAGS: [&str; 6] =
    ["--message-burst", "100000", "--message-rate", "100000", "--drain-seconds", "3"];
const LIBFAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// One instance, with what stands before and behind it.
#[derive(Debug)]
pub(super) struct Place {
    /// Between clients and the instance.
    pub(super) front: Proxy,
    /// Between the instance and PostgreSQL.
    pub(super) back: Proxy,
    pub(super) server: Mutex<Server>,
    name: String,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) places: Vec<Place>,
    pub(super) db: TestDb,
    pub(super) cluster: Arc<Cluster>,
    pub(super) disk: Result<Disk, String>,
    /// For the clock of an instance that jumps.
    pub(super) clock: tempfile::NamedTempFile,
}

impl Stage {
    pub(super) async fn set() -> Stage {
        let mut disk = Err("never tried".to_owned());
        let cluster = Cluster::start_on("max_wal_size = 1GB", |home, owner| {
            disk = Disk::mount(home, owner);
        });
        let db = TestDb::on(&cluster).await;
        let mut places = Vec::new();
        for number in 0..PLACES {
            let back = Proxy::start(db.port()).await;
            let name = format!("place-{number}");
            let server = start(&db, &back, &name, &[]).await;
            let front = Proxy::plain(server.listen.port()).await;
            places.push(Place { front, back, server: Mutex::new(server), name });
        }
        let clock = tempfile::NamedTempFile::new().unwrap();
        Stage { places, db, cluster: Arc::new(cluster), disk, clock }
    }

    /// The faults that can be injected here, and the reasons why others cannot.
    pub(super) fn able(&self) -> (Vec<Fault>, Vec<String>) {
        let mut skipped = Vec::new();
        let mut able = Fault::ALL.to_vec();
        let mut skip = |faults: &[Fault], reason: &str| {
            able.retain(|fault| !faults.contains(fault));
            skipped.extend(faults.iter().map(|fault| format!("{}: {reason}", fault.words())));
        };
        if let Err(reason) = &self.disk {
            skip(&[Fault::DiskFull, Fault::PowerLoss], reason);
        }
        if let Err(reason) = disk::run("prlimit", &["--version"]) {
            skip(&[Fault::NoDescriptors], &reason);
        }
        if !std::path::Path::new(LIBFAKETIME).exists() {
            skip(&[Fault::ClockJumps], "libfaketime is not installed");
        }
        (able, skipped)
    }

    /// Where clients of an instance connect; any number stands for one.
    pub(super) fn base(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.place(number).front.port())
    }

    pub(super) fn place(&self, number: usize) -> &Place {
        &self.places[number % self.places.len()]
    }

    /// A fresh session.
    pub(super) async fn session(&self) -> Session {
        let api = self.places[0].server.lock().await.api.clone();
        Session::create(&api, json!({"title": "While things break"})).await
    }

    /// Starts an instance in the place of one that is gone.
    pub(super) async fn replace(&self, place: &Place, environment: &[(&str, &str)]) {
        let server = start(&self.db, &place.back, &place.name, environment).await;
        place.front.aim(server.listen.port());
        *place.server.lock().await = server;
    }

    /// What gives an instance the clock that the file `clock` says.
    pub(super) fn clock_of_its_own(&self) -> Vec<(&str, &str)> {
        vec![
            ("LD_PRELOAD", LIBFAKETIME),
            ("FAKETIME_TIMESTAMP_FILE", self.clock.path().to_str().unwrap()),
            ("FAKETIME_CACHE_DURATION", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}

async fn start(db: &TestDb, back: &Proxy, name: &str, environment: &[(&str, &str)]) -> Server {
    let flags = [&FLAGS[..], &["--instance-id", name]].concat();
    Server::under(environment, &db.url_by(back.port()), &flags).await
}
