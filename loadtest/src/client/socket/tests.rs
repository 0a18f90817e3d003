//! The socket against a small server of its own: raw TCP that shakes hands and then does what
//! the test scripts, byte by byte, so that cuts inside a frame can be placed exactly.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

/// Longer than any of these tests takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(10);

/// Accepts one connection, answers its upgrade followed by `early`, and returns the stream.
async fn accept(listener: TcpListener, early: &[u8]) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let key = head
        .lines()
        .find_map(|line| line.split_once(": ").filter(|(name, _)| name == &"sec-websocket-key"))
        .unwrap()
        .1
        .to_owned();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_of(&key)
    );
    let bytes = [answer.as_bytes(), early].concat();
    stream.write_all(&bytes).await.unwrap();
    stream
}

#[expect(clippy::disallowed_methods, reason = "a test's own task, awaited by the test")]
async fn pair(early: &'static [u8]) -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/v1/ws", listener.local_addr().unwrap());
    let server: JoinHandle<TcpStream> = tokio::spawn(accept(listener, early));
    let socket = Socket::connect(&url).await.unwrap();
    (socket, server.await.unwrap())
}

/// Reads one client frame shorter than 126 bytes: opcode byte and unmasked payload.
async fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 6];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[1] & 0x80, 0x80, "client frames are masked");
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut payload).await.unwrap();
    payload.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= head[2 + at % 4]);
    (head[0], payload)
}

fn message(n: u32) -> Incoming {
    Incoming::Message(json!({ "n": n }))
}

#[tokio::test]
async fn a_cancelled_recv_loses_nothing_of_a_frame_cut_in_its_head() {
    let (mut socket, mut server) = pair(b"").await;
    server.write_all(&[0x81]).await.unwrap();
    for rest in [&b"\x07{\"n\""[..], &b":1}\x81\x07{\"n\":2"[..], &b"}"[..]] {
        // One poll, then dropped: what a `select!` with a ready other branch does.
        tokio::select! {
            biased;
            early = socket.recv() => assert_eq!(early.unwrap(), message(1)),
            () = std::future::ready(()) => {}
        }
        server.write_all(rest).await.unwrap();
    }
    let received = async {
        loop {
            if socket.recv().await.unwrap() == message(2) {
                return;
            }
        }
    };
    timeout(DEADLINE, received).await.unwrap();
}

#[tokio::test]
async fn a_frame_that_came_with_the_upgrade_is_received() {
    let (mut socket, _server) = pair(b"\x88\x06\x11\x97full").await;
    let full = Incoming::Closed { code: Some(4503), reason: "full".to_owned() };
    assert_eq!(timeout(DEADLINE, socket.recv()).await.unwrap().unwrap(), full);
    assert!(matches!(socket.recv().await, Err(ClientError::Ended)));
}

#[tokio::test]
async fn a_ping_is_answered_and_fragments_are_joined() {
    let (mut socket, mut server) = pair(b"").await;
    server.write_all(b"\x01\x03{\"n\x89\x02hi\x80\x04\":3}").await.unwrap();
    assert_eq!(timeout(DEADLINE, socket.recv()).await.unwrap().unwrap(), message(3));
    assert_eq!(read_frame(&mut server).await, (0x8a, b"hi".to_vec()));
}

#[tokio::test]
async fn messages_go_out_masked_and_in_order() {
    let (socket, mut server) = pair(b"").await;
    let (mut sender, _receiver) = socket.split();
    sender.send(&json!({"n": 1})).await.unwrap();
    sender.send_texts(&["two", "three"]).await.unwrap();
    sender.close(1000, "bye").await.unwrap();
    assert_eq!(read_frame(&mut server).await, (0x81, b"{\"n\":1}".to_vec()));
    assert_eq!(read_frame(&mut server).await, (0x81, b"two".to_vec()));
    assert_eq!(read_frame(&mut server).await, (0x81, b"three".to_vec()));
    assert_eq!(read_frame(&mut server).await, (0x88, b"\x03\xe8bye".to_vec()));
}

#[tokio::test]
async fn an_end_without_a_close_frame_has_no_code() {
    let (mut socket, server) = pair(b"").await;
    drop(server);
    let end = timeout(DEADLINE, socket.recv()).await.unwrap().unwrap();
    assert!(matches!(end, Incoming::Closed { code: None, .. }), "{end:?}");
}
