//! A hall whose network goes away and comes back: every connection is cut, events happen, and then
//! everybody returns on a timetable. What counts is the time until each has all that it missed.
//! Must never count a return that did not bring every missed event. Called by `kinds`.

use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::time::sleep;

use super::votes::{self, Round, Spread, Voters};
use crate::failure::Failure;
use crate::load::check::Losses;
use crate::load::clock::{self, LEAD};
use crate::load::hall::Order;
use crate::load::sheet::millis;
use crate::load::stage::Stage;

/// No return takes this long on a server that works.
const WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    participants: u32,
    /// Over how long they return; 0 is all at the same moment.
    seconds: f64,
    /// Events that happen while they are away.
    events_missed: u32,
    rounds: u32,
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    for nth in 0..asked.rounds {
        let round = Round {
            participants: asked.participants,
            watchers: 0,
            votes: asked.participants,
            over: Duration::from_secs(1),
            spread: Spread::Even,
            voters: Voters::All,
            seed: u64::from(nth),
            rest_per_second: 0,
        };
        let name = format!("round {}", nth + 1);
        let ready = votes::prepare(stage, &round, &name).await?;
        let timetable = votes::timetable(&ready, &round);
        votes::cast(&ready.hall, timetable, stage.meter.clone()).await?;
        stage.meter.take()?;
        stage.now(&format!("{name}: the network goes away"));
        for nth in 0..ready.hall.orders.len() {
            ready.hall.tell(nth, Order::Drop)?;
        }
        for event in 0..asked.events_missed {
            ready.presenter.rename(&format!("Meanwhile {event}")).await?;
        }
        let seq = ready.presenter.last_seq().await?;
        stage.now(&format!("{name}: everybody returns"));
        let orders = ready.hall.orders.clone();
        let over = Duration::from_secs_f64(asked.seconds);
        let moments = clock::even(Instant::now() + LEAD, asked.participants, over);
        let meter = stage.meter.clone();
        let goal = u64::from(asked.participants);
        let work = async {
            let clock =
                clock::run(moments.into_iter().zip(orders).collect(), move |due, orders| {
                    orders.try_send(Order::Return { seq, due }).is_ok()
                });
            let late = clock.await.map_err(|_| Failure::told("the clock's thread ended early"))?;
            let since = Instant::now();
            while meter.caught_up() < goal && since.elapsed() < WITHIN {
                sleep(LOOK_EVERY).await;
            }
            Ok(late)
        };
        let (_, spent) = stage.measured(work).await?;
        let times = stage.meter.take()?;
        let came = times.caught_up.len();
        let fault = (came != goal).then(|| format!("{came} of {goal} have every event"));
        stage.sheet.check("everybody came back and got every missed event", fault);
        stage.sheet.latencies("return", "Return to having every event", &times.caught_up);
        stage.sheet.figure_if("server_cpu", "Server processor time", "s", spent.server_cpu);
        let p95 = millis(times.caught_up.value_at_quantile(0.95));
        stage.done(&format!("{name}: p95 {p95:.1} ms"));
        votes::close(stage, ready, u64::from(asked.participants), Losses::None).await?;
    }
    Ok(())
}
