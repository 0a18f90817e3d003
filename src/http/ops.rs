//! For operators, on a port of their own: alive, ready, metrics, instances, drain. Called by `router.rs`.

use std::sync::Arc;

use hyper::Response;
use serde_json::json;
use tokio::time::timeout;

use super::respond::{self, Body};
use crate::cluster::imbalance;
use crate::limits::READY_WAIT_MAX;
use crate::mutation::mutation;
use crate::wire::{Code, Fault, outbound};
use crate::ws::Edge;

/// 200 while the process runs. Never depends on the database: a restart would add a storm to its troubles.
pub(super) fn live() -> Response<Body> {
    respond::json(200, r#"{"status":"alive"}"#)
}

/// 200 where new clients are welcome.
pub(super) async fn ready(edge: &Edge) -> Response<Body> {
    let mut reasons: Vec<(Code, &str)> = Vec::new();
    let standing = edge.standing();
    mutation!("ready_while_leaving", return respond::json(200, "{}"));
    if standing.leaving {
        reasons.push((Code::Draining, "draining"));
    }
    if standing.full {
        reasons.push((Code::Overloaded, "full"));
    }
    if !matches!(timeout(READY_WAIT_MAX, edge.store.ping()).await, Ok(Ok(()))) {
        reasons.push((Code::DatabaseUnavailable, "data out of reach"));
    }
    let Some((code, _)) = reasons.first() else {
        let free = standing.free_percent();
        return respond::json(200, json!({ "status": "ready", "free_percent": free }).to_string());
    };
    let why: Vec<&str> = reasons.iter().map(|(_, why)| *why).collect();
    respond::problem(&Fault::new(*code, format!("not ready: {}", why.join(", "))), None)
}

pub(super) fn metrics(edge: &Edge) -> Response<Body> {
    respond::with(200, "text/plain; version=0.0.4; charset=utf-8", edge.metrics.text())
}

/// Every instance that lives, as this one heard within the last second.
pub(super) fn cluster(edge: &Edge) -> Response<Body> {
    let instances = edge.cluster.instances(&edge.drain, &edge.metrics);
    let connections: i64 = instances.iter().map(|one| i64::from(one.connections)).sum();
    let capacity: i64 = instances.iter().map(|one| i64::from(one.capacity)).sum();
    let shown: Vec<_> = instances
        .iter()
        .map(|one| {
            let load = f64::from(one.connections) / f64::from(one.capacity.max(1));
            json!({
                "id": one.id, "connections": one.connections, "capacity": one.capacity, "load": load,
                "state": one.state, "lag_ms": one.lag_ms,
            })
        })
        .collect();
    let body = json!({
        "instances": shown,
        "totals": { "instances": instances.len(), "connections": connections, "capacity": capacity },
        "imbalance": imbalance(&instances),
    });
    respond::json(200, body.to_string())
}

/// How many instances should run, and each number that led to it.
pub(super) fn forecast(edge: &Edge) -> Response<Body> {
    match edge.forecast.report() {
        Some(report) => respond::json(200, outbound::json(&report)),
        None => {
            let soon =
                Fault::new(Code::Overloaded, "nothing is known yet; ask again in some seconds");
            respond::problem(&soon, None)
        }
    }
}

/// Starts what SIGTERM starts.
pub(super) fn drain(edge: &Arc<Edge>) -> Response<Body> {
    edge.asked_to_drain.notify_one();
    respond::json(202, r#"{"status":"draining"}"#)
}
