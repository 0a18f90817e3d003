//! WebSocket frames by hand: sizes, fragments, masks, reserved bits, control frames, UTF-8.

use crate::support::*;

const MESSAGE_MAX: usize = 16_384;

/// A ping message padded to so many bytes.
fn padded(size: usize) -> Vec<u8> {
    let mut text = br#"{"type":"ping"}"#.to_vec();
    text.resize(size, b' ');
    text
}

async fn joined(room: &Room) -> RawSocket {
    RawSocket::join(&room.server, &room.code).await
}

#[tokio::test]
async fn a_message_of_16_384_bytes_is_read_and_one_more_is_1009() {
    let room = Room::open().await;
    let mut socket = joined(&room).await;
    socket.send(TEXT, &padded(MESSAGE_MAX)).await;
    socket.message("pong").await;
    socket.send(TEXT, &padded(MESSAGE_MAX + 1)).await;
    assert_eq!(socket.close_code().await, Some(1009));
}

#[tokio::test]
async fn fragments_count_together() {
    let room = Room::open().await;
    let mut socket = joined(&room).await;
    let text = padded(MESSAGE_MAX);
    let (first, rest) = text.split_at(10_000);
    let (second, third) = rest.split_at(6_000);
    socket.send(TEXT_PART, first).await;
    socket.send(PING, b"in between").await;
    socket.send(PART, second).await;
    socket.send(LAST_PART, third).await;
    assert_eq!(socket.frame_of(PONG).await, b"in between");
    socket.message("pong").await;
    socket.send(TEXT_PART, &padded(MESSAGE_MAX)).await;
    socket.send(LAST_PART, b" ").await;
    assert_eq!(socket.close_code().await, Some(1009));
}

/// The head alone is enough to refuse: the rest may never come.
#[tokio::test]
async fn huge_lengths_are_refused_by_their_head() {
    let room = Room::open().await;
    for length in [MESSAGE_MAX as u64 + 1, 1 << 31, 1 << 62] {
        let mut socket = joined(&room).await;
        socket.bytes(&head(TEXT, length)).await;
        assert_eq!(socket.close_code().await, Some(1009), "{length}");
    }
    let mut socket = joined(&room).await;
    socket.bytes(&head(TEXT, u64::MAX)).await;
    let code = socket.close_code().await;
    assert!([Some(1002), Some(1009)].contains(&code), "{code:?}");
    let mut before_hello = RawSocket::connect(&room.server).await;
    before_hello.bytes(&head(TEXT, 1 << 40)).await;
    assert_eq!(before_hello.close_code().await, Some(1009));
}

#[tokio::test]
async fn fragments_without_end_are_closed() {
    let room = Room::open().await;
    for payload in [&b""[..], b" "] {
        let mut socket = joined(&room).await;
        socket.send(TEXT_PART, payload).await;
        let parts = frame(PART, payload).repeat(1000);
        for _ in 0..40 {
            socket.bytes(&parts).await;
        }
        let code = socket.close_code().await;
        assert!([Some(1002), Some(1009), Some(4429)].contains(&code), "{code:?}");
    }
    assert_eq!(room.guest().await.welcome["type"], "welcome");
}

#[tokio::test]
async fn an_unmasked_frame_is_1002() {
    let room = Room::open().await;
    let mut socket = joined(&room).await;
    socket.bytes(b"\x81\x0f{\"type\":\"ping\"}").await;
    assert_eq!(socket.close_code().await, Some(1002));
    let mut before_hello = RawSocket::connect(&room.server).await;
    before_hello.bytes(b"\x81\x02{}").await;
    assert_eq!(before_hello.close_code().await, Some(1002));
}

#[tokio::test]
async fn reserved_bits_and_opcodes_are_1002() {
    let room = Room::open().await;
    for first in [0xc1, 0xa1, 0x91, 0xf1, 0xc9, 0x83, 0x84, 0x87, 0x8b, 0x8f, 0x0b] {
        let mut socket = joined(&room).await;
        socket.send(first, &padded(20)).await;
        assert_eq!(socket.close_code().await, Some(1002), "{first:#x}");
    }
}

#[tokio::test]
async fn bad_fragments_are_1002() {
    let room = Room::open().await;
    for frames in [
        vec![(PART, &b"{}"[..])],
        vec![(LAST_PART, b"{}")],
        vec![(TEXT_PART, b"{"), (TEXT, b"{}")],
        vec![(TEXT_PART, b"{"), (TEXT_PART, b"}")],
    ] {
        let mut socket = joined(&room).await;
        for (first, payload) in &frames {
            socket.send(*first, payload).await;
        }
        assert_eq!(socket.close_code().await, Some(1002), "{frames:?}");
    }
}

#[tokio::test]
async fn bad_control_frames_are_1002() {
    let room = Room::open().await;
    for bytes in [
        frame(0x09, b"a ping in parts"),
        frame(0x08, b""),
        frame(PING, &[b'x'; 126]),
        head(PING, 65_536),
        frame(CLOSE, b"\x03"),
        frame(CLOSE, &999_u16.to_be_bytes()),
        frame(CLOSE, &1005_u16.to_be_bytes()),
        frame(CLOSE, &1006_u16.to_be_bytes()),
    ] {
        let mut socket = joined(&room).await;
        socket.bytes(&bytes).await;
        let head: Vec<u8> = bytes.iter().copied().take(8).collect();
        assert_eq!(socket.close_code().await, Some(1002), "{head:x?}");
    }
}

#[tokio::test]
async fn invalid_utf_8_is_1007() {
    let room = Room::open().await;
    for text in [
        &b"\xff"[..],
        b"{\"type\":\"\xc3\x28\"}",
        b"{\"type\":\"\xed\xa0\x80\"}",
        b"{\"type\":\"\xf4\x90\x80\x80\"}",
        b"{\"type\":\"ping\xc3",
    ] {
        let mut socket = joined(&room).await;
        socket.send(TEXT, text).await;
        assert_eq!(socket.close_code().await, Some(1007), "{text:x?}");
    }
    let mut socket = joined(&room).await;
    socket.send(CLOSE, b"\x03\xe8\xff\xfe").await;
    let code = socket.close_code().await;
    assert!([Some(1007), Some(1002)].contains(&code), "a reason that is no text: {code:?}");
}

/// A character may be cut by a fragment's end.
#[tokio::test]
async fn a_character_may_lie_across_two_fragments() {
    let room = Room::open().await;
    let mut socket = joined(&room).await;
    let text = "{\"type\":\"ping\",\"x\":\"\u{1f600}\"}".as_bytes();
    let (first, second) = text.split_at(22);
    assert!(std::str::from_utf8(first).is_err());
    socket.send(TEXT_PART, first).await;
    socket.send(LAST_PART, second).await;
    socket.message("pong").await;
}

#[tokio::test]
async fn binary_after_hello_is_4400() {
    let room = Room::open().await;
    for frames in [vec![(BINARY, &b"{}"[..])], vec![(0x02, b"{"), (LAST_PART, b"}")]] {
        let mut socket = joined(&room).await;
        for (first, payload) in &frames {
            socket.send(*first, payload).await;
        }
        assert_eq!(socket.close_code().await, Some(4400));
    }
}

#[tokio::test]
async fn pings_are_answered_with_their_own_bytes_and_pongs_are_not() {
    let room = Room::open().await;
    let mut socket = joined(&room).await;
    socket.send(PONG, b"nobody asked").await;
    let longest = [0xfe; 125];
    for payload in [&b""[..], b"x", &longest] {
        socket.send(PING, payload).await;
        assert_eq!(socket.frame_of(PONG).await, payload);
    }
    socket.text(r#"{"type":"ping"}"#).await;
    socket.message("pong").await;
}

#[tokio::test]
async fn frames_may_arrive_byte_by_byte_or_many_at_once() {
    let room = Room::open().await;
    let mut socket = joined(&room).await;
    for byte in frame(TEXT, &padded(300)) {
        socket.bytes(&[byte]).await;
    }
    socket.message("pong").await;
    socket.bytes(&frame(TEXT, &padded(20)).repeat(50)).await;
    for _ in 0..50 {
        socket.message("pong").await;
    }
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let room = Room::open().await;
    for (payload, code) in
        [(&b"\x03\xe8bye"[..], 1000), (b"\x03\xe9", 1001), (b"\x0f\xa0", 4000), (b"", 1005)]
    {
        let mut socket = joined(&room).await;
        socket.send(CLOSE, payload).await;
        let answer = socket.close_code().await;
        assert!(answer == Some(code) || answer == Some(1000), "{payload:x?}: {answer:?}");
    }
}

/// What comes after the server's close frame is read and thrown away, so that no reset eats it.
#[tokio::test]
async fn the_close_code_arrives_although_the_client_goes_on_sending() {
    let room = Room::open().await;
    let mut resets = 0;
    for _ in 0..10 {
        let mut socket = joined(&room).await;
        let mut flood = frame(BINARY, b"wrong");
        flood.extend(frame(TEXT, &padded(10_000)).repeat(20));
        socket.bytes(&flood).await;
        assert_eq!(socket.close_code().await, Some(4400));
        resets += usize::from(socket.was_reset);
    }
    // A machine that stands still for longer than the server lingers may see one; a server that does not linger, ten.
    assert!(resets < 5, "{resets} of 10 ended with a reset");
}

/// Leaving without a word, in the middle of a frame, of a handshake, of anything.
#[tokio::test]
async fn connections_that_break_off_do_no_harm() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    for cut in 0..6 {
        let mut socket = joined(&room).await;
        let vote = json!({"type": "vote", "id": fresh_id(), "poll": poll, "answer": pick(0)});
        let bytes = frame(TEXT, vote.to_string().as_bytes());
        socket.bytes(&bytes[..bytes.len() * cut / 5]).await;
        drop(socket);
    }
    let mut guest = room.guest().await;
    assert_eq!(guest.cast(poll, pick(1)).await["type"], "ack");
    eventually(SOON, "the others are gone", async || {
        (room.server.metric("plenum_connections", &[]).await == 1.0).then_some(())
    })
    .await;
    room.check_counts(&room.db).await;
}

/// Pings come every 25 s, the first at a random point; who does not answer within 10 s is gone.
#[tokio::test]
async fn who_answers_no_ping_is_closed_and_who_does_is_kept() {
    let room = Room::open().await;
    let (mut dead, mut alive) = (joined(&room).await, joined(&room).await);
    let not_answering = async { while dead.frame_within(40).await.is_some() {} };
    let answering = async {
        loop {
            let (first, payload) =
                alive.frame_within(40).await.expect("closed although it answered");
            if first == PING {
                alive.send(PONG, &payload).await;
                return;
            }
        }
    };
    tokio::join!(not_answering, answering);
    alive.text(r#"{"type":"ping"}"#).await;
    alive.message("pong").await;
}
