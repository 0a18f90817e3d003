//! The database as an instance finds it at its start, and the look at its history from time to time: durability, epoch. Also
//! what operators do to it without an instance. Called by `app.rs` and `main.rs`.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use super::{StartError, open};
use crate::config::Config;
use crate::config::database::Address;
use crate::drain::{Drain, Phase};
use crate::limits::HISTORY_EVERY;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::connection::{Database, Role};
use crate::store::embedded::Embedded;
use crate::store::history::{Evidence, History};

/// The primary and its replicas, none connected to yet.
pub(super) fn databases(
    config: &Config,
    embedded_url: Option<String>,
    metrics: &Arc<Metrics>,
) -> Result<(Database, Vec<Database>), StartError> {
    let history = History::new(metrics);
    let address = |url: &str| {
        Address::parse(url)
            .ok_or_else(|| StartError::Unfit(String::from("the database's address does not read")))
    };
    let url = config.database_url.clone().or(embedded_url).unwrap_or_default();
    let primary = Database::new(&address(&url)?, Role::Primary, &history)?;
    let replicas = config.replica_urls.iter().map(|url| {
        let replica = Database::new(&address(url)?, Role::Replica, &history)?;
        Ok(replica.named("plenum reader"))
    });
    Ok((primary, replicas.collect::<Result<_, StartError>>()?))
}

/// Looks again and again what a commit is worth and which history this is: standbys come and go, and a pooler hides a
/// fail-over.
pub(super) async fn watch(store: Store, drain: Drain) {
    let mut ticks = interval(HISTORY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = drain.reached(Phase::Stopping) => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = store.settle(Evidence::None).await {
            tracing::warn!(error = ?error, "the database's history could not be looked at");
        }
    }
}

/// What an operator does to a database without an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Bring the schema up to date.
    Migrate,
    /// Say which history this is.
    ShowEpoch,
    /// Say that this is another history than clients may have seen.
    NewEpoch,
}

/// Does it, and says what came of it.
///
/// # Errors
/// See [`StartError`].
pub async fn operate(config: &Config, task: Task) -> Result<String, StartError> {
    let embedded = match &config.database_url {
        Some(_) => None,
        None => Some(Embedded::start(&config.data_dir).await?),
    };
    let done = operate_on(config, embedded.as_ref().map(Embedded::url), task).await;
    let stopped = match embedded {
        Some(embedded) => embedded.stop().await,
        None => Ok(()),
    };
    let done = done?;
    stopped?;
    Ok(done)
}

async fn operate_on(
    config: &Config,
    embedded_url: Option<String>,
    task: Task,
) -> Result<String, StartError> {
    let metrics =
        Arc::new(Metrics::new().map_err(|error| StartError::Internal(error.to_string()))?);
    let drain = Drain::new(metrics.tasks.clone());
    let (database, _) = databases(config, embedded_url, &metrics)?;
    let store = open(config, (&database, &[]), &drain, &metrics).await?;
    match task {
        Task::Migrate => Ok(String::new()),
        Task::ShowEpoch => Ok(store.settle(Evidence::None).await?.epoch.to_string()),
        Task::NewEpoch => Ok(store.settle(Evidence::Lost).await?.epoch.to_string()),
    }
}
