//! Decoders against bytes that nobody meant: known inputs, cut, spliced and flipped, as long as `PLENUM_FUZZ_SECONDS` says
//! (a second each without it). Not guided by coverage; what it checks besides panics is that two readers agree.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use fastrand::Rng;
use plenum::auth::Signer;
use plenum::domain::{ParticipantId, SessionId};
use plenum::wire::frame::Decoder;
use plenum::wire::inbound;

use crate::support::{TEXT, frame};

/// What clients send, and what has once been thought of as hard to read.
const MESSAGES: &[&str] = &[
    r#"{"type":"vote","id":"7d9f4c1e-3b5a-4e2f-9c8d-0a1b2c3d4e5f","poll":1,"answer":{"choices":[1]}}"#,
    r#"{"type":"vote","id":"7d9f4c1e-3b5a-4e2f-9c8d-0a1b2c3d4e5f","poll":2,"answer":{"rating":4}}"#,
    r#"{"type":"hello","code":"12345678"}"#,
    r#"{"type":"hello","token":"AQGT","after":41,"epoch":"k3v9"}"#,
    r#"{"type":"ping"}"#,
    r#"{"a":1e400,"b":-0,"c":18446744073709551616,"d":"\ud83d\ude00","e":"\ud800"}"#,
    r#"{"a":{"b":[[[[[{}]]]]]},"a":null}"#,
    "{\"type\":\"ping\",\"x\":\"\u{202e}\u{0}\"}",
];

/// Bytes on which readers turn.
const SIGNS: &[u8] = b"{}[]\",:\\0-.eu\0\xff";

fn seconds() -> Duration {
    let seconds = std::env::var("PLENUM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// Calls `each` with ever other bytes made from `corpus`, until the time is over.
fn fuzz(corpus: &[Vec<u8>], mut each: impl FnMut(&[u8], &mut Rng)) {
    let mut dice = Rng::with_seed(1);
    let begun = Instant::now();
    let mut runs = 0;
    while begun.elapsed() < seconds() {
        for _ in 0..200 {
            let mut bytes = corpus[dice.usize(..corpus.len())].clone();
            for _ in 0..=dice.usize(..4) {
                alter(&mut bytes, corpus, &mut dice);
            }
            each(&bytes, &mut dice);
            runs += 1;
        }
    }
    assert!(runs >= 200);
}

fn alter(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Rng) {
    let at = dice.usize(..bytes.len() + 1);
    match dice.usize(..6) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, dice.usize(..256) as u8),
        2 if at < bytes.len() => bytes[at] ^= 1 << dice.usize(..8),
        3 if at < bytes.len() => drop(bytes.remove(at)),
        4 => {
            let other = &corpus[dice.usize(..corpus.len())];
            let from = dice.usize(..other.len() + 1);
            bytes.splice(at.., other[from..].iter().copied());
        }
        _ => {
            bytes.insert(at, SIGNS[dice.usize(..SIGNS.len())]);
        }
    }
}

fn messages() -> Vec<Vec<u8>> {
    MESSAGES.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// What the server's reader takes for a message, a reader of another make takes for JSON as well.
#[test]
fn messages_that_are_taken_are_json() {
    fuzz(&messages(), |bytes, _| {
        let taken = inbound::message(&mut bytes.to_vec()).is_ok()
            || inbound::hello(&mut bytes.to_vec()).is_ok();
        let is_json = serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
        assert!(!taken || is_json, "{:?}", String::from_utf8_lossy(bytes));
    });
}

/// Frames say the same whether they come at once or in pieces.
#[test]
fn frames_are_read_alike_whatever_the_cut() {
    let corpus: Vec<Vec<u8>> = messages()
        .iter()
        .flat_map(|text| [TEXT, 0x01, 0x80, 0x89, 0x88].map(|first| frame(first, text)))
        .chain([frame(0x89, b"ping"), frame(0x88, &[3, 232]), frame(TEXT, &[b'x'; 70_000])])
        .collect();
    let read = |bytes: &[u8], cut: usize| {
        let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
        let mut end = Ok(());
        for piece in bytes.to_vec().chunks_mut(cut) {
            end = decoder.feed(piece, |incoming| {
                seen.push(format!("{incoming:?}"));
                ControlFlow::Continue(())
            });
            if end.is_err() {
                break;
            }
        }
        (seen, end)
    };
    fuzz(&corpus, |bytes, dice| {
        let cut = 1 + dice.usize(..40);
        assert_eq!(read(bytes, cut), read(bytes, usize::MAX), "cut at {cut}: {bytes:x?}");
    });
}

/// No token that was altered says anything else than the token that was made.
#[test]
fn altered_tokens_say_nothing() {
    let signer = Signer::new("a secret");
    let id = |n| uuid::Uuid::from_u128(n);
    let tokens: Vec<String> = (1..9)
        .map(|n| signer.participant_token(SessionId(id(n)), ParticipantId(id(n + 100))))
        .collect();
    let known: Vec<_> = tokens.iter().map(|token| signer.read(token)).collect();
    let corpus: Vec<Vec<u8>> = tokens.iter().map(|token| token.clone().into_bytes()).collect();
    let other = Signer::new("another secret");
    fuzz(&corpus, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let signed = |token: &Option<plenum::auth::Token>| {
            matches!(token, Some(plenum::auth::Token::Participant { .. }))
        };
        let read = signer.read(&text);
        assert!(!signed(&read) || known.contains(&read), "{text}");
        assert!(!signed(&other.read(&text)), "{text}");
    });
}
