//! A database that takes so many votes a second and no more, for `overload`: a trigger sleeps for each vote of a batch.
//! Must never change what is stored. Called by `kinds/overload.rs`.

use tokio_postgres::Client;

use super::database;
use crate::failure::Failure;

/// The trigger, until it is undone.
#[derive(Debug)]
pub(in crate::load) struct SlowVotes(Client);

impl SlowVotes {
    /// Makes votes slow.
    pub(in crate::load) async fn make(
        address: &str,
        votes_per_second: u32,
    ) -> Result<Self, Failure> {
        let client = database::connect(&database::config_of(address)?).await?;
        let sql = format!(
            "CREATE FUNCTION slow_votes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM pg_sleep((SELECT count(*) FROM fresh) / {votes_per_second}.0); RETURN NULL; END $$;
             CREATE TRIGGER slow_votes AFTER INSERT ON votes
                 REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION slow_votes()"
        );
        client.batch_execute(&sql).await.map_err(|error| database::fault(&error))?;
        Ok(Self(client))
    }

    /// Takes it away.
    pub(in crate::load) async fn undo(self) -> Result<(), Failure> {
        let sql = "DROP TRIGGER slow_votes ON votes; DROP FUNCTION slow_votes()";
        self.0.batch_execute(sql).await.map_err(|error| database::fault(&error))
    }
}
