//! Tests of `desired.rs`: examples from the decision on scaling, and properties that hold for any load.

use std::time::Duration;

use proptest::prelude::*;

use super::desired::{Announced, Hold, Load, Policy, wanted};

const POLICY: Policy =
    Policy { start: Duration::from_secs(120), quiet: Duration::from_secs(600), min: 1, max: 20 };

fn instance(connections: u32) -> Load {
    Load { connections, capacity: 500, serving: true, cpu: 0.1, delivery: 0.01 }
}

#[track_caller]
fn check(instances: &[Load], announced: &[Announced], expected: u32) {
    let found = wanted(&POLICY, instances, announced);
    assert_eq!(found.wanted, expected, "{found:?}");
}

#[test]
fn another_instance_is_wanted_past_four_fifths_of_the_capacity() {
    check(&[instance(0)], &[], 1);
    check(&[instance(400)], &[], 1);
    check(&[instance(401)], &[], 2);
    check(&[instance(400), instance(400)], &[], 2);
    check(&[instance(801), instance(0)], &[], 3);
}

#[test]
fn busy_processors_want_more_and_slow_delivery_only_with_them() {
    let busy = |cpu, delivery| Load { cpu, delivery, ..instance(100) };
    check(&[busy(0.7, 0.01)], &[], 1);
    check(&[busy(0.8, 0.01)], &[], 2);
    check(&[busy(0.9, 0.01), busy(0.9, 0.01)], &[], 3);
    check(&[busy(0.5, 0.2)], &[], 2);
    check(&[busy(0.1, 5.0)], &[], 1);
}

#[test]
fn who_is_expected_counts_from_the_time_an_instance_needs() {
    let session = |starts_in, present| Announced { starts_in, expected: 900, present };
    check(&[instance(0)], &[session(421.0, 0)], 1);
    check(&[instance(0)], &[session(419.0, 0)], 3);
    check(&[instance(300)], &[session(-60.0, 300)], 3);
    check(&[instance(450), instance(450)], &[session(-60.0, 900)], 3);
    check(&[instance(0)], &[session(-901.0, 0)], 1);
}

#[test]
fn those_that_drain_keep_their_clients_and_are_no_room() {
    let leaving = Load { serving: false, ..instance(300) };
    check(&[leaving, instance(350)], &[], 2);
}

#[test]
fn a_lower_number_waits_for_the_quiet_period() {
    let mut hold = Hold::default();
    let mut at = |seconds, number| hold.next(&POLICY, Duration::from_secs(seconds), number);
    assert_eq!([at(0, 2), at(5, 4), at(10, 1)], [2, 4, 4], "up at once, down not");
    assert_eq!([at(600, 1), at(605, 2), at(606, 1)], [4, 4, 2]);
    assert_eq!([at(1_205, 1), at(1_206, 1)], [2, 1]);
}

fn loads() -> impl Strategy<Value = Vec<Load>> {
    let one = (0_u32..2_000, 1_u32..1_000, any::<bool>(), 0.0..1.0, 0.0..1.0).prop_map(
        |(connections, capacity, serving, cpu, delivery)| Load {
            connections,
            capacity,
            serving,
            cpu,
            delivery,
        },
    );
    prop::collection::vec(one, 0..12)
}

fn sessions() -> impl Strategy<Value = Vec<Announced>> {
    let one = (-2_000.0..2_000.0, 0_u32..3_000, 0_u32..3_000)
        .prop_map(|(starts_in, expected, present)| Announced { starts_in, expected, present });
    prop::collection::vec(one, 0..6)
}

proptest! {
    #[test]
    fn never_fewer_than_hold_what_is_connected(loads in loads(), sessions in sessions()) {
        let found = wanted(&POLICY, &loads, &sessions);
        let room = u64::from(found.wanted) * u64::from(found.capacity_each);
        prop_assert!(room >= u64::from(found.connections), "{found:?}");
        prop_assert!(found.wanted >= POLICY.min);
        prop_assert!(found.wanted <= POLICY.max.max(found.floor));
    }

    #[test]
    fn more_people_never_want_fewer_instances(loads in loads(), sessions in sessions(), more in 0_u32..2_000) {
        let before = wanted(&POLICY, &loads, &sessions).wanted;
        let mut fuller = loads.clone();
        fuller.iter_mut().for_each(|one| one.connections += more);
        let mut announced = sessions;
        announced.push(Announced { starts_in: 0.0, expected: more, present: 0 });
        prop_assert!(wanted(&POLICY, &fuller, &announced).wanted >= before);
    }

    /// The numbers told are a staircase that goes down only where nothing higher was wanted for the whole quiet period.
    #[test]
    fn what_is_told_is_the_highest_of_the_quiet_period(steps in prop::collection::vec((1_u64..400, 1_u32..9), 1..60)) {
        let (mut hold, mut now, mut seen) = (Hold::default(), 0, Vec::new());
        for (pause, number) in steps {
            now += pause;
            seen.push((now, number));
            let told = hold.next(&POLICY, Duration::from_secs(now), number);
            let within = seen.iter().filter(|(at, _)| at + 600 >= now).map(|(_, number)| *number);
            prop_assert_eq!(told, within.max().unwrap());
        }
    }
}
