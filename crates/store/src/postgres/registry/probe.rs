//! What is at the other end, looked at once before a server counts on it.

use std::fmt;

use freehold_engine::ports::StoreError;

use super::PostgresStore;
use super::loaded::first;
use super::rows::Columns;
use crate::postgres::args::Args;
use crate::postgres::house::{MOVING, is_moving};
use crate::postgres::migrate::Status;
use crate::shared::fields::Fields as _;

/// What speaks PostgreSQL's protocol there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// What it says of itself.
    pub version: String,
    /// Its version as PostgreSQL counts: 150004 for 15.4.
    pub number: i64,
    /// The isolation that it gives to whoever asks for none.
    pub isolation: String,
    /// Whether it confirms a commit only once a standby has it.
    pub synchronous: bool,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, number: _, isolation, synchronous } = self;
        let standby = if *synchronous { "commits wait for a standby" } else { "commits wait for no standby" };
        write!(f, "{version}; {isolation}; {standby}")
    }
}

/// The oldest that is known to have all that is used: MERGE is not used, `clock_timestamp` and CTEs that write are old,
/// `extract` of exact numbers came with 14.
const OLDEST: i64 = 140_000;

const PROBE: &str = "\
    SELECT version(), current_setting('server_version_num'), current_setting('server_encoding'), \
        current_setting('transaction_read_only'), current_setting('default_transaction_isolation'), \
        current_setting('synchronous_standby_names', true), current_setting('synchronous_commit', true), \
        current_setting('fsync', true)";

impl PostgresStore {
    /// Which steps the schema has taken and which it has not. Changes nothing.
    ///
    /// # Errors
    /// In words: a place that does not answer, or a schema that this program cannot work with.
    pub async fn schema_status(&self) -> Result<Status, String> {
        self.desk.database.schema_status().await
    }

    /// Whether the registry can be written right now: reached, with this program's schema, on a server that takes writes
    /// and has what is needed. Brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] says what is in the way.
    pub async fn probe(&self) -> Result<Engine, StoreError> {
        let moving = self.rows(MOVING, Args::default()).await?;
        if let Some(source) = first(&moving, |columns: &mut Columns<'_>| Ok(columns.text()?.to_owned()))? {
            return Err(StoreError::Unavailable(format!("{}: {}", self.place(), is_moving(&source))));
        }
        let rows = self.rows(PROBE, Args::default()).await?;
        let place = self.place();
        let away = |what: String| StoreError::Unavailable(format!("{place}: {what}"));
        let engine = first(&rows, |columns: &mut Columns<'_>| {
            let (version, number, encoding) = (columns.text()?, columns.text()?, columns.text()?);
            let (read_only, isolation) = (columns.text()?, columns.text()?);
            let (standbys, commit, fsync) = (columns.text_or_null()?, columns.text_or_null()?, columns.text_or_null()?);
            if encoding != "UTF8" {
                return Err(away(format!("the database's encoding is {encoding}: make one with UTF8")));
            }
            if read_only != "off" {
                return Err(away("it takes no writes: is it a standby?".to_owned()));
            }
            if fsync == Some("off") {
                tracing::warn!(place, "fsync is off: what is acknowledged does not survive a power loss");
            }
            if commit == Some("local") && standbys.is_some_and(|names| !names.is_empty()) {
                tracing::warn!(place, "synchronous_commit is local: a fail-over may lose what was acknowledged");
            }
            if matches!(commit, Some("off")) {
                return Err(away(
                    "synchronous_commit is off: what is acknowledged could be lost. Set it to on for this database"
                        .to_owned(),
                ));
            }
            Ok(Engine {
                version: version.to_owned(),
                number: number.parse().map_err(|_| away(format!("its version is {number:?}")))?,
                isolation: isolation.to_owned(),
                synchronous: standbys.is_some_and(|names| !names.is_empty()) && commit != Some("local"),
            })
        })?;
        let engine = engine.ok_or_else(|| away("it said nothing of itself".to_owned()))?;
        if engine.number < OLDEST {
            return Err(away(format!("{} is too old: PostgreSQL 14 is the oldest that works", engine.version)));
        }
        Ok(engine)
    }
}
