//! What goes wrong, and what the presenter does meanwhile: two actors whose dice decide when. Nothing here touches votes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::dice::Dice;
use super::stage::Stage;
use super::world::Mood;
use crate::domain::{PollNumber, SessionId};

/// What can happen in a storm.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Mood,
    Freeze,
    Crash,
    FailOver,
    Loss,
    Drain,
}

/// Blows until the time is over.
pub(super) async fn blow(stage: Arc<Stage>, until: Instant, mut dice: Dice) {
    const BLOWS: [Blow; 10] = [
        Blow::Mood,
        Blow::Mood,
        Blow::Mood,
        Blow::Freeze,
        Blow::Freeze,
        Blow::Crash,
        Blow::Crash,
        Blow::FailOver,
        Blow::Loss,
        Blow::Drain,
    ];
    while Instant::now() < until {
        let blow = BLOWS[dice.below(BLOWS.len())];
        stage.world.note(|| format!("storm: {blow:?}"));
        match blow {
            Blow::Mood => stage.world.weather.lock().mood = mood(&mut dice),
            Blow::Freeze => freeze(&stage, &mut dice),
            Blow::Crash => stage.world.crash(dice.ms(0..1_500)),
            Blow::FailOver => fail_over(&stage, &mut dice).await,
            Blow::Loss => lose(&stage, &mut dice).await,
            Blow::Drain => drain(&stage, &mut dice).await,
        }
        sleep(dice.ms(100..1_500)).await;
    }
}

pub(super) fn mood(dice: &mut Dice) -> Mood {
    let mut up_to = |most: u64| if dice.percent(60) { dice.within(0..most) } else { 0 };
    Mood {
        refused: up_to(15),
        cut: up_to(15),
        silent: up_to(5),
        unreplicated: up_to(10),
        slow: up_to(30),
        hints_lost: up_to(60),
    }
}

fn freeze(stage: &Stage, dice: &mut Dice) {
    let Some(instance) = stage.pick(dice) else { return };
    let long = if dice.percent(15) { dice.ms(4_000..9_000) } else { dice.ms(50..2_000) };
    let until = Instant::now() + long;
    stage.world.weather.lock().frozen_until.insert(instance.number, until);
}

/// Another server takes over. Where replication is asynchronous it lacks the newest commits.
async fn fail_over(stage: &Stage, dice: &mut Dice) {
    let world = &stage.world;
    let lossy = world.server.lock().durability != "synchronous standby";
    let standby = world.tables.lock().clone();
    if lossy {
        sleep(dice.ms(1..400)).await;
    }
    world.crash(dice.ms(0..1_000));
    world.server.lock().timeline += 1;
    world.fail_overs.fetch_add(1, Ordering::Relaxed);
    if lossy {
        let lost = std::mem::replace(&mut *world.tables.lock(), standby);
        world.note(|| String::from("storm: what was newest is gone"));
        stage.count("lossy");
        // Where nobody has noticed the one before, nobody was shown anything since.
        let mut past = stage.past.lock();
        if past.iter().all(|(epoch, _)| *epoch != lost.epoch) {
            past.push((lost.epoch.clone(), lost));
        }
    }
}

/// An instance is cut off from everything for good, its votes in flight with it; another one comes.
async fn lose(stage: &Arc<Stage>, dice: &mut Dice) {
    let Some(instance) = stage.close_one(dice) else { return };
    stage.world.weather.lock().lost.push(instance.number);
    instance.gone.cancel();
    stage.start().await;
}

/// An instance is drained; another one comes first.
async fn drain(stage: &Arc<Stage>, dice: &mut Dice) {
    stage.start().await;
    let Some(instance) = stage.close_one(dice) else { return };
    let window = dice.ms(100..1_500);
    instance.edge.drain.begin(window);
    sleep(window + Duration::from_millis(500)).await;
    stage.stop(&instance).await;
}

/// Opens and closes polls until the time is over.
pub(super) async fn present(
    stage: Arc<Stage>,
    session: Uuid,
    polls: i32,
    until: Instant,
    mut dice: Dice,
) {
    stage.busy.fetch_add(1, Ordering::Relaxed);
    let mut next = vec![(1, true), (2, true)];
    let mut ends = dice.percent(10);
    while Instant::now() < until {
        let (poll, open) = next.pop().unwrap_or_else(|| {
            (
                i32::try_from(dice.within(1..u64::try_from(polls).unwrap() + 1)).unwrap(),
                dice.percent(60),
            )
        });
        let end = ends && Instant::now() + Duration::from_secs(1) > until;
        ends &= !end;
        let patch = match () {
            () if end => Some(r#"{"state":"ended"}"#),
            () if dice.percent(10) => Some(r#"{"title":"renamed"}"#),
            () => None,
        };
        while !change(&stage, session, (poll, open), patch, &mut dice).await {
            sleep(dice.ms(50..500)).await;
        }
        sleep(dice.ms(20..600)).await;
    }
    stage.busy.fetch_sub(1, Ordering::Relaxed);
}

/// As `http/polls.rs` does it: one call, its event offered. Says whether it was answered.
async fn change(
    stage: &Stage,
    session: Uuid,
    (poll, open): (i32, bool),
    patch: Option<&str>,
    dice: &mut Dice,
) -> bool {
    let Some(instance) = stage.pick(dice) else { return false };
    let (store, id, n) = (&instance.edge.store, SessionId(session), PollNumber(poll));
    let asked = async {
        match (patch, open) {
            (Some(patch), _) => store.patch_session(id, patch).await,
            (None, true) => store.open_poll(id, n).await,
            (None, false) => store.close_poll(id, n).await,
        }
    };
    tokio::select! {
        biased;
        () = instance.gone.cancelled() => false,
        change = asked => {
            let Ok(change) = change else { return false };
            stage.world.note(|| format!("presenter: {poll} open {open} {patch:?}: {:?}", change.outcome));
            if let Some(event) = change.event {
                let seq = event.seq;
                (instance.edge.offer.0)(event, Instant::now());
                instance.edge.feed.settle(id, seq).await;
            }
            true
        }
    }
}
