//! Whether this instance holds much more than its share of the connections, and how many of them are to go elsewhere now.
//! Knows heartbeats and the time, and nothing of connections. Called by `mod.rs` with each heartbeat, where the operator said
//! that a balancer stands before the instances; the reasons are in `docs/decisions/`.

use tokio::time::Instant;

use crate::limits::{
    REBALANCE_ABOVE, REBALANCE_BEATS, REBALANCE_CONNECTIONS_MIN, REBALANCE_MOVED_MAX,
    REBALANCE_REST, REBALANCE_UNTIL,
};
use crate::store::cluster::Instance;

/// How far it is with evening out.
#[derive(Debug)]
pub(super) enum Share {
    /// It has its share, or has had too much for so many heartbeats.
    Held(u32),
    /// It lets clients go, so many at most yet.
    Moving(usize),
    /// Until then it lets nobody go, whatever the others hold: who was moved has arrived by then and was counted.
    Resting(Instant),
}

impl Share {
    /// How many clients are to go elsewhere now. They go bit by bit, each bit smaller as the surplus shrinks, so that those who
    /// come meanwhile are counted; and in all never more than the surplus was, so that who comes back here is let stay.
    pub(super) fn surplus(&mut self, me: &str, instances: &[Instance], now: Instant) -> usize {
        let (ratio, surplus) = weigh(me, instances);
        match *self {
            Self::Resting(until) if now < until => {}
            Self::Moving(left) if ratio > REBALANCE_UNTIL && left > 0 => {
                let go = (surplus / 8).clamp(1, REBALANCE_MOVED_MAX).min(left);
                *self = Self::Moving(left - go);
                return go;
            }
            Self::Moving(_) => *self = Self::Resting(now + REBALANCE_REST),
            Self::Held(beats) if ratio > REBALANCE_ABOVE => {
                *self = Self::Held(beats + 1);
                if beats + 1 >= REBALANCE_BEATS {
                    *self = Self::Moving(surplus);
                }
            }
            Self::Held(_) | Self::Resting(_) => *self = Self::Held(0),
        }
        0
    }
}

/// This instance's connections by the mean of all, and how many they are above it. Even where there is nothing to gain, and
/// while somebody leaves: those clients are on their way already.
fn weigh(me: &str, instances: &[Instance]) -> (f64, usize) {
    let mine = instances.iter().find(|one| one.id == me).map_or(0, |one| one.connections);
    let leaving = instances.iter().any(|one| one.state != "serving");
    if leaving || instances.len() < 2 || mine < REBALANCE_CONNECTIONS_MIN {
        return (1.0, 0);
    }
    let all: i64 = instances.iter().map(|one| i64::from(one.connections)).sum();
    let mean = all / i64::try_from(instances.len()).unwrap_or(i64::MAX).max(1);
    let surplus = usize::try_from(i64::from(mine) - mean).unwrap_or(0);
    (f64::from(mine) / (mean.max(1) as f64), surplus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(connections: &[i32]) -> Vec<Instance> {
        let one = |(nth, connections): (usize, &i32)| Instance {
            id: nth.to_string(),
            connections: *connections,
            capacity: 500,
            state: String::from("serving"),
            lag_ms: 0,
        };
        connections.iter().enumerate().map(one).collect()
    }

    /// Beats, with who is let go arriving at the emptiest one beat later, and newcomers there too. The course, and how many moved.
    fn run(mut connections: Vec<i32>, newcomers: i32, beats: usize) -> (Vec<Vec<i32>>, usize) {
        let mut shares: Vec<Share> = connections.iter().map(|_| Share::Held(0)).collect();
        let (mut now, mut course, mut moved) = (Instant::now(), Vec::new(), 0);
        for _ in 0..beats {
            let seen = instances(&connections);
            let mut come = newcomers;
            for (nth, share) in shares.iter_mut().enumerate() {
                let go = share.surplus(&nth.to_string(), &seen, now);
                moved += go;
                connections[nth] -= i32::try_from(go).unwrap();
                come += i32::try_from(go).unwrap();
            }
            let emptiest = (0..connections.len()).min_by_key(|nth| connections[*nth]).unwrap();
            connections[emptiest] += come;
            course.push(connections.clone());
            now += crate::limits::HEARTBEAT_EVERY;
        }
        (course, moved)
    }

    fn worst(connections: &[i32]) -> f64 {
        super::super::imbalance(&instances(connections))
    }

    #[test]
    fn a_new_instance_gets_its_share_within_ten_seconds_and_nobody_more_moves() {
        for (start, newcomers) in [
            (vec![400, 0], 0),
            (vec![420, 420, 0], 0),
            (vec![420, 420, 0], 8),
            (vec![900, 100, 100, 100], 0),
        ] {
            let all: i32 = start.iter().sum();
            let mean = all / i32::try_from(start.len()).unwrap();
            let surplus: i32 = start.iter().map(|one| (one - mean).max(0)).sum();
            let (course, moved) = run(start.clone(), newcomers, 200);
            assert!(worst(&course[20]) < 1.3, "{start:?}: {:?}", course[20]);
            assert!(worst(course.last().unwrap()) < 1.15, "{start:?}: {:?}", course.last());
            assert!(moved <= usize::try_from(surplus).unwrap(), "{start:?}: {moved} moved");
        }
    }

    #[test]
    fn nobody_is_moved_for_little_for_a_moment_or_while_somebody_leaves() {
        for start in [vec![120, 100], vec![99, 0], vec![400], vec![260, 210, 200]] {
            assert_eq!(run(start.clone(), 0, 50).1, 0, "{start:?}");
        }
        let (mut share, now) = (Share::Held(0), Instant::now());
        for _ in 0..20 {
            assert_eq!(share.surplus("0", &instances(&[400, 0]), now), 0);
            assert_eq!(share.surplus("0", &instances(&[400, 390]), now), 0, "a moment only");
        }
        let mut leaving = instances(&[400, 0]);
        leaving[1].state = String::from("draining");
        for _ in 0..20 {
            assert_eq!(share.surplus("0", &leaving, now), 0);
        }
    }

    /// Where no balancer takes them elsewhere, all come back: once is enough, for a good while.
    #[test]
    fn who_comes_back_here_is_let_stay() {
        let (mut share, mut now, mut moved) = (Share::Held(0), Instant::now(), 0);
        let begun = now;
        while now < begun + REBALANCE_REST {
            moved += share.surplus("0", &instances(&[400, 0]), now);
            now += crate::limits::HEARTBEAT_EVERY;
        }
        assert_eq!(moved, 200);
    }
}
