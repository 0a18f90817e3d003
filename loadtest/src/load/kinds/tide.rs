//! People come and go in levels, and vote meanwhile, whoever serves them: what a balancer and an autoscaler are tried with.
//! Who is turned away, at the door or on the way back, is counted and the run goes on.
//! Must never pick whom to send home by where they are connected. Called by `kinds`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep_until};

use crate::failure::Failure;
use crate::load::check::{self, Losses};
use crate::load::clock;
use crate::load::crowd;
use crate::load::hall::{Hall, Order};
use crate::load::sheet::millis;
use crate::load::stage::Stage;
use crate::load::voter::Story;
use crate::participant::{Participant, Place};
use crate::presenter::Presenter;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// How many are there in the end, within how many seconds, and how many seconds they stay so.
    levels: Vec<(u32, f64, f64)>,
    polls: u32,
    votes_per_second: f64,
}

/// Who is there, and who is on the way.
struct Tide {
    hall: Hall,
    /// Everybody who was ever seated: their id, and how often they have voted, which is the place in `polls` of their next vote.
    seated: Vec<(String, usize)>,
    /// Of those, who has not been sent home.
    present: Vec<usize>,
    polls: Vec<u32>,
    joining: JoinSet<Result<Participant, Failure>>,
    places: std::vec::IntoIter<Place>,
    code: String,
    random: fastrand::Rng,
    due: u64,
    turned_away: Vec<String>,
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    let (presenter, polls) = stage.session(asked.polls).await?;
    let home = stage.fleet.watch.urls().into_iter().next().unwrap_or_default();
    stage.meter.take()?;
    let places: Vec<_> = (0..joins(&asked.levels)).map(|_| stage.doors.next()).collect();
    let mut tide = Tide {
        hall: Hall::seat(Vec::new(), &stage.meter, &home),
        seated: Vec::new(),
        present: Vec::new(),
        polls,
        joining: JoinSet::new(),
        places: places.into_iter(),
        code: presenter.code.clone(),
        random: fastrand::Rng::with_seed(1),
        due: 0,
        turned_away: Vec::new(),
    };
    let every = Duration::from_secs_f64(1.0 / asked.votes_per_second.max(0.01));
    for (level, over, hold) in asked.levels {
        stage.now(&format!("to {level} participants within {over} s"));
        let pace = (Duration::from_secs_f64(over), Duration::from_secs_f64(hold), every);
        stage.measured(tide.reach(level as usize, pace)).await?;
    }
    let stayed = tide.present.iter().filter_map(|nth| tide.seated.get(*nth));
    let stayed: BTreeSet<String> = stayed.map(|(who, _)| who.clone()).collect();
    let Tide { hall, polls, due, turned_away, .. } = tide;
    stage.now("checking");
    for poll in &polls {
        presenter.close(*poll).await?;
    }
    let stories = hall.leave(&presenter).await?;
    judge(stage, &presenter, (&stories, &stayed), (due, turned_away)).await?;
    presenter.delete().await
}

/// How many join in all.
fn joins(levels: &[(u32, f64, f64)]) -> u32 {
    let before = std::iter::once(0).chain(levels.iter().map(|one| one.0));
    before.zip(levels).map(|(before, after)| after.0.saturating_sub(before)).sum()
}

impl Tide {
    /// Lets people come or go until so many are there, then lets them be; votes go on all the time.
    async fn reach(
        &mut self,
        level: usize,
        (over, hold, every): (Duration, Duration, Duration),
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        let moves = u32::try_from(level.abs_diff(self.present.len())).unwrap_or(u32::MAX);
        let grows = level > self.present.len();
        let mut moments = clock::even(begin, moves, over).into_iter();
        let mut next = moments.next();
        let mut votes = interval(every);
        loop {
            tokio::select! {
                () = sleep_until(next.unwrap_or(begin).into()), if next.is_some() => {
                    next = moments.next();
                    if grows { self.come() } else { self.go()? }
                }
                _ = votes.tick() => self.vote()?,
                Some(one) = self.joining.join_next() => match crowd::ended(one) {
                    Ok(member) => {
                        self.present.push(self.seated.len());
                        self.seated.push((member.id.clone(), 0));
                        self.hall.add(member);
                    }
                    Err(failure) => self.turned_away.push(failure.to_string()),
                },
                () = sleep_until((begin + over + hold).into()), if next.is_none() => return Ok(()),
            }
        }
    }

    fn come(&mut self) {
        if let Some(place) = self.places.next() {
            let code = self.code.clone();
            self.joining.spawn(async move { Participant::join(place, &code).await });
        }
    }

    /// Anybody, wherever they are connected.
    fn go(&mut self) -> Result<(), Failure> {
        let Some(nth) = self.anybody() else { return Ok(()) };
        let who = self.present.swap_remove(nth);
        self.hall.tell(who, Order::Leave { seq: 0 })
    }

    fn vote(&mut self) -> Result<(), Failure> {
        let Some(nth) = self.anybody() else { return Ok(()) };
        let who = self.present.get(nth).copied().unwrap_or_default();
        let Some((_, voted)) = self.seated.get_mut(who) else { return Ok(()) };
        let Some(poll) = self.polls.get(*voted) else { return Ok(()) };
        *voted += 1;
        self.due += 1;
        self.hall.tell(who, Order::Vote { poll: *poll, due: Instant::now() })
    }

    fn anybody(&mut self) -> Option<usize> {
        let count = self.present.len();
        (count > 0).then(|| self.random.usize(..count))
    }
}

/// Holds everything against what is stored; whoever stayed to the end, against the final counts too.
async fn judge(
    stage: &mut Stage<'_>,
    presenter: &Presenter,
    (stories, stayed): (&BTreeMap<String, Story>, &BTreeSet<String>),
    (due, mut turned_away): (u64, Vec<String>),
) -> Result<(), Failure> {
    let times = stage.meter.take()?;
    let sheet = &mut stage.sheet;
    let export = check::verify_votes(sheet, presenter, stories, due, Losses::Expected).await?;
    check::resumed(sheet, stories);
    check::saw_the_end(sheet, &export, stories.iter().filter(|(who, _)| stayed.contains(*who)));
    for story in stories.values() {
        turned_away.extend(story.turned_away.iter().cloned());
    }
    let refused = turned_away.len();
    sheet.check("nobody was turned away, neither newcomers nor who came back", turned_away);
    let returns: u64 = stories.values().flat_map(|one| one.lost.values()).sum();
    sheet.figure("joined", "Participants who came", "participants", stories.len() as f64);
    sheet.figure("votes", "Votes acked", "votes", due as f64);
    sheet.figure("turned_away", "Attempts that were turned away", "attempts", refused as f64);
    sheet.figure("moved", "Connections sent elsewhere or lost", "connections", returns as f64);
    sheet.latencies("ack", "Vote to ack", &times.ack);
    sheet.latencies("delivery", "Event to client", &times.delivery);
    sheet.latencies("back", "Lost connection to welcome", &times.back);
    stage.done(&format!(
        "{} came, {due} votes, {returns} moved, {refused} turned away, ack p99 {:.1} ms",
        stories.len(),
        millis(times.ack.value_at_quantile(0.99))
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_after_a_fall_is_counted_again() {
        assert_eq!(joins(&[(100, 1.0, 0.0), (40, 1.0, 0.0), (60, 1.0, 0.0)]), 120);
        assert_eq!(joins(&[]), 0);
    }
}
