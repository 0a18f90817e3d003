//! The load test's `burst` on a peer: everybody votes once, at moments drawn before, within two seconds; results go to all of
//! them. Latency counts from the moment that a vote was due. Must never wait for one vote before it sends the next.

use std::sync::mpsc as plain;
use std::time::{Duration, Instant};

use plenum_loadtest::client::LeanSocket;
use plenum_loadtest::client::socket::Raw;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::{Asked, Outcome, ballot, first_poll, join_all};

/// Microseconds in which everybody votes.
const WINDOW: u128 = 2_000_000;

/// A vote that is due now.
#[derive(Clone, Copy)]
struct Order {
    poll: u64,
    due: Instant,
}

/// Prints p95 and p99 in milliseconds: of each, the median of the rounds.
pub(crate) async fn run(asked: &Asked) -> Outcome<()> {
    let (taken, latencies) = plain::channel();
    let (mut voters, mut voting) = (Vec::new(), JoinSet::new());
    for socket in join_all(asked).await? {
        let (order, orders) = mpsc::channel(1);
        voters.push(order);
        voting.spawn(voter(socket, orders, taken.clone()));
    }
    let (mut p95, mut p99) = (Vec::new(), Vec::new());
    for round in 0..asked.events {
        let (order, poll) = (voters.clone(), first_poll() + round);
        tokio::task::spawn_blocking(move || send(&order, poll)).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut all: Vec<f64> = latencies.try_iter().collect();
        if all.len() != voters.len() {
            return Err(format!("{} of {} votes acked", all.len(), voters.len()).into());
        }
        all.sort_unstable_by(f64::total_cmp);
        p95.push(quantile(&all, 0.95));
        p99.push(quantile(&all, 0.99));
    }
    p95.sort_unstable_by(f64::total_cmp);
    p99.sort_unstable_by(f64::total_cmp);
    println!("{:.2} {:.2}", quantile(&p95, 0.5), quantile(&p99, 0.5));
    Ok(())
}

fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let at = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// A thread of its own, which does nothing else: tokio's timers are a millisecond coarse.
fn send(voters: &[mpsc::Sender<Order>], poll: u64) {
    let begin = Instant::now();
    let mut plan: Vec<_> = voters.iter().map(|voter| (uuid::Uuid::new_v4().as_u128() % WINDOW, voter)).collect();
    plan.sort_unstable_by_key(|(after, _)| *after);
    for (after, voter) in plan {
        let due = begin + Duration::from_micros(after as u64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let _ = voter.try_send(Order { poll, due }); // a voter that is gone is missed in the count
    }
}

async fn voter(mut socket: LeanSocket, mut orders: mpsc::Receiver<Order>, taken: plain::Sender<f64>) -> Outcome<()> {
    let mut due = Instant::now();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return Ok(()) };
                due = order.due;
                socket.send_text(&ballot(order.poll, order.poll % 4)).await?;
            }
            frame = socket.next() => {
                let Raw::Text(text) = frame? else { return Err("closed".into()) };
                if text.starts_with(br#"{"type":"ack""#) {
                    let _ = taken.send(due.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
    }
}
