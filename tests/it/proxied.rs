//! What proxies say about their clients: the PROXY protocol and X-Forwarded-For, believed from those that are trusted and
//! from nobody else. Byte by byte, where no balancer would send such a thing. Whole balancers are in `balancers`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::support::*;

/// The server trusts 127.0.0.1 alone.
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const FLAGS: [&str; 3] =
    ["--trusted-proxy=127.0.0.1", "--proxy-protocol", "--allow-anonymous-create"];
/// Version 2 of the header: its signature.
const BLOCK: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A guess at a code, one request on a connection that stays open.
fn guess(forwarded: &str) -> String {
    let body = r#"{"code":"00000000"}"#;
    format!(
        "POST /v1/join HTTP/1.1\r\nHost: x\r\n{forwarded}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The status of one request with these bytes before it; nothing where the connection is cut instead.
async fn ask(server: &Server, from: IpAddr, header: &[u8], forwarded: &str) -> Option<u16> {
    let mut connection = RawHttp::connect_from(server.listen, from).await;
    connection.bytes(&[header, guess(forwarded).as_bytes()].concat()).await;
    connection.answer(SOON).await.map(|answer| answer.status)
}

/// Guesses until the limit, all in one connection that begins with `header`.
async fn use_up(server: &Server, from: IpAddr, header: &[u8], forwarded: &str) {
    let mut connection = RawHttp::connect_from(server.listen, from).await;
    connection.bytes(header).await;
    for _ in 0..100 {
        connection.bytes(guess(forwarded).as_bytes()).await;
        assert_eq!(connection.answer(SOON).await.unwrap().status, 404);
    }
}

fn line(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 127.0.0.1 5000 80\r\n").into_bytes()
}

fn block(command: u8, client: [u8; 4], more: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + more.len()).unwrap().to_be_bytes();
    let ports = [0, 99, 0, 80];
    [BLOCK, &[command, 0x11], &length, &client, &[127, 0, 0, 1], &ports, more].concat()
}

async fn server() -> Server {
    Server::with(&TestDb::fresh().await, &FLAGS[..2]).await
}

#[tokio::test]
async fn a_client_is_who_a_trusted_proxy_says_in_either_version() {
    let server = server().await;
    use_up(&server, PROXY, &line("203.0.113.1"), "").await;
    assert_eq!(ask(&server, PROXY, &line("203.0.113.1"), "").await, Some(429));
    assert_eq!(ask(&server, PROXY, &block(0x21, [203, 0, 113, 1], &[]), "").await, Some(429));
    let with_more = block(0x21, [203, 0, 113, 1], &[0x04, 0, 3, 0, 0, 0]);
    assert_eq!(ask(&server, PROXY, &with_more, "").await, Some(429));
    assert_eq!(ask(&server, PROXY, &line("203.0.113.2"), "").await, Some(404));
    // The header counts, and what its client claims beside it does not.
    let forged = "X-Forwarded-For: 203.0.113.3\r\n";
    assert_eq!(ask(&server, PROXY, &line("203.0.113.1"), forged).await, Some(429));
    // A proxy that speaks for itself, as in a health check, is not its clients.
    assert_eq!(ask(&server, PROXY, &block(0x20, [203, 0, 113, 1], &[]), "").await, Some(404));
    let local = [BLOCK, &[0x20, 0, 0, 0]].concat();
    assert_eq!(ask(&server, PROXY, &local, "").await, Some(404));
    assert_eq!(ask(&server, PROXY, b"PROXY UNKNOWN\r\n", "").await, Some(404));
}

#[tokio::test]
async fn a_header_may_come_in_pieces_and_nothing_behind_it_is_lost() {
    let server = server().await;
    for header in [line("203.0.113.1"), block(0x21, [203, 0, 113, 1], &[])] {
        let mut connection = RawHttp::connect_from(server.listen, PROXY).await;
        for byte in [&header, guess("").as_bytes()].concat() {
            connection.bytes(&[byte]).await;
        }
        assert_eq!(connection.answer(SOON).await.unwrap().status, 404);
    }
}

#[tokio::test]
async fn a_trusted_proxy_without_a_proper_header_is_cut_off() {
    let server = server().await;
    let too_long = [BLOCK, &[0x21, 0x11, 0xff, 0xff], &[0; 2_000]].concat();
    let headers: [&[u8]; 6] = [
        b"",
        b"PROXY TCP4 203.0.113.1 127.0.0.1 5000\r\n",
        b"PROXY TCP5 203.0.113.1 127.0.0.1 5000 80\r\n",
        &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
        &block(0x2f, [203, 0, 113, 1], &[]),
        &too_long,
    ];
    for header in headers {
        assert_eq!(ask(&server, PROXY, header, "").await, None, "{header:?}");
    }
    let refused = "plenum_proxy_headers_refused_total";
    assert_eq!(server.metric(refused, &[]).await, headers.len() as f64);
    // Operations are nobody's clients.
    assert_eq!(server.ops_get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_proxy_that_says_nothing_is_not_waited_for() {
    let server = server().await;
    let begin = Instant::now();
    let mut silent = RawHttp::connect_from(server.listen, PROXY).await;
    let mut half = RawHttp::connect_from(server.listen, PROXY).await;
    half.bytes(&line("203.0.113.1")[..30]).await;
    assert!(silent.answer(8).await.is_none() && half.answer(8).await.is_none());
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(2) && waited < Duration::from_secs(6), "{waited:?}");
}

#[tokio::test]
async fn a_stranger_is_believed_nothing() {
    let server = server().await;
    // Whoever is no proxy speaks HTTP, and a header is none.
    assert_eq!(ask(&server, STRANGER, &line("203.0.113.1"), "").await, Some(400));
    assert_eq!(ask(&server, STRANGER, &block(0x21, [203, 0, 113, 1], &[]), "").await, Some(400));
    use_up(&server, STRANGER, b"", "").await;
    let forged = "X-Forwarded-For: 203.0.113.9\r\n";
    assert_eq!(ask(&server, STRANGER, b"", forged).await, Some(429));
}

/// HAProxy's `option forwardfor` adds a line of its own below the client's; the client's is no better for standing first.
#[tokio::test]
async fn the_last_of_several_forwarded_lines_is_the_proxys() {
    let server = Server::with(&TestDb::fresh().await, &FLAGS[..1]).await;
    let two = |client: &str| {
        format!("X-Forwarded-For: 198.51.100.{}\r\nX-Forwarded-For: {client}\r\n", client.len())
    };
    use_up(&server, PROXY, b"", &two("203.0.113.1")).await;
    let forged = "X-Forwarded-For: 198.51.100.77\r\nX-Forwarded-For: 203.0.113.1\r\n";
    assert_eq!(ask(&server, PROXY, b"", forged).await, Some(429));
    assert_eq!(ask(&server, PROXY, b"", &two("203.0.113.22")).await, Some(404));
}
