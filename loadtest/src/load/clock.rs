//! Lets things happen at moments fixed beforehand, from a thread of its own: the runtime's timer is
//! a millisecond coarse, as long as an ack takes, and a busy runtime must not shift the schedule.
//! Must never leave a moment out because it is late. Called by the kinds.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Before the first moment of a schedule, for everybody to be ready.
pub(super) const LEAD: Duration = Duration::from_millis(100);

/// Calls `act` for each item at its moment, in order; the answer is how late the latest was.
/// `act` must not wait. It stops early where `act` says so.
pub(super) fn run<T: Send + 'static>(
    schedule: Vec<(Instant, T)>,
    mut act: impl FnMut(Instant, T) -> bool + Send + 'static,
) -> oneshot::Receiver<Duration> {
    let (sender, latest) = oneshot::channel();
    thread::spawn(move || {
        let mut latest = Duration::ZERO;
        for (moment, item) in schedule {
            while let Some(wait) = moment.checked_duration_since(Instant::now()) {
                thread::park_timeout(wait);
            }
            latest = latest.max(moment.elapsed());
            if !act(moment, item) {
                break;
            }
        }
        // Whoever waited for it may have been cancelled.
        let _ = sender.send(latest);
    });
    latest
}

/// `count` moments from `begin` on, evenly spread over `spread`.
pub(super) fn even(begin: Instant, count: u32, spread: Duration) -> Vec<Instant> {
    let step = spread.div_f64(f64::from(count.max(1)));
    (0..count).map(|nth| begin + step * nth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_happens_before_its_moment_and_nothing_is_left_out() {
        let begin = Instant::now() + Duration::from_millis(20);
        let schedule = even(begin, 5, Duration::from_millis(10));
        let (sender, mut happened) = tokio::sync::mpsc::channel(5);
        let schedule = schedule.into_iter().zip(0..5).collect();
        let latest = run(schedule, move |moment, nth| {
            sender.try_send((moment, Instant::now(), nth)).is_ok()
        });
        latest.await.unwrap();
        for expected in 0..5 {
            let (moment, at, nth) = happened.recv().await.unwrap();
            assert!(at >= moment && nth == expected);
        }
    }
}
