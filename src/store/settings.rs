//! Facts of the whole database: the signing secret, and whether it keeps what it confirms. Called by `app.rs`.

use super::rows::column;
use super::{Store, StoreError};
use crate::auth;

const KEEP: &str =
    "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
const READ: &str = "SELECT value FROM settings WHERE name = $1";
const FACTS: &str = "SELECT current_setting('server_version_num')::int, current_setting('fsync'), \
    current_setting('full_page_writes'), current_setting('synchronous_commit')";
/// The oldest PostgreSQL that has what `sql/` uses.
const VERSION_MIN: i32 = 140_000;

/// What was found out about the database.
#[derive(Debug)]
pub struct DatabaseFacts {
    /// Reasons why a confirmed vote could be lost; empty is good.
    pub unsafe_settings: Vec<&'static str>,
    /// Older than this program works with.
    pub too_old: bool,
}

impl Store {
    /// The value of a setting; made and kept where there is none. Instances that start together agree on one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn setting(&self, name: &'static str) -> Result<String, StoreError> {
        if let Some(row) = self.query_opt(READ, &[&name]).await? {
            return column(&row, 0);
        }
        let made = auth::random_text::<32>().map_err(|_| StoreError::Content("no random bytes"))?;
        self.query(KEEP, &[&name, &made]).await?;
        let row = self
            .query_opt(READ, &[&name])
            .await?
            .ok_or(StoreError::Content("a setting is missing"))?;
        column(&row, 0)
    }

    /// What the database promises.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn facts(&self) -> Result<DatabaseFacts, StoreError> {
        let row = self.query_opt(FACTS, &[]).await?.ok_or(StoreError::Content("no settings"))?;
        let off =
            |at, name| Ok::<_, StoreError>((column::<&str>(&row, at)? == "off").then_some(name));
        // Every connection asks for the last one to be on; a pooler may not have passed that on.
        let unsafe_settings = [
            off(1, "fsync is off")?,
            off(2, "full_page_writes is off")?,
            off(3, "synchronous_commit is off")?,
        ];
        let unsafe_settings = unsafe_settings.into_iter().flatten().collect();
        Ok(DatabaseFacts { unsafe_settings, too_old: column::<i32>(&row, 0)? < VERSION_MIN })
    }
}
