//! What the tests share: a real PostgreSQL, the real binary, clients polite and hostile.
//! Must never hide a fault by waiting longer or trying again. Called by every test module.

use std::collections::BTreeMap;

mod balancer;
mod burst;
mod cluster;
mod database;
mod guest;
mod http;
mod mutation;
mod pages;
mod pgwire;
mod pooler;
mod proxy;
mod raw;
mod replication;
mod roamer;
mod room;
mod server;
mod waiting;

pub(crate) use balancer::{Balancer, CONFIGURATIONS, Kind};
pub(crate) use burst::{Ballot, Burst, stored_votes};
pub(crate) use cluster::{Cluster, is_running, kill9_with_children};
pub(crate) use database::TestDb;
pub(crate) use guest::Guest;
pub(crate) use http::{RawAnswer, RawHttp, Sse, exchange};
pub(crate) use pages::{block, fences, text};
pub(crate) use pooler::Pooler;
pub(crate) use proxy::Proxy;
pub(crate) use raw::*;
pub(crate) use roamer::{Roamer, Told};
pub(crate) use room::{Member, Room, Session, choice, choice_seen, pick};
pub(crate) use server::{Server, handing, plenum, run};
pub(crate) use waiting::{SOON, eventually, within};

pub(crate) use plenum_loadtest::client::{Answer, Api, ConnectOptions, Incoming, Socket};
pub(crate) use rustix::process::{Pid, Signal};
pub(crate) use serde_json::{Value, json};

/// Polls so seldom that within a test only a hint, an offer or a catch-up brings events.
pub(crate) const SELDOM: [&str; 2] = ["--poll-interval-ms", "10000"];

/// All votes wait in one place, and one connection may send as many as it likes.
pub(crate) const ONE_LANE: [&str; 6] =
    ["--message-burst", "1000000", "--message-rate", "1000000", "--writer-lanes", "1"];

/// A connection that joined anew and checks nothing of what it reads.
pub(crate) async fn bare(base: &str, code: &str) -> Socket {
    let mut socket = Socket::connect(base).await.unwrap();
    socket.send(&json!({"type": "hello", "code": code})).await.unwrap();
    let first = within(SOON, "a welcome", socket.recv()).await.unwrap();
    assert!(matches!(&first, Incoming::Message(it) if it["type"] == "welcome"), "{first:?}");
    socket
}

/// A fresh id for a vote.
pub(crate) fn fresh_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Checks the shape of an error answer and returns its body.
#[track_caller]
pub(crate) fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    let kind = answer.headers.get("content-type").map(|kind| kind.to_str().unwrap());
    assert_eq!(
        (answer.status, kind),
        (status, Some("application/problem+json")),
        "{}",
        answer.text()
    );
    let body = answer.json();
    assert_eq!(body["code"], code, "{body}");
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(body["type"], "about:blank", "{body}");
    for name in ["title", "detail"] {
        assert!(body[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {body}");
    }
    let again = ["Retry-After"].iter().any(|name| answer.headers.contains_key(*name));
    assert_eq!(again, [429, 503].contains(&status), "Retry-After: {:?}", answer.headers);
    body
}

/// Whether a key occurs anywhere in a value.
pub(crate) fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(name, inner)| name == key || has_key(inner, key)),
        Value::Array(list) => list.iter().any(|inner| has_key(inner, key)),
        _ => false,
    }
}

/// What every receiver of one audience gets alike of an event, by its `seq`.
pub(crate) fn shared_part(event: &Value) -> (i64, Value) {
    let common = json!({"kind": event["kind"], "at": event["at"], "data": event["data"]});
    (event["seq"].as_i64().unwrap(), common)
}

/// What a client saw is the log, but for results that newer ones stood in for.
#[track_caller]
pub(crate) fn check_history(seen: &BTreeMap<i64, Value>, log: &BTreeMap<i64, Value>) {
    for (seq, event) in seen {
        assert_eq!(Some(event), log.get(seq), "seq {seq}");
    }
    let lasting = |from: &BTreeMap<i64, Value>| -> Vec<i64> {
        let all = from.iter().filter(|(_, event)| event["kind"] != "poll.results");
        all.map(|(seq, _)| *seq).collect()
    };
    assert_eq!(lasting(seen), lasting(log));
}

/// The numbers of a list.
pub(crate) fn numbers(list: &Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
}
