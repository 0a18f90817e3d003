//! For operators, on a port of their own: alive, ready, metrics, instances, drain. Called by `router.rs`.

use std::sync::Arc;

use hyper::Response;
use serde_json::json;
use tokio::time::timeout;

use super::respond::{self, Body};
use crate::drain::Phase;
use crate::limits::READY_WAIT_MAX;
use crate::ws::Edge;

/// 200 while the process runs. Never depends on the database: a restart would add a storm to its troubles.
pub(super) fn live() -> Response<Body> {
    respond::json(200, r#"{"status":"alive"}"#)
}

/// 200 where new clients are welcome.
pub(super) async fn ready(edge: &Edge) -> Response<Body> {
    let mut reasons = Vec::new();
    if edge.drain.phase() >= Phase::Draining {
        reasons.push("draining");
    }
    if edge.is_full() {
        reasons.push("full");
    }
    if !matches!(timeout(READY_WAIT_MAX, edge.store.ping()).await, Ok(Ok(()))) {
        reasons.push("database unavailable");
    }
    if reasons.is_empty() {
        return respond::json(200, r#"{"status":"ready"}"#);
    }
    respond::json(503, json!({ "status": "not ready", "reasons": reasons }).to_string())
}

pub(super) fn metrics(edge: &Edge) -> Response<Body> {
    respond::with(200, "text/plain; version=0.0.4; charset=utf-8", edge.metrics.text())
}

/// This instance; the others of its database are not known to it yet.
pub(super) fn cluster(edge: &Edge) -> Response<Body> {
    let connections = edge.metrics.connections.get();
    let state = if edge.drain.phase() >= Phase::Draining { "draining" } else { "serving" };
    let load = connections as f64 / f64::from(edge.rules.capacity);
    let body = json!({
        "instances": [{
            "id": edge.rules.instance_id, "connections": connections, "capacity": edge.rules.capacity,
            "load": load, "state": state,
        }],
        "imbalance": 1.0,
    });
    respond::json(200, body.to_string())
}

/// Starts what SIGTERM starts.
pub(super) fn drain(edge: &Arc<Edge>) -> Response<Body> {
    edge.asked_to_drain.notify_one();
    respond::json(202, r#"{"status":"draining"}"#)
}
