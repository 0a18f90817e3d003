//! Tests of `frame.rs`: every rule of RFC 6455 that it enforces, and that the cut of reads does not matter.

use proptest::prelude::*;

use super::*;

fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = write(first & 0x0F, &[payload]).to_vec();
    let header = header_bytes(payload.len());
    bytes[0] = first;
    bytes[1] |= MASKED;
    bytes.splice(header..header, mask);
    fastwebsockets::unmask(&mut bytes[header + 4..], mask);
    bytes
}

fn decode(bytes: &[u8], cut: usize) -> (Vec<String>, Result<(), Close>) {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for chunk in bytes.to_vec().chunks_mut(cut.max(1)) {
        let fed = decoder.feed(chunk, |incoming| {
            seen.push(match incoming {
                Incoming::Text(text) => format!("text {}", String::from_utf8_lossy(text)),
                Incoming::Ping(payload) => format!("ping {}", payload.len()),
                other => format!("{other:?}"),
            });
            ControlFlow::Continue(())
        });
        if fed.is_err() {
            return (seen, fed);
        }
    }
    (seen, Ok(()))
}

fn check(bytes: &[u8], seen: &[&str], result: Result<(), Close>) {
    for cut in [1, 2, 3, 7, usize::MAX] {
        let (got, ended) = decode(bytes, cut);
        assert_eq!(got, seen, "cut at {cut}");
        assert_eq!(ended, result, "cut at {cut}");
    }
}

#[test]
fn messages_and_control_frames_are_read_whatever_the_cut() {
    let mut bytes = client_frame(0x81, b"one");
    bytes.extend(client_frame(0x01, b"tw"));
    bytes.extend(client_frame(0x89, b"hi"));
    bytes.extend(client_frame(0x80, b"o"));
    bytes.extend(client_frame(0x88, &1000_u16.to_be_bytes()));
    check(&bytes, &["text one", "ping 2", "text two", "Close"], Ok(()));
}

#[test]
fn what_the_rfc_forbids_is_a_protocol_fault() {
    let mut unmasked = client_frame(0x81, b"x");
    unmasked[1] &= 0x7F;
    let mut padded = client_frame(0x81, &[b'x'; 126]);
    padded[3] = 5; // a length of 5 in the form for 126 and more
    for bytes in [
        unmasked,
        padded,
        client_frame(0xC1, b"rsv"),
        client_frame(0x83, b"opcode"),
        client_frame(0x8B, b"opcode"),
        client_frame(0x80, b"continues nothing"),
        [client_frame(0x01, b"a"), client_frame(0x81, b"b")].concat(),
        client_frame(0x09, b"fragmented ping"),
        client_frame(0x89, &[0; 126]),
        client_frame(0x88, b"1"),
        client_frame(0x88, &1005_u16.to_be_bytes()),
    ] {
        check(&bytes, &[], Err(Close::Protocol));
    }
    check(&client_frame(0x81, b"\xff"), &[], Err(Close::NotUtf8));
}

#[test]
fn a_message_has_at_most_its_limit_however_it_is_cut_into_fragments() {
    let whole = "x".repeat(MESSAGE_BYTES_MAX);
    check(&client_frame(0x81, whole.as_bytes()), &[&format!("text {whole}")], Ok(()));
    check(&client_frame(0x81, format!("{whole}x").as_bytes()), &[], Err(Close::TooLarge));
    let fragments = [client_frame(0x01, whole.as_bytes()), client_frame(0x80, b"x")].concat();
    check(&fragments, &[], Err(Close::TooLarge));
    let empty: Vec<u8> = std::iter::once(client_frame(0x01, b""))
        .chain((0..EMPTY_FRAGMENTS_MAX).map(|_| client_frame(0x00, b"")))
        .flatten()
        .collect();
    check(&empty, &[], Err(Close::TooLarge));
}

#[test]
fn a_huge_announced_length_is_refused_before_it_is_waited_for() {
    let mut bytes = vec![0x81, MASKED | 127];
    bytes.extend(u64::MAX.to_be_bytes());
    bytes.extend([0; 4]);
    check(&bytes, &[], Err(Close::TooLarge));
}

#[test]
fn nothing_is_held_between_whole_frames() {
    let mut decoder = Decoder::default();
    let mut bytes = client_frame(0x81, b"hello");
    assert!(decoder.feed(&mut bytes, |_| ControlFlow::Continue(())).is_ok());
    assert_eq!(decoder.held.capacity() + decoder.fragments.capacity(), 0);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_without_panic(bytes: Vec<u8>, cut in 1_usize..64) {
        let _ = decode(&bytes, cut);
    }
}
