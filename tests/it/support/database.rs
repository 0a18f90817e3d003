//! A fresh, empty database for one test, and plain SQL for looking at what was stored.
//! Must never write what only the server may write. Called by `room` and by tests.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

use super::cluster::{Cluster, shared};

/// One database of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct TestDb {
    name: String,
    port: u16,
}

impl TestDb {
    /// A fresh database of the shared cluster.
    pub(crate) async fn fresh() -> TestDb {
        TestDb::on(shared()).await
    }

    /// A fresh database of a given cluster.
    pub(crate) async fn on(cluster: &Cluster) -> TestDb {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("plenum_it_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let made = TestDb { name, port: cluster.port() };
        let server = connect(&made.url_of("postgres", made.port)).await;
        let create = format!("CREATE DATABASE {} TEMPLATE template0", made.name);
        server.batch_execute(&create).await.unwrap();
        made
    }

    /// Where a server finds this database.
    pub(crate) fn url(&self) -> String {
        self.url_of(&self.name, self.port)
    }

    /// The same database by way of another port, such as a proxy's.
    pub(crate) fn url_by(&self, port: u16) -> String {
        self.url_of(&self.name, port)
    }

    /// The same database on any of several clusters, the first one first.
    pub(crate) fn url_over(&self, ports: &[u16]) -> String {
        let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let hosts = hosts.join(",");
        format!(
            "postgres://plenum@{hosts}/{}?sslmode=disable&target_session_attrs=read-write",
            self.name
        )
    }

    /// The same database on another cluster.
    pub(crate) fn at(&self, cluster: &Cluster) -> TestDb {
        TestDb { name: self.name.clone(), port: cluster.port() }
    }

    /// The database that every cluster has.
    pub(crate) fn maintenance(cluster: &Cluster) -> TestDb {
        TestDb { name: String::from("postgres"), port: cluster.port() }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The port of the cluster itself.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn url_of(&self, name: &str, port: u16) -> String {
        format!("postgres://plenum@127.0.0.1:{port}/{name}?sslmode=disable")
    }

    /// A connection for looking.
    pub(crate) async fn sql(&self) -> Client {
        connect(&self.url()).await
    }

    /// How many rows `query` finds; its text is a whole `SELECT count(*) …`.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        self.sql().await.query_one(query, &[]).await.unwrap().get(0)
    }
}

pub(super) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    // Ends when the client is dropped; an error shows in the client's own calls.
    tokio::spawn(connection);
    client
}
