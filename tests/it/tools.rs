//! The tools of the tests do what they say; otherwise a test that uses them would prove nothing.

use tokio_postgres::NoTls;

use crate::support::*;

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn the_proxy_loses_an_answer_but_not_the_statement() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let direct = db.sql().await;
    direct.batch_execute("CREATE TABLE marks (n int)").await.unwrap();
    let client = connect(&db.url_by(proxy.port())).await;
    let insert = client.prepare("INSERT INTO marks VALUES ($1)").await.unwrap();
    client.execute(&insert, &[&1]).await.unwrap();
    proxy.lose_answer_of("INSERT INTO marks");
    let bystander = connect(&db.url_by(proxy.port())).await;
    assert!(client.execute(&insert, &[&2]).await.is_err(), "the answer was to be lost");
    proxy.lost(1).await;
    bystander.execute("SELECT 1", &[]).await.unwrap();
    let rows = direct.query("SELECT n FROM marks ORDER BY n", &[]).await.unwrap();
    let stored: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(stored, [1, 2], "carried out all the same");
    let again = connect(&db.url_by(proxy.port())).await;
    again.execute("INSERT INTO marks VALUES (3)", &[]).await.unwrap();
}

#[tokio::test]
async fn the_proxy_freezes_and_refuses() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let url = db.url_by(proxy.port());
    let client = connect(&url).await;
    proxy.freeze();
    {
        let frozen = client.execute("SELECT 1", &[]);
        tokio::pin!(frozen);
        let waiting =
            tokio::time::timeout(std::time::Duration::from_millis(200), &mut frozen).await;
        assert!(waiting.is_err(), "answered while frozen");
        proxy.forward();
        within(SOON, "thawed", frozen).await.unwrap();
    }
    proxy.refuse();
    assert!(client.execute("SELECT 1", &[]).await.is_err());
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
    proxy.forward();
    connect(&url).await.execute("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_cluster_of_ones_own_dies_and_comes_back_with_what_was_committed() {
    let cluster = Cluster::start();
    let db = TestDb::on(&cluster).await;
    let sql = db.sql().await;
    let fsync: String = sql.query_one("SHOW fsync", &[]).await.unwrap().get(0);
    assert_eq!(fsync, "on");
    sql.batch_execute("CREATE TABLE marks AS SELECT 7 AS n").await.unwrap();
    cluster.kill9();
    assert!(sql.execute("SELECT 1", &[]).await.is_err());
    cluster.start_again();
    assert_eq!(db.count("SELECT count(*) FROM marks").await, 1);
}
