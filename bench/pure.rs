//! What costs processor time without any I/O, piece by piece: decoding, encoding, folding, the ring.
//! Must never measure what the server does not do in the same way. Called by `make bench`.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plenum::domain::{
    Audience, Code, EventKind, LoggedEvent, PollNumber, Seq, Session, SessionId, SessionState,
    Timestamp, VoteId,
};
use plenum::feed::LiveState;
use plenum::ring::{Content, Frame, Ring};
use plenum::store::log::Snapshot;
use plenum::wire::frame::{self, Decoder, Incoming};
use plenum::wire::{inbound, outbound};
use uuid::Uuid;

const VOTE: &str = r#"{"type":"vote","id":"7d9f4c1e-3b5a-4e2f-9c8d-0a1b2c3d4e5f","poll":3,"answer":{"choices":[1]}}"#;

/// Masked as a client sends it.
fn masked(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126);
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![0x81, 0x80 | length];
    bytes.extend_from_slice(&mask);
    bytes.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    group.bench_function("frame of a vote", |b| {
        let bytes = masked(VOTE);
        let mut decoder = Decoder::default();
        b.iter_batched_ref(
            || bytes.clone(),
            |bytes| {
                let each = |incoming: Incoming<'_>| {
                    black_box(incoming);
                    ControlFlow::Continue(())
                };
                decoder.feed(bytes, each).unwrap();
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("vote", |b| {
        b.iter_batched_ref(
            || VOTE.as_bytes().to_vec(),
            |bytes| inbound::message(bytes).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn results(seq: i64) -> LoggedEvent {
    LoggedEvent {
        session: SessionId(Uuid::nil()),
        seq: Seq(seq),
        at: Timestamp::now(),
        kind: EventKind::PollResults,
        results_hidden: false,
        data: Arc::from(format!(
            r#"{{"poll":1,"seq":{seq},"votes":{seq},"counts":[{seq},0,0,0]}}"#
        )),
    }
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.bench_function("event with its frame", |b| {
        let event = results(7);
        b.iter(|| {
            let text = outbound::event(&event, Seq(6), Audience::Participants).unwrap();
            frame::text(&[text.as_bytes()])
        });
    });
    group.bench_function("ack with its frame", |b| {
        let id = VoteId(Uuid::nil());
        b.iter(|| frame::text(&[outbound::ack(id, PollNumber(1), Seq(7), false).as_bytes()]));
    });
    group.finish();
}

fn empty_state() -> LiveState {
    let session = Session {
        id: SessionId(Uuid::nil()),
        code: Code::parse("12345678").unwrap(),
        title: "Bench".to_owned(),
        state: SessionState::Live,
        created_at: Timestamp::now(),
        starts_at: None,
        expected_participants: None,
    };
    let (polls, results, results_seqs) = (Vec::new(), Vec::new(), Vec::new());
    LiveState::from(Snapshot {
        session,
        seq: Seq(0),
        polls,
        results,
        results_seqs,
        epoch: String::from("bench"),
    })
}

fn fold(c: &mut Criterion) {
    let events: Vec<LoggedEvent> = (1..=1_000).map(results).collect();
    let mut group = c.benchmark_group("fold");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("1,000 results", |b| {
        b.iter_batched_ref(
            empty_state,
            |state| {
                for event in &events {
                    black_box(state.apply(event).unwrap());
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn event_frame(ring: &Ring, seq: i64) -> Frame {
    let content = Content::Event { seq: Seq(seq), prev: ring.last() };
    Frame { content, bytes: Bytes::from(vec![b'x'; 200]), payload_at: 4 }
}

fn full_ring() -> Ring {
    let ring = Ring::starting_at(Seq(0));
    (1..=400).for_each(|seq| ring.push(event_frame(&ring, seq)));
    ring
}

fn ring(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.bench_function("push into a full ring", |b| {
        let ring = full_ring();
        let mut seq = 400;
        b.iter(|| {
            seq += 1;
            ring.push(event_frame(&ring, seq));
        });
    });
    for waiting in [1, 16] {
        group.bench_with_input(
            BenchmarkId::new("run of frames", waiting),
            &waiting,
            |b, waiting| {
                let ring = full_ring();
                b.iter(|| ring.run(ring.head() - waiting).unwrap());
            },
        );
    }
    for behind in [0, 200] {
        let name = BenchmarkId::new("replay splice, events behind", behind);
        group.bench_with_input(name, &behind, |b, behind| {
            let ring = full_ring();
            let mut out = VecDeque::new();
            b.iter(|| {
                out.clear();
                let mut cursor = ring.cursor_after(Seq(400 - behind)).unwrap();
                ring.read(&mut cursor, usize::MAX, &mut out).unwrap();
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode, fold, ring);
criterion_main!(benches);
