//! What scenarios do, one kind a file. Each takes its parameters from the scenario's file, does its
//! rounds on the stage, and leaves figures, curves and checks on the sheet.
//! Must never judge: goals are in the files, `report` holds figures against them. Called by `mod`.

mod board;
mod capacity;
mod fanout;
mod flat_out;
mod flood;
mod idle;
mod joins;
mod overload;
mod replace;
mod returns;
mod slow_readers;
mod tide;
mod votes;

use super::scenario::Kind;
use super::stage::Stage;
use crate::failure::Failure;

/// Does the scenario's work. Boxed: the futures are large, and this runs a few times in all.
pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    match stage.scenario.kind {
        Kind::Votes => Box::pin(votes::run(stage)).await,
        Kind::Joins => Box::pin(joins::run(stage)).await,
        Kind::Returns => Box::pin(returns::run(stage)).await,
        Kind::Fanout => Box::pin(fanout::run(stage)).await,
        Kind::FlatOut => Box::pin(flat_out::run(stage)).await,
        Kind::Capacity => Box::pin(capacity::run(stage)).await,
        Kind::Idle => Box::pin(idle::run(stage)).await,
        Kind::SlowReaders => Box::pin(slow_readers::run(stage)).await,
        Kind::Tide => Box::pin(tide::run(stage)).await,
        Kind::Replace => Box::pin(replace::run(stage)).await,
        Kind::Flood => Box::pin(flood::run(stage)).await,
        Kind::Overload => Box::pin(overload::run(stage)).await,
    }
}
