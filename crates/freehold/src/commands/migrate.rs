//! `migrate`: the schema of the registry's database. `serve` does this by itself; here it is done apart.

use clap::Subcommand;
use freehold_engine::ports::Clock as _;
use freehold_store::migrate;
use serde::Serialize;

use super::Context;
use super::move_store::MoveStore;
use crate::config::Config;
use crate::exit::Failure;
use crate::output::table;
use crate::serve::registry::Place;
use crate::serve::{DataFolder, SystemClock, lock_database, registry};

/// See and bring up the schema of the registry's database.
#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    /// Show which steps the schema has taken, and which it has not; nothing is changed
    Status,
    /// Take the steps that are missing; a SQLite registry's are refused while a server has the data folder
    #[command(after_help = "Examples:\n  freehold migrate up --config /etc/freehold.toml")]
    Up,
    /// Move the registry from SQLite to PostgreSQL, while no server has it
    Store(MoveStore),
}

#[derive(Serialize)]
struct Report {
    database: String,
    schema: u32,
    latest: u32,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    version: u32,
    name: String,
    applied_at: Option<jiff::Timestamp>,
}

impl Migrate {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        if let Self::Store(moving) = self {
            return moving.run(context).await;
        }
        let config = Config::load(&context.sources())?;
        let path = match registry::place(&config, &config.data_dir)? {
            Place::Sqlite(path) => path,
            place @ Place::Postgres(_) => return self.run_shared(&place, &config, context).await,
        };
        let _locks = match self {
            Self::Status | Self::Store(_) => None,
            Self::Up => {
                let locks = (DataFolder::open(&config.data_dir)?, lock_database(&path)?);
                let now = SystemClock::new().now();
                migrate::up(&path, now).map_err(|error| registry::unmigratable(&path, error))?;
                Some(locks)
            }
        };
        let status = migrate::status(&path).map_err(|error| registry::unmigratable(&path, error))?;
        let applied = status.applied.into_iter().map(|step| Step {
            version: step.version,
            name: step.name,
            applied_at: jiff::Timestamp::from_microsecond(step.applied_at.as_micros()).ok(),
        });
        let pending = status.pending.into_iter().map(|step| Step {
            version: step.version,
            name: step.name.to_owned(),
            applied_at: None,
        });
        let report = Report {
            database: path.display().to_string(),
            schema: status.database,
            latest: status.program,
            steps: applied.chain(pending).collect(),
        };
        context.output.show(&report, people)
    }
}

impl Migrate {
    /// On a registry that nodes share: they may run meanwhile, for a step says from which program on it works.
    async fn run_shared(self, place: &Place, config: &Config, context: &Context) -> Result<(), Failure> {
        let store = place.postgres(config)?;
        if let Self::Up = self {
            store.probe().await.map_err(|error| registry::away(&error))?;
        }
        let status = store.schema_status().await.map_err(Failure::failed)?;
        let applied = status.applied.into_iter().map(|(version, name, at)| Step {
            version,
            name,
            applied_at: jiff::Timestamp::from_microsecond(at).ok(),
        });
        let pending = status.pending.iter().map(|step| Step {
            version: step.version,
            name: step.name.to_owned(),
            applied_at: None,
        });
        let steps: Vec<Step> = applied.chain(pending).collect();
        let schema = steps.iter().filter(|step| step.applied_at.is_some()).map(|step| step.version).max();
        let report =
            Report { database: store.place().to_owned(), schema: schema.unwrap_or(0), latest: status.program, steps };
        context.output.show(&report, people)
    }
}

fn people(report: &Report) -> String {
    let rows = report.steps.iter().map(|step| {
        let applied = step.applied_at.map_or_else(|| "not yet".to_owned(), |at| at.to_string());
        [step.version.to_string(), step.name.clone(), applied]
    });
    let table = table(["step", "name", "applied"], rows);
    format!("{}: schema {} of {}\n\n{table}", report.database, report.schema, report.latest)
}
