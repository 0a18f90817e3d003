//! The primary is lost and its synchronous standby takes over, there and back: the second time the first cluster, made anew
//! as a standby on its own disk, is the one that takes over. Must never leave two primaries. Called by `faults.rs`.

use std::time::Duration;

use super::stage::Stage;
use crate::support::*;

/// Votes go on all the while: they wait for the standby, for its promotion, and find the new primary behind the proxies.
pub(super) async fn primary_replaced(stage: &Stage, lasts: Duration) {
    let standby = tokio::task::block_in_place(|| Cluster::standby_of(&stage.cluster, "away"));
    take_over(stage, &stage.cluster, &standby, "away", lasts).await;
    tokio::task::block_in_place(|| stage.cluster.follow_anew(&standby, "home"));
    take_over(stage, &standby, &stage.cluster, "home", lasts).await;
}

async fn take_over(
    stage: &Stage,
    primary: &Cluster,
    standby: &Cluster,
    name: &str,
    lasts: Duration,
) {
    primary.wait_for_standby(&stage.db, name).await;
    tokio::time::sleep(lasts).await;
    primary.kill9();
    tokio::task::block_in_place(|| standby.promote());
    standby.set(&stage.db, "synchronous_standby_names = ''").await;
    stage.places.iter().for_each(|place| place.back.aim(standby.port()));
    tokio::time::sleep(lasts).await;
}
