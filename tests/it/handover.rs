//! An upgrade on one host: a socket that somebody else holds open (systemd) is served by one process after the other, and no
//! connection attempt is lost in between.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::*;

/// Who connects has a whole answer, or has lost.
#[tokio::test]
async fn an_upgrade_on_one_host_drops_no_connection_attempt() {
    let db = TestDb::fresh().await;
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let flags = ["--drain-seconds", "1"];
    let mut first = Server::handed(&db, held.try_clone().unwrap().into(), &flags).await;
    assert_eq!(first.listen, address);
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (over, answered) = (over.clone(), answered.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let request =
                        "GET /v1/openapi.json HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
                    assert_eq!(exchange(address, request).await.status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let enough = async |count: usize| {
        let from = answered.load(Ordering::Relaxed);
        eventually(SOON, "calls are answered", async || {
            (answered.load(Ordering::Relaxed) >= from + count).then_some(())
        })
        .await;
    };
    for _ in 0..3 {
        enough(50).await;
        assert_eq!(first.stop().await.code(), Some(0));
        first = Server::handed(&db, held.try_clone().unwrap().into(), &flags).await;
        enough(50).await;
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("a connection attempt was lost");
    }
}

/// Without a socket handed over, the address is the server's own, and gone with it.
#[tokio::test]
async fn a_handed_socket_outlives_its_server() {
    let db = TestDb::fresh().await;
    let held: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
    let mut server = Server::handed(&db, held.try_clone().unwrap(), &[]).await;
    let address = server.listen;
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_ok(), "it waits for the next server");
    let mut own = Server::start(&db).await;
    let address = own.listen;
    own.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// The flag speaks of this machine alone, the socket does not.
#[test]
fn a_handed_socket_that_is_open_to_others_needs_a_key_or_the_word() {
    let held: OwnedFd = TcpListener::bind("0.0.0.0:0").unwrap().into();
    let server = plenum(&["serve", "--database-url", "postgres://x@127.0.0.1:1/x"]);
    let output = run(handing(&server, held));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("--api-key"), "{said}");
}
