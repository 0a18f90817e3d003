//! TLS towards PostgreSQL: the right certificate is taken, the wrong authority, the wrong name and a plain connection are
//! refused. What is asked of which host by default is tested where addresses are read (`src/config/database.rs`).

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::*;

/// An authority, and its certificate as a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &std::path::Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::default()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, certificate.pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), file }
    }

    /// A certificate for `host`, and its key, as PEM.
    fn sign(&self, host: &str) -> (String, String) {
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Starts a server that must say why it does not.
fn refused(url: &str, why: &str) {
    let flags =
        ["--allow-anonymous-create", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let output = run(plenum(&[&["serve", "--database-url", url], &flags[..]].concat()));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{url}: {said}");
    assert!(said.contains(why), "{url}: {why} is expected: {said}");
}

#[tokio::test]
async fn the_right_certificate_is_taken_and_everything_else_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) =
        (Authority::new(folder.path(), "right.pem"), Authority::new(folder.path(), "wrong.pem"));
    let (certificate, key) = right.sign("localhost");
    let cluster = Cluster::start();
    let db = TestDb::on(&cluster).await;
    let url = |host: &str, rest: &str| {
        format!("postgres://plenum@{host}:{}/{}?{rest}", db.port(), db.name())
    };
    let trusting = |authority: &Authority, mode: &str| {
        format!("sslmode={mode}&sslrootcert={}", authority.file.display())
    };
    refused(&url("localhost", &trusting(&right, "verify-full")), "server does not support TLS");
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.speak_tls(&certificate, &key);
        cluster
    })
    .await
    .unwrap();
    for (host, mode) in
        [("localhost", "verify-full"), ("127.0.0.1", "verify-ca"), ("127.0.0.1", "require")]
    {
        let server = Server::at(&url(host, &trusting(&right, mode)), &[]).await;
        let room = Room::on(server, db.clone()).await;
        let poll = room.choice(2).await;
        assert_eq!(room.guest().await.cast(poll, pick(1)).await["type"], "ack");
        let all = cluster.connections(&db).await;
        assert!(all.iter().filter(|(_, tls)| *tls).count() >= 3, "{mode}: {all:?}");
        assert!(all.iter().all(|(_, tls)| *tls), "{mode}: some are plain: {all:?}");
        assert!(all.iter().any(|(name, _)| name == "plenum listener"), "{all:?}");
    }
    let unknown = "UnknownIssuer";
    refused(&url("localhost", &trusting(&wrong, "verify-full")), unknown);
    refused(&url("localhost", &trusting(&wrong, "verify-ca")), unknown);
    refused(&url("localhost", "sslmode=verify-full"), "certificate");
    refused(&url("127.0.0.1", &trusting(&right, "verify-full")), "not valid for name");
    refused(&url("localhost", "sslmode=disable"), "no encryption");
    refused(&url("localhost", "sslmode=require&sslrootcert=/nowhere.pem"), "sslrootcert");
}
